//! The way from the broker into one worker.
//!
//! This is the only place where threads meet on the way of a message: publishers append under a
//! short lock, the worker takes everything at once. Its size in bytes is bounded; who would go
//! beyond it waits ([`Mailbox::room`]) or stops reading where its messages come from.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use umbel_protocol::{Delivery, GapReason, Stand, Topic};

/// What comes through a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// A message to fan out.
    Message(Delivery),
    /// Messages of a topic may be lost: its sessions are to be told.
    Gap {
        /// Of which topic.
        topic: Topic,
        /// Why.
        reason: GapReason,
        /// Where the topic stands behind the gap, if it has history.
        stand: Option<Stand>,
    },
    /// A message of the node's own that takes the same way, to see how long that is: published
    /// then, by the node's clock in microseconds.
    Canary(u64),
}

/// Parcels for one worker, bounded in bytes.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    room: Notify,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    parcels: Vec<Parcel>,
    /// What the parcels here weigh, in bytes.
    waiting_bytes: usize,
    /// What the parcels weigh that the worker took last and is fanning out.
    taken_bytes: usize,
    worker: Option<Waker>,
}

/// What a parcel takes besides a payload: its fields, its share of the names.
const PARCEL_BYTES: usize = size_of::<Parcel>();

impl Mailbox {
    /// An empty mailbox that is full at `limit_bytes`. What one publishing thread adds at once may
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

    /// Adds a parcel, full or not, and wakes the worker.
    pub fn push(&self, parcel: Parcel) {
        let mut state = self.lock();
        state.waiting_bytes += weight(&parcel);
        state.parcels.push(parcel);
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Adds all of `parcels`, full or not, leaves that empty and wakes the worker.
    pub fn push_all(&self, parcels: &mut Vec<Parcel>) {
        if parcels.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.waiting_bytes += parcels.iter().map(weight).sum::<usize>();
        if state.parcels.is_empty() {
            std::mem::swap(&mut state.parcels, parcels);
        } else {
            state.parcels.append(parcels);
        }
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Waits for parcels and swaps all of them into `batch`, which must be empty. What was
    /// taken before counts as fanned out from now on.
    ///
    /// Cancel safe: parcels are taken in the same poll that returns them. One worker may wait
    /// at a time.
    pub async fn take(&self, batch: &mut Vec<Parcel>) {
        debug_assert!(batch.is_empty(), "parcels would be put out of order");
        poll_fn(|context| {
            let mut state = self.lock();
            let was_full = state.bytes() >= self.limit_bytes;
            state.taken_bytes = 0;
            let taken = !state.parcels.is_empty();
            if taken {
                std::mem::swap(&mut state.parcels, batch);
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

fn weight(parcel: &Parcel) -> usize {
    let payload = match parcel {
        Parcel::Message(delivery) => delivery.message.payload.bytes().len(),
        Parcel::Gap { .. } | Parcel::Canary(_) => 0,
    };
    PARCEL_BYTES + payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{delivery, numbers};
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn everything_that_waits_is_taken_at_once_and_in_order() {
        let mailbox = Mailbox::new(1 << 20);
        for number in 0..3 {
            mailbox.push(Parcel::Message(delivery("a", number)));
        }
        let mut batch = Vec::new();
        mailbox.take(&mut batch).await;
        assert_eq!(numbers(&batch), [0, 1, 2]);
    }

    #[tokio::test]
    async fn what_is_added_at_once_keeps_its_place() {
        let mailbox = Mailbox::new(1 << 20);
        let mut more: Vec<_> = (0..3).map(|n| Parcel::Message(delivery("a", n))).collect();
        mailbox.push_all(&mut more);
        assert!(more.is_empty());
        mailbox.push(Parcel::Message(delivery("a", 3)));
        mailbox.push_all(&mut vec![Parcel::Message(delivery("a", 4))]);
        let weight = mailbox.bytes();
        let mut batch = Vec::new();
        mailbox.take(&mut batch).await;
        assert_eq!(numbers(&batch), [0, 1, 2, 3, 4]);
        assert_eq!(weight, batch.iter().map(super::weight).sum::<usize>());
    }

    #[tokio::test]
    async fn a_push_wakes_the_worker() {
        let mailbox = Mailbox::new(1 << 20);
        let mut batch = Vec::new();
        tokio::join!(mailbox.take(&mut batch), async {
            mailbox.push(Parcel::Message(delivery("a", 1)))
        });
        assert_eq!(batch.len(), 1);
    }

    #[tokio::test]
    async fn room_comes_when_the_taken_batch_is_done() {
        let mailbox = Mailbox::new(10);
        mailbox.push(Parcel::Message(delivery("a", 1)));
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
