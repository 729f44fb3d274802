//! The embedded broker: messages stay within the process.
//!
//! Topics are spread over shards by hash. Publishing locks the topic's shard while it fills the
//! mailboxes, so that all workers get one topic's messages in one order.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};

use umbel_protocol::{Delivery, Topic};

use crate::broker::Published;
use crate::workers::WorkerSet;
use crate::{Mailbox, Parcel, WorkerId};

/// A broker within one process, for one node.
#[derive(Debug)]
pub struct MemoryBroker {
    shards: Box<[Mutex<HashMap<Topic, WorkerSet>>]>,
    hasher: RandomState,
    mailboxes: Box<[Arc<Mailbox>]>,
}

/// A delivery that couldn't be made, and the worker that has no room for it.
#[derive(Debug)]
pub(crate) struct Full {
    delivery: Delivery,
    worker: WorkerId,
}

/// Enough that workers seldom meet at a lock; a power of two.
const SHARDS: usize = 64;

impl MemoryBroker {
    /// A broker that fills these mailboxes, one per worker, by [`WorkerId::index`].
    pub fn new(mailboxes: impl IntoIterator<Item = Arc<Mailbox>>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            mailboxes: mailboxes.into_iter().collect(),
        }
    }

    /// Puts a message into the mailboxes of the workers that are attached to its topic, if all of
    /// them have room.
    #[allow(clippy::result_large_err, reason = "boxing would only allocate to move it back")]
    pub(crate) fn try_publish(&self, delivery: Delivery) -> Result<Published, Full> {
        let shard = self.shard(&delivery.message.topic);
        let workers = shard.get(&delivery.message.topic).copied().unwrap_or_default();
        if let Some(worker) = workers.iter().find(|worker| self.mailbox(*worker).is_full()) {
            return Err(Full { delivery, worker });
        }
        let mut last = None;
        for worker in workers.iter() {
            if let Some(before) = last.replace(worker) {
                self.mailbox(before).push(Parcel::Message(delivery.clone()));
            }
        }
        if let Some(last) = last {
            self.mailbox(last).push(Parcel::Message(delivery));
        }
        drop(shard);
        Ok(Published { id: None, receivers: u64::from(!workers.is_empty()) })
    }

    /// Publishes as soon as all workers concerned have room.
    ///
    /// Cancel safe: all mailboxes are filled in the poll that returns.
    pub(crate) async fn publish_with_room(&self, mut full: Full) -> Published {
        loop {
            self.mailbox(full.worker).room().await;
            match self.try_publish(full.delivery) {
                Ok(published) => return published,
                Err(again) => full = again,
            }
        }
    }

    pub(crate) fn attach(&self, worker: WorkerId, topic: &Topic) {
        self.shard(topic).entry(topic.clone()).or_default().insert(worker);
    }

    pub(crate) fn detach(&self, worker: WorkerId, topic: &Topic) {
        let mut shard = self.shard(topic);
        let Some(workers) = shard.get_mut(topic) else {
            return;
        };
        workers.remove(worker);
        if workers.is_empty() {
            shard.remove(topic);
            // Taking topics up and leaving them is rare beside publishing, and an eighth is a rare
            // size: shrinking pays for itself.
            if shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
        }
    }

    fn mailbox(&self, worker: WorkerId) -> &Mailbox {
        &self.mailboxes[worker.index()]
    }

    fn shard(&self, topic: &Topic) -> MutexGuard<'_, HashMap<Topic, WorkerSet>> {
        let hash = self.hasher.hash_one(topic.as_str());
        let index = usize::try_from(hash % SHARDS as u64).expect("below 64");
        self.shards[index].lock().expect("no code that can panic runs under this lock")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Broker, PublishError};
    use umbel_protocol::{Message, Payload, Timestamp};

    pub(crate) fn delivery(topic: &str, number: u64) -> Delivery {
        Delivery {
            message: Message {
                topic: Topic::new(topic).unwrap(),
                payload: Payload::text(number.to_string()),
                event: None,
                published: Timestamp(0),
                origin: None,
                id: None,
            },
            received: number,
            bare: false,
        }
    }

    pub(crate) fn numbers(parcels: &[Parcel]) -> Vec<u64> {
        let number = |parcel: &Parcel| match parcel {
            Parcel::Message(delivery) => delivery.received,
            Parcel::Gap { .. } => panic!("nothing was lost"),
        };
        parcels.iter().map(number).collect()
    }

    pub(crate) fn worker(number: usize) -> WorkerId {
        WorkerId::new(number).unwrap()
    }

    struct Bed {
        broker: Broker,
        mailboxes: Vec<Arc<Mailbox>>,
    }

    fn bed(workers: usize, limit_bytes: usize) -> Bed {
        let mailboxes: Vec<_> = (0..workers).map(|_| Arc::new(Mailbox::new(limit_bytes))).collect();
        Bed { broker: Broker::Memory(MemoryBroker::new(mailboxes.clone())), mailboxes }
    }

    async fn taken(mailbox: &Mailbox) -> Vec<u64> {
        let mut batch = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::ZERO, mailbox.take(&mut batch)).await;
        numbers(&batch)
    }

    #[tokio::test]
    async fn only_attached_workers_get_a_topic() {
        let bed = bed(3, 1 << 20);
        let topic = Topic::new("a").unwrap();
        assert_eq!(bed.broker.publish(delivery("a", 0)).await.unwrap().receivers, 0);
        let _ = bed.broker.attach(worker(0), &topic);
        let _ = bed.broker.attach(worker(2), &topic);
        assert_eq!(bed.broker.publish(delivery("a", 1)).await.unwrap().receivers, 1);
        bed.broker.detach(worker(0), &topic);
        bed.broker.publish(delivery("a", 2)).await.unwrap();
        bed.broker.publish(delivery("b", 3)).await.unwrap();
        bed.broker.detach(worker(2), &topic);
        bed.broker.publish(delivery("a", 4)).await.unwrap();
        assert_eq!(taken(&bed.mailboxes[0]).await, [1]);
        assert_eq!(taken(&bed.mailboxes[1]).await, [0; 0]);
        assert_eq!(taken(&bed.mailboxes[2]).await, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_waits_for_room_and_gives_up_in_the_end() {
        let bed = bed(2, 1);
        let topic = Topic::new("a").unwrap();
        let _ = bed.broker.attach(worker(0), &topic);
        let _ = bed.broker.attach(worker(1), &topic);
        bed.broker.publish(delivery("a", 1)).await.unwrap();
        assert_eq!(taken(&bed.mailboxes[0]).await, [1]);
        assert_eq!(taken(&bed.mailboxes[0]).await, [0; 0]);
        assert_eq!(
            bed.broker.publish(delivery("a", 2)).await,
            Err(PublishError::Behind),
            "worker 1 is behind"
        );
        assert_eq!(
            taken(&bed.mailboxes[0]).await,
            [0; 0],
            "no worker got what another couldn't take"
        );
        let (published, ()) = tokio::join!(bed.broker.publish(delivery("a", 3)), async {
            assert_eq!(taken(&bed.mailboxes[1]).await, [1]);
            assert_eq!(taken(&bed.mailboxes[1]).await, [0; 0]);
        });
        assert!(published.is_ok());
        assert_eq!(taken(&bed.mailboxes[0]).await, [3]);
        assert_eq!(taken(&bed.mailboxes[1]).await, [3]);
    }

    #[test]
    fn all_workers_see_one_order_per_topic() {
        let bed = bed(2, usize::MAX);
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let topic = Topic::new("a").unwrap();
        runtime().block_on(async {
            let _ = bed.broker.attach(worker(0), &topic);
            let _ = bed.broker.attach(worker(1), &topic);
        });
        std::thread::scope(|scope| {
            for publisher in 0..4_u64 {
                let broker = &bed.broker;
                scope.spawn(move || {
                    runtime().block_on(async {
                        for number in 0..1000 {
                            broker.publish(delivery("a", publisher * 1000 + number)).await.unwrap();
                        }
                    });
                });
            }
        });
        let (first, second) = runtime()
            .block_on(async { (taken(&bed.mailboxes[0]).await, taken(&bed.mailboxes[1]).await) });
        assert_eq!(first.len(), 4000);
        assert_eq!(first, second);
        for publisher in 0..4 {
            let own: Vec<_> = first.iter().filter(|n| **n / 1000 == publisher).collect();
            assert!(own.is_sorted(), "what one publisher sends keeps its order");
        }
    }
}
