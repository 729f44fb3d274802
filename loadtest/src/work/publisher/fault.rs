//! Why publishing doesn't go on over a connection.

use std::fmt::Display;

/// What happened.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is of no use any more; another may be.
    Lost(String),
    /// It will never pass, over no connection.
    Final(String),
}

impl Fault {
    pub(super) fn lost(reason: impl Display) -> Self {
        Self::Lost(reason.to_string())
    }

    pub(super) fn fatal(reason: impl Display) -> Self {
        Self::Final(reason.to_string())
    }
}

/// Errors of sockets and of what is read from them end a connection, not the run.
impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::lost(error)
    }
}

/// Whether a request that was answered with `status` may pass another time: all but what its sender did wrong.
pub(super) fn may_pass(status: u16) -> bool {
    const REQUEST_TIMEOUT: u16 = 408;
    const TOO_EARLY: u16 = 425;
    const TOO_MANY_REQUESTS: u16 = 429;
    status >= 500 || matches!(status, REQUEST_TIMEOUT | TOO_EARLY | TOO_MANY_REQUESTS)
}

/// Status of an answer that leaves open whether the message was published.
pub(super) const OUTCOME_UNKNOWN: u16 = 504;
