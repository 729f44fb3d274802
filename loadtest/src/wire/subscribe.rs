//! The requests that open a subscription, and how a server's answer to one is judged.

use std::fmt;

use crate::wire::accept_key::{AcceptKey, accept_key};
use crate::wire::response::Head;
use crate::wire::{frame, object};

/// The wire protocol of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Each message is one WebSocket text frame.
    WebSocket,
    /// Each message is one block of an event stream.
    Sse,
    /// WebSocket too; each message is an object, and topics are subscribed by a command.
    Json,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE",
            Self::Json => "JSON",
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
    /// The id that sessions have seen last.
    after: Option<String>,
    /// Lines of requests beyond those that all have, each with its end.
    headers: String,
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
        Self {
            dialect,
            host: host.to_owned(),
            accept: accept_key(KEY.as_bytes()),
            after: None,
            headers: String::new(),
        }
    }

    /// Requests have this header, `Name: value`, too.
    pub fn add_header(&mut self, header: &str) {
        self.headers.push_str(header);
        self.headers.push_str("\r\n");
    }

    /// From now on sessions want all behind the message of this id.
    pub fn go_on_after(&mut self, id: String) {
        self.after = Some(id);
    }

    /// Appends the request for `path`.
    pub fn write(&self, out: &mut Vec<u8>, path: &str) {
        self.write_from(out, path, self.after.as_deref());
    }

    /// Appends the request for `path` of a session that has seen all up to the message of id `after`; where requests
    /// have no place for it, that is left out.
    pub fn write_from(&self, out: &mut Vec<u8>, path: &str, after: Option<&str>) {
        let Self { host, headers, .. } = self;
        let request = match self.dialect {
            Dialect::WebSocket | Dialect::Json => format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
            ),
            Dialect::Sse => {
                let after = after.map(|id| format!("Last-Event-ID: {id}\r\n"));
                format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{headers}{}\r\n",
                    after.unwrap_or_default()
                )
            }
        };
        out.extend_from_slice(request.as_bytes());
    }

    /// What is sent once a session is open, for the dialect whose request names no topic.
    pub fn command(&self, topic: &str) -> Option<Vec<u8>> {
        if self.dialect != Dialect::Json {
            return None;
        }
        let command = match &self.after {
            Some(id) => object::subscribe_after(topic, id),
            None => object::subscribe_to(std::iter::once(topic.to_owned())),
        };
        let mut out = Vec::new();
        frame::write_client(&mut out, frame::TEXT, command.as_bytes());
        Some(out)
    }

    /// Whether `head` opens the subscription.
    pub fn judge(&self, head: &Head) -> Result<(), Refused> {
        let opened = match self.dialect {
            Dialect::WebSocket | Dialect::Json => {
                head.status == 101 && head.accept == Some(self.accept)
            }
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

    #[test]
    fn a_request_has_the_headers_that_were_added() {
        for dialect in [Dialect::WebSocket, Dialect::Sse] {
            let mut subscribe = Subscribe::new(dialect, "a:1");
            subscribe.add_header("X: y");
            subscribe.add_header("Z: w");
            let mut out = Vec::new();
            subscribe.write_from(&mut out, "/b", None);
            assert!(out.ends_with(b"\r\nX: y\r\nZ: w\r\n\r\n"), "{}", out.escape_ascii());
        }
    }

    #[test]
    fn who_comes_back_says_where_it_was() {
        let asked = |dialect| {
            let (mut subscribe, mut out) = (Subscribe::new(dialect, "a:1"), Vec::new());
            subscribe.go_on_after("ab-1".to_owned());
            subscribe.write(&mut out, "/x");
            out.extend(subscribe.command("b").unwrap_or_default());
            String::from_utf8_lossy(&out).into_owned()
        };
        let sse = asked(Dialect::Sse);
        assert!(sse.ends_with("Accept: text/event-stream\r\nLast-Event-ID: ab-1\r\n\r\n"), "{sse}");
        let json = asked(Dialect::Json);
        assert!(json.ends_with(r#"{"op":"subscribe","topic":"b","after":"ab-1"}"#), "{json}");
        assert_eq!(Subscribe::new(Dialect::Sse, "").command("b"), None);
    }
}
