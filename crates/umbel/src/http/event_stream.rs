//! The head of an SSE stream.

use std::fmt::Write as _;

use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use umbel_protocol::SessionId;

use super::Answer;
use crate::session::SessionBody;

/// Proxies must neither keep the stream nor change it.
const HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store, no-transform"),
    ("x-accel-buffering", "no"),
];

/// The head as it goes over HTTP/1. It has neither a length nor chunks: the stream lasts until the
/// connection ends (RFC 9112 section 6.3).
pub(super) fn head(session: SessionId, further_lines: &[u8]) -> Vec<u8> {
    let mut head = String::with_capacity(256);
    head.push_str("HTTP/1.1 200 OK\r\nconnection: close\r\n");
    for (name, value) in HEADERS {
        head.extend([name, ": ", value, "\r\n"]);
    }
    write!(head, "umbel-session: {session}\r\n").expect("a string takes all text");
    [head.as_bytes(), further_lines, b"\r\n"].concat()
}

/// The answer whose body is the stream, for HTTP/2.
pub(super) fn answer(session: SessionId, body: SessionBody) -> Answer {
    let mut answer = Response::new(body.into());
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let session = HeaderValue::from_str(&session.to_string()).expect("an id is hexadecimal digits");
    headers.insert(HeaderName::from_static("umbel-session"), session);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_that_of_an_event_stream_without_a_length() {
        let head = String::from_utf8(head(SessionId(0xab), b"vary: Origin\r\n")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nconnection: close\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
        assert!(
            head.ends_with("\r\numbel-session: 00000000000000ab\r\nvary: Origin\r\n\r\n"),
            "{head}"
        );
    }
}
