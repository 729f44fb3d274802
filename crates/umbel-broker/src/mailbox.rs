//! The way from the broker into one worker.
//!
//! This is the only place where threads meet on the way of a message: publishers append under a
//! short lock, the worker takes everything at once. Its size in bytes is bounded; who would go
//! beyond it waits ([`Mailbox::room`]) or stops reading where its messages come from.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use umbel_protocol::Delivery;

/// Deliveries for one worker, bounded in bytes.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    room: Notify,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    deliveries: Vec<Delivery>,
    /// What the deliveries here weigh, in bytes.
    waiting_bytes: usize,
    /// What the deliveries weigh that the worker took last and is fanning out.
    taken_bytes: usize,
    worker: Option<Waker>,
}

/// What a delivery takes besides its payload: its fields, its share of the names.
const DELIVERY_BYTES: usize = size_of::<Delivery>();

impl Mailbox {
    /// An empty mailbox that is full at `limit_bytes`. One delivery per publishing thread may
    /// still go over the limit, since each looks before it adds.
    pub fn new(limit_bytes: usize) -> Self {
        Self { state: Mutex::default(), room: Notify::new(), limit_bytes }
    }

    /// Whether publishers should wait.
    pub fn is_full(&self) -> bool {
        self.lock().bytes() >= self.limit_bytes
    }

    /// Waits until the mailbox isn't full.
    ///
    /// Cancel safe: nothing is taken or promised.
    pub async fn room(&self) {
        loop {
            let notified = self.room.notified();
            if !self.is_full() {
                return;
            }
            notified.await;
        }
    }

    /// Adds a delivery, full or not, and wakes the worker.
    pub fn push(&self, delivery: Delivery) {
        let mut state = self.lock();
        state.waiting_bytes += weight(&delivery);
        state.deliveries.push(delivery);
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Waits for deliveries and swaps all of them into `batch`, which must be empty. What was
    /// taken before counts as fanned out from now on.
    ///
    /// Cancel safe: deliveries are taken in the same poll that returns them. One worker may wait
    /// at a time.
    pub async fn take(&self, batch: &mut Vec<Delivery>) {
        debug_assert!(batch.is_empty(), "deliveries would be put out of order");
        poll_fn(|context| {
            let mut state = self.lock();
            let was_full = state.bytes() >= self.limit_bytes;
            state.taken_bytes = 0;
            let taken = !state.deliveries.is_empty();
            if taken {
                std::mem::swap(&mut state.deliveries, batch);
                state.taken_bytes = std::mem::take(&mut state.waiting_bytes);
            } else {
                state.worker = Some(context.waker().clone());
            }
            let is_full = state.bytes() >= self.limit_bytes;
            drop(state);
            if was_full && !is_full {
                self.room.notify_waiters();
            }
            if taken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// What waits here or is being fanned out, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code that can panic runs under this lock")
    }
}

impl State {
    fn bytes(&self) -> usize {
        self.waiting_bytes + self.taken_bytes
    }
}

fn weight(delivery: &Delivery) -> usize {
    DELIVERY_BYTES + delivery.message.payload.bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::delivery;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn everything_that_waits_is_taken_at_once_and_in_order() {
        let mailbox = Mailbox::new(1 << 20);
        for number in 0..3 {
            mailbox.push(delivery("a", number));
        }
        let mut batch = Vec::new();
        mailbox.take(&mut batch).await;
        assert_eq!(batch.iter().map(|d| d.received).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_push_wakes_the_worker() {
        let mailbox = Mailbox::new(1 << 20);
        let mut batch = Vec::new();
        tokio::join!(mailbox.take(&mut batch), async { mailbox.push(delivery("a", 1)) });
        assert_eq!(batch.len(), 1);
    }

    #[tokio::test]
    async fn room_comes_when_the_taken_batch_is_done() {
        let mailbox = Mailbox::new(10);
        mailbox.push(delivery("a", 1));
        let worker = async {
            let mut batch = Vec::new();
            mailbox.take(&mut batch).await;
            assert!(mailbox.is_full(), "what is being fanned out still counts");
            batch.clear();
            assert!(timeout(Duration::ZERO, mailbox.take(&mut batch)).await.is_err());
        };
        tokio::join!(mailbox.room(), worker);
        assert_eq!(mailbox.bytes(), 0);
    }
}
