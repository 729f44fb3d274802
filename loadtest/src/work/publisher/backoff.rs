//! Pauses between attempts.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Grows from attempt to attempt, and is never quite the same.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// An attempt failed.
    pub(super) fn grow(&mut self, now: Instant) {
        let pause = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        self.until = Some(now + pause.mul_f64(0.75 + fastrand::f64() / 4.0));
    }

    /// One succeeded.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What is left of the pause.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.left(now), Duration::ZERO);
        for millis in [50, 100, 200, 400, 800, 1000, 1000] {
            backoff.grow(now);
            let (left, most) = (backoff.left(now), Duration::from_millis(millis));
            assert!(left <= most && left >= most.mul_f64(0.75), "{left:?} of {most:?}");
        }
        backoff.reset();
        assert_eq!(backoff.left(now), Duration::ZERO);
    }
}
