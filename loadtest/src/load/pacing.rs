//! When to publish: how long a window lasts, and when each message of an open loop is due.

use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a scenario is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Span {
    /// Until so much time is over, and the round that it ends in is whole.
    Time(Duration),
    /// So many rounds.
    Rounds(u64),
}

/// A span that has begun.
#[derive(Debug)]
pub struct Window {
    span: Span,
    began: Instant,
    rounds: u64,
}

impl Span {
    /// Begins now.
    pub fn begin(self) -> Window {
        Window { span: self, began: Instant::now(), rounds: 0 }
    }
}

impl Window {
    /// Whether another round shall be run; there is always a first.
    pub fn another(&mut self) -> bool {
        let more = match self.span {
            Span::Time(time) => self.began.elapsed() < time,
            Span::Rounds(rounds) => self.rounds < rounds,
        };
        let more = more || self.rounds == 0;
        self.rounds += u64::from(more);
        more
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }
}

/// The schedule of an open loop: message n is due n intervals after the beginning, whatever became of those before.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    begin: u64,
    interval: u64,
    count: u64,
}

impl Schedule {
    /// `count` messages, `interval` apart, the first at `begin` (all in nanoseconds of one clock).
    pub fn new(begin: u64, interval: u64, count: u64) -> Self {
        Self { begin, interval, count }
    }

    /// When message `number` is due.
    pub fn due_at(&self, number: u64) -> u64 {
        self.begin + number * self.interval
    }

    /// Those due at `now`, of which `sent` have gone.
    pub fn due(&self, now: u64, sent: u64) -> Range<u64> {
        let passed = now.checked_sub(self.begin);
        let due = passed.map_or(0, |passed| passed / self.interval + 1);
        sent..due.min(self.count).max(sent)
    }

    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_rounds_has_as_many_and_at_least_one() {
        for (rounds, expected) in [(3, 3), (0, 1)] {
            let mut window = Span::Rounds(rounds).begin();
            let run = std::iter::from_fn(|| window.another().then_some(())).count();
            assert_eq!((run, window.rounds()), (expected, expected as u64));
        }
    }

    #[test]
    fn a_window_whose_time_is_over_has_one_round() {
        let mut window = Span::Time(Duration::ZERO).begin();
        assert!(window.another());
        assert!(!window.another());
    }

    #[test]
    fn late_messages_are_due_at_their_own_times() {
        let schedule = Schedule::new(1000, 10, 5);
        assert_eq!(schedule.due(999, 0), 0..0);
        assert_eq!(schedule.due(1000, 0), 0..1);
        assert_eq!(schedule.due(1009, 1), 1..1);
        assert_eq!(schedule.due(1035, 1), 1..4);
        assert_eq!(schedule.due(9999, 4), 4..5);
        assert_eq!((schedule.due_at(3), schedule.count()), (1030, 5));
    }
}
