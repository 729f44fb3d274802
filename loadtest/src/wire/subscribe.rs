//! The requests that open a subscription, and how a server's answer to one is judged.

use std::fmt;

use crate::wire::accept_key::{AcceptKey, accept_key};
use crate::wire::response::Head;

/// The wire protocol of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Each message is one WebSocket text frame.
    WebSocket,
    /// Each message is one block of an event stream.
    Sse,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE",
        })
    }
}

/// One key serves all sessions: a load isn't attacked by caches, and each hash costs it time.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Makes subscribe requests and judges the heads that answer them.
#[derive(Debug, Clone)]
pub struct Subscribe {
    dialect: Dialect,
    host: String,
    accept: AcceptKey,
}

/// The server didn't open the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    status: u16,
    dialect: Dialect,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, dialect } = self;
        write!(f, "server answered a {dialect} subscription with status {status}")?;
        match (status, dialect) {
            (101, _) => f.write_str(" and a wrong Sec-WebSocket-Accept"),
            (200, Dialect::Sse) => f.write_str(" but no text/event-stream"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

impl Subscribe {
    /// Requests to `host` (name and port, for the header).
    pub fn new(dialect: Dialect, host: &str) -> Self {
        Self { dialect, host: host.to_owned(), accept: accept_key(KEY.as_bytes()) }
    }

    /// Appends the request for `path`.
    pub fn write(&self, out: &mut Vec<u8>, path: &str) {
        let host = &self.host;
        let request = match self.dialect {
            Dialect::WebSocket => format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
            ),
            Dialect::Sse => {
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n")
            }
        };
        out.extend_from_slice(request.as_bytes());
    }

    /// Whether `head` opens the subscription.
    pub fn judge(&self, head: &Head) -> Result<(), Refused> {
        let opened = match self.dialect {
            Dialect::WebSocket => head.status == 101 && head.accept == Some(self.accept),
            Dialect::Sse => head.status == 200 && head.event_stream,
        };
        opened.then_some(()).ok_or(Refused { status: head.status, dialect: self.dialect })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response;

    fn judge(dialect: Dialect, head: &str) -> Result<(), String> {
        let head = response::parse(head.as_bytes()).unwrap().unwrap();
        let judged = Subscribe::new(dialect, "localhost").judge(&head);
        judged.map_err(|refused| refused.to_string())
    }

    #[test]
    fn only_the_right_accept_key_opens() {
        let answer = |key| format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {key}\r\n\r\n");
        assert_eq!(judge(Dialect::WebSocket, &answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), Ok(()));
        let wrong = judge(Dialect::WebSocket, &answer("a3pPLMBiTxaQ9kYGzzhZRbK+xOo=")).unwrap_err();
        assert!(wrong.contains("wrong Sec-WebSocket-Accept"), "{wrong}");
    }

    #[test]
    fn a_refusal_names_the_status() {
        let refused = judge(Dialect::Sse, "HTTP/1.1 403 Forbidden\r\n\r\n").unwrap_err();
        assert!(refused.contains("403"), "{refused}");
        let plain = judge(Dialect::Sse, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        assert!(plain.unwrap_err().contains("no text/event-stream"));
    }

    #[test]
    fn a_request_names_path_and_host() {
        let mut request = Vec::new();
        Subscribe::new(Dialect::WebSocket, "a:1").write(&mut request, "/topics/b");
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET /topics/b HTTP/1.1\r\nHost: a:1\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"));
    }
}
