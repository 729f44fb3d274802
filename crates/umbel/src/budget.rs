//! The node's memory: how much there is, how much is held, and what to do about it.
//!
//! Each worker counts what it holds and says so four times a second; each looks at the sum. So the
//! budget needs no splitting: a worker with many slow clients may use what others leave. What can
//! grow faster than that (bodies, unfinished frames, handshakes) is held to a share on the spot.

use std::sync::atomic::{AtomicUsize, Ordering};

use umbel_metrics::LabelSet;

/// What the node may hold and what its workers do.
#[derive(Debug)]
pub(crate) struct Budget {
    /// What may be counted: less than the node may have, see [`Budget::new`].
    limit: usize,
    logs_limit: usize,
    /// What a worker may hold of something that comes in at once.
    share: usize,
    workers: Box<[Holdings]>,
}

/// What one worker says that it holds. Aligned so that no other worker writes to its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Holdings {
    all: AtomicUsize,
    logs: AtomicUsize,
}

/// How short memory is, and so what is done about it. Each step includes those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// There is enough.
    None,
    /// No new sessions.
    Refuse,
    /// Whoever is behind may be less so.
    Shorten,
    /// Those furthest behind go.
    Shed,
}

/// What the program has before it serves anybody: its code, threads, and tables.
const BASE_BYTES: usize = 24 << 20;

impl Budget {
    /// For a node that may have `memory` bytes, sockets included, of which `history` may be history's;
    /// `largest` is the longest thing that a client may send. An eighth is left to the allocator,
    /// which holds more than it is asked for. Logs and history together have a quarter.
    pub(crate) fn new(memory: usize, history: usize, largest: usize, workers: usize) -> Self {
        let limit = memory.saturating_sub(BASE_BYTES + memory / 8);
        // However many workers there are, a few of the largest must fit.
        let few = largest.saturating_mul(4).min(limit / 4);
        let share = (limit / 8 / workers.max(1)).max(few);
        let workers = (0..workers).map(|_| Holdings::default()).collect();
        Self { limit, logs_limit: (memory / 4).saturating_sub(history), share, workers }
    }

    /// What may be held in all, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What one worker may hold of something that comes in at once: an eighth of all, over the
    /// workers.
    pub(crate) fn share(&self) -> usize {
        self.share
    }

    /// Takes note of what a worker holds: in all, and in its logs.
    pub(crate) fn holds(&self, worker: usize, all: usize, logs: usize) {
        self.workers[worker].all.store(all, Ordering::Relaxed);
        self.workers[worker].logs.store(logs, Ordering::Relaxed);
    }

    /// What all workers hold, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.sum(|holdings| &holdings.all)
    }

    fn sum(&self, part: fn(&Holdings) -> &AtomicUsize) -> usize {
        self.workers.iter().map(|worker| part(worker).load(Ordering::Relaxed)).sum()
    }

    /// How short memory is.
    pub(crate) fn pressure(&self) -> Pressure {
        let (all, logs) = (self.held(), self.sum(|holdings| &holdings.logs));
        if all >= self.limit {
            Pressure::Shed
        } else if all >= self.limit / 10 * 9 || logs > self.logs_limit {
            Pressure::Shorten
        } else if all >= self.limit / 10 * 8 {
            Pressure::Refuse
        } else {
            Pressure::None
        }
    }
}

impl LabelSet for Pressure {
    const ALL: &'static [Self] = &[Self::None, Self::Refuse, Self::Shorten, Self::Shed];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Refuse => "refuse",
            Self::Shorten => "shorten",
            Self::Shed => "shed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_held_the_more_is_done() {
        let budget = Budget::new(1 << 30, 0, 1 << 20, 2);
        let limit = budget.limit();
        assert!(limit < 1 << 30 && limit > 1 << 29);
        for (held, pressure) in [
            (0, Pressure::None),
            (limit / 100 * 79, Pressure::None),
            (limit / 100 * 81, Pressure::Refuse),
            (limit / 100 * 91, Pressure::Shorten),
            (limit + 1, Pressure::Shed),
        ] {
            budget.holds(0, held / 2, 0);
            budget.holds(1, held - held / 2, 0);
            assert_eq!(budget.pressure(), pressure, "{held} of {limit}");
        }
    }

    #[test]
    fn logs_have_a_quarter_with_history() {
        let budget = Budget::new(1 << 30, 128 << 20, 1 << 20, 2);
        for (logs, pressure) in [(60 << 20, Pressure::None), (70 << 20, Pressure::Shorten)] {
            budget.holds(0, logs, logs);
            budget.holds(1, logs, logs);
            assert_eq!(budget.pressure(), pressure);
        }
    }

    #[test]
    fn some_of_the_largest_fit_into_a_share_however_many_workers_there_are() {
        assert_eq!(Budget::new(512 << 20, 0, 1 << 20, 64).share(), 4 << 20);
        assert!(Budget::new(512 << 20, 0, 1 << 30, 64).share() < 128 << 20);
    }

    #[test]
    fn a_node_with_next_to_nothing_has_no_room_but_doesn_t_break() {
        let budget = Budget::new(1 << 20, 0, 1 << 20, 1);
        assert_eq!((budget.limit(), budget.share()), (0, 0));
        assert_eq!(budget.pressure(), Pressure::Shed);
    }
}
