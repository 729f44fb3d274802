//! What `umbel_read` answers, taken apart.

use bytes::Bytes;
use redis::Value;
use umbel_protocol::{After, Delivery, MessageId, Position, Timestamp, Topic, envelope};

use super::fault::{Fault, FaultKind};
use crate::history::Facts;

/// The most messages that one read gives.
pub(super) const READ_MESSAGES: usize = 10_000;

/// The largest offset that a script can count with.
const MAX_OFFSET: u64 = (1 << 53) - 2;

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// When, by the server's clock.
    pub(super) now: Timestamp,
    /// What is known of the place that was asked for.
    pub(super) facts: Facts,
    /// Whether there is more behind what it gave.
    pub(super) more: bool,
    /// Whether the key is to be kept from expiring, or has what is too old.
    pub(super) wants_tending: bool,
    /// How many entries it passed over that are no messages.
    skipped: u64,
    /// Offsets, and messages as they are kept.
    entries: Vec<(u64, Bytes)>,
}

/// Where topics stand at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stands {
    /// Which server it is.
    pub(super) server: u32,
    /// When, by its clock.
    pub(super) now: Timestamp,
    /// Of each topic, in the order in which they were named; `None` if only a read can say it.
    pub(super) ends: Vec<Option<Position>>,
}

/// Reads what `umbel_stands` answers.
pub(super) fn stands(value: Value) -> Result<Stands, Fault> {
    let malformed = || Fault::new(FaultKind::Protocol, "umbel_stands answered something else");
    let Value::Array(parts) = value else {
        return Err(malformed());
    };
    let mut parts = parts.into_iter().map(text);
    let server = parts.next().flatten().and_then(|server| u32::from_str_radix(&server, 16).ok());
    let server = server.ok_or_else(malformed)?;
    let millis = parts.next().flatten().and_then(|millis| millis.parse::<u64>().ok());
    let now = Timestamp(millis.ok_or_else(malformed)? * 1000);
    let stand = |part: Option<String>| match &*part.ok_or_else(malformed)? {
        "?" => Ok(None),
        "" => Ok(Some(Position::empty(server))),
        id => id.parse::<MessageId>().map(|id| Some(id.into())).map_err(|_| malformed()),
    };
    Ok(Stands { server, now, ends: parts.map(stand).collect::<Result<_, _>>()? })
}

/// The place as the script takes it.
pub(super) fn place(after: After) -> String {
    match after {
        After::Latest(0) => "end".to_owned(),
        After::Latest(count) => format!("latest:{count}"),
        After::Position(Position(None)) => "all".to_owned(),
        After::Position(Position(Some(id))) => {
            // No message is so far on; what such an id deserves is judged by the whole of it.
            MessageId { offset: id.offset.min(MAX_OFFSET), ..id }.to_string()
        }
    }
}

impl Answer {
    /// An answer of a test's own server.
    #[cfg(test)]
    pub(super) fn of(now: Timestamp, facts: Facts, more: bool, entries: Vec<(u64, Bytes)>) -> Self {
        Self { now, facts, more, wants_tending: false, skipped: 0, entries }
    }

    /// Reads what the server said.
    pub(super) fn parse(value: Value) -> Result<Self, Fault> {
        let malformed = || Fault::new(FaultKind::Protocol, "umbel_read answered something else");
        let Value::Array(parts) = value else {
            return Err(malformed());
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().and_then(text).ok_or_else(malformed);
        let server = u32::from_str_radix(&next()?, 16).map_err(|_| malformed())?;
        let millis: u64 = next()?.parse().map_err(|_| malformed())?;
        let id = |text: String| match &*text {
            "" => Ok(None),
            id => id.parse::<MessageId>().map(Some).map_err(|_| malformed()),
        };
        let epoch = |text: String| u64::from_str_radix(&text, 16).ok();
        let end = id(next()?)?.map_or(Position::empty(server), Position::from);
        let first = id(next()?)?;
        let (at, following) = (epoch(next()?), epoch(next()?));
        let before = id(next()?)?;
        let more = next()? == "1";
        let wants_tending = next()? == "1";
        let skipped = next()?.parse().map_err(|_| malformed())?;
        let mut entries = Vec::new();
        while let Some(offset) = parts.next() {
            let offset = text(offset).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
            let Some(Value::BulkString(message)) = parts.next() else {
                return Err(malformed());
            };
            entries.push((offset, message.into()));
        }
        let facts = Facts { first, end, at, following, before, server };
        Ok(Self { now: Timestamp(millis * 1000), facts, more, wants_tending, skipped, entries })
    }

    /// The offset of the last entry, be it a message or not.
    pub(super) fn last_offset(&self) -> Option<u64> {
        self.entries.last().map(|(offset, _)| *offset)
    }

    /// The messages, and how many entries aren't any. `received` is the node's time.
    pub(super) fn messages(&self, topic: &Topic, received: u64) -> (Vec<Delivery>, u64) {
        let mut messages = Vec::with_capacity(self.entries.len());
        let mut malformed = self.skipped;
        for (offset, bytes) in &self.entries {
            match message(topic, *offset, bytes.clone(), received) {
                Some(delivery) => messages.push(delivery),
                None => malformed += 1,
            }
        }
        (messages, malformed)
    }
}

/// An entry's message, if it is one and of the offset that it stands at.
fn message(topic: &Topic, offset: u64, bytes: Bytes, received: u64) -> Option<Delivery> {
    if !bytes.starts_with(&envelope::MAGIC) {
        return None;
    }
    let message = envelope::decode(topic, bytes, Timestamp(0)).ok()?;
    message.id.filter(|id| id.offset == offset)?;
    Some(Delivery { message, received, bare: false, life: 0 })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::{Message, Payload};

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn answer(further: Vec<Value>) -> Vec<Value> {
        let mut parts: Vec<_> = ["0000000a", "1764000000123"].map(bulk).into();
        parts.extend(
            ["0000000a00000001-7", "0000000a00000001-3", "", "0000000a00000001", ""].map(bulk),
        );
        parts.extend([Value::Int(1), Value::Int(0), Value::Int(2)]);
        parts.extend(further);
        parts
    }

    #[test]
    fn an_answer_is_facts_and_messages() {
        let id = |offset| MessageId { epoch: (10 << 32) + 1, offset };
        let topic = Topic::new("a").unwrap();
        let mut kept = Message {
            topic: topic.clone(),
            payload: Payload::text("x".into()),
            event: None,
            published: Timestamp(5),
            origin: None,
            trace: None,
            id: Some(id(3)),
        };
        let good = Value::BulkString(envelope::encode(&kept));
        kept.id = Some(id(9));
        let elsewhere = Value::BulkString(envelope::encode(&kept));
        let parts = answer(vec![bulk("3"), good, bulk("4"), elsewhere, bulk("5"), bulk("by hand")]);
        let answer = Answer::parse(Value::Array(parts)).unwrap();
        let facts = Facts {
            first: Some(id(3)),
            end: Position(Some(id(7))),
            at: None,
            following: Some(id(0).epoch),
            before: None,
            server: 10,
        };
        assert_eq!((answer.facts, answer.more, answer.wants_tending), (facts, true, false));
        assert_eq!((answer.now, answer.last_offset()), (Timestamp(1_764_000_000_123_000), Some(5)));
        let (messages, malformed) = answer.messages(&topic, 99);
        assert_eq!((messages.len(), malformed), (1, 4));
        assert_eq!((messages[0].message.id, messages[0].received), (Some(id(3)), 99));
    }

    #[test]
    fn what_is_no_answer_is_a_fault() {
        for value in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(answer(vec![bulk("3")])),
            Value::Array(answer(vec![bulk("x"), bulk("y")])),
            Value::Array(answer(vec![]).split_off(1)),
        ] {
            assert!(Answer::parse(value.clone()).is_err(), "{value:?}");
        }
    }

    #[test]
    fn stands_are_places_or_left_to_a_read() {
        let parts = ["0000000a", "1764000000123", "0000000a00000001-7", "", "?"].map(bulk).into();
        let id = MessageId { epoch: (10 << 32) + 1, offset: 7 };
        let ends = vec![Some(Position(Some(id))), Some(Position::empty(10)), None];
        let expected = Stands { server: 10, now: Timestamp(1_764_000_000_123_000), ends };
        assert_eq!(stands(Value::Array(parts)).unwrap(), expected);
        for value in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![bulk("x")]),
            Value::Array(vec![bulk("0000000a")]),
            Value::Array(vec![bulk("0000000a"), bulk("x")]),
            Value::Array(vec![bulk("0000000a"), bulk("1"), bulk("7")]),
            Value::Array(vec![bulk("0000000a"), bulk("1"), Value::Nil]),
        ] {
            assert!(stands(value.clone()).is_err(), "{value:?}");
        }
    }

    #[test]
    fn places_are_what_the_script_takes() {
        let id = |offset| After::Position(MessageId { epoch: 1, offset }.into());
        for (after, expected) in [
            (After::Latest(0), "end"),
            (After::Latest(5), "latest:5"),
            (After::Position(Position::START), "all"),
            (id(7), "0000000000000001-7"),
            (id(u64::MAX), "0000000000000001-9007199254740990"),
        ] {
            assert_eq!(place(after), expected);
        }
    }
}
