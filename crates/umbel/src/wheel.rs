//! The coarse timer wheel of a worker: one tick serves all deadlines of all its sessions.
//!
//! A timer is an entry in the slot of its tick, nothing else: it can't be cancelled or moved.
//! Whoever inserted it looks, when it fires, at what it wants by then and inserts it again if the
//! time hasn't come. So a session has one entry however often its deadline moves, and pushing a
//! deadline back costs a store.

/// How often the wheel turns. Deadlines are met at most this much late.
pub(crate) const TICK_MILLIS: u32 = 250;

/// How far ahead an entry can lie; what is due later waits here and is inserted again.
const SLOTS: u32 = 256;

/// A point in time, in ticks since the worker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Tick(u32);

impl Tick {
    /// Later than any other.
    pub(crate) const NEVER: Self = Self(u32::MAX);

    /// This tick and so many seconds.
    pub(crate) fn plus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(Self::PER_SECOND)))
    }

    /// This tick and so many quarters of these seconds.
    pub(crate) fn plus_quarters(self, seconds: u32, quarters: u32) -> Self {
        const { assert!(Self::PER_SECOND == 4, "a quarter of a second is a tick") };
        Self(self.0.saturating_add(seconds.saturating_mul(quarters)))
    }

    /// Any tick from this one to that, which isn't earlier.
    pub(crate) fn random_up_to(self, latest: Self) -> Self {
        Self(fastrand::u32(self.0..=latest.0))
    }

    const PER_SECOND: u32 = 1000 / TICK_MILLIS;
}

/// Entries by the tick at which they are due.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    slots: Box<[Vec<T>]>,
    now: Tick,
}

impl<T> Wheel<T> {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now: Tick::default() }
    }

    /// The tick that was reached last.
    pub(crate) fn now(&self) -> Tick {
        self.now
    }

    /// Has `entry` fire at `due`, at the next tick at the earliest; earlier than `due` if that
    /// lies beyond the wheel's reach.
    pub(crate) fn insert(&mut self, entry: T, due: Tick) {
        let ahead = due.0.saturating_sub(self.now.0).clamp(1, SLOTS - 1);
        self.slots[slot(self.now.0.wrapping_add(ahead))].push(entry);
    }

    /// Moves on by one tick and gives what is due. Slots keep no allocation: filling one costs a
    /// handful, and a crowd that came at once would leave its room behind.
    pub(crate) fn advance(&mut self) -> Vec<T> {
        self.now.0 = self.now.0.wrapping_add(1);
        std::mem::take(&mut self.slots[slot(self.now.0)])
    }
}

fn slot(tick: u32) -> usize {
    (tick % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires_after(wheel: &mut Wheel<char>, entry: char) -> u32 {
        (1..=SLOTS).find(|_| wheel.advance().contains(&entry)).expect("fires within a turn")
    }

    #[test]
    fn an_entry_fires_at_its_tick() {
        let mut wheel = Wheel::new();
        for seconds in [1, 2, 10, 60] {
            let due = wheel.now().plus_seconds(seconds);
            wheel.insert('a', due);
            assert_eq!(fires_after(&mut wheel, 'a'), seconds * 4);
            assert_eq!(wheel.now(), due);
        }
    }

    #[test]
    fn what_is_due_already_fires_at_the_next_tick() {
        let mut wheel = Wheel::new();
        wheel.insert('a', wheel.now());
        assert_eq!(wheel.advance(), ['a']);
    }

    #[test]
    fn what_lies_beyond_the_wheel_fires_early_and_can_be_inserted_again() {
        let mut wheel = Wheel::new();
        let due = wheel.now().plus_seconds(100);
        wheel.insert('a', due);
        assert_eq!(fires_after(&mut wheel, 'a'), 255);
        wheel.insert('a', due);
        assert_eq!(fires_after(&mut wheel, 'a'), 400 - 255);
        assert_eq!(wheel.now(), due);
    }

    #[test]
    fn entries_of_other_ticks_stay() {
        let mut wheel = Wheel::new();
        wheel.insert('a', Tick(1));
        wheel.insert('b', Tick(2));
        assert_eq!(wheel.advance(), ['a']);
        assert_eq!(wheel.advance(), ['b']);
    }
}
