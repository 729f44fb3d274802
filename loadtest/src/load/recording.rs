//! What a scenario notes of its receipts.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Observer, clock};
use crate::wire::payload;

/// Counts sessions down until all have received the last message of a round.
#[derive(Debug, Default)]
pub struct AllReceived {
    last: u64,
    missing: usize,
}

impl AllReceived {
    /// From now on waits for message `last` at `sessions` sessions.
    pub fn expect(&mut self, last: u64, sessions: usize) {
        *self = Self { last, missing: sessions };
    }

    /// All have it.
    pub fn done(&self) -> bool {
        self.missing == 0
    }
}

impl Observer for AllReceived {
    #[inline]
    fn received(&mut self, _session: usize, sequence: u64, _payload: &[u8]) {
        self.missing -= usize::from(sequence == self.last && self.missing > 0);
    }
}

/// Counts all receipts.
#[derive(Debug, Default)]
pub struct Received(u64);

impl Received {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0
    }
}

impl Observer for Received {
    #[inline]
    fn received(&mut self, _session: usize, _sequence: u64, _payload: &[u8]) {
        self.0 += 1;
    }
}

/// Which topics have no message under way, where each session has a topic of its own.
#[derive(Debug)]
pub struct FreeTopics {
    free: VecDeque<usize>,
}

impl FreeTopics {
    /// All of `topics` are free.
    pub fn new(topics: usize) -> Self {
        Self { free: (0..topics).collect() }
    }

    /// The topic that has been free for the longest time.
    pub fn take(&mut self) -> Option<usize> {
        self.free.pop_front()
    }

    /// How many are free.
    pub fn count(&self) -> usize {
        self.free.len()
    }
}

impl Observer for FreeTopics {
    #[inline]
    fn received(&mut self, session: usize, _sequence: u64, _payload: &[u8]) {
        self.free.push_back(session);
    }
}

/// Times from a message's scheduled sending to its receipt by the last session.
#[derive(Debug)]
pub struct LastReceipts {
    first: u64,
    /// Sessions that lack message n after the first, for all n.
    missing: Vec<usize>,
    unfinished: usize,
    times: Histogram<u64>,
}

/// Percentiles of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// All.
    pub max_us: f64,
    /// How many there are.
    pub count: u64,
}

/// Three significant digits: less than the difference of any two runs.
const DIGITS: u8 = 3;
/// Ten minutes, in nanoseconds; what takes longer is entered as this.
const LONGEST: u64 = 600_000_000_000;

impl LastReceipts {
    /// For `sessions` sessions that each shall receive `messages`, the first with number `first`.
    pub fn new(sessions: usize, first: u64, messages: u64) -> Result<Self> {
        let messages = usize::try_from(messages)?;
        Ok(Self {
            first,
            missing: vec![sessions; messages],
            unfinished: messages,
            times: Histogram::new_with_max(LONGEST, DIGITS)?,
        })
    }

    /// All messages have arrived everywhere.
    pub fn done(&self) -> bool {
        self.unfinished == 0
    }

    /// The times so far.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| micros(self.times.value_at_quantile(quantile));
        Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: micros(self.times.max()),
            count: self.times.len(),
        }
    }

    /// Enters a receipt at `now` of a message that was due at `due`.
    fn enter(&mut self, sequence: u64, due: u64, now: u64) {
        let number = sequence.checked_sub(self.first).map(usize::try_from);
        let missing = number.and_then(|number| self.missing.get_mut(number.ok()?));
        let Some(missing) = missing.filter(|missing| **missing > 0) else {
            return;
        };
        *missing -= 1;
        if *missing == 0 {
            self.unfinished -= 1;
            self.times.saturating_record(now.saturating_sub(due));
        }
    }
}

impl Observer for LastReceipts {
    #[inline]
    fn received(&mut self, _session: usize, sequence: u64, payload: &[u8]) {
        if let Ok(due) = payload::stamp(payload) {
            self.enter(sequence, due, clock::nanos());
        }
    }
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_done_when_all_have_its_last_message() {
        let mut all = AllReceived::default();
        assert!(all.done());
        all.expect(7, 2);
        for (session, sequence) in [(0, 6), (0, 7), (1, 6)] {
            all.received(session, sequence, b"");
        }
        assert!(!all.done());
        all.received(1, 7, b"");
        assert!(all.done());
    }

    #[test]
    fn topics_are_taken_in_turn_and_freed_by_their_session() {
        let mut free = FreeTopics::new(2);
        assert_eq!([free.take(), free.take(), free.take()], [Some(0), Some(1), None]);
        free.received(1, 0, b"");
        assert_eq!((free.count(), free.take()), (1, Some(1)));
    }

    #[test]
    fn the_last_receipt_counts() {
        let mut times = LastReceipts::new(2, 10, 2).unwrap();
        times.enter(10, 1_000, 2_000);
        times.enter(9, 0, 9_000_000);
        times.enter(11, 5_000, 6_000);
        times.enter(10, 1_000, 3_000);
        assert!(!times.done());
        times.enter(11, 5_000, 105_000);
        assert!(times.done());
        let percentiles = times.percentiles();
        assert_eq!((percentiles.count, percentiles.p50_us.round()), (2, 2.0));
        assert!((99.9..100.2).contains(&percentiles.max_us), "{percentiles:?}");
    }
}
