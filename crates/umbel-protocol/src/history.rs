//! What history gives a reader, and how a poll is answered with it: as one JSON document.

use crate::{Delivery, GapReason, Message, Position, Topic, json};

/// One thing in a topic's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message, which has an id.
    Message(Delivery),
    /// Messages are missing up to this position.
    Gap(GapReason, Position),
}

/// The most messages that one answer holds.
pub const MAX_MESSAGES: usize = 1000;

/// Writes an answer as its messages are found.
///
/// ```
/// use umbel_protocol::{GapReason, Topic, history::Answer};
///
/// let mut answer = Answer::default();
/// answer.gap(&Topic::new("news")?, GapReason::TooOld);
/// assert_eq!(
///     String::from_utf8(answer.finish("0")).unwrap(),
///     "{\"messages\":[],\"cursor\":\"0\",\"gaps\":[{\"topic\":\"news\",\"reason\":\"too_old\"}]}\n",
/// );
/// # Ok::<(), umbel_protocol::TopicError>(())
/// ```
#[derive(Debug, Default)]
pub struct Answer {
    messages: Vec<u8>,
    gaps: Vec<u8>,
}

impl Answer {
    /// Adds a message behind those before.
    pub fn message(&mut self, message: &Message) {
        separate(&mut self.messages);
        json::write_object(&mut self.messages, message);
    }

    /// Tells that messages of a topic can't be given.
    pub fn gap(&mut self, topic: &Topic, reason: GapReason) {
        separate(&mut self.gaps);
        let reason = reason.as_str();
        let gap = format!("{{\"topic\":\"{topic}\",\"reason\":\"{reason}\"}}");
        self.gaps.extend_from_slice(gap.as_bytes());
    }

    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.gaps.is_empty()
    }

    /// How long the answer is so far, in bytes.
    pub fn bytes(&self) -> usize {
        self.messages.len() + self.gaps.len()
    }

    /// The document, with the cursor that the next poll goes on from.
    pub fn finish(self, cursor: &str) -> Vec<u8> {
        debug_assert!(!cursor.contains(['"', '\\']), "cursors need no escaping");
        let parts: [&[u8]; 7] = [
            b"{\"messages\":[",
            &self.messages,
            b"],\"cursor\":\"",
            cursor.as_bytes(),
            b"\",\"gaps\":[",
            &self.gaps,
            b"]}\n",
        ];
        parts.concat()
    }
}

fn separate(list: &mut Vec<u8>) {
    if !list.is_empty() {
        list.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventName, MessageId, Payload, Timestamp};
    use serde_json::json;

    #[test]
    fn an_answer_is_json_with_each_message_by_its_kind() {
        let mut answer = Answer::default();
        assert!(answer.is_empty());
        let topic = Topic::new("a/b").unwrap();
        for (offset, payload) in [
            Payload::text("\"quoted\"\n".into()),
            Payload::sniffed("{\"n\":\n1}".into()),
            Payload::binary(&b"\xff"[..]),
        ]
        .into_iter()
        .enumerate()
        {
            answer.message(&Message {
                topic: topic.clone(),
                payload,
                event: (offset == 0).then(|| EventName::new("typed").unwrap()),
                published: Timestamp(1_700_000_000_123_456),
                origin: None,
                trace: None,
                id: Some(MessageId { epoch: 1, offset: offset as u64 }),
            });
        }
        answer.gap(&topic, GapReason::Rewound);
        answer.gap(&topic, GapReason::TooOld);
        assert!(!answer.is_empty());
        let value: serde_json::Value = serde_json::from_slice(&answer.finish("AQ")).unwrap();
        let time = 1_700_000_000_123_u64;
        assert_eq!(
            value,
            json!({
                "messages": [
                    {"topic": "a/b", "message_id": "0000000000000001-0", "event": "typed", "time": time, "text": "\"quoted\"\n"},
                    {"topic": "a/b", "message_id": "0000000000000001-1", "time": time, "data": {"n": 1}},
                    {"topic": "a/b", "message_id": "0000000000000001-2", "time": time, "base64": "/w=="},
                ],
                "cursor": "AQ",
                "gaps": [{"topic": "a/b", "reason": "rewound"}, {"topic": "a/b", "reason": "too_old"}],
            })
        );
    }
}
