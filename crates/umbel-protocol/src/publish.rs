//! The body of `POST /publish`: one JSON object, an array of them, or NDJSON.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fields::{self, Text, present};
use crate::{EventName, IdempotencyKey, Payload, Topic, TraceParent};

/// The most messages that one body may hold.
pub const MAX_MESSAGES: usize = 1000;

/// What a body held, and in which form the results go back.
#[derive(Debug, PartialEq, Eq)]
pub struct Publishes {
    /// The messages in order, each taken or refused on its own.
    pub items: Vec<Result<Item, Refused>>,
    /// How they were written.
    pub form: Form,
}

/// The form of a body, which is also the form of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object.
    Object,
    /// An array of objects.
    Array,
    /// One object per line.
    Lines,
}

/// One message to publish.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Payload,
    /// The event's name.
    pub event: Option<EventName>,
    /// What the message is to be recognised by if it is sent again.
    pub key: Option<IdempotencyKey>,
    /// Where in a trace it comes from. What can't be read isn't there, as for the header.
    pub trace: Option<TraceParent>,
}

/// Why one message of a body can't be published.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The topic as it was written, if one was.
    pub topic: Option<String>,
    /// The HTTP status that the message alone would have got.
    pub status: u16,
    /// What went wrong.
    pub error: String,
}

/// Why a body as a whole can't be read. Nothing of it is published.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It isn't JSON; says where.
    Malformed(String),
    /// It holds more than [`MAX_MESSAGES`].
    TooMany,
    /// It holds no message at all.
    Empty,
}

/// Reads a body. `lines` says that its Content-Type is NDJSON; otherwise its first byte tells an
/// array from objects, of which there may be several.
pub fn parse(body: &[u8], lines: bool) -> Result<Publishes, BodyError> {
    let body = std::str::from_utf8(body).map_err(|error| {
        BodyError::Malformed(format!("body is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    if lines {
        return parse_lines(body);
    }
    match body.trim_ascii_start().as_bytes().first() {
        Some(b'[') => parse_array(body),
        _ => parse_objects(body),
    }
}

fn parse_array(body: &str) -> Result<Publishes, BodyError> {
    let raw: Vec<&RawValue> = serde_json::from_str(body).map_err(|error| malformed(&error))?;
    let items = raw.into_iter().map(|value| item(value.get()));
    finish(items.collect::<Result<_, _>>()?, Form::Array)
}

/// One object, or several without commas between them, as NDJSON sent under another type is.
fn parse_objects(body: &str) -> Result<Publishes, BodyError> {
    let mut items = Vec::new();
    for value in serde_json::Deserializer::from_str(body).into_iter::<&RawValue>() {
        items.push(item(value.map_err(|error| malformed(&error))?.get())?);
        if items.len() > MAX_MESSAGES {
            return Err(BodyError::TooMany);
        }
    }
    let form = if items.len() == 1 { Form::Object } else { Form::Lines };
    finish(items, form)
}

fn parse_lines(body: &str) -> Result<Publishes, BodyError> {
    let mut items = Vec::new();
    for (number, line) in body.split('\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let read = item(line).map_err(|error| match error {
            BodyError::Malformed(message) => {
                BodyError::Malformed(format!("line {}: {message}", number + 1))
            }
            other => other,
        });
        items.push(read?);
        if items.len() > MAX_MESSAGES {
            return Err(BodyError::TooMany);
        }
    }
    finish(items, Form::Lines)
}

fn finish(items: Vec<Result<Item, Refused>>, form: Form) -> Result<Publishes, BodyError> {
    match items.len() {
        0 => Err(BodyError::Empty),
        len if len > MAX_MESSAGES => Err(BodyError::TooMany),
        _ => Ok(Publishes { items, form }),
    }
}

fn malformed(error: &serde_json::Error) -> BodyError {
    BodyError::Malformed(format!("body is not JSON: {error}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    base64: Option<Text<'a>>,
    #[serde(borrow)]
    event: Option<Text<'a>>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    traceparent: Option<Text<'a>>,
}

/// Reads one object. Broken JSON spoils the body; a wrong field only its message.
fn item(object: &str) -> Result<Result<Item, Refused>, BodyError> {
    let error = match serde_json::from_str::<Raw<'_>>(object) {
        Ok(raw) => return Ok(checked(raw)),
        Err(error) => error,
    };
    if let Err(syntax) = serde_json::from_str::<&RawValue>(object) {
        return Err(malformed(&syntax));
    }
    let only = serde_json::from_str::<TopicOnly<'_>>(object).ok();
    Ok(Err(Refused {
        topic: only.and_then(|only| only.topic).map(|topic| topic.0.into_owned()),
        status: 400,
        error: error.to_string(),
    }))
}

#[derive(Deserialize)]
struct TopicOnly<'a> {
    #[serde(borrow)]
    topic: Option<Text<'a>>,
}

fn checked(raw: Raw<'_>) -> Result<Item, Refused> {
    let refuse = |topic: Text<'_>, status, error: String| Refused {
        topic: Some(topic.0.into_owned()),
        status,
        error,
    };
    let key = match raw.key.as_deref().map(IdempotencyKey::new).transpose() {
        Ok(key) => key,
        Err(error) => return Err(refuse(raw.topic, 400, format!("`key`: {error}"))),
    };
    let topic = match Topic::new(&raw.topic) {
        Ok(topic) => topic,
        Err(error) => return Err(refuse(raw.topic, 400, error.to_string())),
    };
    let payload = match fields::payload(raw.data, raw.text, raw.base64) {
        Ok(payload) => payload,
        Err(error) => return Err(refuse(raw.topic, 400, error)),
    };
    let event = match raw.event.as_deref().map(EventName::new).transpose() {
        Ok(event) => event,
        Err(error) => return Err(refuse(raw.topic, 400, error.to_string())),
    };
    let trace = raw.traceparent.and_then(|text| text.parse().ok());
    Ok(Item { topic, payload, event, key, trace })
}

/// Appends one result in the order of the messages.
pub fn write_result(
    out: &mut Vec<u8>,
    result: Result<(&Topic, Option<crate::MessageId>), &Refused>,
) {
    match result {
        Ok((topic, id)) => {
            out.extend_from_slice(b"{\"topic\":\"");
            out.extend_from_slice(topic.as_str().as_bytes());
            match id {
                Some(id) => {
                    out.extend_from_slice(b"\",\"id\":\"");
                    id.write(out);
                    out.extend_from_slice(b"\"}");
                }
                None => out.extend_from_slice(b"\",\"id\":null}"),
            }
        }
        Err(refused) => {
            out.extend_from_slice(b"{\"topic\":");
            match &refused.topic {
                Some(topic) => crate::json::write_string(out, topic),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"error\":");
            crate::json::write_string(out, &refused.error);
            out.extend_from_slice(format!(",\"status\":{}}}", refused.status).as_bytes());
        }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(message) => f.write_str(message),
            Self::TooMany => write!(f, "body holds more than {MAX_MESSAGES} messages"),
            Self::Empty => f.write_str("body holds no message"),
        }
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PayloadKind;
    use proptest::prelude::*;

    #[allow(clippy::unnecessary_wraps, reason = "to be compared with what parsing gives")]
    fn text(topic: &str, text: &str) -> Result<Item, Refused> {
        Ok(Item {
            topic: Topic::new(topic).unwrap(),
            payload: Payload::text(text.to_owned()),
            event: None,
            key: None,
            trace: None,
        })
    }

    #[test]
    fn an_object_an_array_and_lines_are_read_in_their_form() {
        let object = r#"{"topic":"a","text":"1"}"#;
        let read = |body: &str, lines| parse(body.as_bytes(), lines).unwrap();
        assert_eq!(
            read(object, false),
            Publishes { items: vec![text("a", "1")], form: Form::Object }
        );
        assert_eq!(read(object, true).form, Form::Lines);
        assert_eq!(
            read(&format!(" [{object},{object}]\n"), false),
            Publishes { items: vec![text("a", "1"), text("a", "1")], form: Form::Array }
        );
        for lines in [true, false] {
            assert_eq!(
                read(&format!("{object}\r\n\n{object}\n"), lines),
                Publishes { items: vec![text("a", "1"), text("a", "1")], form: Form::Lines }
            );
        }
    }

    #[test]
    fn data_keeps_its_spelling() {
        let read =
            parse(br#"{"topic":"a","data":{"b" : [1.0]},"event":"e","key":"k"}"#, false).unwrap();
        let item = read.items.into_iter().next().unwrap().unwrap();
        assert_eq!(item.payload.kind(), PayloadKind::Json);
        assert_eq!(&item.payload.bytes()[..], br#"{"b" : [1.0]}"#);
        assert_eq!(item.event, Some(EventName::new("e").unwrap()));
        assert_eq!(item.key, Some(IdempotencyKey::new("k").unwrap()));
    }

    #[test]
    fn a_wrong_message_is_refused_alone() {
        for (object, topic, status, error) in [
            (r#"{"topic":"a b","text":""}"#, Some("a b"), 400, "topic name has ' ' at byte 1"),
            (r#"{"topic":"a"}"#, Some("a"), 400, "a payload is missing"),
            (r#"{"topic":"a","text":"","base64":""}"#, Some("a"), 400, "more than one of"),
            (r#"{"topic":"a","base64":"!"}"#, Some("a"), 400, "`base64` can't be decoded"),
            (
                r#"{"topic":"a","text":"","event":"umbel.x"}"#,
                Some("a"),
                400,
                "event names that begin with",
            ),
            (r#"{"topic":"a","text":"","key":""}"#, Some("a"), 400, "`key`: idempotency key is 0"),
            (r#"{"topic":"a","txt":""}"#, Some("a"), 400, "unknown field `txt`"),
            (r#"{"topic":5}"#, None, 400, "invalid type: integer `5`"),
            (r#"{"text":""}"#, None, 400, "missing field `topic`"),
            ("7", None, 400, "invalid type: integer `7`"),
        ] {
            let body = format!(r#"[{object},{{"topic":"b","text":"x"}}]"#);
            let read = parse(body.as_bytes(), false).unwrap();
            let refused = read.items[0].as_ref().unwrap_err();
            assert_eq!((refused.topic.as_deref(), refused.status), (topic, status), "{object}");
            assert!(refused.error.starts_with(error), "{object}: {}", refused.error);
            assert_eq!(read.items[1], text("b", "x"));
        }
    }

    #[test]
    fn a_broken_body_is_refused_whole() {
        for (body, lines) in [
            ("{", false),
            ("[{}", false),
            ("nope", true),
            ("{\"topic\":\"a\",\"text\":\"\"} x", false),
            ("{\"topic\":\"a\",\"text\":\"\"}\n{\n", true),
            ("[{\"topic\":5,]", false),
            ("{\"topic\":5,", true),
        ] {
            assert!(
                matches!(parse(body.as_bytes(), lines), Err(BodyError::Malformed(_))),
                "{body}"
            );
        }
        assert_eq!(parse(b"\xff", false).unwrap_err().to_string(), "body is not UTF-8 at byte 0");
        assert!(
            parse(b"{\"topic\":\"a\",\"text\":\"\"}\n}", true)
                .unwrap_err()
                .to_string()
                .starts_with("line 2: body is not JSON")
        );
        for empty in ["", " \n", "[]"] {
            assert_eq!(parse(empty.as_bytes(), false), Err(BodyError::Empty));
        }
    }

    #[test]
    fn a_thousand_messages_are_the_most() {
        let object = r#"{"topic":"a","text":"1"}"#;
        let lines = |n: usize| [object].repeat(n).join("\n");
        let array = |n: usize| format!("[{}]", [object].repeat(n).join(","));
        assert_eq!(parse(lines(1000).as_bytes(), true).unwrap().items.len(), 1000);
        assert_eq!(parse(array(1000).as_bytes(), false).unwrap().items.len(), 1000);
        assert_eq!(parse(lines(1001).as_bytes(), true), Err(BodyError::TooMany));
        assert_eq!(parse(lines(1001).as_bytes(), false), Err(BodyError::TooMany));
        assert_eq!(parse(array(1001).as_bytes(), false), Err(BodyError::TooMany));
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..100), lines: bool) {
            let _ = parse(&body, lines);
        }

        #[test]
        fn results_are_json(topic in ".{0,20}", error in ".{0,20}") {
            let mut out = Vec::new();
            write_result(&mut out, Err(&Refused { topic: Some(topic.clone()), status: 400, error: error.clone() }));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&value["topic"], &serde_json::Value::from(topic));
            prop_assert_eq!(&value["error"], &serde_json::Value::from(error));
        }
    }
}
