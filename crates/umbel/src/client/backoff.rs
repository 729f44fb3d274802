//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// What became of a connection says how soon to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// After this time, unless attempts fail one after the other.
    After(Duration),
    /// Soon, then less and less often.
    Backoff,
    /// Not soon.
    LongBackoff,
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(500);

/// All waits are at most this, unless the node asks for more.
const LONGEST: Duration = Duration::from_secs(30);

impl Backoff {
    /// Forgets the failures: the connection has held.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait. Half of it is random, so that those who lost their connections together
    /// don't return together.
    pub(super) fn next(&mut self, pace: Pace) -> Duration {
        let grown = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        let is_first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        match pace {
            Pace::After(asked) if is_first => asked,
            Pace::After(asked) => jittered(grown).max(asked),
            Pace::Backoff => jittered(grown),
            Pace::LongBackoff => jittered(LONGEST),
        }
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered() {
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            let mut ceiling = FIRST;
            for _ in 0..20 {
                let wait = backoff.next(Pace::Backoff);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
                ceiling = (ceiling * 2).min(LONGEST);
            }
            assert_eq!(ceiling, LONGEST);
            backoff.reset();
            assert!(backoff.next(Pace::Backoff) <= FIRST);
        }
    }

    #[test]
    fn what_the_node_asks_for_holds_at_first_and_is_never_undercut() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Pace::After(Duration::ZERO)), Duration::ZERO);
        assert!(backoff.next(Pace::After(Duration::ZERO)) >= FIRST, "the second failure in a row");
        let asked = Duration::from_mins(1);
        assert_eq!(backoff.next(Pace::After(asked)), asked);
        assert!(backoff.next(Pace::LongBackoff) >= LONGEST / 2);
    }
}
