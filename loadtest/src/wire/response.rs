//! Heads of HTTP/1.1 responses (RFC 9112 section 4), as far as a load needs them.

use std::fmt;

use crate::wire::accept_key::AcceptKey;

/// Longest head that is waited for.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// How the end of a response's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// After so many bytes.
    Fixed(usize),
    /// In chunks.
    Chunked,
    /// When the server closes.
    UntilClose,
}

/// What was found in a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Bytes of the head, its empty line included.
    pub taken: usize,
    /// How long the body is.
    pub body: BodyLength,
    /// `Sec-WebSocket-Accept`, if it has the right length.
    pub accept: Option<AcceptKey>,
    /// The body is `text/event-stream`.
    pub event_stream: bool,
    /// The server closes the connection behind it.
    pub closes: bool,
}

/// A head that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadError(Fault);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Syntax(httparse::Error),
    TooLong,
    ContentLength,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Syntax(error) => write!(f, "response head can't be read: {error}"),
            Fault::TooLong => write!(f, "response head is longer than {MAX_HEAD} bytes"),
            Fault::ContentLength => f.write_str("response has a Content-Length that is no number"),
        }
    }
}

impl std::error::Error for HeadError {}

/// The head at the beginning of `bytes`, or `None` while it is cut.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => Head::new(&response, taken).map(Some),
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => Err(HeadError(Fault::TooLong)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(HeadError(Fault::Syntax(error))),
    }
}

impl Head {
    fn new(response: &httparse::Response<'_, '_>, taken: usize) -> Result<Self, HeadError> {
        let mut head = Self {
            status: response.code.unwrap_or(0),
            taken,
            body: BodyLength::UntilClose,
            accept: None,
            event_stream: false,
            closes: false,
        };
        for header in response.headers.iter() {
            head.add(header)?;
        }
        Ok(head)
    }

    fn add(&mut self, header: &httparse::Header<'_>) -> Result<(), HeadError> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && self.body != BodyLength::Chunked {
            self.body = BodyLength::Fixed(number(header.value)?);
        } else if is("transfer-encoding") && ends_with(header.value, b"chunked") {
            self.body = BodyLength::Chunked;
        } else if is("sec-websocket-accept") {
            self.accept = header.value.try_into().ok();
        } else if is("content-type") {
            self.event_stream = begins_with(header.value, b"text/event-stream");
        } else if is("connection") {
            self.closes = header.value.eq_ignore_ascii_case(b"close");
        }
        Ok(())
    }
}

fn number(value: &[u8]) -> Result<usize, HeadError> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.trim().parse().ok()).ok_or(HeadError(Fault::ContentLength))
}

fn begins_with(value: &[u8], start: &[u8]) -> bool {
    let head = value.get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn ends_with(value: &[u8], end: &[u8]) -> bool {
    let value = value.trim_ascii_end();
    let at = value.len().checked_sub(end.len());
    at.is_some_and(|at| value[at..].eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn an_upgrade_among_other_headers() {
        let text = "HTTP/1.1 101 Switching Protocols\r\nServer: x\r\nupgrade: websocket\r\n\
                    SEC-WEBSOCKET-ACCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nxy";
        let head = head(text);
        assert_eq!((head.status, head.taken), (101, text.len() - 2));
        assert_eq!(head.accept, Some(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn the_body_ends_where_the_headers_say() {
        let cases = [
            ("Content-Length: 12\r\n", BodyLength::Fixed(12)),
            ("Transfer-Encoding: gzip, Chunked\r\n", BodyLength::Chunked),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", BodyLength::Chunked),
            ("Connection: close\r\n", BodyLength::UntilClose),
        ];
        for (headers, body) in cases {
            assert_eq!(head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).body, body);
        }
    }

    #[test]
    fn an_event_stream_is_known_by_its_type() {
        let typed =
            |value: &str| head(&format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\n\r\n"));
        assert!(typed("text/event-stream").event_stream);
        assert!(typed("Text/Event-Stream; charset=utf-8").event_stream);
        assert!(!typed("text/plain").event_stream);
    }

    #[test]
    fn an_end_behind_the_answer_is_announced() {
        let with = |headers: &str| head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).closes;
        assert!(with("connection: Close\r\n"));
        assert!(!with("Connection: keep-alive\r\n") && !with(""));
    }

    #[test]
    fn an_endless_head_is_refused() {
        let text = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(MAX_HEAD));
        assert_eq!(parse(text.as_bytes()), Err(HeadError(Fault::TooLong)));
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn a_head_cut_anywhere_waits_for_the_rest(
            headers in prop::collection::vec(("[A-Za-z]{1,9}", "[a-z0-9]{0,20}"), 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let header = |(name, value): &(String, String)| format!("x-{name}: {value}\r\n");
            let headers = headers.iter().map(header).collect::<Vec<_>>().concat();
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
            prop_assert_eq!(parse(&text.as_bytes()[..cut.index(text.len())]), Ok(None));
            prop_assert_eq!(head(&text).taken, text.len());
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
