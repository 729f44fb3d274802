//! Some of the topics of a memory broker: who is attached to them and what is kept of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The upper half of this process's epochs.
    server: u32,
    lives: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    workers: WorkerSet,
    /// Only topics with history have one.
    ring: Option<Box<Ring>>,
    /// When a message came last, or a worker left.
    used: Option<Instant>,
}

/// What a topic with history takes besides its messages, in bytes.
const TOPIC_BYTES: usize = size_of::<Entry>() + size_of::<Ring>() + 64;

impl Origin {
    pub(super) fn new() -> Self {
        Self { server: fastrand::u32(..), lives: AtomicU64::new(1) }
    }

    fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    fn epoch(&self, now: Timestamp) -> u64 {
        u64::from(self.server) << 32 | (now.0 & u64::from(u32::MAX))
    }
}

impl Shard {
    pub(super) fn new(budget: Budget) -> Self {
        Self { topics: HashMap::new(), budget, once: Once::default() }
    }

    pub(super) fn workers_of(&self, topic: &Topic) -> WorkerSet {
        self.topics.get(topic).map(|entry| entry.workers).unwrap_or_default()
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
        self.entry(topic, history, origin).workers.insert(worker);
    }

    pub(super) fn detach(&mut self, worker: WorkerId, topic: &Topic) {
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        entry.workers.remove(worker);
        entry.used = Some(Instant::now());
        if entry.workers.is_empty() && entry.is_forgettable(Instant::now()) {
            self.remove(&topic.clone());
        }
    }

    pub(super) fn wait(&mut self, topic: &Topic, reader: &Arc<Notify>) {
        if let Some(ring) = self.topics.get_mut(topic).and_then(|entry| entry.ring.as_mut()) {
            ring.wait(reader);
        }
    }

    /// Gives a message its id and keeps it.
    pub(super) fn keep(&mut self, delivery: &mut Delivery, history: History, origin: &Origin) {
        let topic = delivery.message.topic.clone();
        let entry = self.entry(&topic, Some(history), origin);
        entry.used = Some(Instant::now());
        let ring = entry.ring.as_mut().expect("a topic with history has a ring");
        let stand = ring.stand();
        let epoch = match stand.position {
            Position(Some(last)) => last.epoch,
            Position::START => origin.epoch(delivery.message.published),
        };
        delivery.message.id = Some(MessageId { epoch, offset: stand.offset() + 1 });
        delivery.life = stand.life;
        let kept = delivery.clone();
        let Self { topics, budget, .. } = self;
        let ring = topics.get_mut(&topic).and_then(|entry| entry.ring.as_mut());
        ring.expect("it was there a moment ago").push(&topic, kept, budget);
        self.make_room();
    }

    /// Takes off what is too old and forgets whom nobody will ask for.
    pub(super) fn tend(&mut self, now: Timestamp, instant: Instant) {
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
        for topic in gone {
            self.remove(&topic);
        }
        self.forget_stale();
    }

    fn entry(&mut self, topic: &Topic, history: Option<History>, origin: &Origin) -> &mut Entry {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Entry::default());
        }
        let entry = self.topics.get_mut(topic).expect("it was inserted if it was missing");
        if let Some(history) = history
            && entry.ring.is_none()
        {
            let stand = Stand { life: origin.next_life(), position: Position::START };
            entry.ring = Some(Box::new(Ring::new(history, stand, origin.server, true)));
            entry.used = Some(Instant::now());
            self.budget.charge(TOPIC_BYTES);
        }
        entry
    }

    /// Gives up the oldest messages until all are within the budget; if there are none, quiet
    /// topics.
    fn make_room(&mut self) {
        while self.budget.is_over() {
            let Some((topic, offset)) = self.budget.oldest() else {
                return self.forget_quietest();
            };
            let Self { topics, budget, .. } = self;
            if let Some(ring) = topics.get_mut(&topic).and_then(|entry| entry.ring.as_mut())
                && ring.has(offset)
            {
                ring.evict(offset, true, budget);
            }
        }
        self.forget_stale();
    }

    /// Forgets where those topics stood that have been quiet for longest and nobody listens to: a
    /// sixteenth of them, since finding them takes a look at all.
    fn forget_quietest(&mut self) {
        let quiet = self.topics.iter().filter(|(_, entry)| entry.workers.is_empty());
        let mut quiet: Vec<_> = quiet.map(|(topic, entry)| (entry.used, topic.clone())).collect();
        if quiet.is_empty() {
            return;
        }
        let count = quiet.len() / 16;
        quiet.select_nth_unstable_by_key(count, |(used, _)| *used);
        for (_, topic) in quiet.drain(..=count) {
            self.remove(&topic);
        }
    }

    fn forget_stale(&mut self) {
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
        if let Some(Entry { ring: Some(mut ring), .. }) = self.topics.remove(topic) {
            ring.clear(&mut self.budget);
            self.budget.discharge(TOPIC_BYTES);
        }
        // Taking topics up and leaving them is rare beside publishing, and an eighth is a rare
        // size: shrinking pays for itself.
        if self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to_fit();
        }
    }
}

impl Entry {
    /// Whether nothing is lost if a topic is forgotten that no worker is attached to.
    fn is_forgettable(&self, now: Instant) -> bool {
        match (&self.ring, self.used) {
            (Some(ring), Some(used)) => {
                let life = Duration::from_secs(ring.history.keep_seconds.into());
                ring.stand().position == Position::START || used + life <= now
            }
            _ => true,
        }
    }
}
