//! The pace of HTTP/2 streams.
//!
//! A socket is written by the fan-out itself, so each batch waits until the one before is written
//! as far as clients take it. A stream takes what is due by itself, in a task of its own, a piece
//! at a time; a fan-out that didn't wait for it would fill its budget although its client keeps
//! up.

use std::cell::Cell;

/// How often the worker's tasks get their turn before the next batch comes, as long as streams get
/// on: a few milliseconds, and several rounds of pieces for a thousand streams.
const MAX_TURNS: usize = 256;

/// Counts what streams do.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    steps: Cell<u64>,
}

impl Pace {
    /// A stream was told of something due, took a piece, or its connection wrote.
    pub(crate) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Lets streams that were told of something due take it. Returns at once if nothing happened
    /// since `steps` were counted.
    pub(super) async fn settle(&self, mut steps: u64) {
        for _ in 0..MAX_TURNS {
            let now = self.steps();
            if std::mem::replace(&mut steps, now) == now {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::task::{LocalSet, yield_now};

    use crate::worker::tasks::Tasks;

    /// The steps that a stream had taken when the pace had settled, if it takes so many.
    async fn settled(steps: u64) -> u64 {
        let pace = Rc::new(Pace::default());
        let stepping = pace.clone();
        let before = pace.steps();
        let tasks = Tasks::default();
        tasks.spawn(Box::pin(async move {
            for _ in 0..steps {
                stepping.step();
                yield_now().await;
            }
        }));
        // It was told.
        pace.step();
        tokio::select! {
            () = tasks.count_turns() => unreachable!("counts until it is dropped"),
            () = pace.settle(before) => {}
        }
        pace.steps() - before - 1
    }

    #[tokio::test]
    async fn streams_are_waited_for_as_long_as_they_get_on() {
        let settle = async {
            assert_eq!(settled(0).await, 0);
            assert_eq!(settled(100).await, 100);
            assert!(settled(u64::MAX).await <= MAX_TURNS as u64, "but not for ever");
        };
        LocalSet::new().run_until(settle).await;
    }
}
