//! The embedded broker: messages stay within the process.
//!
//! Topics are spread over shards by hash. Publishing locks the topic's shard while it fills the
//! mailboxes, so that all workers get one topic's messages in one order. What topics with history
//! keep is here and nowhere else: it ends with the process, and its memory is bounded.

mod shard;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use umbel_protocol::{Stand, Topic};

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
    /// When each shard's oldest message was published, in microseconds; the largest number if it
    /// has none. Written under the shard's lock.
    oldest: Box<[AtomicU64]>,
    history: Arc<AtomicUsize>,
    history_limit: usize,
    /// The shard that is looked at next by who looks at them in turn.
    next: AtomicUsize,
    canaries: AtomicU64,
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
            oldest: (0..SHARDS).map(|_| AtomicU64::new(u64::MAX)).collect(),
            history: used,
            history_limit: history_bytes,
            next: AtomicUsize::new(0),
            canaries: AtomicU64::new(0),
        }
    }

    /// Puts a canary into all mailboxes.
    pub(crate) fn release_canary(&self, now: u64) {
        self.canaries.fetch_add(1, Ordering::Relaxed);
        for mailbox in &self.mailboxes {
            mailbox.push(crate::Parcel::Canary(now));
        }
    }

    /// How many canaries there were.
    pub(crate) fn canaries(&self) -> u64 {
        self.canaries.load(Ordering::Relaxed)
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
        let index = self.index_of(topic);
        let mut shard = self.lock(index);
        if let Some(key) = key {
            match shard.once.look(topic, key, digest) {
                Seen::Never => {}
                Seen::Same(published) => return Ok(Ok(published)),
                Seen::Other => return Ok(Err(PublishError::KeyUsed)),
            }
        }
        let history = history.filter(|_| !delivery.bare);
        let mut slot = shard.slot(topic, history, &self.origin);
        let workers = slot.workers();
        if let Some(worker) = workers.iter().find(|worker| self.mailbox(*worker).is_full()) {
            drop(shard);
            return Err(Full { publish, worker });
        }
        let Publish { mut delivery, key, .. } = publish;
        if history.is_some() {
            slot.keep(&mut delivery, &self.origin);
            shard.forget_stale();
            self.note_oldest(index, &shard);
        }
        let published =
            Published { id: delivery.message.id, receivers: u64::from(!workers.is_empty()) };
        if let Some(key) = key {
            let topic = &delivery.message.topic;
            shard.once.add(topic, &key, digest, published, tokio::time::Instant::now());
        }
        workers.hand_out(delivery, |worker, parcel| self.mailbox(worker).push(parcel));
        drop(shard);
        if history.is_some() && self.history_bytes() > self.history_limit {
            self.make_room();
        }
        Ok(Ok(published))
    }

    /// Gives up the oldest messages of all until they are within the limit; if there are none, quiet
    /// topics.
    fn make_room(&self) {
        while self.history_bytes() > self.history_limit {
            let time = |(_, time): &(usize, &AtomicU64)| time.load(Ordering::Relaxed);
            let oldest = self.oldest.iter().enumerate().min_by_key(time);
            match oldest.filter(|oldest| time(oldest) < u64::MAX) {
                Some((index, _)) => {
                    let mut shard = self.lock(index);
                    shard.evict_oldest();
                    self.note_oldest(index, &shard);
                }
                None => return self.forget_quiet(),
            }
        }
    }

    fn forget_quiet(&self) {
        for _ in 0..SHARDS {
            if self.history_bytes() > self.history_limit {
                self.next_shard().forget_quietest(&self.origin);
            }
        }
    }

    fn note_oldest(&self, index: usize, shard: &Shard) {
        let oldest = shard.oldest_time().map_or(u64::MAX, |time| time.0);
        self.oldest[index].store(oldest, Ordering::Relaxed);
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
            Some(ring) => reader.read(ring, &[], up_to, bytes, crate::clock::wall()),
            None => Read::Missing,
        }
    }

    pub(crate) fn stand(&self, topic: &Topic) -> Option<Stand> {
        self.shard(topic).ring(topic).map(crate::history::Ring::stand)
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history.load(Ordering::Relaxed)
    }

    pub(crate) fn wait(&self, topic: &Topic, reader: &Arc<Notify>) {
        self.shard(topic).wait(topic, reader);
    }

    /// Looks through one of the shards for what is too old.
    pub(crate) fn tend(&self) {
        let now = tokio::time::Instant::now();
        self.next_shard().tend(crate::clock::wall(), now, &self.origin);
    }

    fn mailbox(&self, worker: WorkerId) -> &Mailbox {
        &self.mailboxes[worker.index()]
    }

    fn shard(&self, topic: &Topic) -> MutexGuard<'_, Shard> {
        self.lock(self.index_of(topic))
    }

    fn index_of(&self, topic: &Topic) -> usize {
        let hash = self.hasher.hash_one(topic.as_str());
        usize::try_from(hash % SHARDS as u64).expect("below 64")
    }

    fn next_shard(&self) -> MutexGuard<'_, Shard> {
        self.lock(self.next.fetch_add(1, Ordering::Relaxed) % SHARDS)
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().expect("no code that can panic runs under this lock")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Parcel;
    use crate::{Broker, PublishError};
    use umbel_protocol::{Delivery, Message, Payload, Timestamp};

    pub(crate) fn delivery(topic: &str, number: u64) -> Delivery {
        Delivery {
            message: Message {
                topic: Topic::new(topic).unwrap(),
                payload: Payload::text(number.to_string()),
                event: None,
                published: Timestamp(0),
                origin: None,
                trace: None,
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
            other => panic!("nothing was lost: {other:?}"),
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

    /// Far more topics than fit: each goes on counting, and what is given up is what is oldest, of
    /// whichever topic.
    #[tokio::test]
    async fn what_is_oldest_gives_way_and_ids_go_on() {
        const LIMIT: usize = 1 << 20;
        let mailbox = Arc::new(Mailbox::new(usize::MAX));
        let memory = MemoryBroker::new([mailbox], LIMIT);
        let broker = Broker::Memory(memory);
        let history = History { messages: 100, seconds: 1 << 20, keep_seconds: 1 << 20 };
        let mut published = 0;
        for topic in 0..500 {
            let mut epoch = None;
            for number in 0..100 {
                published += 1;
                let mut delivery = delivery(&format!("t.{topic}"), number);
                delivery.message.payload = Payload::text("x".repeat(100));
                delivery.message.published = Timestamp((1 << 52) + published);
                let publish = Publish { delivery, history: Some(history), key: None };
                let id = broker.publish(publish).await.unwrap().id.unwrap();
                assert_eq!(id.offset, number + 1, "of topic {topic}");
                assert_eq!(*epoch.get_or_insert(id.epoch), id.epoch, "of topic {topic}");
            }
            assert!(broker.history_bytes() <= LIMIT, "{}", broker.history_bytes());
        }
        assert!(broker.history_bytes() > LIMIT / 2, "{}", broker.history_bytes());
        let Broker::Memory(memory) = &broker else { unreachable!("it is one") };
        let held = |topic: u64| {
            let topic = Topic::new(&format!("t.{topic}")).unwrap();
            let shard = memory.shard(&topic);
            shard.ring(&topic).is_some_and(|ring| ring.has(1))
        };
        assert!((490..500).all(held), "the newest are there");
        assert!(!(0..400).any(held), "the oldest aren't");
    }

    #[tokio::test]
    async fn where_topics_stood_is_forgotten_when_nothing_else_can_be() {
        const LIMIT: usize = 64 << 10;
        let memory = MemoryBroker::new([Arc::new(Mailbox::new(usize::MAX))], LIMIT);
        let broker = Broker::Memory(memory);
        let history = History { messages: 1, seconds: 1 << 20, keep_seconds: 1 << 20 };
        let held = Topic::new("held").unwrap();
        let _ = broker.attach(worker(0), &held, Some(history));
        let mut epochs = std::collections::HashSet::new();
        let publish = async |topic: &str| {
            let mut delivery = delivery(topic, 0);
            delivery.message.published = crate::clock::wall();
            let publish = Publish { delivery, history: Some(history), key: None };
            broker.publish(publish).await.unwrap().id.unwrap()
        };
        publish("held").await;
        // Somebody waited for the first message of a topic, and was away when it came.
        let fresh = Topic::new("fresh").unwrap();
        let _ = broker.attach(worker(0), &fresh, Some(history));
        let place = broker.stand(&fresh).unwrap().position;
        broker.detach(worker(0), &fresh);
        let read = |place| {
            let mut reader = Reader::new(fresh.clone(), umbel_protocol::After::Position(place));
            match broker.read(&mut reader, None, 0) {
                Read::Located { gap, .. } => gap,
                other => panic!("{other:?}"),
            }
        };
        publish("fresh").await;
        assert_eq!(read(place), None);
        for topic in 0..5000 {
            let id = publish(&format!("t.{topic}")).await;
            assert_eq!(id.offset, 1);
            assert!(epochs.insert(id.epoch), "no two topics share an epoch");
        }
        // A topic of each shard may stay beyond the limit.
        assert!(broker.history_bytes() < LIMIT + 64 * 1024, "{}", broker.history_bytes());
        assert_eq!(publish("held").await.offset, 2, "who is listened to isn't forgotten");
        assert_eq!(publish("t.4999").await.offset, 2, "nor who was heard of last");
        assert_eq!(publish("t.0").await.offset, 1);
        publish("fresh").await;
        assert_eq!(read(place), Some(umbel_protocol::GapReason::UnknownEpoch));
    }
}
