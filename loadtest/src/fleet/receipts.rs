//! When a message came: noted by each holder, put together by the coordinator. All read one clock.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::float;

/// Three significant digits.
const DIGITS: u8 = 3;
/// Ten minutes, in nanoseconds; what takes longer is entered as this.
const LONGEST: u64 = 600_000_000_000;

/// What one holder noted of one message; times count from its publishing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The message's number.
    pub sequence: u64,
    /// Sessions that have it.
    pub received: u64,
    /// Sessions that were open and don't have it.
    pub missing: u64,
    /// When the first had it.
    pub first_nanos: u64,
    /// When the last had it.
    pub last_nanos: u64,
    /// Times and how many sessions each was for, as a histogram knows them.
    pub counts: Vec<(u64, u64)>,
}

/// Notes the receipts of one message.
#[derive(Debug)]
pub struct Tally {
    sequence: u64,
    awaited: u64,
    received: u64,
    missing: u64,
    first: u64,
    last: u64,
    times: Histogram<u64>,
}

impl Tally {
    /// Message `sequence` is for `awaited` sessions.
    pub fn new(sequence: u64, awaited: u64) -> Result<Self> {
        let times = Histogram::new_with_max(LONGEST, DIGITS)?;
        let (first, last) = (u64::MAX, 0);
        Ok(Self { sequence, awaited, received: 0, missing: 0, first, last, times })
    }

    /// The message's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Enters a receipt of message `sequence`, `nanos` after its publishing; others aren't noted.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub fn enter(&mut self, sequence: u64, nanos: u64) {
        if sequence == self.sequence {
            self.received += 1;
            self.first = self.first.min(nanos);
            self.last = self.last.max(nanos);
            self.times.saturating_record(nanos);
        }
    }

    /// A session ended without it.
    pub fn give_up_one(&mut self) {
        self.missing += 1;
    }

    /// Nobody is waited for any more.
    pub fn is_done(&self) -> bool {
        self.received + self.missing >= self.awaited
    }

    /// All that was noted.
    pub fn receipts(&self) -> Receipts {
        let pairs = self.times.iter_recorded();
        Receipts {
            sequence: self.sequence,
            received: self.received,
            missing: self.awaited.saturating_sub(self.received),
            first_nanos: if self.received > 0 { self.first } else { 0 },
            last_nanos: self.last,
            counts: pairs.map(|at| (at.value_iterated_to(), at.count_at_value())).collect(),
        }
    }
}

/// How one message reached all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Nodes that had it from Redis.
    pub nodes: u64,
    /// Sessions that have it.
    pub received: u64,
    /// Sessions that were open and don't have it.
    pub missing: u64,
    /// From its publishing to the first receipt.
    pub first_seconds: f64,
    /// By when half had it.
    pub p50_seconds: f64,
    /// By when 99 of 100 had it.
    pub p99_seconds: f64,
    /// By when all that have it had it.
    pub last_seconds: f64,
    /// Receipts per second, from the publishing to the last.
    pub per_second: f64,
    /// The most that the queues of all TCP sockets held meanwhile, looked at some times a second.
    pub tcp_bytes_peak: u64,
}

impl Delivery {
    /// Of a message that `nodes` had from Redis, by what all holders noted.
    pub fn of(nodes: u64, receipts: &[Receipts], tcp_bytes_peak: u64) -> Result<Self> {
        let mut times: Histogram<u64> = Histogram::new_with_max(LONGEST, DIGITS)?;
        for (nanos, count) in receipts.iter().flat_map(|holder| &holder.counts) {
            times.saturating_record_n(*nanos, *count);
        }
        let having = || receipts.iter().filter(|holder| holder.received > 0);
        let received = receipts.iter().map(|holder| holder.received).sum();
        let first = having().map(|holder| holder.first_nanos).min().unwrap_or(0);
        let last = having().map(|holder| holder.last_nanos).max().unwrap_or(0);
        let last_seconds = seconds(last);
        Ok(Self {
            nodes,
            received,
            missing: receipts.iter().map(|holder| holder.missing).sum(),
            first_seconds: seconds(first),
            p50_seconds: seconds(times.value_at_quantile(0.5)),
            p99_seconds: seconds(times.value_at_quantile(0.99)),
            last_seconds,
            per_second: if last > 0 { float(received) / last_seconds } else { 0.0 },
            tcp_bytes_peak,
        })
    }
}

fn seconds(nanos: u64) -> f64 {
    float(nanos) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn holders_notes_make_one_distribution() {
        let mut tallies = [Tally::new(7, 100).unwrap(), Tally::new(7, 100).unwrap()];
        for time in 1..=100 {
            tallies[0].enter(7, time * MILLI);
            tallies[1].enter(7, (100 + time) * MILLI);
            tallies[1].enter(6, 1);
        }
        assert!(tallies.iter().all(Tally::is_done));
        let receipts = tallies.map(|tally| tally.receipts());
        let delivery = Delivery::of(2, &receipts, 0).unwrap();
        assert_eq!((delivery.received, delivery.missing), (200, 0));
        let times = [
            delivery.first_seconds,
            delivery.p50_seconds,
            delivery.p99_seconds,
            delivery.last_seconds,
        ];
        for (time, expected) in times.into_iter().zip([0.001, 0.1, 0.198, 0.2]) {
            assert!((time / expected - 1.0).abs() < 0.002, "{time} is not {expected}");
        }
        assert!((delivery.per_second - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn who_ended_is_not_waited_for_and_is_missing() {
        let mut tally = Tally::new(0, 2).unwrap();
        tally.enter(0, 5);
        assert!(!tally.is_done());
        tally.give_up_one();
        assert!(tally.is_done());
        assert_eq!((tally.receipts().received, tally.receipts().missing), (1, 1));
        let nobody = Tally::new(0, 3).unwrap().receipts();
        assert_eq!((nobody.missing, nobody.first_nanos), (3, 0));
        assert_eq!(Delivery::of(1, &[nobody], 0).unwrap().missing, 3);
    }

    proptest! {
        #[test]
        fn any_notes_are_put_together(counts in prop::collection::vec((any::<u64>(), 0u64..1 << 40), 0..20)) {
            let receipts = Receipts { received: 1, counts, ..Receipts::default() };
            prop_assert!(Delivery::of(1, &[receipts], 0).is_ok());
        }
    }
}
