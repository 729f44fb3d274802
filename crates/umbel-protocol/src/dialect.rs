//! The dialects: how one message becomes the frames of each client protocol.

use crate::websocket::{self, Opcode};
use crate::{EventName, Message, PayloadKind, Position, Topic, json, sse};

/// A client wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// WebSocket; each frame is one payload.
    Plain,
    /// WebSocket; text frames of JSON objects ([`crate::json`]).
    Json,
    /// Server-sent events over HTTP.
    Sse,
}

impl Dialect {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// All of them, in the order of [`Dialect::index`].
    pub const ALL: [Self; Self::COUNT] = [Self::Plain, Self::Json, Self::Sse];

    /// A place in arrays of [`Dialect::COUNT`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Appends `message` as one frame of this dialect, framing included.
    ///
    /// HOT PATH: runs once per message, worker and encoding in use, never per session.
    pub fn write_message(self, out: &mut Vec<u8>, message: &Message, style: Style<'_>) {
        match self {
            Self::Plain => websocket::write_frame(
                out,
                plain_opcode(message.payload.kind()),
                message.payload.bytes(),
            ),
            Self::Json => json::write_message(out, message),
            Self::Sse => sse::write_message(out, message, style),
        }
    }

    /// Whether a session of this dialect can be told of a gap.
    pub fn tells_gaps(self) -> bool {
        match self {
            Self::Plain => false,
            Self::Json | Self::Sse => true,
        }
    }

    /// Appends what tells a session of a gap, and from where on nothing is missing again, if the
    /// topic has positions. Plain frames can't carry it: nothing is appended, and the gap is only
    /// counted.
    pub fn write_gap(
        self,
        out: &mut Vec<u8>,
        topic: &Topic,
        reason: GapReason,
        position: Option<Position>,
    ) {
        match self {
            Self::Plain => {}
            Self::Json => json::write_gap(out, topic, reason, position),
            Self::Sse => sse::write_gap(out, topic, reason, position),
        }
    }

    /// Appends what tells a session that it is about to be closed because it shall come back
    /// elsewhere, and after what time. Plain frames can't carry it: the close code has to do.
    pub fn write_moving(self, out: &mut Vec<u8>, reconnect_after_millis: u64) {
        match self {
            Self::Plain => {}
            Self::Json => json::Reply::Moving { reconnect_after_millis }.write(out, None),
            Self::Sse => sse::write_moving(out, reconnect_after_millis),
        }
    }
}

/// What frames of one dialect may differ in. WebSocket frames don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style<'a> {
    /// The name of SSE events whose publisher gave them none.
    pub default_event: Option<&'a EventName>,
    /// Whether SSE events go without `id:`: the session writes a cursor over several topics itself.
    pub without_id: bool,
}

fn plain_opcode(kind: PayloadKind) -> Opcode {
    match kind {
        PayloadKind::Text | PayloadKind::Json => Opcode::Text,
        PayloadKind::Binary => Opcode::Binary,
    }
}

/// Why a session can't be given messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The subscription fell behind by more than its budget and the topic's policy dropped what
    /// was oldest.
    Slow,
    /// The node's link to the broker was down, or was cut because the node was behind.
    BrokerLink,
    /// What follows the position isn't in the topic's history any more.
    TooOld,
    /// The broker went back: messages that it had after the last position that it still knows are
    /// gone, and perhaps others that nobody got.
    Rewound,
    /// The position is of a life of the topic that the broker doesn't know.
    UnknownEpoch,
    /// The position is ahead of the newest message.
    Future,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Slow,
        Self::BrokerLink,
        Self::TooOld,
        Self::Rewound,
        Self::UnknownEpoch,
        Self::Future,
    ];

    /// The reason as clients and metrics see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::BrokerLink => "broker_link",
            Self::TooOld => "too_old",
            Self::Rewound => "rewound",
            Self::UnknownEpoch => "unknown_epoch",
            Self::Future => "future",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventName, MessageId, Payload, Timestamp};
    use proptest::prelude::*;
    use serde_json::json;

    fn message(payload: Payload) -> Message {
        Message {
            topic: Topic::new("a/b:c").unwrap(),
            payload,
            event: None,
            published: Timestamp(1_700_000_000_123_456),
            origin: None,
            trace: None,
            id: None,
        }
    }

    fn json_body(message: &Message) -> String {
        let mut out = Vec::new();
        Dialect::Json.write_message(&mut out, message, Style::default());
        assert_eq!(out[0], 0x81);
        let header = if out[1] < 126 { 2 } else { 4 };
        String::from_utf8(out.split_off(header)).unwrap()
    }

    #[test]
    fn plain_frames_are_the_payload_with_the_opcode_of_its_kind() {
        let frame = |payload| {
            let mut out = Vec::new();
            Dialect::Plain.write_message(&mut out, &message(payload), Style::default());
            out
        };
        assert_eq!(frame(Payload::text("hi".into())), b"\x81\x02hi");
        assert_eq!(frame(Payload::sniffed("[1]".into())), b"\x81\x03[1]");
        assert_eq!(frame(Payload::binary(&b"\0"[..])), b"\x82\x01\0");
        assert_eq!(
            frame(Payload::binary(&b""[..])),
            b"\x82\x00",
            "an empty binary frame stays binary"
        );
    }

    #[test]
    fn a_json_frame_carries_the_payload_by_its_kind() {
        let data = Payload::sniffed("{\"a\":\n[1.0,\r\n2]}".into());
        assert_eq!(
            json_body(&message(data)),
            r#"{"op":"message","topic":"a/b:c","time":1700000000123,"data":{"a": [1.0,  2]}}"#
        );
        let mut text = message(Payload::text("a\n\"b\"".into()));
        text.event = Some(EventName::new("t\"").unwrap());
        text.id = Some(MessageId { epoch: 1, offset: 2 });
        assert_eq!(
            json_body(&text),
            r#"{"op":"message","topic":"a/b:c","message_id":"0000000000000001-2","event":"t\"","time":1700000000123,"text":"a\n\"b\""}"#,
        );
        assert_eq!(
            json_body(&message(Payload::binary(&b"\xff\0"[..]))),
            r#"{"op":"message","topic":"a/b:c","time":1700000000123,"base64":"/wA="}"#
        );
    }

    #[test]
    fn a_gap_is_told_where_the_dialect_can() {
        let topic = Topic::new("a").unwrap();
        let gap = |dialect: Dialect, position| {
            let mut out = Vec::new();
            dialect.write_gap(&mut out, &topic, GapReason::Slow, position);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(gap(Dialect::Plain, None), "");
        assert!(gap(Dialect::Json, None).ends_with(r#"{"op":"gap","topic":"a","reason":"slow"}"#));
        assert!(gap(Dialect::Sse, None).starts_with("event: umbel.gap\n"));
        let position = Some(Position(Some(MessageId { epoch: 1, offset: 2 })));
        assert!(gap(Dialect::Json, position).ends_with(
            r#"{"op":"gap","topic":"a","reason":"slow","position":"0000000000000001-2"}"#
        ));
        // Who is told once must not be told again after a reconnect.
        assert!(
            gap(Dialect::Sse, position).starts_with("id: 0000000000000001-2\nevent: umbel.gap\n")
        );
    }

    #[test]
    fn a_session_that_moves_is_told_when_to_come_back() {
        let told = |dialect: Dialect| {
            let mut out = Vec::new();
            dialect.write_moving(&mut out, 250);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(told(Dialect::Plain), "");
        assert!(told(Dialect::Json).ends_with(r#"{"op":"moving","reconnect_after_ms":250}"#));
        assert_eq!(
            told(Dialect::Sse),
            "retry: 250\nevent: umbel.moving\ndata: {\"reconnect_after_ms\":250}\n\n"
        );
    }

    proptest! {
        #[test]
        fn a_json_frame_is_one_line_of_json_that_gives_the_payload_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let payload = Payload::sniffed(bytes.into());
            let body = json_body(&message(payload.clone()));
            prop_assert!(!body.contains(['\n', '\r']));
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            match payload.kind() {
                PayloadKind::Text => prop_assert_eq!(&value["text"], &json!(payload.as_str().unwrap())),
                PayloadKind::Json => prop_assert_eq!(&value["data"], &serde_json::from_slice::<serde_json::Value>(payload.bytes()).unwrap()),
                PayloadKind::Binary => prop_assert!(value["base64"].is_string()),
            }
        }
    }
}
