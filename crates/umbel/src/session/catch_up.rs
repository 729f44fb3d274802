//! What a session is given before it holds a topic: the topic's history, from its place on.

use std::collections::VecDeque;

use umbel_broker::Reader;
use umbel_hub::Terms;
use umbel_protocol::Topic;

use super::{Hold, Join};

/// The topics that a session catches up with. One that can't go on doesn't keep the others.
#[derive(Debug, Default)]
pub(crate) struct CatchUps {
    ready: VecDeque<CatchUp>,
    /// Those that wait for the worker to fan out what is in its mailbox.
    waiting: Vec<CatchUp>,
    /// Those of which the broker must be asked when it isn't asked of another any more.
    lacking: VecDeque<CatchUp>,
    /// What the broker is asked now; its part is with who asks.
    fetching: Option<(Fetch, Topic)>,
}

/// Tells one asking of the broker from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetch(pub(crate) u64);

/// One topic that a session catches up with.
#[derive(Debug)]
pub(crate) struct CatchUp {
    /// Keeps the worker attached.
    pub(crate) hold: Hold,
    pub(crate) join: Join,
    pub(crate) terms: Terms,
}

impl CatchUp {
    pub(crate) fn new(hold: Hold, reader: Reader, terms: Terms) -> Self {
        Self { hold, join: Join::new(reader), terms }
    }

    pub(crate) fn topic(&self) -> &Topic {
        self.join.topic()
    }
}

impl CatchUps {
    pub(crate) fn push(&mut self, catch_up: CatchUp) {
        self.ready.push_back(catch_up);
    }

    /// The topic to go on with, if there is one that can.
    pub(crate) fn next(&mut self) -> Option<CatchUp> {
        let ready = self.ready.pop_front();
        ready.or_else(|| if self.is_fetching() { None } else { self.lacking.pop_front() })
    }

    /// Goes on with this one first.
    pub(crate) fn push_front(&mut self, catch_up: CatchUp) {
        self.ready.push_front(catch_up);
    }

    /// Leaves this one until [`CatchUps::end_wait`]; whether it is the first.
    pub(crate) fn wait(&mut self, catch_up: CatchUp) -> bool {
        self.waiting.push(catch_up);
        self.waiting.len() == 1
    }

    /// The worker has fanned out what was in its mailbox.
    pub(crate) fn end_wait(&mut self) {
        self.ready.extend(self.waiting.drain(..));
    }

    /// Leaves this one until the broker can be asked of it.
    pub(crate) fn lack(&mut self, catch_up: CatchUp) {
        self.lacking.push_back(catch_up);
    }

    pub(crate) fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }

    pub(crate) fn begin_fetch(&mut self, fetch: Fetch, topic: &Topic) {
        self.fetching = Some((fetch, topic.clone()));
    }

    /// Whether what was asked for is still wanted.
    pub(crate) fn end_fetch(&mut self, fetch: Fetch) -> bool {
        self.fetching.take_if(|(asked, _)| *asked == fetch).is_some()
    }

    /// Gives a topic up; whether it was there.
    pub(crate) fn remove(&mut self, topic: &Topic) -> bool {
        let before = self.len();
        self.ready.retain(|catch_up| catch_up.topic() != topic);
        self.waiting.retain(|catch_up| catch_up.topic() != topic);
        self.lacking.retain(|catch_up| catch_up.topic() != topic);
        self.fetching.take_if(|(_, fetching)| fetching == topic);
        self.len() < before
    }

    pub(crate) fn has(&self, topic: &Topic) -> bool {
        let is_fetching = self.fetching.as_ref().is_some_and(|(_, fetching)| fetching == topic);
        let mut left = self.ready.iter().chain(&self.waiting).chain(&self.lacking);
        is_fetching || left.any(|catch_up| catch_up.topic() == topic)
    }

    /// How many topics there are.
    pub(crate) fn len(&self) -> usize {
        let left = self.ready.len() + self.waiting.len() + self.lacking.len();
        left + usize::from(self.is_fetching())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A topic is given up and wanted again while the broker is asked.
    #[test]
    fn an_old_answer_is_not_taken_for_a_new_one() {
        let topic = Topic::new("a").unwrap();
        let mut catch_ups = CatchUps::default();
        catch_ups.begin_fetch(Fetch(1), &topic);
        assert!(catch_ups.has(&topic) && catch_ups.remove(&topic) && catch_ups.is_empty());
        catch_ups.begin_fetch(Fetch(2), &topic);
        assert!(!catch_ups.end_fetch(Fetch(1)));
        assert!(catch_ups.is_fetching() && catch_ups.end_fetch(Fetch(2)));
        assert!(catch_ups.is_empty());
    }
}
