//! What the node says to clients of the JSON dialect.

use super::{RequestId, write_string};
use crate::websocket::write_text_frame;
use crate::{MessageId, Position, SessionId, Topic};

/// What went wrong, as a closed set that programs can decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A field is missing, of the wrong type, or contradicts another.
    BadRequest,
    /// There is no such `op`.
    UnknownOp,
    /// The topic's name is malformed.
    BadTopic,
    /// The topic's rule doesn't allow it.
    Forbidden,
    /// The topic isn't held by this session.
    NotSubscribed,
    /// The topic is held by this session already.
    AlreadySubscribed,
    /// The session holds as many topics as it may.
    Limit,
    /// The payload is longer than the node takes.
    TooLarge,
    /// The session publishes more in a second than it may.
    RateLimited,
    /// The broker can't take the message now.
    Unavailable,
    /// Nobody knows whether the message was published.
    OutcomeUnknown,
    /// The topic keeps no history, or the node can't give it.
    NoHistory,
}

impl ErrorCode {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownOp => "unknown_op",
            Self::BadTopic => "bad_topic",
            Self::Forbidden => "forbidden",
            Self::NotSubscribed => "not_subscribed",
            Self::AlreadySubscribed => "already_subscribed",
            Self::Limit => "limit",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::NoHistory => "no_history",
        }
    }
}

/// What the node sends besides messages and gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Always first.
    Welcome {
        /// The session's id, as `Umbel-Origin` takes it.
        session: SessionId,
        /// After how many silent seconds the node sends a ping.
        heartbeat_seconds: u64,
    },
    /// The topic is held from now on.
    Subscribed {
        /// Which one.
        topic: &'a Topic,
        /// The id before the first message that follows; only topics with history have one.
        position: Option<Position>,
        /// Whether nothing is missing after what the request named; `None` if it named nothing.
        recovered: Option<bool>,
    },
    /// The topic isn't held any more; no message of it follows.
    Unsubscribed(&'a Topic),
    /// The broker has the message.
    Published(Option<MessageId>),
    /// Answers `ping`.
    Pong,
    /// The node is about to close the session, which another one takes over.
    Moving {
        /// When the client shall come back, so that not all do at once.
        reconnect_after_millis: u64,
    },
    /// The request wasn't served.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: &'a str,
    },
}

impl Reply<'_> {
    /// Appends the reply as one text frame, with the id of the request that it answers.
    pub fn write(&self, out: &mut Vec<u8>, id: Option<RequestId<'_>>) {
        write_text_frame(out, |out| {
            out.push(b'{');
            if let Some(id) = id {
                out.extend_from_slice(b"\"id\":");
                out.extend_from_slice(id.as_json().as_bytes());
                out.push(b',');
            }
            self.write_fields(out);
            out.push(b'}');
        });
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let fields = match self {
            Self::Welcome { session, heartbeat_seconds } => {
                format!(
                    r#""op":"welcome","session":"{session}","heartbeat_seconds":{heartbeat_seconds}"#
                )
            }
            Self::Subscribed { topic, position, recovered } => {
                let position = position.map(|position| format!(r#","position":"{position}""#));
                let recovered = recovered.map(|recovered| format!(r#","recovered":{recovered}"#));
                format!(
                    r#""op":"subscribed","topic":"{topic}"{}{}"#,
                    position.unwrap_or_default(),
                    recovered.unwrap_or_default(),
                )
            }
            Self::Unsubscribed(topic) => format!(r#""op":"unsubscribed","topic":"{topic}""#),
            Self::Published(Some(id)) => format!(r#""op":"published","message_id":"{id}""#),
            Self::Published(None) => r#""op":"published","message_id":null"#.to_owned(),
            Self::Pong => r#""op":"pong""#.to_owned(),
            Self::Moving { reconnect_after_millis } => {
                format!(r#""op":"moving","reconnect_after_ms":{reconnect_after_millis}"#)
            }
            Self::Error { code, message } => {
                out.extend_from_slice(
                    format!(r#""op":"error","code":"{}","message":"#, code.as_str()).as_bytes(),
                );
                return write_string(out, message);
            }
        };
        out.extend_from_slice(fields.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Command, requests};

    fn written(reply: &Reply<'_>, id: Option<RequestId<'_>>) -> String {
        let mut out = Vec::new();
        reply.write(&mut out, id);
        assert_eq!(out[0], 0x81);
        assert!(out[1] < 126, "the cases here are short");
        assert_eq!(usize::from(out[1]), out.len() - 2);
        String::from_utf8(out.split_off(2)).unwrap()
    }

    #[test]
    fn replies_are_json_with_the_request_s_id() {
        let topic = Topic::new("chat.42").unwrap();
        let request = requests(r#"{"id":"x\"y","op":"ping"}"#).next().unwrap().unwrap();
        assert_eq!(request.command, Command::Ping);
        let id = request.id;
        for (reply, expected) in [
            (
                Reply::Welcome { session: SessionId(0xab), heartbeat_seconds: 25 },
                r#"{"op":"welcome","session":"00000000000000ab","heartbeat_seconds":25}"#,
            ),
            (
                Reply::Subscribed { topic: &topic, position: None, recovered: None },
                r#"{"op":"subscribed","topic":"chat.42"}"#,
            ),
            (
                Reply::Subscribed {
                    topic: &topic,
                    position: Some(Position::START),
                    recovered: Some(false),
                },
                r#"{"op":"subscribed","topic":"chat.42","position":"0","recovered":false}"#,
            ),
            (Reply::Unsubscribed(&topic), r#"{"op":"unsubscribed","topic":"chat.42"}"#),
            (Reply::Published(None), r#"{"op":"published","message_id":null}"#),
            (
                Reply::Published(Some(MessageId { epoch: 1, offset: 2 })),
                r#"{"op":"published","message_id":"0000000000000001-2"}"#,
            ),
            (Reply::Pong, r#"{"op":"pong"}"#),
            (
                Reply::Moving { reconnect_after_millis: 1234 },
                r#"{"op":"moving","reconnect_after_ms":1234}"#,
            ),
            (
                Reply::Error { code: ErrorCode::Limit, message: "a \"b\"\n" },
                r#"{"op":"error","code":"limit","message":"a \"b\"\n"}"#,
            ),
        ] {
            assert_eq!(written(&reply, None), expected);
            assert_eq!(written(&reply, id), expected.replacen('{', r#"{"id":"x\"y","#, 1));
        }
    }
}
