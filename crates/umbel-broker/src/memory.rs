//! The embedded broker: messages stay within the process.
//!
//! Topics are spread over shards by hash. Publishing locks the topic's shard while it fills the
//! mailboxes, so that all workers get one topic's messages in one order. What topics with history
//! keep is here and nowhere else: it ends with the process, and its memory is bounded.

mod shard;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use umbel_protocol::{Stand, Timestamp, Topic};

use crate::broker::Published;
use crate::history::{Budget, History, Read, Reader};
use crate::once::{self, Seen};
use crate::{Mailbox, Publish, PublishError, WorkerId};
use shard::{Origin, Shard};

/// A broker within one process, for one node.
#[derive(Debug)]
pub struct MemoryBroker {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    mailboxes: Box<[Arc<Mailbox>]>,
    origin: Origin,
    /// The shard that [`MemoryBroker::tend`] looks at next.
    tended: AtomicUsize,
}

/// A message that couldn't be published, and the worker that has no room for it.
#[derive(Debug)]
pub(crate) struct Full {
    publish: Publish,
    worker: WorkerId,
}

/// Enough that workers seldom meet at a lock; a power of two.
const SHARDS: usize = 64;

impl MemoryBroker {
    /// A broker that fills these mailboxes, one per worker, by [`WorkerId::index`], and keeps at
    /// most about `history_bytes` of history.
    pub fn new(mailboxes: impl IntoIterator<Item = Arc<Mailbox>>, history_bytes: usize) -> Self {
        let used = Arc::new(AtomicUsize::new(0));
        let shard = |_| Mutex::new(Shard::new(Budget::new(used.clone(), history_bytes)));
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher: RandomState::new(),
            mailboxes: mailboxes.into_iter().collect(),
            origin: Origin::new(),
            tended: AtomicUsize::new(0),
        }
    }

    /// Puts a message into the mailboxes of the workers that are attached to its topic, if all of
    /// them have room, and on the topic's ring.
    #[allow(clippy::result_large_err, reason = "boxing would only allocate to move it back")]
    pub(crate) fn try_publish(
        &self,
        publish: Publish,
    ) -> Result<Result<Published, PublishError>, Full> {
        let Publish { delivery, history, key } = &publish;
        let topic = &delivery.message.topic;
        let digest = key.as_ref().map_or(0, |_| once::digest(&self.hasher, delivery));
        let mut shard = self.shard(topic);
        if let Some(key) = key {
            match shard.once.look(topic, key, digest) {
                Seen::Never => {}
                Seen::Same(published) => return Ok(Ok(published)),
                Seen::Other => return Ok(Err(PublishError::KeyUsed)),
            }
        }
        let workers = shard.workers_of(topic);
        if let Some(worker) = workers.iter().find(|worker| self.mailbox(*worker).is_full()) {
            drop(shard);
            return Err(Full { publish, worker });
        }
        let history = history.filter(|_| !delivery.bare);
        let Publish { mut delivery, key, .. } = publish;
        if let Some(history) = history {
            shard.keep(&mut delivery, history, &self.origin);
        }
        let published =
            Published { id: delivery.message.id, receivers: u64::from(!workers.is_empty()) };
        if let Some(key) = key {
            let topic = &delivery.message.topic;
            shard.once.add(topic, &key, digest, published, tokio::time::Instant::now());
        }
        workers.hand_out(delivery, |worker, parcel| self.mailbox(worker).push(parcel));
        drop(shard);
        Ok(Ok(published))
    }

    /// Publishes as soon as all workers concerned have room.
    ///
    /// Cancel safe: all mailboxes are filled in the poll that returns.
    pub(crate) async fn publish_with_room(
        &self,
        mut full: Full,
    ) -> Result<Published, PublishError> {
        loop {
            self.mailbox(full.worker).room().await;
            match self.try_publish(full.publish) {
                Ok(outcome) => return outcome,
                Err(again) => full = again,
            }
        }
    }

    pub(crate) fn attach(&self, worker: WorkerId, topic: &Topic, history: Option<History>) {
        self.shard(topic).attach(worker, topic, history, &self.origin);
    }

    pub(crate) fn detach(&self, worker: WorkerId, topic: &Topic) {
        self.shard(topic).detach(worker, topic);
    }

    pub(crate) fn read(&self, reader: &mut Reader, up_to: Option<Stand>, bytes: usize) -> Read {
        let shard = self.shard(reader.topic());
        match shard.ring(reader.topic()) {
            Some(ring) => reader.read(ring, up_to, bytes, wall()),
            None => Read::Missing,
        }
    }

    pub(crate) fn stand(&self, topic: &Topic) -> Option<Stand> {
        self.shard(topic).ring(topic).map(crate::history::Ring::stand)
    }

    pub(crate) fn wait(&self, topic: &Topic, reader: &Arc<Notify>) {
        self.shard(topic).wait(topic, reader);
    }

    /// Looks through one of the shards for what is too old.
    pub(crate) fn tend(&self) {
        let next = self.tended.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.lock(next).tend(wall(), tokio::time::Instant::now());
    }

    fn mailbox(&self, worker: WorkerId) -> &Mailbox {
        &self.mailboxes[worker.index()]
    }

    fn shard(&self, topic: &Topic) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(topic.as_str());
        self.lock(usize::try_from(hash % SHARDS as u64).expect("below 64"))
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().expect("no code that can panic runs under this lock")
    }
}

fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Parcel;
    use crate::{Broker, PublishError};
    use umbel_protocol::{Delivery, Message, Payload};

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
            life: 0,
        }
    }

    pub(crate) fn live(topic: &str, number: u64) -> Publish {
        Publish { delivery: delivery(topic, number), history: None, key: None }
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
        Bed { broker: Broker::Memory(MemoryBroker::new(mailboxes.clone(), 1 << 20)), mailboxes }
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
        assert_eq!(bed.broker.publish(live("a", 0)).await.unwrap().receivers, 0);
        let _ = bed.broker.attach(worker(0), &topic, None);
        let _ = bed.broker.attach(worker(2), &topic, None);
        assert_eq!(bed.broker.publish(live("a", 1)).await.unwrap().receivers, 1);
        bed.broker.detach(worker(0), &topic);
        bed.broker.publish(live("a", 2)).await.unwrap();
        bed.broker.publish(live("b", 3)).await.unwrap();
        bed.broker.detach(worker(2), &topic);
        bed.broker.publish(live("a", 4)).await.unwrap();
        assert_eq!(taken(&bed.mailboxes[0]).await, [1]);
        assert_eq!(taken(&bed.mailboxes[1]).await, [0; 0]);
        assert_eq!(taken(&bed.mailboxes[2]).await, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_waits_for_room_and_gives_up_in_the_end() {
        let bed = bed(2, 1);
        let topic = Topic::new("a").unwrap();
        let _ = bed.broker.attach(worker(0), &topic, None);
        let _ = bed.broker.attach(worker(1), &topic, None);
        bed.broker.publish(live("a", 1)).await.unwrap();
        assert_eq!(taken(&bed.mailboxes[0]).await, [1]);
        assert_eq!(taken(&bed.mailboxes[0]).await, [0; 0]);
        assert_eq!(
            bed.broker.publish(live("a", 2)).await,
            Err(PublishError::Behind),
            "worker 1 is behind"
        );
        assert_eq!(
            taken(&bed.mailboxes[0]).await,
            [0; 0],
            "no worker got what another couldn't take"
        );
        let (published, ()) = tokio::join!(bed.broker.publish(live("a", 3)), async {
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
            let _ = bed.broker.attach(worker(0), &topic, None);
            let _ = bed.broker.attach(worker(1), &topic, None);
        });
        std::thread::scope(|scope| {
            for publisher in 0..4_u64 {
                let broker = &bed.broker;
                scope.spawn(move || {
                    runtime().block_on(async {
                        for number in 0..1000 {
                            broker.publish(live("a", publisher * 1000 + number)).await.unwrap();
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
