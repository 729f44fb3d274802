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
        /// Whether nothing is missing behind the place that was named; none if no place was.
        recovered: Option<bool>,
    },
    /// A message with text.
    Message {
        /// Where.
        topic: &'a str,
        /// What.
        payload: &'a [u8],
    },
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
    text: Option<&'a str>,
    recovered: Option<bool>,
    message: Option<String>,
}

/// What a line says.
///
/// HOT PATH: once per delivery; messages in the node's own order of fields take the first way.
#[inline]
pub fn parse(line: &[u8]) -> Result<Said<'_>, ObjectError> {
    parse_message(line).map_or_else(|| parse_general(line), Ok)
}

/// `{"op":"message","topic":"…",…,"text":"…"}`, with nothing that is escaped.
#[inline]
fn parse_message(line: &[u8]) -> Option<Said<'_>> {
    const TEXT: &[u8] = b",\"text\":\"";
    let rest = line.strip_prefix(b"{\"op\":\"message\",\"topic\":\"")?.strip_suffix(b"\"}")?;
    let (topic, rest) = rest.split_at(memchr2(b'"', b'\\', rest)?);
    let payload = &rest[memmem::find(rest, TEXT)? + TEXT.len()..];
    if memchr2(b'"', b'\\', payload).is_some() {
        return None;
    }
    Some(Said::Message { topic: std::str::from_utf8(topic).ok()?, payload })
}

fn parse_general(line: &[u8]) -> Result<Said<'_>, ObjectError> {
    let unexpected = || ObjectError(Fault::Unexpected(line.escape_ascii().to_string()));
    let object: Object<'_> = serde_json::from_slice(line).map_err(|_| unexpected())?;
    match (object.op, object.topic, object.text) {
        ("welcome", ..) => Ok(Said::Ready),
        ("subscribed", Some(topic), _) => {
            Ok(Said::Subscribed { topic, recovered: object.recovered })
        }
        ("message", Some(topic), Some(text)) => {
            Ok(Said::Message { topic, payload: text.as_bytes() })
        }
        _ => Err(object
            .message
            .map_or_else(unexpected, |reason| ObjectError(Fault::Refused(reason)))),
    }
}

/// The command that subscribes to `topics`, whose names need no escapes.
pub fn subscribe_to(topics: impl Iterator<Item = String>) -> String {
    let mut command = r#"{"op":"subscribe","topics":["#.to_owned();
    for (place, topic) in topics.enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(command, r#"{comma}{{"topic":"{topic}"}}"#);
    }
    command.push_str("]}");
    command
}

/// The command that subscribes to `topic` and wants all behind `after`.
pub fn subscribe_after(topic: &str, after: &str) -> String {
    format!(r#"{{"op":"subscribe","topic":"{topic}","after":"{after}"}}"#)
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
            assert_eq!(said(&line), Ok(Said::Subscribed { topic: "a", recovered }));
        }
    }

    #[test]
    fn a_message_is_the_same_in_any_form() {
        let expected = Ok(Said::Message { topic: "a", payload: b"hi" });
        for line in [
            r#"{"op":"message","topic":"a","text":"hi"}"#,
            r#"{"op":"message","topic":"a","message_id":"0-1","event":"x,\"text\":\"","time":1,"text":"hi"}"#,
            r#"{"op":"message","topic":"a","text":"hi","time":1}"#,
            r#"{"text":"hi","topic":"a","op":"message"}"#,
            r#"{"op": "message", "topic": "a", "text": "hi"}"#,
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_expected_is_quoted() {
        let refused = r#"{"op":"error","code":"limit","message":"too \"many\""}"#;
        assert_eq!(said(refused), Err("server refused: too \"many\"".to_owned()));
        for line in [
            r#"{"op":"gap","topic":"a","reason":"too_old"}"#,
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
    }

    proptest! {
        #[test]
        fn both_ways_agree(text in "[ -~]{0,40}", event in prop::option::of("[ -~]{1,20}")) {
            let event = event.map(|event| serde_json::json!(event));
            let event = event.map_or(String::new(), |event| format!(",\"event\":{event}"));
            let text = serde_json::json!(text);
            let line = format!(r#"{{"op":"message","topic":"a"{event},"time":1,"text":{text}}}"#);
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
