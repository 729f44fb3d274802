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
    /// No message is missing up to this offset either, even if none is there.
    end: u64,
    messages: Vec<Delivery>,
    bytes: usize,
}

impl Page {
    /// What the server has behind `start` and up to `end`.
    pub(crate) fn new(life: u64, start: Position, end: u64, messages: Vec<Delivery>) -> Self {
        let weight: usize = messages.iter().map(Budget::weight).sum();
        let bytes = size_of::<Self>() + weight;
        Self { life, start, end, messages, bytes }
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
        let messages = &self.messages[self.index_behind(position.offset())..];
        (self.covers(position) && !messages.is_empty()).then_some(messages)
    }

    /// Where no more messages come behind a place, if the page knows that.
    pub(crate) fn end_behind(&self, position: Position) -> Option<u64> {
        let is_last = self.index_behind(position.offset()) == self.messages.len();
        (self.covers(position) && is_last && self.end > position.offset()).then_some(self.end)
    }

    fn covers(&self, position: Position) -> bool {
        position == self.start || position.0.is_some_and(|id| self.has(id))
    }

    fn index_behind(&self, offset: u64) -> usize {
        let offset_of = |delivery: &Delivery| delivery.message.id.map_or(0, |id| id.offset);
        self.messages.partition_point(|delivery| offset_of(delivery) <= offset)
    }
}
