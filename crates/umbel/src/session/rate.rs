//! How fast a session may publish.

/// A rate with a burst: what was published keeps its session busy for as long as its share of a
/// second; a session may be ahead of the clock by what a burst takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// What one message takes, in nanoseconds; 0 without a limit.
    interval: u64,
}

/// How long a session may be ahead: two seconds' worth of messages.
const BURST_NANOS: u64 = 2_000_000_000;

impl Rate {
    /// `u32::MAX` a second is as many as there are.
    pub(crate) fn new(per_second: u32) -> Self {
        match per_second {
            u32::MAX => Self { interval: 0 },
            _ => Self { interval: 1_000_000_000 / u64::from(per_second.max(1)) },
        }
    }

    /// Whether one more may be published now, in microseconds. `until` is when the session has used
    /// up what it has published, in nanoseconds; it moves on if so.
    pub(crate) fn allows(self, until: &mut u64, now_micros: u64) -> bool {
        let now = now_micros * 1000;
        let next = (*until).max(now) + self.interval;
        let allows = next - now <= BURST_NANOS || self.interval == 0;
        if allows {
            *until = next;
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_a_second_s_worth_at_once_and_then_as_it_comes() {
        let rate = Rate::new(100);
        let (mut until, mut now) = (0, 5_000_000);
        let allowed =
            |until: &mut u64, now| (0..1000).take_while(|_| rate.allows(until, now)).count();
        assert_eq!(allowed(&mut until, now), 200);
        now += 500_000;
        assert_eq!(allowed(&mut until, now), 50);
        now += 60_000_000;
        assert_eq!(allowed(&mut until, now), 200, "no more than a burst is saved up");
    }

    #[test]
    fn a_refused_message_costs_nothing() {
        let rate = Rate::new(1);
        let mut until = 0;
        assert!(rate.allows(&mut until, 0) && rate.allows(&mut until, 0));
        let before = until;
        assert!((0..10).all(|_| !rate.allows(&mut until, 0)));
        assert_eq!(until, before);
    }

    #[test]
    fn without_a_limit_all_may() {
        let (rate, mut until) = (Rate::new(u32::MAX), 0);
        assert!((0..100_000).all(|_| rate.allows(&mut until, 0)));
    }
}
