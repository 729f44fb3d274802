//! What sessions do at their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Come back.
    Return,
    /// Cut the connection.
    Cut,
    /// Read what may be read by now.
    Read,
    /// Give up what isn't open yet.
    GiveUp,
}

/// What is to be done by whom, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    /// When, in nanoseconds of the clock.
    pub(super) due: u64,
    /// Which session.
    pub(super) session: u32,
    /// In which life: what was meant for an earlier one is void.
    pub(super) life: u32,
    /// What.
    pub(super) alarm: Alarm,
}

/// Timers by their time.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Timer>>);

impl Timers {
    /// Adds one.
    pub(super) fn set(&mut self, timer: Timer) {
        self.0.push(Reverse(timer));
    }

    /// The earliest that is due at `now`.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Timer> {
        self.0.peek().filter(|first| first.0.due <= now)?;
        self.0.pop().map(|first| first.0)
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.peek().map(|first| first.0.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_when_they_are_due_and_in_order() {
        let mut timers = Timers::default();
        for due in [30, 10, 20] {
            timers.set(Timer { due, session: 0, life: 0, alarm: Alarm::Cut });
        }
        assert_eq!((timers.take_due(9), timers.next()), (None, Some(10)));
        let due: Vec<_> = std::iter::from_fn(|| timers.take_due(20)).map(|at| at.due).collect();
        assert_eq!((due, timers.next()), (vec![10, 20], Some(30)));
    }
}
