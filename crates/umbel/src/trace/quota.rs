//! How often strangers have their way.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many publishes per second are recorded since their publishers ask for it. Whoever may publish
/// may ask, and each may make dozens of spans on all nodes; this leaves room in the queue for others.
pub(super) const PER_SECOND: u32 = 100;

/// What is left of the current second, for all threads together.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// The second in the upper half, and how many it has had in the lower.
    taken: AtomicU64,
}

impl Quota {
    /// Whether there may be one more in this second, counted from any time.
    pub(super) fn allows(&self, second: u64) -> bool {
        let second = second << 32;
        let take = |taken: u64| {
            let count = if taken >> 32 == second >> 32 { taken & u64::from(u32::MAX) } else { 0 };
            (count < u64::from(PER_SECOND)).then_some(second | (count + 1))
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own() {
        let quota = Quota::default();
        for second in [1_700_000_000, 1_700_000_001] {
            let allowed = (0..3 * PER_SECOND).filter(|_| quota.allows(second)).count();
            assert_eq!(allowed, PER_SECOND as usize);
        }
    }
}
