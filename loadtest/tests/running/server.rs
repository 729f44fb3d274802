//! Servers to compare with, each on a thread of the test.

#![allow(dead_code, reason = "not every test needs every server")]

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use umbel_loadtest::baseline::Baseline;
use umbel_loadtest::channels::Channels;
use umbel_loadtest::empty::Empty;
use umbel_loadtest::naive::Naive;
use umbel_loadtest::os::stop::Stop;

/// Ends the server when it is dropped, and expects that it had no other end.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    end: Option<Box<dyn FnOnce()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

/// Where the servers have their messages from: Redis, or POST.
type Source<'a> = Option<&'a Channels>;

/// Starts one of them.
pub(crate) type Start = fn(Source<'_>) -> Result<Running>;

/// Time that a server has to end by itself.
const END: Duration = Duration::from_secs(10);

impl Running {
    pub(crate) fn baseline(source: Source<'_>) -> Result<Self> {
        let server = Baseline::bind(any_port())?;
        Self::run_baseline(match source {
            None => server,
            Some(channels) => server.fed_by(channels)?,
        })
    }

    /// The baseline that keeps the last `messages` of each topic.
    pub(crate) fn keeping(messages: usize) -> Result<Self> {
        Self::run_baseline(Baseline::bind(any_port())?.keeping(messages))
    }

    fn run_baseline(server: Baseline) -> Result<Self> {
        let (address, stop) = (server.address()?, Stop::new()?);
        let watched = stop.clone();
        Ok(Self {
            address,
            end: Some(Box::new(move || stop.raise())),
            thread: Some(std::thread::spawn(move || server.run(&watched))),
        })
    }

    pub(crate) fn naive(source: Source<'_>) -> Result<Self> {
        let server = Naive::bind(any_port())?;
        let server = match source {
            None => server,
            Some(channels) => server.fed_by(channels.clone()),
        };
        let address = server.address()?;
        let (end, ended) = until_told();
        let thread = std::thread::spawn(move || server.run(ended));
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }

    pub(crate) fn empty() -> Result<Self> {
        let server = Empty::bind(any_port())?;
        let address = server.address()?;
        let (end, ended) = until_told();
        let thread = std::thread::spawn(move || server.run(ended));
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }

    /// Waits until the server ends by itself.
    pub(crate) fn ended(mut self) -> std::io::Result<()> {
        drop(self.end.take());
        let thread = self.thread.take().expect("taken here and at the end only");
        let deadline = Instant::now() + END;
        while !thread.is_finished() {
            assert!(Instant::now() < deadline, "the server goes on");
            std::thread::yield_now();
        }
        thread.join().unwrap()
    }
}

fn until_told() -> (Box<dyn FnOnce()>, impl Future<Output = ()> + Send) {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let told = async {
        // Dropped unused it is told nothing.
        if ended.await.is_err() {
            std::future::pending().await
        }
    };
    (
        Box::new(move || {
            let _ = end.send(());
        }),
        told,
    )
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Some(end), Some(thread)) = (self.end.take(), self.thread.take()) {
            end();
            let ended = thread.join().unwrap();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}
