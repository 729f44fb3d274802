//! What a session is given before it holds a topic: the topic's history, from its place on.

use std::collections::VecDeque;

use umbel_broker::Reader;
use umbel_hub::OnSlow;
use umbel_protocol::Topic;

use super::{Hold, Join};

/// The topics that a session catches up with, one after the other.
#[derive(Debug, Default)]
pub(crate) struct CatchUps {
    queue: VecDeque<CatchUp>,
    /// The topic for which the broker is asked now; its part is with who asks.
    fetching: Option<Topic>,
}

/// One topic that a session catches up with.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// Keeps the worker attached.
    pub(crate) hold: Hold,
    pub(crate) join: Join,
    pub(crate) on_slow: OnSlow,
}

impl CatchUp {
    pub(crate) fn new(hold: Hold, reader: Reader, on_slow: OnSlow) -> Self {
        Self { hold, join: Join::new(reader), on_slow }
    }

    pub(crate) fn topic(&self) -> &Topic {
        self.join.topic()
    }
}

impl CatchUps {
    pub(crate) fn push(&mut self, catch_up: CatchUp) {
        self.queue.push_back(catch_up);
    }

    /// The topic to go on with, unless the broker is being asked.
    pub(crate) fn next(&mut self) -> Option<CatchUp> {
        if self.fetching.is_some() { None } else { self.queue.pop_front() }
    }

    /// Goes on with this one first.
    pub(crate) fn push_front(&mut self, catch_up: CatchUp) {
        self.queue.push_front(catch_up);
    }

    pub(crate) fn begin_fetch(&mut self, topic: &Topic) {
        self.fetching = Some(topic.clone());
    }

    /// Whether what was asked for is still wanted.
    pub(crate) fn end_fetch(&mut self, topic: &Topic) -> bool {
        self.fetching.take_if(|fetching| fetching == topic).is_some()
    }

    /// Gives a topic up; whether it was there.
    pub(crate) fn remove(&mut self, topic: &Topic) -> bool {
        let before = self.queue.len();
        self.queue.retain(|catch_up| catch_up.topic() != topic);
        self.queue.len() < before || self.end_fetch(topic)
    }

    pub(crate) fn has(&self, topic: &Topic) -> bool {
        self.queue.iter().any(|catch_up| catch_up.topic() == topic)
            || self.fetching.as_ref() == Some(topic)
    }

    /// How many topics there are.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.fetching.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
