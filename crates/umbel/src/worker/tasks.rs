//! The tasks of a worker: the owner that every one of them has, and whose turn it is.
//!
//! A task that wakes itself is run again at once, up to 61 times before the event loop sees to
//! sockets, timers and the fan-out. One whose client sends without end would have all that to itself,
//! so each is run twice at most until the worker has had its turn.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::Notify;

/// Spawns tasks on the worker's thread and knows how many are left.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Cell<usize>,
    /// Counts the worker's turns.
    turn: Cell<u32>,
    ended: Notify,
}

/// How often a task is run in a turn: once for what is there, and once for what that led to.
const RUNS_PER_TURN: u32 = 2;

impl Tasks {
    /// Runs a task until it ends. It needs the worker's `LocalSet`.
    #[allow(clippy::disallowed_methods, reason = "this is the owner that the rule asks for")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Unpin + 'static) {
        self.state.live.set(self.state.live.get() + 1);
        tokio::task::spawn_local(Owned { task, state: self.state.clone(), turn: 0, runs: 0 });
    }

    /// How many tasks are left.
    pub(crate) fn live(&self) -> usize {
        self.state.live.get()
    }

    /// Counts the worker's turns, for as long as it is polled beside what the worker does.
    pub(super) async fn count_turns(&self) {
        poll_fn(|_| {
            self.state.turn.set(self.state.turn.get().wrapping_add(1));
            Poll::Pending
        })
        .await
    }

    /// Waits until no task is left.
    ///
    /// Cancel safe.
    pub(crate) async fn all_ended(&self) {
        while self.state.live.get() > 0 {
            self.state.ended.notified().await;
        }
    }
}

/// A task that is counted until it is gone, however it ends.
struct Owned<F> {
    task: F,
    state: Rc<State>,
    /// The turn in which it ran last, and how often.
    turn: u32,
    runs: u32,
}

impl<F> Owned<F> {
    fn may_run(&mut self) -> bool {
        let turn = self.state.turn.get();
        if std::mem::replace(&mut self.turn, turn) != turn {
            self.runs = 0;
        }
        let may_run = self.runs < RUNS_PER_TURN;
        // Who is put off is woken in another turn.
        self.runs = if may_run { self.runs + 1 } else { 0 };
        may_run
    }
}

impl<F: Future<Output = ()> + Unpin> Future for Owned<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.may_run() {
            // It is woken when the event loop has looked at everything else.
            return pin!(tokio::task::yield_now()).poll(context);
        }
        Pin::new(&mut self.task).poll(context)
    }
}

impl<F> Drop for Owned<F> {
    fn drop(&mut self) {
        self.state.live.set(self.state.live.get() - 1);
        if self.state.live.get() == 0 {
            self.state.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn a_task_that_wakes_itself_runs_twice_in_a_turn() {
        LocalSet::new()
            .run_until(async {
                let tasks = Tasks::default();
                let runs = Rc::new(Cell::new(0));
                let counted = runs.clone();
                tasks.spawn(poll_fn(move |context| {
                    counted.set(counted.get() + 1);
                    context.waker().wake_by_ref();
                    Poll::Pending
                }));
                let ten_turns = async {
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    () = tasks.count_turns() => unreachable!("it counts until it is dropped"),
                    () = ten_turns => {}
                }
                assert!((10..=24).contains(&runs.get()), "{} runs in ten turns", runs.get());
            })
            .await;
    }

    #[tokio::test]
    async fn the_owner_waits_for_the_last_task_also_if_it_panics() {
        LocalSet::new()
            .run_until(async {
                let tasks = Tasks::default();
                let release = Rc::new(Notify::new());
                for panics in [false, true] {
                    let release = release.clone();
                    tasks.spawn(Box::pin(async move {
                        release.notified().await;
                        assert!(!panics, "this task was asked to");
                    }));
                }
                let mut all_ended = pin!(tasks.all_ended());
                tokio::select! {
                    biased;
                    () = &mut all_ended => panic!("two tasks are left"),
                    () = tokio::task::yield_now() => {}
                }
                release.notify_waiters();
                all_ended.await;
            })
            .await;
    }
}
