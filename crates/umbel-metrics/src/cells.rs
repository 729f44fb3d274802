//! What a worker records into.
//!
//! One writer, many readers: the writer loads, adds and stores without a locked instruction. A
//! reader may see a histogram whose sum is one observation ahead of its buckets; over the life of
//! a process that is nothing.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LabelSet;

/// A number that only grows. Written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owner may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is what it was last set to. Written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to the value. Only the owner may.
    pub fn add(&self, difference: f64) {
        self.set(self.get() + difference);
    }

    /// Sets the value to a count.
    #[allow(clippy::cast_precision_loss, reason = "metrics are floats; counts stay far below 2^53")]
    pub fn set_count(&self, count: usize) {
        self.set(count as f64);
    }

    /// The value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// One counter per label of a closed set.
#[derive(Debug)]
pub struct Counters<L> {
    cells: Box<[Counter]>,
    labels: PhantomData<L>,
}

impl<L: LabelSet> Default for Counters<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| Counter::default()).collect(), labels: PhantomData }
    }
}

impl<L: LabelSet> Counters<L> {
    /// The counter of one label.
    pub fn of(&self, label: L) -> &Counter {
        &self.cells[label.index()]
    }
}

/// The upper bounds of all histograms, in seconds: from what a small fan-out takes to what a
/// person waits for. Few, since every one is a series per label.
pub const BUCKETS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The same bounds in the unit of observations.
const BUCKETS_MICROS: [u64; BUCKETS.len()] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// Durations by [`BUCKETS`]. Written by one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one is for what is longer than every bound.
    counts: [Counter; BUCKETS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Records `times` observations of the same duration.
    pub fn observe(&self, micros: u64, times: u64) {
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[bucket].add(times);
        self.sum_micros.add(micros.saturating_mul(times));
    }

    /// How many observations each bucket has, not cumulated; the last is beyond all bounds.
    pub fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|at| self.counts[at].get())
    }

    /// What all observations add up to, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.get()
    }
}

/// One histogram per label of a closed set.
#[derive(Debug)]
pub struct Histograms<L> {
    cells: Box<[Histogram]>,
    labels: PhantomData<L>,
}

impl<L: LabelSet> Default for Histograms<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| Histogram::default()).collect(), labels: PhantomData }
    }
}

impl<L: LabelSet> Histograms<L> {
    /// The histogram of one label.
    pub fn of(&self, label: L) -> &Histogram {
        &self.cells[label.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_same_in_both_units() {
        for (seconds, micros) in BUCKETS.iter().zip(BUCKETS_MICROS) {
            assert!((seconds * 1e6 - f64::from(u32::try_from(micros).unwrap())).abs() < 1e-6);
        }
        let histogram = Histogram::default();
        histogram.observe(250, 2);
        histogram.observe(251, 1);
        histogram.observe(6_000_000, 1);
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[13]), (2, 1, 1));
        assert_eq!(histogram.sum_micros(), 6_000_751);
    }
}
