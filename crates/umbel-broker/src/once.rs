//! Messages that were published under an idempotency key, remembered for a while.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use tokio::time::Instant;
use umbel_protocol::{Delivery, IdempotencyKey, Topic};

use crate::Published;

/// How long a key is remembered.
pub(crate) const KEY_LIFE: Duration = Duration::from_mins(5);

/// How many keys one memory holds: with the 64 of a memory broker some 60 MB, and 870 keyed
/// messages a second for all of [`KEY_LIFE`]. Beyond it the oldest is forgotten early.
const MAX_KEYS: usize = 4096;

/// Names a message: what its publisher calls it, and where.
type Name = (Topic, IdempotencyKey);

/// The keys of some topics.
#[derive(Debug, Default)]
pub(crate) struct Once {
    known: HashMap<Name, Known>,
    /// In the order in which they are forgotten.
    order: VecDeque<(Instant, Name)>,
}

#[derive(Debug)]
struct Known {
    published: Published,
    digest: u64,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing.
    Never,
    /// This message was published.
    Same(Published),
    /// Another message was.
    Other,
}

impl Once {
    /// Whether a message of this name was published before.
    pub(crate) fn look(&self, topic: &Topic, key: &IdempotencyKey, digest: u64) -> Seen {
        match self.known.get(&(topic.clone(), key.clone())) {
            None => Seen::Never,
            Some(known) if known.digest == digest => Seen::Same(known.published),
            Some(_) => Seen::Other,
        }
    }

    /// A message was published.
    pub(crate) fn add(
        &mut self,
        topic: &Topic,
        key: &IdempotencyKey,
        digest: u64,
        published: Published,
        now: Instant,
    ) {
        self.forget(now);
        if self.order.len() >= MAX_KEYS
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let name = (topic.clone(), key.clone());
        self.known.insert(name.clone(), Known { published, digest });
        self.order.push_back((now + KEY_LIFE, name));
    }

    /// Forgets what was known for long.
    pub(crate) fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, name)) = self.order.pop_front()
        {
            self.known.remove(&name);
        }
        if self.order.len() < self.order.capacity() / 8 {
            self.order.shrink_to_fit();
            self.known.shrink_to_fit();
        }
    }
}

/// What tells messages under one key apart.
pub(crate) fn digest(hasher: &impl BuildHasher, delivery: &Delivery) -> u64 {
    let message = &delivery.message;
    let event = message.event.as_ref().map(umbel_protocol::EventName::as_str);
    hasher.hash_one((message.payload.kind(), message.payload.bytes(), event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_are_known_for_a_while_and_in_bounded_number() {
        let (topic, other) = (Topic::new("a").unwrap(), Topic::new("b").unwrap());
        let key = |number: usize| IdempotencyKey::new(&number.to_string()).unwrap();
        let published = |receivers| Published { id: None, receivers };
        let mut once = Once::default();
        let now = Instant::now();
        once.add(&topic, &key(1), 7, published(3), now);
        assert_eq!(once.look(&topic, &key(1), 7), Seen::Same(published(3)));
        assert_eq!(once.look(&topic, &key(1), 8), Seen::Other);
        assert_eq!(once.look(&other, &key(1), 7), Seen::Never, "a key is a topic's");
        once.forget(now + KEY_LIFE / 2);
        assert_eq!(once.look(&topic, &key(1), 7), Seen::Same(published(3)));
        once.forget(now + KEY_LIFE);
        assert_eq!(once.look(&topic, &key(1), 7), Seen::Never);
        for number in 0..=MAX_KEYS {
            once.add(&topic, &key(number), 7, published(0), now);
        }
        assert_eq!(once.look(&topic, &key(0), 7), Seen::Never);
        assert_eq!(once.look(&topic, &key(1), 7), Seen::Same(published(0)));
        assert_eq!((once.known.len(), once.order.len()), (MAX_KEYS, MAX_KEYS));
    }
}
