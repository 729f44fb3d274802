//! The clock that spans are measured by.

use std::time::Instant;

use umbel_protocol::Timestamp;

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

/// Where the wall clock stands, as long as nobody sets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    /// The wall clock's microseconds when the node's clock began.
    began: u64,
}

impl WallClock {
    /// Compares the clocks.
    pub(crate) fn of(clock: Clock) -> Self {
        Self { began: umbel_broker::wall().0.saturating_sub(clock.micros()) }
    }

    /// A time by the node's clock, in microseconds; 0 for what was before it began.
    pub(crate) fn when(self, time: Timestamp) -> u64 {
        time.0.saturating_sub(self.began)
    }
}
