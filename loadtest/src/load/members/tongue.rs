//! How a connection subscribes to many topics: in the JSON dialect, or as a client of Redis itself.

use anyhow::{Context, Result, bail};

use crate::channels::Channels;
use crate::load::target::{Target, topic_name};
use crate::wire::resp::{self, Push};
use crate::wire::response;
use crate::wire::subscribe::{Dialect, Subscribe};
use crate::wire::{frame, object};

/// Topics that one command of the JSON dialect lists at most.
const LISTED: usize = 100;

/// One of both ways.
#[derive(Debug)]
pub(super) enum Tongue {
    /// WebSocket, with commands in JSON.
    Json { subscribe: Subscribe, path: String },
    /// Redis, one command per topic.
    Redis(Channels),
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It takes commands.
    Ready,
    /// Messages of this topic come from here on.
    Subscribed(&'a str),
    /// A message.
    Message { topic: &'a str, payload: &'a [u8] },
}

impl Tongue {
    /// The node's own.
    pub(super) fn json(target: &Target) -> Self {
        let place = target.clone().in_json().subscribe;
        Self::Json { subscribe: Subscribe::new(Dialect::Json, &place.host), path: place.path }
    }

    /// What is sent first; after it the server says that it is ready. Redis needs nothing and says nothing.
    pub(super) fn opening(&self) -> Option<Vec<u8>> {
        let Self::Json { subscribe, path } = self else {
            return None;
        };
        let mut out = Vec::new();
        subscribe.write(&mut out, path);
        Some(out)
    }

    /// Judges the answer to the opening; says how many bytes it took, or `None` while it is cut.
    pub(super) fn take_answer(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let Self::Json { subscribe, .. } = self else {
            return Ok(Some(0));
        };
        let Some(head) = response::parse(bytes)? else {
            return Ok(None);
        };
        subscribe.judge(&head)?;
        Ok(Some(head.taken))
    }

    /// Appends the commands that subscribe to `topics`.
    pub(super) fn write_subscribe(&self, out: &mut Vec<u8>, topics: &[usize]) {
        match self {
            Self::Json { .. } => topics.chunks(LISTED).for_each(|listed| write_json(out, listed)),
            Self::Redis(channels) => {
                for topic in topics {
                    resp::write_subscribe(out, &channels.prefix, topic_name(*topic).as_bytes());
                }
            }
        }
    }

    /// Tells `hear` all that is whole in `bytes`; says how many bytes that took.
    pub(super) fn take(
        &self,
        bytes: &[u8],
        mut hear: impl FnMut(Said<'_>) -> Result<()>,
    ) -> Result<usize> {
        match self {
            Self::Json { .. } => take_frames(bytes, hear),
            Self::Redis(channels) => {
                let mut taken = 0;
                while let Some((push, length)) = resp::parse_push(&bytes[taken..])? {
                    taken += length;
                    hear(pushed(&push, &channels.prefix)?)?;
                }
                Ok(taken)
            }
        }
    }
}

fn write_json(out: &mut Vec<u8>, topics: &[usize]) {
    let command = object::subscribe_to(topics.iter().map(|topic| topic_name(*topic)));
    frame::write_client(out, frame::TEXT, command.as_bytes());
}

fn take_frames(bytes: &[u8], mut hear: impl FnMut(Said<'_>) -> Result<()>) -> Result<usize> {
    let mut taken = 0;
    while let Some(frame) = frame::parse(&bytes[taken..])? {
        taken += frame.taken;
        match frame.opcode {
            frame::TEXT => {
                for line in frame.payload.split(|byte| *byte == b'\n') {
                    hear(heard(object::parse(line)?)?)?;
                }
            }
            frame::CLOSE => bail!("server closed a session"),
            _ => {}
        }
    }
    Ok(taken)
}

fn heard(said: object::Said<'_>) -> Result<Said<'_>> {
    match said {
        object::Said::Ready => Ok(Said::Ready),
        object::Said::Subscribed { topic, .. } => Ok(Said::Subscribed(topic)),
        object::Said::Message { topic, payload, .. } => Ok(Said::Message { topic, payload }),
        object::Said::Gap { topic, reason, .. } => bail!("server tells a gap of {topic}: {reason}"),
        object::Said::Aside(op) => bail!("server said {op}"),
    }
}

fn pushed<'a>(push: &Push<'a>, prefix: &str) -> Result<Said<'a>> {
    let topic = |channel: &'a [u8]| {
        let topic = std::str::from_utf8(channel).ok().and_then(|name| name.strip_prefix(prefix));
        topic.context("Redis names a channel that nobody asked for")
    };
    match push {
        Push::Message { channel, payload } => Ok(Said::Message { topic: topic(channel)?, payload }),
        Push::Subscribed { channel } => Ok(Said::Subscribed(topic(channel)?)),
        Push::Refused(reason) => bail!("Redis refused: {}", String::from_utf8_lossy(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> Tongue {
        Tongue::json(&Target::of_server("127.0.0.1:1".parse().unwrap(), Dialect::WebSocket))
    }

    fn redis() -> Tongue {
        let address = "127.0.0.1:1".parse().unwrap();
        Tongue::Redis(Channels { address, prefix: "p:".to_owned() })
    }

    fn all_heard(tongue: &Tongue, bytes: &[u8]) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        tongue.take(bytes, |said| {
            heard.push(format!("{said:?}"));
            Ok(())
        })?;
        Ok(heard)
    }

    fn frames(texts: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for text in texts {
            frame::write_text(&mut out, text.as_bytes());
        }
        out
    }

    const SUBSCRIBED: &str = "Subscribed(\"bench.7\")";
    const MESSAGE: &str = "Message { topic: \"bench.7\", payload: [104, 105] }";

    #[test]
    fn objects_are_understood_one_per_line() {
        let bytes = frames(&[
            r#"{"op":"welcome","session":"1","heartbeat_seconds":25}"#,
            "{\"op\":\"subscribed\",\"topic\":\"bench.7\"}\n{\"op\":\"message\",\"topic\":\"bench.7\",\"time\":1,\"text\":\"hi\"}",
        ]);
        assert_eq!(all_heard(&json(), &bytes).unwrap(), ["Ready", SUBSCRIBED, MESSAGE]);
        let refusal = frames(&[r#"{"op":"error","code":"limit","message":"too many"}"#]);
        assert!(all_heard(&json(), &refusal).unwrap_err().to_string().contains("too many"));
        let gap = frames(&[r#"{"op":"gap","topic":"bench.7","reason":"slow"}"#]);
        assert!(all_heard(&json(), &gap).unwrap_err().to_string().contains("gap"));
    }

    #[test]
    fn pushes_are_understood() {
        let bytes = "*3\r\n$9\r\nsubscribe\r\n$9\r\np:bench.7\r\n:1\r\n\
                     *3\r\n$7\r\nmessage\r\n$9\r\np:bench.7\r\n$2\r\nhi\r\n";
        assert_eq!(all_heard(&redis(), bytes.as_bytes()).unwrap(), [SUBSCRIBED, MESSAGE]);
        assert!(all_heard(&redis(), b"-ERR x\r\n").unwrap_err().to_string().contains("ERR x"));
    }

    #[test]
    fn commands_name_all_topics() {
        let mut out = Vec::new();
        redis().write_subscribe(&mut out, &[1, 2]);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("p:bench.1\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$9\r\np:bench.2\r\n"),
            "{text}"
        );
        let mut out = Vec::new();
        json().write_subscribe(&mut out, &[1, 2]);
        let command = r#"{"op":"subscribe","topics":[{"topic":"bench.1"},{"topic":"bench.2"}]}"#;
        assert!(String::from_utf8_lossy(&out).ends_with(command));
    }
}
