//! One client of a crowd.

mod dialog;
mod event_source;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::tally::{Tally, Verdict};
use crate::Way;
use crate::load::{Load, Numbered};

/// A client, which outlives its connections.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    way: Way,
    topic: String,
    door: SocketAddr,
    shared: Arc<Shared>,
    /// Where it comes back to.
    place: String,
    tally: Tally,
    /// How long an `EventSource` waits before it comes back.
    retry: Duration,
    /// How many attempts in a row came to nothing.
    failures: u32,
}

/// How an attempt or a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// No session came about.
    Refused(String),
    /// The node said when to come back, and closed.
    Moved(Duration),
    /// A close frame with another code.
    Closed(u16),
    /// In order, but without a word.
    Silent,
    /// The connection failed.
    Failed(String),
}

/// A connection on which a session was granted.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// What was read and isn't used yet.
    input: Vec<u8>,
}

/// That a client is in, for as long as this lives.
#[derive(Debug)]
struct Inside {
    shared: Arc<Shared>,
    /// Since when; what was published before it had to wait for the client.
    since: u64,
}

/// What a browser waits unless the stream tells it otherwise (Chrome).
const DEFAULT_RETRY: Duration = Duration::from_secs(3);

/// How long an answer to a request may take.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// The first backoff is anything up to this, and each further one up to twice as much,
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// so many times.
const DOUBLINGS: u32 = 3;

/// An input without anything in it keeps no more memory than this.
const INPUT_AT_REST: usize = 1024;

thread_local! {
    /// What all clients of a thread read into: a buffer for each would be most of their memory.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into());
}

impl Client {
    pub(super) fn new(number: usize, way: Way, door: SocketAddr, shared: Arc<Shared>) -> Self {
        Self {
            number,
            way,
            topic: Load::topic(shared.topic(number)),
            door,
            shared,
            place: String::new(),
            tally: Tally::new(),
            retry: DEFAULT_RETRY,
            failures: 0,
        }
    }

    /// Is in, and comes back however that ends.
    pub(super) async fn live(mut self) {
        loop {
            let end = self.session().await;
            self.note(&end);
            sleep(self.pause(&end)).await;
            self.shared.came_back();
        }
    }

    async fn session(&mut self) -> End {
        let ended = match self.way {
            Way::Sse => self.event_source().await,
            Way::Json => self.dialog().await,
        };
        ended.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => End::Silent,
            _ => End::Failed(error.to_string()),
        })
    }

    fn note(&mut self, end: &End) {
        match end {
            End::Refused(_) => self.failures += 1,
            _ => self.failures = 0,
        }
        let mut figures = self.shared.lock();
        figures.ended(end);
        if let End::Refused(_) | End::Failed(_) = end {
            figures.sample(format!("client {} ({:?}): {end:?}", self.number, self.way));
        }
    }

    fn pause(&self, end: &End) -> Duration {
        match (end, self.way) {
            (End::Moved(after), _) => *after,
            // A browser gives up for good on some answers; then the page opens another.
            (_, Way::Sse) => self.retry,
            (_, Way::Json) => {
                let longest = FIRST_BACKOFF * 2_u32.pow(self.failures.min(DOUBLINGS));
                longest.mul_f64(fastrand::f64())
            }
        }
    }

    /// Sends a request; `Err` is the end if its answer isn't this status.
    async fn ask(&self, request: &[u8], status: u16) -> Result<Connection, End> {
        let asked = timeout(ANSWER_WAIT, Connection::open(self.door, request)).await;
        match asked {
            Ok(Ok((connection, answer))) if answer.status == status => Ok(connection),
            Ok(Ok((_, answer))) => Err(End::Refused(format!("{answer:?}"))),
            Ok(Err(error)) => Err(End::Refused(error.to_string())),
            Err(_) => Err(End::Refused("there was no answer".to_owned())),
        }
    }

    fn is_in(&self) -> Inside {
        self.shared.inside.fetch_add(1, Ordering::Relaxed);
        self.shared.lock().counts.sessions += 1;
        Inside { shared: self.shared.clone(), since: self.shared.clock.micros() }
    }

    fn take(&mut self, text: &str, since: u64) {
        let message = Numbered::parse(text);
        let due = self.tally.next();
        let verdict = self.tally.take(message.number);
        self.shared.next[self.number].store(self.tally.next(), Ordering::Relaxed);
        self.shared.delivered(message.published, since);
        if verdict != Verdict::Next {
            let how = if message.published < since { "after it came back" } else { "live" };
            let text = format!(
                "client {} ({:?}) on {}: {} {how}, {due} was due: {verdict:?}",
                self.number, self.way, self.topic, message.number
            );
            let mut figures = self.shared.lock();
            figures.irregular(verdict);
            figures.sample(text);
        }
    }

    fn take_gap(&self, text: &str) {
        let mut figures = self.shared.lock();
        figures.counts.gaps += 1;
        figures.sample(format!("client {} ({:?}): {text}", self.number, self.way));
    }
}

impl Connection {
    async fn open(door: SocketAddr, request: &[u8]) -> io::Result<(Self, crate::Answer)> {
        let stream = TcpStream::connect(door).await?;
        let mut connection = Self { stream, input: Vec::new() };
        connection.write(request).await?;
        loop {
            if let Some(end) = crate::http::find(&connection.input, b"\r\n\r\n") {
                let head = std::str::from_utf8(&connection.input[..end]).unwrap();
                let answer = crate::http::parse_head(head);
                assert_eq!(answer.header("transfer-encoding"), None, "not read here");
                connection.input.drain(..end + 4);
                return Ok((connection, answer));
            }
            connection.read().await?;
        }
    }

    /// What a client sends is small and always fits.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::io::AsyncWriteExt::write_all(&mut self.stream, bytes).await
    }

    /// Waits for more input. The end of the connection is an error.
    async fn read(&mut self) -> io::Result<()> {
        if self.input.is_empty() && self.input.capacity() > INPUT_AT_REST {
            self.input = Vec::new();
        }
        loop {
            self.stream.readable().await?;
            let read: io::Result<usize> = SCRATCH.with_borrow_mut(|scratch| {
                let read = self.stream.try_read(scratch)?;
                self.input.extend_from_slice(&scratch[..read]);
                Ok(read)
            });
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(drop),
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let inside: &AtomicUsize = &self.shared.inside;
        inside.fetch_sub(1, Ordering::Relaxed);
    }
}
