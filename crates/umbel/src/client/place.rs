//! Where a subscriber goes on.

use std::collections::HashMap;

use umbel_protocol::{After, Cursor, Position, Topic};

/// Where a subscriber goes on, in the way of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Each topic has a place of its own.
    Ws(TopicPlaces),
    /// A stream has one place for all its topics.
    Sse(StreamPlace),
}

/// Where a session of the JSON dialect goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicPlaces {
    /// Where the first session begins.
    first: Option<After>,
    /// How far each topic has come; those without history have no place.
    reached: HashMap<Topic, Position>,
}

/// Where an SSE stream goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamPlace {
    /// Where the first stream begins.
    first: Option<Cursor>,
    /// The last event id, once a stream had one.
    id: Option<String>,
}

impl TopicPlaces {
    /// Nothing has come yet.
    pub(crate) fn beginning(first: Option<After>) -> Self {
        Self { first, reached: HashMap::new() }
    }

    /// From where on a topic is wanted; `None`: from now on.
    pub(super) fn after(&self, topic: &Topic) -> Option<After> {
        self.reached.get(topic).map(|position| After::Position(*position)).or(self.first)
    }

    /// A topic goes on behind this.
    pub(super) fn reach(&mut self, topic: Topic, position: Position) {
        self.reached.insert(topic, position);
    }

    /// All topics have begun: what has no place now begins anew after a loss.
    pub(super) fn begun(&mut self) {
        self.first = None;
    }

    /// The node can't go on there.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl StreamPlace {
    /// Nothing has come yet.
    pub(crate) fn beginning(first: Option<Cursor>) -> Self {
        Self { first, id: None }
    }

    /// What the URL says. Like a browser's it is the same at each attempt, as long as the stream
    /// has given no id.
    pub(super) fn after(&self) -> Option<&Cursor> {
        self.first.as_ref().filter(|_| self.id.is_none())
    }

    /// What `Last-Event-ID` says.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The stream goes on behind this, unless it is empty.
    pub(super) fn reach(&mut self, id: &str) {
        if !id.is_empty() {
            self.id = Some(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn the_first_place_holds_until_all_topics_have_begun() {
        let position: Position = "00000000000000ab-7".parse().unwrap();
        let mut places = TopicPlaces::beginning(Some(After::Latest(3)));
        places.reach(topic("a"), position);
        assert_eq!(places.after(&topic("a")), Some(After::Position(position)));
        assert_eq!(places.after(&topic("b")), Some(After::Latest(3)));
        places.begun();
        assert_eq!(places.after(&topic("a")), Some(After::Position(position)));
        assert_eq!(places.after(&topic("b")), None, "what it missed isn't among the newest three");
        places.forget();
        assert_eq!(places.after(&topic("a")), None);
    }

    #[test]
    fn the_url_says_where_to_begin_until_the_stream_has_an_id() {
        let cursor = Cursor::All(After::Latest(3));
        let mut place = StreamPlace::beginning(Some(cursor.clone()));
        place.reach("");
        assert_eq!((place.after(), place.id()), (Some(&cursor), None));
        place.reach("00000000000000ab-7");
        assert_eq!((place.after(), place.id()), (None, Some("00000000000000ab-7")));
        place.reach("");
        assert_eq!(place.id(), Some("00000000000000ab-7"), "a stream without ids changes nothing");
    }
}
