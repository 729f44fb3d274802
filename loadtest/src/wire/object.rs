//! The JSON dialect, as far as a load speaks it: the command that subscribes, and what a node says, one object per
//! line of a text frame.

use std::fmt::{self, Write};

use memchr::{memchr2, memmem};
use serde::Deserialize;

/// What a node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// It takes commands.
    Ready,
    /// Messages of this topic come from here on.
    Subscribed {
        /// Which.
        topic: &'a str,
        /// The id before the first message that comes; none if the topic has no history.
        position: Option<&'a str>,
        /// Whether nothing is missing behind the place that was named; none if no place was.
        recovered: Option<bool>,
    },
    /// A message with text.
    Message {
        /// Where.
        topic: &'a str,
        /// Its id; none if the topic has no history.
        id: Option<&'a str>,
        /// What.
        payload: &'a [u8],
    },
    /// Messages of this topic are missing.
    Gap {
        /// Which.
        topic: &'a str,
        /// Why.
        reason: &'a str,
        /// The id before the first message that comes.
        position: Option<&'a str>,
    },
    /// Something that calls for nothing: a topic was left, or the session is about to be closed.
    Aside(&'a str),
}

/// A line is a refusal, or something that a load has no use for.
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectError(Fault);

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Refused(String),
    Unexpected(String),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Refused(reason) => write!(f, "server refused: {reason}"),
            Fault::Unexpected(line) => write!(f, "server said {line}"),
        }
    }
}

impl std::error::Error for ObjectError {}

/// One object; fields that don't matter here are left out.
#[derive(Deserialize)]
struct Object<'a> {
    op: &'a str,
    topic: Option<&'a str>,
    message_id: Option<&'a str>,
    text: Option<&'a str>,
    position: Option<&'a str>,
    recovered: Option<bool>,
    reason: Option<&'a str>,
    message: Option<String>,
}

/// What a line says.
///
/// HOT PATH: once per delivery; messages in the node's own order of fields take the first way.
#[inline]
pub fn parse(line: &[u8]) -> Result<Said<'_>, ObjectError> {
    parse_message(line).map_or_else(|| parse_general(line), Ok)
}

/// `{"op":"message","topic":"…","message_id":"…",…,"text":"…"}`, with nothing that is escaped.
#[inline]
fn parse_message(line: &[u8]) -> Option<Said<'_>> {
    const TEXT: &[u8] = b",\"text\":\"";
    let rest = line.strip_prefix(b"{\"op\":\"message\",\"topic\":\"")?.strip_suffix(b"\"}")?;
    let (topic, rest) = plain_text(rest)?;
    let (id, rest) = match rest.strip_prefix(b"\",\"message_id\":\"") {
        Some(rest) => plain_text(rest).map(|(id, rest)| (Some(id), rest))?,
        None => (None, rest),
    };
    let payload = &rest[memmem::find(rest, TEXT)? + TEXT.len()..];
    if memchr2(b'"', b'\\', payload).is_some() {
        return None;
    }
    Some(Said::Message { topic, id, payload })
}

/// The text up to the next quote or escape, and what comes from there on.
#[inline]
fn plain_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = bytes.split_at(memchr2(b'"', b'\\', bytes)?);
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn parse_general(line: &[u8]) -> Result<Said<'_>, ObjectError> {
    let unexpected = || ObjectError(Fault::Unexpected(line.escape_ascii().to_string()));
    let object: Object<'_> = serde_json::from_slice(line).map_err(|_| unexpected())?;
    let position = object.position;
    match (object.op, object.topic, object.text) {
        ("welcome", ..) => Ok(Said::Ready),
        ("subscribed", Some(topic), _) => {
            Ok(Said::Subscribed { topic, position, recovered: object.recovered })
        }
        ("message", Some(topic), Some(text)) => {
            Ok(Said::Message { topic, id: object.message_id, payload: text.as_bytes() })
        }
        ("gap", Some(topic), _) => {
            Ok(Said::Gap { topic, reason: object.reason.unwrap_or_default(), position })
        }
        (op @ ("unsubscribed" | "moving"), ..) => Ok(Said::Aside(op)),
        _ => Err(object
            .message
            .map_or_else(unexpected, |reason| ObjectError(Fault::Refused(reason)))),
    }
}

/// The command that subscribes to `topics`, whose names need no escapes.
pub fn subscribe_to(topics: impl Iterator<Item = String>) -> String {
    subscribe_from(topics.map(|topic| (topic, None)))
}

/// The command that subscribes to topics and, where a place is named, wants all behind it. Neither needs escapes.
pub fn subscribe_from<'a>(topics: impl Iterator<Item = (String, Option<&'a str>)>) -> String {
    let mut command = r#"{"op":"subscribe","topics":["#.to_owned();
    for (place, (topic, after)) in topics.enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(command, r#"{comma}{{"topic":"{topic}""#);
        if let Some(after) = after {
            let _ = write!(command, r#","after":"{after}""#);
        }
        command.push('}');
    }
    command.push_str("]}");
    command
}

/// The command that subscribes to `topic` and wants all behind `after`.
pub fn subscribe_after(topic: &str, after: &str) -> String {
    format!(r#"{{"op":"subscribe","topic":"{topic}","after":"{after}"}}"#)
}

/// The command that leaves `topic`.
pub fn unsubscribe(topic: &str) -> String {
    format!(r#"{{"op":"unsubscribe","topic":"{topic}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(line: &str) -> Result<Said<'_>, String> {
        parse(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_told_apart() {
        assert_eq!(said(r#"{"op":"welcome","session":"1"}"#), Ok(Said::Ready));
        for (field, recovered) in [
            ("", None),
            (r#","recovered":true"#, Some(true)),
            (r#","recovered":false"#, Some(false)),
        ] {
            let line = format!(r#"{{"op":"subscribed","topic":"a","position":"0"{field}}}"#);
            let position = Some("0");
            assert_eq!(said(&line), Ok(Said::Subscribed { topic: "a", position, recovered }));
        }
        let without = r#"{"op":"subscribed","topic":"a"}"#;
        let expected = Said::Subscribed { topic: "a", position: None, recovered: None };
        assert_eq!(said(without), Ok(expected));
        for op in ["unsubscribed", "moving"] {
            let line = format!(r#"{{"op":"{op}","topic":"a","reconnect_after_ms":7}}"#);
            assert_eq!(said(&line), Ok(Said::Aside(op)));
        }
    }

    #[test]
    fn a_gap_says_where_it_ends() {
        for (field, position) in [("", None), (r#","position":"0-7""#, Some("0-7"))] {
            let line = format!(r#"{{"op":"gap","topic":"a","reason":"too_old"{field}}}"#);
            assert_eq!(said(&line), Ok(Said::Gap { topic: "a", reason: "too_old", position }));
        }
    }

    #[test]
    fn a_message_is_the_same_in_any_form() {
        for (line, id) in [
            (r#"{"op":"message","topic":"a","text":"hi"}"#, None),
            (r#"{"op":"message","topic":"a","message_id":"0-1","text":"hi"}"#, Some("0-1")),
            (
                r#"{"op":"message","topic":"a","message_id":"0-1","event":"x,\"text\":\"","time":1,"text":"hi"}"#,
                Some("0-1"),
            ),
            (r#"{"op":"message","topic":"a","text":"hi","message_id":"0-1"}"#, Some("0-1")),
            (r#"{"op":"message","topic":"a","text":"hi","time":1}"#, None),
            (r#"{"text":"hi","topic":"a","op":"message"}"#, None),
            (r#"{"op": "message", "topic": "a", "text": "hi"}"#, None),
        ] {
            assert_eq!(said(line), Ok(Said::Message { topic: "a", id, payload: b"hi" }), "{line}");
        }
    }

    #[test]
    fn what_is_not_expected_is_quoted() {
        let refused = r#"{"op":"error","code":"limit","message":"too \"many\""}"#;
        assert_eq!(said(refused), Err("server refused: too \"many\"".to_owned()));
        for line in [
            r#"{"op":"published","message_id":null}"#,
            r#"{"op":"message","topic":"a","data":{"text":"hi"}}"#,
            r#"{"op":"message","topic":"a","data":{"x":1,"text":"hi"}}"#,
            "[]",
            "",
        ] {
            let error = said(line).unwrap_err();
            assert!(error.starts_with("server said "), "{error}");
        }
    }

    #[test]
    fn commands_name_topics_and_places() {
        let topics = ["a", "b"].map(str::to_owned).into_iter();
        let command = r#"{"op":"subscribe","topics":[{"topic":"a"},{"topic":"b"}]}"#;
        assert_eq!(subscribe_to(topics), command);
        assert_eq!(subscribe_after("a", "0"), r#"{"op":"subscribe","topic":"a","after":"0"}"#);
        let places = [("a".to_owned(), Some("0-1")), ("b".to_owned(), None)].into_iter();
        let command = r#"{"op":"subscribe","topics":[{"topic":"a","after":"0-1"},{"topic":"b"}]}"#;
        assert_eq!(subscribe_from(places), command);
        assert_eq!(unsubscribe("a"), r#"{"op":"unsubscribe","topic":"a"}"#);
    }

    proptest! {
        #[test]
        fn both_ways_agree(
            text in "[ -~]{0,40}",
            id in prop::option::of("[0-9a-f]{1,9}-[0-9]"),
            event in prop::option::of("[ -~]{1,20}"),
        ) {
            let id = id.map_or(String::new(), |id| format!(",\"message_id\":\"{id}\""));
            let event = event.map(|event| serde_json::json!(event));
            let event = event.map_or(String::new(), |event| format!(",\"event\":{event}"));
            let text = serde_json::json!(text);
            let line = format!(r#"{{"op":"message","topic":"a"{id}{event},"time":1,"text":{text}}}"#);
            if let Some(said) = parse_message(line.as_bytes()) {
                prop_assert_eq!(Ok(said), parse_general(line.as_bytes()));
            }
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
