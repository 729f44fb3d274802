//! The tasks of a worker: the owner that every one of them has.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
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
    ended: Notify,
}

impl Tasks {
    /// Runs a task until it ends. It needs the worker's `LocalSet`.
    #[allow(clippy::disallowed_methods, reason = "this is the owner that the rule asks for")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Unpin + 'static) {
        self.state.live.set(self.state.live.get() + 1);
        tokio::task::spawn_local(Owned { task, state: self.state.clone() });
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
}

impl<F: Future<Output = ()> + Unpin> Future for Owned<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
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
    use std::pin::pin;
    use tokio::task::LocalSet;

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
