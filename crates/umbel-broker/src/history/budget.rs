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
    /// Every message that was added and may still be there, in portions, so that what is gone can be
    /// forgotten a little at a time.
    added: VecDeque<VecDeque<Added>>,
    /// How many they are.
    count: usize,
    /// The portion to look through next.
    next: usize,
    /// How many messages are kept.
    kept: usize,
}

/// How many messages make a portion: looking through one takes some tenths of a millisecond.
const PORTION: usize = 4096;

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
        Self { used, limit, added: VecDeque::new(), count: 0, next: 0, kept: 0 }
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
        self.count += 1;
        if self.added.back().is_none_or(|portion| portion.len() == PORTION) {
            self.added.push_back(VecDeque::new());
        }
        let portion = self.added.back_mut().expect("there is room in the last portion");
        portion.push_back(Added { topic: topic.clone(), offset, published: *published });
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
        if self.first().is_some_and(is_it) {
            self.pop_first();
        }
    }

    fn first(&self) -> Option<&Added> {
        self.added.front()?.front()
    }

    fn pop_first(&mut self) -> Option<Added> {
        let portion = self.added.front_mut()?;
        let first = portion.pop_front();
        self.count -= usize::from(first.is_some());
        if portion.is_empty() && self.added.len() > 1 {
            self.added.pop_front();
            self.next = self.next.saturating_sub(1);
        }
        first
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
        self.pop_first().map(|added| (added.topic, added.offset))
    }

    /// When that was published.
    pub(crate) fn oldest_time(&self) -> Option<Timestamp> {
        self.first().map(|added| added.published)
    }

    /// Whether most of what is remembered is gone; then [`Budget::retain`] pays for itself.
    pub(crate) fn is_stale(&self) -> bool {
        self.count > 1024 + 2 * self.kept
    }

    /// Forgets what isn't there any more, of one portion.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&Topic, u64) -> bool) {
        let at = if self.next < self.added.len() { self.next } else { 0 };
        let Some(portion) = self.added.get_mut(at) else {
            return;
        };
        self.count -= portion.len();
        portion.retain(|added| is_there(&added.topic, added.offset));
        portion.shrink_to(2 * portion.len());
        self.count += portion.len();
        self.next = at + 1;
        if portion.is_empty() && self.added.len() > 1 {
            self.added.remove(at);
            self.next = at;
        }
    }
}
