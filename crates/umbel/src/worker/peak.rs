//! The worst of late: whoever looks every half a minute sees each peak.

use std::cell::Cell;

/// The largest value of the current half a minute and the one before.
#[derive(Default)]
pub(super) struct Peak<T> {
    now: Cell<T>,
    before: Cell<T>,
    seconds: Cell<u32>,
}

const HALF_SECONDS: u32 = 30;

impl<T: Copy + Default + Ord> Peak<T> {
    pub(super) fn observe(&self, value: T) {
        self.now.set(self.now.get().max(value));
    }

    pub(super) fn get(&self) -> T {
        self.now.get().max(self.before.get())
    }

    /// A second has gone.
    pub(super) fn age(&self) {
        self.seconds.set((self.seconds.get() + 1) % HALF_SECONDS);
        if self.seconds.get() == 0 {
            self.before.set(self.now.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_for_half_a_minute_and_gone_after_a_whole() {
        let peak = Peak::default();
        for quiet in 0..HALF_SECONDS {
            (0..quiet).for_each(|_| peak.age());
            peak.observe(7);
            peak.observe(3);
            (0..HALF_SECONDS).for_each(|_| peak.age());
            assert_eq!(peak.get(), 7, "{quiet} s into the half");
            (0..HALF_SECONDS).for_each(|_| peak.age());
            assert_eq!(peak.get(), 0);
        }
    }
}
