//! The two clocks of a node.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use umbel_protocol::Timestamp;

/// Measures spans within the process and tells the time of day to clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// A clock that has run for a while.
    #[cfg(test)]
    pub(crate) fn started_before(span: std::time::Duration) -> Self {
        Self {
            started: Instant::now()
                .checked_sub(span)
                .expect("the machine has run longer than that"),
        }
    }

    /// When it was started.
    pub(crate) fn started(self) -> Instant {
        self.started
    }

    /// Microseconds since the start; never runs backwards.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros())
            .expect("a process doesn't run for 584 000 years")
    }

    /// The time of day; 1970 if the machine's clock is before that.
    pub(crate) fn wall() -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }
}
