//! Some of the topics of a memory broker: who is attached to them and what is kept of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use umbel_protocol::{Delivery, MessageId, Position, Stand, Timestamp, Topic};

use crate::WorkerId;
use crate::history::{Budget, History, Ring};
use crate::once::Once;
use crate::workers::WorkerSet;

/// Topics whose names have one hash.
#[derive(Debug)]
pub(super) struct Shard {
    topics: HashMap<Topic, Entry>,
    budget: Budget,
    pub(super) once: Once,
}

/// Where epochs and lives come from.
#[derive(Debug)]
pub(super) struct Origin {
    /// The upper half of the epochs that begin now. Another one begins whenever it is forgotten
    /// where topics stood, so that nobody takes them for topics that had no message yet.
    server: AtomicU32,
    lives: AtomicU64,
    /// When the newest epoch began, in microseconds.
    epochs: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    workers: WorkerSet,
    /// Only topics with history have one.
    ring: Option<Box<Ring>>,
    /// When a message came last, or a worker left.
    used: Option<Instant>,
}

/// One topic of a shard.
pub(super) struct Slot<'s> {
    entry: Option<&'s mut Entry>,
    budget: &'s mut Budget,
}

/// What a topic with history takes besides its messages, in bytes.
const TOPIC_BYTES: usize = size_of::<Entry>() + size_of::<Ring>() + 64;

impl Origin {
    pub(super) fn new() -> Self {
        let (lives, epochs) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { server: AtomicU32::new(fastrand::u32(..)), lives, epochs }
    }

    fn server(&self) -> u32 {
        self.server.load(Ordering::Relaxed)
    }

    /// It is forgotten where topics stood.
    fn begin_another(&self) {
        self.server.fetch_add(1, Ordering::Relaxed);
    }

    fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// An epoch that no topic had before.
    fn epoch(&self, server: u32, now: Timestamp) -> u64 {
        let next = |last: u64| now.0.max(last + 1);
        let last =
            self.epochs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let began = next(last.unwrap_or_else(|last| last));
        u64::from(server) << 32 | (began & u64::from(u32::MAX))
    }
}

impl Shard {
    pub(super) fn new(budget: Budget) -> Self {
        Self { topics: HashMap::new(), budget, once: Once::default() }
    }

    pub(super) fn ring(&self, topic: &Topic) -> Option<&Ring> {
        self.topics.get(topic)?.ring.as_deref()
    }

    pub(super) fn attach(
        &mut self,
        worker: WorkerId,
        topic: &Topic,
        history: Option<History>,
        origin: &Origin,
    ) {
        let Self { topics, budget, .. } = self;
        let entry = Self::entry(topics, budget, topic, history, origin);
        let was_charged = entry.is_charged();
        entry.workers.insert(worker);
        self.recharge(was_charged, false);
    }

    pub(super) fn detach(&mut self, worker: WorkerId, topic: &Topic) {
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        let was_charged = entry.is_charged();
        entry.workers.remove(worker);
        entry.used = Some(Instant::now());
        let is_charged = entry.is_charged();
        // One that had messages is left to `tend`.
        let had_messages = entry.ring.as_ref().is_some_and(|ring| ring.stand().offset() > 0);
        let is_over = entry.workers.is_empty() && !had_messages;
        self.recharge(was_charged, is_charged);
        if is_over {
            self.remove(&topic.clone());
        }
    }

    pub(super) fn wait(&mut self, topic: &Topic, reader: &Arc<Notify>) {
        if let Some(ring) = self.topics.get_mut(topic).and_then(|entry| entry.ring.as_mut()) {
            ring.wait(reader);
        }
    }

    /// A topic that a message is published to, to be kept if there is history.
    ///
    /// HOT PATH: one lookup.
    pub(super) fn slot(
        &mut self,
        topic: &Topic,
        history: Option<History>,
        origin: &Origin,
    ) -> Slot<'_> {
        let Self { topics, budget, .. } = self;
        let entry = match history {
            Some(_) => Some(Self::entry(topics, budget, topic, history, origin)),
            None => topics.get_mut(topic),
        };
        Slot { entry, budget }
    }

    /// When its oldest message was published, or one that is gone already.
    pub(super) fn oldest_time(&self) -> Option<Timestamp> {
        self.budget.oldest_time()
    }

    /// Gives up its oldest message, if that is still there.
    pub(super) fn evict_oldest(&mut self) {
        let Self { topics, budget, .. } = self;
        if let Some((topic, offset)) = budget.oldest()
            && let Some(ring) = topics.get_mut(&topic).and_then(|entry| entry.ring.as_mut())
            && ring.has(offset)
        {
            ring.evict(offset, true, budget);
        }
    }

    /// Takes off what is too old and forgets whom nobody will ask for.
    pub(super) fn tend(&mut self, now: Timestamp, instant: Instant, origin: &Origin) {
        self.once.forget(instant);
        let Self { topics, budget, .. } = self;
        for ring in topics.values_mut().filter_map(|entry| entry.ring.as_mut()) {
            ring.expire(now, budget);
        }
        let forgettable = |entry: &Entry| entry.workers.is_empty() && entry.is_forgettable(instant);
        let gone: Vec<_> = self
            .topics
            .iter()
            .filter(|(_, entry)| forgettable(entry))
            .map(|(topic, _)| topic.clone())
            .collect();
        let had_messages =
            gone.iter().any(|topic| self.ring(topic).is_some_and(|ring| ring.stand().offset() > 0));
        for topic in gone {
            self.remove(&topic);
        }
        if had_messages {
            origin.begin_another();
        }
        self.forget_stale();
    }

    fn entry<'t>(
        topics: &'t mut HashMap<Topic, Entry>,
        budget: &Budget,
        topic: &Topic,
        history: Option<History>,
        origin: &Origin,
    ) -> &'t mut Entry {
        let entry = topics.entry(topic.clone()).or_default();
        if let Some(history) = history
            && entry.ring.is_none()
        {
            let server = origin.server();
            let stand = Stand { life: origin.next_life(), position: Position::empty(server) };
            entry.ring = Some(Box::new(Ring::new(history, stand, server)));
            entry.used = Some(Instant::now());
            if entry.is_charged() {
                budget.charge(TOPIC_BYTES);
            }
        }
        entry
    }

    /// Forgets where those topics stood that have been quiet for longest and nobody listens to: a
    /// sixteenth of them, since finding them takes a look at all. The last one stays: it may be the
    /// one that is being published to.
    pub(super) fn forget_quietest(&mut self, origin: &Origin) {
        let quiet = self.topics.iter().filter(|(_, entry)| entry.is_charged());
        let mut quiet: Vec<_> = quiet.map(|(topic, entry)| (entry.used, topic.clone())).collect();
        if quiet.len() < 2 {
            return;
        }
        let count = quiet.len() / 16;
        quiet.select_nth_unstable_by_key(count, |(used, _)| *used);
        for (_, topic) in quiet.drain(..=count) {
            self.remove(&topic);
        }
        origin.begin_another();
    }

    /// Topics that nobody listens to are counted: they are kept for those who may come back.
    fn recharge(&self, was_charged: bool, is_charged: bool) {
        match (was_charged, is_charged) {
            (false, true) => self.budget.charge(TOPIC_BYTES),
            (true, false) => self.budget.discharge(TOPIC_BYTES),
            _ => {}
        }
    }

    /// Forgets what is remembered of messages that are gone, when that is most of it.
    pub(super) fn forget_stale(&mut self) {
        if self.budget.is_stale() {
            let topics = &self.topics;
            let is_there = |topic: &Topic, offset| {
                let ring = topics.get(topic).and_then(|entry| entry.ring.as_ref());
                ring.is_some_and(|ring| ring.has(offset))
            };
            self.budget.retain(is_there);
        }
    }

    fn remove(&mut self, topic: &Topic) {
        if let Some(entry) = self.topics.remove(topic) {
            self.recharge(entry.is_charged(), false);
            if let Some(mut ring) = entry.ring {
                ring.clear(&mut self.budget);
            }
        }
        // Taking topics up and leaving them is rare beside publishing, and an eighth is a rare
        // size: shrinking pays for itself.
        if self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to_fit();
        }
    }
}

impl Slot<'_> {
    /// Who is attached to the topic.
    pub(super) fn workers(&self) -> WorkerSet {
        self.entry.as_ref().map(|entry| entry.workers).unwrap_or_default()
    }

    /// Gives a message its id and keeps it. To be called for a topic with history.
    pub(super) fn keep(&mut self, delivery: &mut Delivery, origin: &Origin) {
        let entry = self.entry.as_mut().expect("a topic with history has an entry");
        entry.used = Some(Instant::now());
        let ring = entry.ring.as_mut().expect("a topic with history has a ring");
        let stand = ring.stand();
        let epoch = match stand.position.0 {
            // Whoever stands before the first message shall find it to be of the server that it knows.
            Some(last) if last.is_before_any_epoch() => {
                origin.epoch(last.server(), delivery.message.published)
            }
            Some(last) => last.epoch,
            None => origin.epoch(origin.server(), delivery.message.published),
        };
        delivery.message.id = Some(MessageId { epoch, offset: stand.offset() + 1 });
        delivery.life = stand.life;
        ring.push(delivery.clone(), self.budget);
    }
}

impl Entry {
    /// Whether the topic itself counts, besides its messages.
    fn is_charged(&self) -> bool {
        self.ring.is_some() && self.workers.is_empty()
    }

    /// Whether nothing is lost if a topic is forgotten that no worker is attached to.
    fn is_forgettable(&self, now: Instant) -> bool {
        match (&self.ring, self.used) {
            (Some(ring), Some(used)) => {
                let life = Duration::from_secs(ring.history.keep_seconds.into());
                ring.stand().offset() == 0 || used + life <= now
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{delivery, worker};

    /// Other topics are forgotten while somebody stands before a topic's first message.
    #[test]
    fn a_place_before_the_first_message_stays_good() {
        let origin = Origin::new();
        let mut shard = Shard::new(Budget::new(Arc::default(), 1 << 20));
        let topic = Topic::new("a").unwrap();
        let history = Some(History { messages: 10, seconds: 300, keep_seconds: 300 });
        shard.attach(worker(0), &topic, history, &origin);
        let place = shard.ring(&topic).unwrap().stand().position;
        origin.begin_another();
        let mut first = delivery("a", 1);
        shard.slot(&topic, history, &origin).keep(&mut first, &origin);
        assert!(place.goes_on_in(first.message.id.unwrap().epoch));
    }
}
