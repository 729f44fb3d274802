//! The three requests that the baseline knows.

use crate::wire::message_id::MessageId;

const MAX_HEADERS: usize = 32;

/// A whole request, borrowed from what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// `GET /topics/{topic}` with an upgrade.
    WebSocket { topic: &'a [u8], key: &'a [u8] },
    /// `GET /topics/{topic}`, and the id that was seen last.
    Sse { topic: &'a [u8], after: Option<MessageId> },
    /// `POST /publish`.
    Publish { body: &'a [u8] },
    /// Anything else, or not HTTP.
    Unknown,
}

/// What the headers say that matters here.
#[derive(Default)]
struct Wanted<'a> {
    key: Option<&'a [u8]>,
    after: Option<MessageId>,
    content_length: usize,
}

/// The request at the beginning of `bytes` and its length, or `None` while it is cut.
pub(super) fn parse(bytes: &[u8]) -> Option<(Request<'_>, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => whole(&request, bytes, head),
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some((Request::Unknown, bytes.len())),
    }
}

fn whole<'a>(
    request: &httparse::Request<'_, 'a>,
    bytes: &'a [u8],
    head: usize,
) -> Option<(Request<'a>, usize)> {
    let wanted = wanted(request.headers);
    let end = head.checked_add(wanted.content_length)?;
    let body = bytes.get(head..end)?;
    let topic = |path: &'a str| path.strip_prefix("/topics/").map(str::as_bytes);
    let request = match (request.method?, request.path?) {
        ("POST", "/publish") => Request::Publish { body },
        ("GET", path) => match (topic(path), wanted.key) {
            (Some(topic), Some(key)) => Request::WebSocket { topic, key },
            (Some(topic), None) => Request::Sse { topic, after: wanted.after },
            (None, _) => Request::Unknown,
        },
        _ => Request::Unknown,
    };
    Some((request, end))
}

fn wanted<'a>(headers: &[httparse::Header<'a>]) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    for header in headers {
        if header.name.eq_ignore_ascii_case("sec-websocket-key") {
            wanted.key = Some(header.value);
        } else if header.name.eq_ignore_ascii_case("last-event-id") {
            wanted.after = MessageId::parse(header.value);
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            wanted.content_length = text.parse().unwrap_or_default();
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_requests_that_are_known() {
        let cases = [
            (
                "GET /topics/a HTTP/1.1\r\nSec-WebSocket-Key: k\r\n\r\n",
                Request::WebSocket { topic: b"a", key: b"k" },
            ),
            (
                "GET /topics/a HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n",
                Request::Sse { topic: b"a", after: None },
            ),
            (
                "GET /topics/a HTTP/1.1\r\nLast-Event-ID: 00000000000000ab-7\r\n\r\n",
                Request::Sse { topic: b"a", after: Some(MessageId { epoch: 0xab, offset: 7 }) },
            ),
            (
                "POST /publish HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
                Request::Publish { body: b"hi" },
            ),
            ("GET / HTTP/1.1\r\n\r\n", Request::Unknown),
            ("DELETE /publish HTTP/1.1\r\n\r\n", Request::Unknown),
            ("not HTTP at all\r\n\r\n", Request::Unknown),
        ];
        for (text, request) in cases {
            assert_eq!(parse(text.as_bytes()), Some((request, text.len())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_request_cut_anywhere_waits_for_the_rest(body in "[a-z]{0,40}", cut in any::<prop::sample::Index>()) {
            let length = body.len();
            let text = format!("POST /publish HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
            prop_assert_eq!(parse(&text.as_bytes()[..cut.index(text.len())]), None);
            let whole = (Request::Publish { body: body.as_bytes() }, text.len());
            let pipelined = text.clone() + "POST";
            prop_assert_eq!(parse(pipelined.as_bytes()), Some(whole));
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
