//! Things to be done so often.

use super::pauses::nanos;

/// How many of them are due, counted from a begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    began: u64,
    per_second: f64,
    done: u64,
}

impl Rate {
    /// `per_second` from `now` on, the first at once. One that is no rate stands for as fast as may be.
    pub(super) fn new(per_second: f64, now: u64) -> Self {
        let per_second = if per_second > 0.0 { per_second } else { f64::MAX };
        Self { began: now, per_second, done: 0 }
    }

    /// Takes one if it is due.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let is_due = self.next() <= now;
        self.done += u64::from(is_due);
        is_due
    }

    /// When the next is due.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn next(&self) -> u64 {
        self.began + nanos(self.done as f64 / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: &mut Rate, now: u64) -> usize {
        (0..1000).take_while(|_| rate.take(now)).count()
    }

    #[test]
    fn as_many_are_due_as_the_time_allows() {
        let mut rate = Rate::new(10.0, 1000);
        assert_eq!((taken(&mut rate, 999), taken(&mut rate, 1000)), (0, 1));
        assert_eq!(rate.next(), 100_001_000);
        assert_eq!(taken(&mut rate, 1000 + nanos(2.05)), 20);
        assert_eq!(taken(&mut Rate::new(0.0, 0), 0), 1000);
    }
}
