//! Server-sent events as the WHATWG specification has them parsed (HTML, section 9.2).
//!
//! A line ends at CR, LF or CRLF, so a CR in a payload can't travel: it becomes a line break.
//! What isn't a message of the topic is a comment or an event named `umbel.…`, never an unnamed
//! event.

mod parser;

pub use parser::{Event, EventParser};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr2;

use crate::dialect::{GapReason, Style};
use crate::{EventName, Message, PayloadKind, Position, Topic};

/// Appends a message as one event block.
pub fn write_message(out: &mut Vec<u8>, message: &Message, style: Style<'_>) {
    let event = message.event.as_ref().or(style.default_event);
    if let Some(id) = message.id
        && !style.without_id
    {
        write_id(out, |out| id.write(out));
    }
    if message.payload.kind() == PayloadKind::Binary {
        return write_binary(out, message.payload.bytes(), event);
    }
    if let Some(event) = event {
        write_field(out, "event", event.as_str().as_bytes());
    }
    write_data(out, message.payload.bytes());
    out.push(b'\n');
}

/// Appends an `id:` line, whose value is written by `id`: the last event id from the end of its block
/// on.
pub fn write_id(out: &mut Vec<u8>, id: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"id: ");
    id(out);
    out.push(b'\n');
}

/// Appends a named event that is no message of a topic.
pub fn write_event(out: &mut Vec<u8>, event: &EventName, data: &str) {
    write_field(out, "event", event.as_str().as_bytes());
    write_data(out, data.as_bytes());
    out.push(b'\n');
}

/// SSE is text: bytes travel as base64, in an event of their own that says so.
fn write_binary(out: &mut Vec<u8>, bytes: &[u8], event: Option<&EventName>) {
    out.extend_from_slice(b"event: umbel.base64\ndata: {");
    if let Some(event) = event {
        out.extend_from_slice(b"\"event\":");
        crate::json::write_string(out, event.as_str());
        out.push(b',');
    }
    out.extend_from_slice(b"\"base64\":\"");
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}\n\n");
}

/// Appends a comment line and the end of the block. Clients ignore it; proxies see traffic.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']), "a comment is one line");
    out.extend_from_slice(b": ");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Appends the time after which a client that lost its connection comes back.
pub fn write_retry(out: &mut Vec<u8>, millis: u64) {
    out.extend_from_slice(format!("retry: {millis}\n\n").as_bytes());
}

/// Appends an `umbel.gap` event: messages of `topic` that this session can't be given. What follows
/// `position` comes.
pub fn write_gap(out: &mut Vec<u8>, topic: &Topic, reason: GapReason, position: Option<Position>) {
    if let Some(position) = position {
        write_id(out, |out| position.write(out));
    }
    let reason = reason.as_str();
    let block =
        format!("event: umbel.gap\ndata: {{\"topic\":\"{topic}\",\"reason\":\"{reason}\"}}\n\n");
    out.extend_from_slice(block.as_bytes());
}

/// Appends an `umbel.moving` event: the stream is about to end, and the client comes back after
/// that time, which a browser does by itself.
pub fn write_moving(out: &mut Vec<u8>, reconnect_after_millis: u64) {
    let block = format!(
        "retry: {reconnect_after_millis}\nevent: umbel.moving\ndata: {{\"reconnect_after_ms\":{reconnect_after_millis}}}\n\n"
    );
    out.extend_from_slice(block.as_bytes());
}

/// One `data:` line per line of the payload; an empty payload is one empty line, which fires an
/// event with empty data.
fn write_data(out: &mut Vec<u8>, mut rest: &[u8]) {
    while let Some(end) = memchr2(b'\r', b'\n', rest) {
        write_field(out, "data", &rest[..end]);
        let line_break = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + line_break..];
    }
    write_field(out, "data", rest);
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventName, MessageId, Payload, Timestamp};
    use proptest::prelude::*;

    fn message(payload: Payload, event: Option<&str>) -> Message {
        Message {
            topic: Topic::new("chat.42").unwrap(),
            payload,
            event: event.map(|name| EventName::new(name).unwrap()),
            published: Timestamp(1_700_000_000_123_456),
            origin: None,
            trace: None,
            id: None,
        }
    }

    fn written(message: &Message) -> String {
        let mut out = Vec::new();
        write_message(&mut out, message, Style::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_of_a_payload_is_a_data_line() {
        for (text, expected) in [
            ("hello", "data: hello\n\n"),
            ("", "data: \n\n"),
            (" a", "data:  a\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"),
            ("\n\n", "data: \ndata: \ndata: \n\n"),
        ] {
            assert_eq!(written(&message(Payload::text(text.into()), None)), expected);
        }
    }

    #[test]
    fn id_and_event_precede_the_data() {
        let mut with_id = message(Payload::text("x".into()), Some("typed"));
        with_id.id = Some(MessageId { epoch: 1, offset: 2 });
        assert_eq!(written(&with_id), "id: 0000000000000001-2\nevent: typed\ndata: x\n\n");
        let mut without = Vec::new();
        write_message(&mut without, &with_id, Style { default_event: None, without_id: true });
        assert_eq!(without, b"event: typed\ndata: x\n\n");
    }

    #[test]
    fn binary_travels_as_base64_with_its_event_inside() {
        let binary = || Payload::binary(&b"\xff\x00"[..]);
        assert_eq!(
            written(&message(binary(), None)),
            "event: umbel.base64\ndata: {\"base64\":\"/wA=\"}\n\n"
        );
        assert_eq!(
            written(&message(binary(), Some("a\"b"))),
            "event: umbel.base64\ndata: {\"event\":\"a\\\"b\",\"base64\":\"/wA=\"}\n\n"
        );
    }

    #[test]
    fn a_default_name_is_for_messages_that_have_none() {
        let name = EventName::new("notification").unwrap();
        for (payload, event, expected) in [
            (Payload::text("x".into()), None, "event: notification\ndata: x\n\n"),
            (Payload::text("x".into()), Some("typed"), "event: typed\ndata: x\n\n"),
            (
                Payload::binary(&b"\xff"[..]),
                None,
                "event: umbel.base64\ndata: {\"event\":\"notification\",\"base64\":\"/w==\"}\n\n",
            ),
        ] {
            let mut out = Vec::new();
            write_message(
                &mut out,
                &message(payload, event),
                Style { default_event: Some(&name), without_id: false },
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn an_event_of_its_own_has_a_name_and_a_data_line_per_line() {
        let mut out = Vec::new();
        write_event(&mut out, &EventName::new("connected").unwrap(), "a\nb");
        assert_eq!(out, b"event: connected\ndata: a\ndata: b\n\n");
    }

    #[test]
    fn what_is_not_a_message_fires_no_unnamed_event() {
        let mut out = Vec::new();
        write_retry(&mut out, 1234);
        write_comment(&mut out, "hello");
        assert_eq!(out, b"retry: 1234\n\n: hello\n\n");
        let mut parser = EventParser::default();
        assert_eq!(parser.feed(&out), []);
        assert_eq!(parser.retry_millis(), Some(1234));
        let mut out = Vec::new();
        write_gap(&mut out, &Topic::new("a.b").unwrap(), GapReason::Slow, None);
        let events = EventParser::default().feed(&out);
        assert_eq!(events[0].name, "umbel.gap");
        assert_eq!(events[0].data, r#"{"topic":"a.b","reason":"slow"}"#);
        let mut out = Vec::new();
        write_id(&mut out, |out| Position::START.write(out));
        out.push(b'\n');
        let mut parser = EventParser::default();
        assert_eq!(parser.feed(&out), [], "an id alone fires nothing");
        assert_eq!(parser.last_event_id(), "0");
    }

    proptest! {
        /// What the WHATWG rules make of our bytes is the message, but for its line breaks.
        #[test]
        fn a_parser_gets_the_message_back(
            text in "([ -~\u{e4}:]|\r|\n|\r\n|\0){0,40}",
            event in prop::option::of("[ a-z:\u{e4}]{1,12}"),
            cut in 0..400_usize,
        ) {
            let mut out = Vec::new();
            write_message(&mut out, &message(Payload::text(text.clone()), event.as_deref()), Style::default());
            let (head, tail) = out.split_at(cut.min(out.len()));
            let mut parser = EventParser::default();
            let mut events = parser.feed(head);
            events.extend(parser.feed(tail));
            prop_assert_eq!(events, [Event {
                name: event.unwrap_or_else(|| "message".to_owned()),
                data: text.replace("\r\n", "\n").replace('\r', "\n"),
                id: String::new(),
            }]);
        }
    }
}
