//! The clock that spans are measured by.

use std::time::Instant;

/// Measures spans within the process.
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
}
