//! Sessions that are connected and subscribed and hear nothing: what each holds of the server's memory.
//!
//! All growth counts, also what the server takes once for its first session: divided by thousands it is small,
//! and to leave it out would flatter.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Measured, Measuring, Unit};
use crate::cost::{Holding, Meter};
use crate::load::{Deaf, Load};

/// How many, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Idle {
    /// Sessions.
    pub sessions: usize,
    /// Time from the last opening to the reading.
    pub settle: Duration,
}

/// What each session added.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// To the server's resident memory.
    pub rss_bytes_per_session: f64,
    /// To its proportional share of it.
    pub pss_bytes_per_session: f64,
    /// To the kernel's memory in TCP queues, both ends of the connection.
    pub socket_bytes_per_session: f64,
    /// To its descriptors.
    pub descriptors_per_session: f64,
}

impl Idle {
    /// Opens the sessions, lets the server settle, and reads.
    pub(super) fn run(&self, meter: &Meter, load: &mut Load) -> Result<Measured> {
        let needs = "the idle scenario reads the server's memory and needs --pid";
        let measuring = Measuring::begin(meter, load.counts())?;
        let before = meter.holding()?.context(needs)?;
        load.open(self.sessions, |_| 0)?;
        load.wait_for(Instant::now() + self.settle, &mut Deaf)?;
        let after = meter.holding()?.context(needs)?;
        let mut measured = measuring.end(load.counts(), 1)?;
        measured.unit = Unit::Connect;
        measured.units = self.sessions as u64;
        measured.growth = Some(Growth::between(&before, &after, self.sessions));
        Ok(measured)
    }
}

impl Growth {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    pub(super) fn between(before: &Holding, after: &Holding, sessions: usize) -> Self {
        let each = |before: u64, after: u64| (after as f64 - before as f64) / sessions as f64;
        Self {
            rss_bytes_per_session: each(before.memory.rss_bytes, after.memory.rss_bytes),
            pss_bytes_per_session: each(before.memory.pss_bytes, after.memory.pss_bytes),
            socket_bytes_per_session: each(before.socket_bytes, after.socket_bytes),
            descriptors_per_session: each(before.descriptors as u64, after.descriptors as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::memory::Memory;

    #[test]
    fn growth_is_per_session_and_may_be_negative() {
        let holding = |rss, pss, socket_bytes, descriptors| Holding {
            memory: Memory { rss_bytes: rss, pss_bytes: pss, peak_rss_bytes: rss },
            socket_bytes,
            descriptors,
        };
        let growth = Growth::between(&holding(100, 100, 50, 5), &holding(500, 300, 0, 15), 10);
        let expected = Growth {
            rss_bytes_per_session: 40.0,
            pss_bytes_per_session: 20.0,
            socket_bytes_per_session: -5.0,
            descriptors_per_session: 1.0,
        };
        assert_eq!(growth, expected);
    }
}
