//! Who listens to which topic, and the messages at hand for them.

use std::collections::HashMap;
use std::io;

use super::answer;
use super::kept::Kept;
use super::peers::Slot;
use crate::wire::message_id::MessageId;
use crate::wire::publish_line::{LineError, Lines};
use crate::wire::{event_stream, frame};

/// How a subscriber's messages are framed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    WebSocket,
    Sse,
}

/// Where a subscriber stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The topic's number, in the order of their first subscribers.
    pub(super) topic: usize,
    framing: Framing,
    index: usize,
}

#[derive(Debug, Default)]
struct Topic {
    websocket: Lane,
    sse: Lane,
    kept: Option<Kept>,
}

/// The subscribers of one topic that speak one dialect, and what they shall be sent.
#[derive(Debug, Default)]
struct Lane {
    subscribers: Vec<Slot>,
    /// All messages at hand, framed and contiguous.
    batch: Vec<u8>,
}

/// All topics that ever had a subscriber, and where messages are kept also those that had a message.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// How many messages of each topic are kept for who comes back, if any.
    keep: Option<usize>,
    by_name: HashMap<Box<[u8]>, usize>,
    by_number: Vec<Topic>,
    /// Topics with messages at hand, in the order of their first.
    due: Vec<usize>,
    /// Result lines of the present request.
    results: Vec<u8>,
}

impl Topic {
    fn lane(&mut self, framing: Framing) -> &mut Lane {
        match framing {
            Framing::WebSocket => &mut self.websocket,
            Framing::Sse => &mut self.sse,
        }
    }

    fn has_messages(&self) -> bool {
        !self.websocket.batch.is_empty() || !self.sse.batch.is_empty()
    }

    /// Frames a message; says its id if it is kept.
    fn append(&mut self, text: &[u8]) -> Option<MessageId> {
        if !self.websocket.subscribers.is_empty() {
            frame::write_text(&mut self.websocket.batch, text);
        }
        let id = self.kept.as_mut().map(|kept| kept.push(text));
        if !self.sse.subscribers.is_empty() {
            match &self.kept {
                Some(kept) => self.sse.batch.extend_from_slice(kept.last_block()),
                None => event_stream::write_message(&mut self.sse.batch, text),
            }
        }
        id
    }

    /// What is kept behind the message of `id`, without that which is at hand.
    fn missed(&self, id: MessageId) -> &[u8] {
        let behind = self.kept.as_ref().map_or(&[][..], |kept| kept.behind(id));
        &behind[..behind.len().saturating_sub(self.sse.batch.len())]
    }
}

impl Topics {
    /// Topics that keep the last `keep` messages of each.
    pub(super) fn keeping(keep: Option<usize>) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(super) fn subscribe(&mut self, name: &[u8], framing: Framing, slot: Slot) -> Place {
        let topic = self.number_of(name);
        let subscribers = &mut self.by_number[topic].lane(framing).subscribers;
        let index = subscribers.len();
        subscribers.push(slot);
        Place { topic, framing, index }
    }

    /// What a subscriber of the topic lacks that comes back and has seen the message of `id` last.
    pub(super) fn missed(&self, topic: usize, id: MessageId) -> &[u8] {
        self.by_number[topic].missed(id)
    }

    fn number_of(&mut self, name: &[u8]) -> usize {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let kept = self.keep.map(Kept::new);
        self.by_number.push(Topic { kept, ..Topic::default() });
        self.by_name.insert(name.into(), self.by_number.len() - 1);
        self.by_number.len() - 1
    }

    /// Takes the subscriber at `place` out; says who stands there now.
    pub(super) fn unsubscribe(&mut self, place: Place) -> Option<(Slot, Place)> {
        let lane = self.by_number[place.topic].lane(place.framing);
        lane.subscribers.swap_remove(place.index);
        lane.subscribers.get(place.index).map(|slot| (*slot, place))
    }

    /// All subscribers of topic `number`.
    pub(super) fn subscribers(&self, number: usize) -> impl Iterator<Item = Slot> {
        let topic = &self.by_number[number];
        topic.websocket.subscribers.iter().chain(&topic.sse.subscribers).copied()
    }

    /// Frames all lines of `body` for their topics; returns the result lines.
    pub(super) fn publish_all(&mut self, body: &[u8]) -> Result<&[u8], LineError> {
        self.results.clear();
        for line in Lines::new(body) {
            let line = line?;
            let id = self.publish(line.topic, line.text);
            answer::result(&mut self.results, line.topic, id);
        }
        Ok(&self.results)
    }

    /// Frames one message for its topic; says its id if it is kept.
    pub(super) fn publish(&mut self, name: &[u8], text: &[u8]) -> Option<MessageId> {
        let number = match self.by_name.get(name) {
            Some(number) => *number,
            None if self.keep.is_some() => self.number_of(name),
            None => return None,
        };
        let topic = &mut self.by_number[number];
        if !topic.has_messages() {
            self.due.push(number);
        }
        topic.append(text)
    }

    /// Gives `send` each subscriber of each topic at hand with its batch, and clears the batches.
    pub(super) fn fan_out(
        &mut self,
        mut send: impl FnMut(Slot, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for number in self.due.drain(..) {
            let topic = &mut self.by_number[number];
            topic.websocket.fan_out(&mut send)?;
            topic.sse.fan_out(&mut send)?;
        }
        Ok(())
    }
}

impl Lane {
    fn fan_out(&mut self, send: &mut impl FnMut(Slot, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.batch.is_empty() {
            for slot in &self.subscribers {
                send(*slot, &self.batch)?;
            }
            self.batch.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fanned_out(topics: &mut Topics) -> Vec<(Slot, String)> {
        let mut sent = Vec::new();
        let record = |slot, batch: &[u8]| {
            sent.push((slot, String::from_utf8_lossy(batch).into_owned()));
            Ok(())
        };
        topics.fan_out(record).unwrap();
        sent
    }

    #[test]
    fn all_messages_at_hand_are_one_batch() {
        let mut topics = Topics::default();
        topics.subscribe(b"a", Framing::Sse, 7);
        topics.subscribe(b"b", Framing::Sse, 8);
        for (topic, text) in [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"4")] {
            topics.publish(topic, text);
        }
        let expected = [(7, "data: 1\n\ndata: 3\n\n"), (8, "data: 2\n\n")];
        assert_eq!(fanned_out(&mut topics), expected.map(|(slot, text)| (slot, text.to_owned())));
        assert_eq!(fanned_out(&mut topics), []);
    }

    #[test]
    fn what_is_kept_and_what_is_at_hand_don_t_overlap() {
        let mut topics = Topics::keeping(Some(10));
        let [first, _] = [b"1", b"2"].map(|text| topics.publish(b"a", text).unwrap());
        fanned_out(&mut topics);
        let place = topics.subscribe(b"a", Framing::Sse, 7);
        let second = "id: 0000000000000001-2\ndata: 2\n\n";
        assert_eq!(topics.missed(place.topic, first), second.as_bytes());
        topics.publish(b"a", b"3");
        assert_eq!(topics.missed(place.topic, first), second.as_bytes());
        let third = "id: 0000000000000001-3\ndata: 3\n\n";
        assert_eq!(fanned_out(&mut topics), [(7, third.to_owned())]);
        let both = [second, third].concat();
        assert_eq!(topics.missed(place.topic, first), both.as_bytes());
    }

    #[test]
    fn a_place_that_is_left_is_taken_by_the_last() {
        let mut topics = Topics::default();
        let places = [10, 11, 12].map(|slot| topics.subscribe(b"a", Framing::Sse, slot));
        let (moved, place) = topics.unsubscribe(places[0]).unwrap();
        assert_eq!((moved, place.index), (12, 0));
        assert!(topics.unsubscribe(places[1]).is_none());
        topics.publish(b"a", b"x");
        assert_eq!(fanned_out(&mut topics), [(12, "data: x\n\n".to_owned())]);
    }
}
