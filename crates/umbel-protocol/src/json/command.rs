//! What clients of the JSON dialect ask for.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ErrorCode;
use crate::fields::{self, Text, present};
use crate::{After, EventName, IdempotencyKey, Payload, PayloadKind, Topic, TraceParent};

/// One command with the id that its replies carry.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The id that the client gave, to be put into the reply as it is.
    pub id: Option<RequestId<'a>>,
    /// What is asked for.
    pub command: Command,
}

/// An id as the client wrote it: a JSON number or string of at most 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId<'a>(&'a str);

/// A command of the JSON dialect.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Subscribe to these topics, each from where its client wants it: at least one, none twice.
    Subscribe(Vec<(Topic, Option<After>)>),
    /// Give one topic up.
    Unsubscribe(Topic),
    /// Publish one message.
    Publish(Publish),
    /// Ask for a `pong`.
    Ping,
}

/// A message that a session publishes.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub payload: Payload,
    /// The event's name.
    pub event: Option<EventName>,
    /// Whether the session shall hear its own message; true unless it said otherwise.
    pub echo: bool,
    /// What the message is to be recognised by if it is sent again.
    pub key: Option<IdempotencyKey>,
    /// Where in a trace it comes from. What can't be read isn't there, as for the header.
    pub trace: Option<TraceParent>,
}

/// Why a request was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestError<'a> {
    /// The line isn't JSON: the session is closed with 4400.
    Unparseable(String),
    /// The request can't be served: an error reply with the request's id.
    Refused {
        /// The id, if one could be read.
        id: Option<RequestId<'a>>,
        /// What went wrong, for programs.
        code: ErrorCode,
        /// What went wrong, for people.
        message: String,
    },
}

/// The requests of one text frame, in order. Blank lines are skipped.
pub fn requests(frame: &str) -> impl Iterator<Item = Result<Request<'_>, RequestError<'_>>> {
    frame.split('\n').filter(|line| !line.trim_ascii().is_empty()).map(parse)
}

fn parse(line: &str) -> Result<Request<'_>, RequestError<'_>> {
    let raw: Raw<'_> = match serde_json::from_str(line) {
        Ok(raw) => raw,
        Err(error) => return Err(unreadable(line, &error)),
    };
    let id = match raw.id.map(RequestId::new).transpose() {
        Ok(id) => id,
        Err(message) => return Err(refused(None, (ErrorCode::BadRequest, message))),
    };
    match command(raw) {
        Ok(command) => Ok(Request { id, command }),
        Err(refusal) => Err(refused(id, refusal)),
    }
}

/// What isn't JSON can't be answered. What is JSON of the wrong shape can, with its id if it has
/// one.
fn unreadable<'a>(line: &'a str, error: &serde_json::Error) -> RequestError<'a> {
    #[derive(Deserialize)]
    struct IdOnly<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    if let Err(error) = Payload::new(PayloadKind::Json, line.to_owned().into()) {
        return RequestError::Unparseable(error.to_string().replace("payload", "command"));
    }
    let only = serde_json::from_str::<IdOnly<'_>>(line).ok();
    let id = only.and_then(|only| only.id).and_then(|id| RequestId::new(id).ok());
    refused(id, (ErrorCode::BadRequest, error.to_string()))
}

type Refusal = (ErrorCode, String);

fn refused(id: Option<RequestId<'_>>, (code, message): Refusal) -> RequestError<'_> {
    RequestError::Refused { id, code, message }
}

fn bad_request(message: impl Into<String>) -> Refusal {
    (ErrorCode::BadRequest, message.into())
}

/// Every field of every command. Which of them belong together is checked afterwards, so that
/// each fault gets words of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<Text<'a>>,
    #[serde(borrow)]
    topic: Option<Text<'a>>,
    #[serde(borrow)]
    topics: Option<Vec<RawTopic<'a>>>,
    #[serde(borrow)]
    after: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    base64: Option<Text<'a>>,
    #[serde(borrow)]
    event: Option<Text<'a>>,
    echo: Option<bool>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    traceparent: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTopic<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(borrow)]
    after: Option<Text<'a>>,
}

fn command(raw: Raw<'_>) -> Result<Command, Refusal> {
    match raw.op.as_deref() {
        Some("subscribe") => subscribe(raw),
        Some("unsubscribe") => required_topic(raw.topic.as_deref()).map(Command::Unsubscribe),
        Some("publish") => publish(raw).map(Command::Publish),
        Some("ping") => Ok(Command::Ping),
        Some(op) => Err((ErrorCode::UnknownOp, format!("unknown op `{}`", shortened(op)))),
        None => Err(bad_request("`op` is missing")),
    }
}

fn subscribe(raw: Raw<'_>) -> Result<Command, Refusal> {
    let topics = match (raw.topic, raw.topics) {
        (Some(topic), None) => vec![RawTopic { topic, after: raw.after }],
        (None, Some(topics)) if raw.after.is_none() => topics,
        (None, Some(_)) => return Err(bad_request("`after` belongs into each of `topics`")),
        (Some(_), Some(_)) => return Err(bad_request("both `topic` and `topics` are given")),
        (None, None) => return Err(bad_request("`topic` is missing")),
    };
    let mut named: Vec<(Topic, Option<After>)> = Vec::with_capacity(topics.len());
    let mut seen = HashSet::with_capacity(topics.len());
    for each in &topics {
        let topic = checked_topic(&each.topic)?;
        if !seen.insert(topic.clone()) {
            return Err((ErrorCode::AlreadySubscribed, format!("topic `{topic}` is named twice")));
        }
        let after = each.after.as_deref().map(After::parse).transpose();
        let after = after.map_err(|error| bad_request(format!("`after` of `{topic}`: {error}")))?;
        named.push((topic, after));
    }
    if named.is_empty() {
        return Err(bad_request("`topics` is empty"));
    }
    Ok(Command::Subscribe(named))
}

fn publish(raw: Raw<'_>) -> Result<Publish, Refusal> {
    let key = raw.key.as_deref().map(IdempotencyKey::new).transpose();
    Ok(Publish {
        topic: required_topic(raw.topic.as_deref())?,
        payload: fields::payload(raw.data, raw.text, raw.base64).map_err(bad_request)?,
        event: match raw.event {
            Some(event) => {
                Some(EventName::new(&event).map_err(|error| bad_request(error.to_string()))?)
            }
            None => None,
        },
        echo: raw.echo.unwrap_or(true),
        key: key.map_err(|error| bad_request(format!("`key`: {error}")))?,
        trace: raw.traceparent.and_then(|text| text.parse().ok()),
    })
}

fn required_topic(name: Option<&str>) -> Result<Topic, Refusal> {
    checked_topic(name.ok_or_else(|| bad_request("`topic` is missing"))?)
}

fn checked_topic(name: &str) -> Result<Topic, Refusal> {
    Topic::new(name).map_err(|error| (ErrorCode::BadTopic, error.to_string()))
}

/// Quotes what a client sent without letting it fill the reply.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

impl<'a> RequestId<'a> {
    const MAX_BYTES: usize = 64;

    fn new(raw: &'a RawValue) -> Result<Self, String> {
        let text = raw.get();
        if !text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
            return Err("`id` is neither a number nor a string".to_owned());
        }
        if text.len() > Self::MAX_BYTES {
            return Err(format!(
                "`id` is {} bytes, at most {} are allowed",
                text.len(),
                Self::MAX_BYTES
            ));
        }
        Ok(Self(text))
    }

    /// The id as JSON.
    pub fn as_json(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for RequestError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unparseable(message) | Self::Refused { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for RequestError<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use proptest::prelude::*;

    fn one(line: &str) -> Result<Request<'_>, RequestError<'_>> {
        let mut all = requests(line);
        let first = all.next().expect("one request");
        assert!(all.next().is_none());
        first
    }

    fn command(line: &str) -> Command {
        one(line).unwrap().command
    }

    #[track_caller]
    fn refuses(line: &str, id: Option<&str>, code: ErrorCode, message: &str) {
        match one(line).unwrap_err() {
            RequestError::Refused { id: got_id, code: got_code, message: got } => {
                assert_eq!(
                    (got_id.map(RequestId::as_json), got_code, got.as_str()),
                    (id, code, message),
                    "{line}"
                );
            }
            RequestError::Unparseable(got) => panic!("{line} is unparseable: {got}"),
        }
    }

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn each_op_is_read() {
        assert_eq!(command(r#"{"op":"ping"}"#), Command::Ping);
        assert_eq!(
            command(r#"{"op":"subscribe","topic":"a"}"#),
            Command::Subscribe(vec![(topic("a"), None)])
        );
        assert_eq!(
            command(r#"{"op":"subscribe","topics":[{"topic":"a"},{"topic":"b"}]}"#),
            Command::Subscribe(vec![(topic("a"), None), (topic("b"), None)]),
        );
        assert_eq!(
            command(
                r#"{"op":"subscribe","topics":[{"topic":"a","after":"latest:3"},{"topic":"b","after":"0"}]}"#
            ),
            Command::Subscribe(vec![
                (topic("a"), Some(After::Latest(3))),
                (topic("b"), Some(After::Position(Position::START))),
            ]),
        );
        assert_eq!(
            command(r#"{"op":"unsubscribe","topic":"a"}"#),
            Command::Unsubscribe(topic("a"))
        );
        assert_eq!(
            command(
                r#"{"op":"publish","topic":"a","data":{"x": 1},"event":"typed","echo":false,"key":"k","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}"#
            ),
            Command::Publish(Publish {
                topic: topic("a"),
                payload: Payload::new(PayloadKind::Json, r#"{"x": 1}"#.into()).unwrap(),
                event: Some(EventName::new("typed").unwrap()),
                echo: false,
                key: Some(IdempotencyKey::new("k").unwrap()),
                trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().ok(),
            }),
        );
        let nonsense = r#"{"op":"publish","topic":"a","text":"","traceparent":"nonsense"}"#;
        assert!(matches!(command(nonsense), Command::Publish(Publish { trace: None, .. })));
    }

    #[test]
    fn payloads_come_as_json_text_or_base64() {
        let payload =
            |fields: &str| match command(&format!(r#"{{"op":"publish","topic":"a",{fields}}}"#)) {
                Command::Publish(publish) => publish.payload,
                other => panic!("{other:?}"),
            };
        assert_eq!(
            payload(r#""data":null"#),
            Payload::new(PayloadKind::Json, "null".into()).unwrap()
        );
        assert_eq!(payload(r#""text":"gr\u00fcn""#), Payload::text("grün".into()));
        assert_eq!(payload(r#""text":"""#), Payload::text(String::new()));
        assert_eq!(payload(r#""base64":"/wA=""#), Payload::binary(&b"\xff\x00"[..]));
    }

    #[test]
    fn ids_are_numbers_or_short_strings_and_come_back_as_written() {
        let id = |line: &'static str| one(line).unwrap().id.map(RequestId::as_json);
        assert_eq!(id(r#"{"op":"ping"}"#), None);
        assert_eq!(id(r#"{"op":"ping","id":null}"#), None);
        assert_eq!(id(r#"{"op":"ping","id":7}"#), Some("7"));
        assert_eq!(id(r#"{"op":"ping","id":"a\"b"}"#), Some(r#""a\"b""#));
        refuses(
            r#"{"op":"ping","id":{}}"#,
            None,
            ErrorCode::BadRequest,
            "`id` is neither a number nor a string",
        );
        let long = format!(r#"{{"op":"ping","id":"{}"}}"#, "x".repeat(63));
        refuses(&long, None, ErrorCode::BadRequest, "`id` is 65 bytes, at most 64 are allowed");
    }

    #[test]
    fn several_requests_may_share_a_frame() {
        let frame = "{\"op\":\"ping\",\"id\":1}\n\n {\"op\":\"pong\",\"id\":2}\r\n{\"op\":\"ping\",\"id\":3}";
        let ids: Vec<_> =
            requests(frame).map(|r| r.map(|r| r.id.unwrap().as_json()).map_err(|_| ())).collect();
        assert_eq!(ids, [Ok("1"), Err(()), Ok("3")]);
    }

    #[test]
    fn what_can_be_answered_is_answered_with_its_id() {
        use ErrorCode::{AlreadySubscribed, BadRequest, BadTopic, UnknownOp};
        refuses(r#"{"id":1}"#, Some("1"), BadRequest, "`op` is missing");
        refuses(r#"{"id":1,"op":"fly"}"#, Some("1"), UnknownOp, "unknown op `fly`");
        refuses(r#"{"id":1,"op":"subscribe"}"#, Some("1"), BadRequest, "`topic` is missing");
        refuses(
            r#"{"id":1,"op":"subscribe","topics":[]}"#,
            Some("1"),
            BadRequest,
            "`topics` is empty",
        );
        refuses(
            r#"{"id":1,"op":"subscribe","topic":"a","topics":[]}"#,
            Some("1"),
            BadRequest,
            "both `topic` and `topics` are given",
        );
        refuses(
            r#"{"id":1,"op":"subscribe","topics":[{"topic":"a"},{"topic":"a"}]}"#,
            Some("1"),
            AlreadySubscribed,
            "topic `a` is named twice",
        );
        refuses(
            r#"{"id":1,"op":"subscribe","topic":"a..b"}"#,
            Some("1"),
            BadTopic,
            "topic name has an empty segment at byte 2",
        );
        refuses(
            r#"{"id":1,"op":"subscribe","topic":"a","after":"latest:x"}"#,
            Some("1"),
            BadRequest,
            "`after` of `a`: latest: takes a number from 0 to 4294967295",
        );
        refuses(
            r#"{"id":1,"op":"publish","topic":"a"}"#,
            Some("1"),
            BadRequest,
            "a payload is missing: one of `data`, `text`, `base64`",
        );
        refuses(
            r#"{"id":1,"op":"publish","topic":"a","text":"","data":1}"#,
            Some("1"),
            BadRequest,
            "more than one of `data`, `text`, `base64` is given",
        );
        refuses(
            r#"{"id":1,"op":"publish","topic":"a","text":"","key":""}"#,
            Some("1"),
            BadRequest,
            "`key`: idempotency key is 0 bytes, 1 to 255 are allowed",
        );
        refuses(
            r#"{"id":1,"op":"publish","topic":"a","text":"","event":"a\nb"}"#,
            Some("1"),
            BadRequest,
            "event name has '\\n' at byte 1, CR, LF and NUL are not allowed",
        );
        let deep = format!(
            r#"{{"id":1,"op":"publish","topic":"a","data":{}{}}}"#,
            "[".repeat(129),
            "]".repeat(129)
        );
        refuses(&deep, Some("1"), BadRequest, "payload is nested deeper than 128 levels");
    }

    #[test]
    fn json_of_the_wrong_shape_is_answered_too() {
        for (line, id) in [
            (r#"{"id":1,"op":"ping","topc":"a"}"#, Some("1")),
            (r#"{"id":1,"op":5}"#, Some("1")),
            (r#"{"id":1,"op":"ping","op":"ping"}"#, Some("1")),
            ("42", None),
            ("[]", None),
        ] {
            match one(line).unwrap_err() {
                RequestError::Refused { id: got, code: ErrorCode::BadRequest, .. } => {
                    assert_eq!(got.map(RequestId::as_json), id)
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_json_is_unparseable() {
        let deep = "[".repeat(10_000);
        let deep_closed = format!("{deep}{}", "]".repeat(10_000));
        for line in ["{", "nope", "{\"op\":\"ping\"}}", "{'op':1}", &deep, &deep_closed] {
            assert!(matches!(one(line), Err(RequestError::Unparseable(_))), "{line:.20}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(frame in ".{0,200}") {
            requests(&frame).for_each(drop);
        }

        #[test]
        fn never_panics_on_what_looks_like_a_command(
            fields in prop::collection::vec(("(id|op|topic|topics|after|data|text|base64|event|echo|key)", "(1|null|true|\"[a-z:=.]{0,5}\"|\\[\\]|\\{\\}|\\[\\{\"topic\":\"a\"\\}\\]|\"subscribe\"|\"publish\")"), 0..6)
        ) {
            let body: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            requests(&format!("{{{}}}", body.join(","))).for_each(drop);
        }
    }
}
