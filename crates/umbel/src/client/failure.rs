//! Why a command failed.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use hyper::StatusCode;

use super::Question;

/// Why a command didn't do what it was asked to; its text is one line for whoever asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line can't be meant so; nothing was tried.
    Usage(String),
    /// There is no connection to be had.
    Connect { to: String, error: io::Error },
    /// It took too long.
    Late { what: &'static str, limit: Duration },
    /// The node said no.
    Refused { status: StatusCode, detail: Option<String>, retry_after: Option<Duration> },
    /// The node said that it isn't well, and why.
    Unwell { question: Question, reason: String },
    /// The connection ended before the answer was there.
    Broken(hyper::Error),
    /// What answers isn't a node.
    NotANode(String),
    /// Redis said no, or its connection broke.
    Redis(redis::RedisError),
    /// Sentinel names no server of Redis.
    NoMaster(String),
    /// The node ended the subscription in a way that coming back won't change.
    Ended(String),
    /// The standard input can't be read.
    Input(io::Error),
    /// A message is longer than this program handles.
    TooLong { limit: usize },
    /// The standard output can't be written.
    Output(io::Error),
    /// The machine gives no event loop.
    Runtime(io::Error),
    /// One of several messages; those before it were published.
    Message { number: u64, failure: Box<Failure> },
}

impl Failure {
    /// Whether the command line is at fault, as opposed to the world.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    /// The same about the message with this number, counted from 1.
    pub(crate) fn of_message(self, number: u64) -> Self {
        Self::Message { number, failure: Box::new(self) }
    }
}

/// The result of `future`, unless it takes longer than `limit`.
///
/// Cancel safe if `future` is.
pub(super) async fn within<T>(
    what: &'static str,
    limit: Duration,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Late { what, limit }),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(fault) | Self::Ended(fault) | Self::NoMaster(fault) => f.write_str(fault),
            Self::Connect { to, error } => write!(f, "can't connect to {to}: {error}"),
            Self::Late { what, limit } => {
                write!(f, "{what} didn't come within {} s", limit.as_secs_f32())
            }
            Self::Refused { status, detail: Some(detail), .. } => {
                write!(f, "the node refused with {}: {detail}", status.as_u16())
            }
            Self::Refused { status, detail: None, .. } => {
                write!(f, "the node refused with {status}")
            }
            Self::Unwell { question, reason } => write!(f, "the node isn't {question}: {reason}"),
            Self::Broken(error) => write!(f, "the connection ended before the answer: {error}"),
            Self::NotANode(found) => write!(f, "what answers there isn't a node: {found}"),
            Self::Redis(error) => write!(f, "Redis: {error}"),
            Self::Input(error) => write!(f, "the standard input can't be read: {error}"),
            Self::TooLong { limit } => {
                write!(f, "the message is longer than {limit} bytes")
            }
            Self::Output(error) => write!(f, "the standard output can't be written: {error}"),
            Self::Runtime(error) => write!(f, "can't start: {error}"),
            Self::Message { number: 1, failure } => {
                write!(f, "line 1, nothing was published: {failure}")
            }
            Self::Message { number, failure } => {
                write!(f, "line {number}, those before it were published: {failure}")
            }
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { error, .. }
            | Self::Input(error)
            | Self::Output(error)
            | Self::Runtime(error) => Some(error),
            Self::Broken(error) => Some(error),
            Self::Redis(error) => Some(error),
            Self::Message { failure, .. } => Some(failure),
            Self::Usage(_)
            | Self::Late { .. }
            | Self::Refused { .. }
            | Self::NotANode(_)
            | Self::NoMaster(_)
            | Self::Ended(_)
            | Self::Unwell { .. }
            | Self::TooLong { .. } => None,
        }
    }
}
