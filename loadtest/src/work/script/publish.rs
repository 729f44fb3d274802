//! What a script says of publishing.

use serde::Deserialize;

use super::nothing_of;
use super::words::{Header, Path};

/// What stands for a message's payload.
pub const PAYLOAD: &str = "{payload}";

/// How a script's messages are published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UncheckedPublish")]
pub enum ScriptPublish {
    /// By HTTP.
    Post {
        /// Path, with `{topic}`.
        path: String,
        /// Headers beyond `Host` and `Content-Length`, each `Name: value`.
        headers: Vec<String>,
        /// The body for one message, with `{topic}` and `{payload}`.
        body: String,
        /// A request may have several messages: bodies, each on a line.
        lines: bool,
    },
    /// By words over TCP.
    Tcp {
        /// What is said for one message, with `{topic}`, `{payload}` and its length `{bytes}`.
        message: String,
        /// What is said first; may be empty.
        open: String,
        /// What the server says to each message; empty: nothing.
        expect: String,
    },
    /// By Redis' PUBLISH.
    Redis {
        /// What channels' names begin with, before the topic's.
        prefix: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedPublish {
    post: Option<Path>,
    #[serde(default)]
    headers: Vec<Header>,
    body: Option<String>,
    #[serde(default)]
    lines: bool,
    tcp: Option<String>,
    open: Option<String>,
    expect: Option<String>,
    redis: Option<String>,
}

impl TryFrom<UncheckedPublish> for ScriptPublish {
    type Error = String;

    fn try_from(read: UncheckedPublish) -> Result<Self, Self::Error> {
        let of_post = [
            ("headers", !read.headers.is_empty()),
            ("body", read.body.is_some()),
            ("lines", read.lines),
        ];
        let of_tcp = [("open", read.open.is_some()), ("expect", read.expect.is_some())];
        match (read.post, read.tcp, read.redis) {
            (Some(path), None, None) => {
                nothing_of(of_tcp, "with post")?;
                Ok(Self::Post {
                    path: path.0,
                    headers: read.headers.into_iter().map(|header| header.0).collect(),
                    body: with_payload("body", read.body.unwrap_or_default())?,
                    lines: read.lines,
                })
            }
            (None, Some(message), None) => {
                nothing_of(of_post, "with tcp")?;
                Ok(Self::Tcp {
                    message: with_payload("tcp", message)?,
                    open: read.open.unwrap_or_default(),
                    expect: read.expect.unwrap_or_default(),
                })
            }
            (None, None, Some(prefix)) => {
                nothing_of(of_post, "with redis")?;
                nothing_of(of_tcp, "with redis")?;
                Ok(Self::Redis { prefix })
            }
            _ => Err("publish needs exactly one of post, tcp and redis".to_owned()),
        }
    }
}

fn with_payload(key: &str, text: String) -> Result<String, String> {
    if text.contains(PAYLOAD) {
        Ok(text)
    } else {
        Err(format!("`{key}` must have {PAYLOAD} in it"))
    }
}
