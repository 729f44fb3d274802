//! Sending spans to a collector, on a thread that nobody waits for.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::mpsc::{Receiver as Done, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::otlp::{self, Resource};
use super::span::Span;
use super::{Counts, Endpoint};

/// How many spans go at once, and how long the first waits for others.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_millis(500);

/// How long a collector may take over one export.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// How often a batch is sent that the collector can't take now, and the pause after the first time,
/// which then doubles. What comes meanwhile waits in the queue.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// How long the end of the process waits for spans to be exported.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How long the last exports may take: a little less, so that what is lost is counted.
const LAST_EXPORTS: Duration = Duration::from_millis(1800);

/// How often the log is told that a collector takes nothing.
const REMIND_EVERY: Duration = Duration::from_mins(1);

/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The exporting thread. Dropping it waits until what is queued is exported, or the deadline.
#[derive(Debug)]
pub(super) struct Export {
    stop: Option<oneshot::Sender<()>>,
    ended: Done<()>,
}

#[derive(Debug)]
struct Exporter {
    endpoint: Endpoint,
    resource: Resource,
    spans: mpsc::Receiver<Span>,
    counts: Counts,
    /// When the log was told that the collector takes nothing.
    reminded: Option<Instant>,
}

/// The end of the node, as its exporter sees it.
#[derive(Debug)]
struct End {
    signal: oneshot::Receiver<()>,
    /// When it exports no more; `None` until the end has begun.
    deadline: Option<Instant>,
}

/// Why a batch wasn't taken.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    Http(hyper::Error),
    Status(StatusCode),
    Late,
}

impl Export {
    pub(super) fn start(
        endpoint: Endpoint,
        resource: Resource,
        spans: mpsc::Receiver<Span>,
        counts: Counts,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (end, ended): (SyncSender<()>, _) = sync_channel(1);
        let exporter = Exporter { endpoint, resource, spans, counts, reminded: None };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            runtime.block_on(exporter.run(End { signal: stopped, deadline: None }));
            drop(end);
            // A name that is still being looked up isn't waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), ended })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.ended.recv_timeout(FLUSH_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(fault = "the deadline", "Spans are lost: their exporter is stuck");
        }
    }
}

impl End {
    /// Waits until the node ends. From then on it returns at once.
    ///
    /// Cancel safe.
    async fn begun(&mut self) {
        if self.deadline.is_none() {
            // An error says that whoever would say so is gone.
            let _ = (&mut self.signal).await;
            self.deadline = Some(Instant::now() + LAST_EXPORTS);
        }
    }

    /// What the work gives; `None` if the node ends and it takes too long.
    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return Some(done),
            () = self.begun() => {}
        }
        timeout_at(self.deadline?, work).await.ok()
    }
}

impl Exporter {
    /// Exports until the node ends, and then what was recorded before.
    async fn run(mut self, mut end: End) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.gather(&mut batch, &mut end).await {
            let mut pause = PAUSE;
            for attempt in 1.. {
                // One that is under way isn't broken off, or the collector would get the spans twice.
                let exported = end.within(self.export(&batch)).await.unwrap_or(Err(Fault::Late));
                let may_pass = exported.as_ref().is_err_and(Fault::passes);
                if may_pass && attempt < ATTEMPTS && end.deadline.is_none() {
                    tokio::select! {
                        () = sleep(pause) => pause *= 2,
                        () = end.begun() => {}
                    }
                } else {
                    self.settle(&mut batch, exported);
                    break;
                }
            }
        }
    }

    /// Fills an empty batch with what is recorded; whether there is any. Waits for the first span as
    /// long as it takes, and for a while for others.
    async fn gather(&mut self, batch: &mut Vec<Span>, end: &mut End) -> bool {
        let fill = async {
            let mut until = None;
            while batch.len() < BATCH {
                let more = self.spans.recv_many(batch, BATCH - batch.len());
                let came = match until {
                    None => more.await,
                    Some(until) => timeout_at(until, more).await.unwrap_or(0),
                };
                if came == 0 {
                    return;
                }
                until = until.or_else(|| Some(Instant::now() + GATHER));
            }
        };
        tokio::select! {
            biased;
            () = end.begun() => {
                self.spans.close();
                self.spans.recv_many(batch, BATCH - batch.len()).await;
            }
            () = fill => {}
        }
        !batch.is_empty()
    }

    /// Counts a batch, and tells the log if the collector takes none or takes some again.
    fn settle(&mut self, batch: &mut Vec<Span>, exported: Result<u64, Fault>) {
        let all = batch.len() as u64;
        batch.clear();
        let now = Instant::now();
        match exported {
            Ok(rejected) => {
                self.counts.dropped.inc_by(rejected.min(all));
                self.counts.exported.inc_by(all.saturating_sub(rejected));
                if self.reminded.take().is_some() {
                    tracing::info!(endpoint = %self.endpoint, "Spans are exported again");
                }
            }
            Err(fault) => {
                self.counts.dropped.inc_by(all);
                if self.reminded.is_none_or(|at| now - at >= REMIND_EVERY) {
                    self.reminded = Some(now);
                    tracing::warn!(endpoint = %self.endpoint, %fault, "Spans can't be exported");
                }
            }
        }
    }

    /// Sends a batch over a connection of its own; how many spans of it the collector rejected.
    async fn export(&self, batch: &[Span]) -> Result<u64, Fault> {
        timeout(EXPORT_DEADLINE, self.exchange(batch)).await.unwrap_or(Err(Fault::Late))
    }

    async fn exchange(&self, batch: &[Span]) -> Result<u64, Fault> {
        let request = Request::post(self.endpoint.path())
            .header(HOST, self.endpoint.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::<Bytes>::from(otlp::body(&self.resource, batch)))
            .expect("path and host are those of a URL");
        let stream = TcpStream::connect(self.endpoint.authority()).await.map_err(Fault::Io)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Fault::Http)?;
        let mut exchange = pin!(async {
            let answer = sender.send_request(request).await.map_err(Fault::Http)?;
            if !answer.status().is_success() {
                return Err(Fault::Status(answer.status()));
            }
            // What can't be read of it says nothing of spans.
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok(body.map_or(0, |body| otlp::rejected(&body.to_bytes())))
        });
        tokio::select! {
            exchanged = &mut exchange => exchanged,
            // It may have ended behind the answer; whoever waits for one gets the error.
            _ = connection => exchange.await,
        }
    }
}

impl Fault {
    /// Whether the collector may take the same batch a little later.
    fn passes(&self) -> bool {
        match self {
            Self::Io(_) | Self::Http(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502..=504),
            // So much time was lost already.
            Self::Late => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Status(status) => write!(f, "the collector answered {status}"),
            Self::Late => f.write_str("the collector didn't answer in time"),
        }
    }
}
