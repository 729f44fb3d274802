//! A part of a topic's history that doesn't lie on the node's ring: read from the server for one
//! reader, and of use to all that come by while it is kept.

use umbel_protocol::{Delivery, MessageId, Position};

use super::Budget;

/// Messages in the order of their offsets, of which none is missing behind `start`.
#[derive(Debug)]
pub(crate) struct Page {
    /// The life of the topic that they belong to.
    pub(crate) life: u64,
    start: Position,
    messages: Vec<Delivery>,
    bytes: usize,
}

impl Page {
    /// What the server has behind `start`.
    pub(crate) fn new(life: u64, start: Position, messages: Vec<Delivery>) -> Self {
        let bytes = messages.iter().map(Budget::weight).sum();
        Self { life, start, messages, bytes }
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this message is on it.
    pub(crate) fn has(&self, id: MessageId) -> bool {
        let at = self.index_behind(id.offset);
        at > 0 && self.messages[at - 1].message.id == Some(id)
    }

    /// What comes behind a place, if the page reaches back to it.
    pub(crate) fn behind(&self, position: Position) -> Option<&[Delivery]> {
        let covers = position == self.start || position.0.is_some_and(|id| self.has(id));
        let messages = &self.messages[self.index_behind(position.offset())..];
        (covers && !messages.is_empty()).then_some(messages)
    }

    fn index_behind(&self, offset: u64) -> usize {
        let offset_of = |delivery: &Delivery| delivery.message.id.map_or(0, |id| id.offset);
        self.messages.partition_point(|delivery| offset_of(delivery) <= offset)
    }
}
