//! What history may take in memory, over all topics.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use umbel_protocol::{Delivery, Message, Timestamp, Topic};

/// What a message takes besides its payload: its fields, its share of the tables.
const MESSAGE_BYTES: usize = size_of::<Delivery>() + 48;

/// Counts what several owners keep together, and remembers for one of them what is oldest.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
    /// Every message that was added and may still be there.
    added: VecDeque<Added>,
    /// How many messages are kept.
    kept: usize,
}

/// A message that was added.
#[derive(Debug)]
struct Added {
    topic: Topic,
    offset: u64,
    published: Timestamp,
}

impl Budget {
    /// An owner's part of `used`, which all of them keep below `limit` bytes.
    pub(crate) fn new(used: Arc<AtomicUsize>, limit: usize) -> Self {
        Self { used, limit, added: VecDeque::new(), kept: 0 }
    }

    /// How many bytes all may take.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes all owners keep now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What a message is counted with.
    pub(crate) fn weight(delivery: &Delivery) -> usize {
        MESSAGE_BYTES + delivery.message.payload.bytes().len()
    }

    /// A message with an id is kept from now on.
    pub(crate) fn add(&mut self, delivery: &Delivery) {
        let Message { topic, published, id, .. } = &delivery.message;
        let offset = id.map_or(0, |id| id.offset);
        self.used.fetch_add(Self::weight(delivery), Ordering::Relaxed);
        self.kept += 1;
        self.added.push_back(Added { topic: topic.clone(), offset, published: *published });
    }

    /// A message isn't kept any more.
    pub(crate) fn remove(&mut self, delivery: &Delivery) {
        self.used.fetch_sub(Self::weight(delivery), Ordering::Relaxed);
        self.kept -= 1;
        // Mostly it is the one that was added first: then nothing is left to be forgotten.
        let is_it = |added: &Added| {
            delivery.message.id.is_some_and(|id| id.offset == added.offset)
                && delivery.message.topic == added.topic
        };
        if self.added.front().is_some_and(is_it) {
            self.added.pop_front();
        }
    }

    /// Counts bytes that are no message's.
    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was charged.
    pub(crate) fn discharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// The message to give up next: the one that was added first and may still be there.
    pub(crate) fn oldest(&mut self) -> Option<(Topic, u64)> {
        self.added.pop_front().map(|added| (added.topic, added.offset))
    }

    /// When that was published.
    pub(crate) fn oldest_time(&self) -> Option<Timestamp> {
        self.added.front().map(|added| added.published)
    }

    /// Whether most of what is remembered is gone; then [`Budget::retain`] pays for itself.
    pub(crate) fn is_stale(&self) -> bool {
        self.added.len() > 1024 + 2 * self.kept
    }

    /// Forgets what isn't there any more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&Topic, u64) -> bool) {
        self.added.retain(|added| is_there(&added.topic, added.offset));
        self.added.shrink_to(2 * self.added.len());
    }
}
