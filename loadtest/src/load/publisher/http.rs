//! Publishing by `POST` with one JSON object per line.

use std::borrow::Cow;

use anyhow::{Result, bail};
use memchr::memmem;

use crate::load::target::Place;
use crate::wire::chunked::Dechunker;
use crate::wire::message_id::MessageId;
use crate::wire::publish_results;
use crate::wire::response::{self, BodyLength, Head};

/// So many bytes of an answer are quoted when it is a refusal.
const QUOTED: usize = 200;

/// The requests to one place.
#[derive(Debug)]
pub(super) struct Post {
    /// The request up to the value of its last header, the content's length.
    head: String,
    /// The id of the last message that was answered, if it has one.
    pub(super) last_id: Option<MessageId>,
}

impl Post {
    pub(super) fn new(place: &Place) -> Self {
        let Place { path, host, .. } = place;
        Self {
            head: format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\nContent-Length: "
            ),
            last_id: None,
        }
    }

    /// Appends the request whose body is `lines`, which are taken.
    pub(super) fn write(&self, out: &mut Vec<u8>, lines: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(format!("{}\r\n\r\n", lines.len()).as_bytes());
        out.append(lines);
    }

    /// Length of the answer at the beginning of `bytes`, which must be a good one, or `None` while it is cut. There is
    /// nothing behind it, since at most one request is under way.
    pub(super) fn take_answer(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some(head) = response::parse(bytes)? else {
            return Ok(None);
        };
        let Some((body, _)) = body_of(&head, bytes)? else {
            return Ok(None);
        };
        check(head.status, &body)?;
        self.last_id = publish_results::last_id(&body);
        Ok(Some(bytes.len()))
    }
}

/// The body of the whole answer at the beginning of `bytes`, and the answer's length, or `None` while it is cut.
pub(crate) fn body_of<'a>(head: &Head, bytes: &'a [u8]) -> Result<Option<(Cow<'a, [u8]>, usize)>> {
    match head.body {
        BodyLength::Fixed(length) => {
            let end = head.taken.saturating_add(length);
            Ok(bytes.get(head.taken..end).map(|body| (body.into(), end)))
        }
        BodyLength::Chunked => {
            let (mut dechunker, mut body) = (Dechunker::default(), Vec::new());
            // One by one, since another answer may be behind it.
            for (at, byte) in bytes.iter().enumerate().skip(head.taken) {
                let mut byte = [*byte];
                let length = dechunker.decode(&mut byte)?;
                body.extend_from_slice(&byte[..length]);
                if dechunker.finished() {
                    return Ok(Some((body.into(), at + 1)));
                }
            }
            Ok(None)
        }
        BodyLength::UntilClose => bail!("server's answer to a publish request has no length"),
    }
}

/// A message that isn't taken would look like a lost one.
fn check(status: u16, body: &[u8]) -> Result<()> {
    let error = memmem::find(body, b"\"error\":");
    if status == 200 && error.is_none() {
        return Ok(());
    }
    let start = error.map_or(0, |at| memchr::memrchr(b'\n', &body[..at]).map_or(0, |end| end + 1));
    let end = body.len().min(start + QUOTED);
    let quoted = String::from_utf8_lossy(&body[start..end]);
    bail!(
        "server refused messages with status {status}: {}",
        quoted.lines().next().unwrap_or("no reason given")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answer: &str) -> Result<Option<String>> {
        let head = response::parse(answer.as_bytes())?.unwrap();
        let body = body_of(&head, answer.as_bytes())?;
        Ok(body.map(|(body, length)| {
            assert_eq!(length, answer.len());
            String::from_utf8_lossy(&body).into_owned()
        }))
    }

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let fixed = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert_eq!(taken(&format!("{fixed}ab")).unwrap(), None);
        assert_eq!(taken(&format!("{fixed}abc")).unwrap().as_deref(), Some("abc"));
        assert_eq!(taken(chunked).unwrap(), None);
        assert_eq!(taken(&format!("{chunked}0\r\n\r\n")).unwrap().as_deref(), Some("abc"));
        assert!(taken("HTTP/1.1 200 OK\r\n\r\nabc").is_err());
    }

    #[test]
    fn an_answer_ends_where_the_next_begins() {
        for framed in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{framed}");
            let both = answer.repeat(2);
            let head = response::parse(both.as_bytes()).unwrap().unwrap();
            let (body, length) = body_of(&head, both.as_bytes()).unwrap().unwrap();
            assert_eq!((&*body, length), (b"abc".as_slice(), answer.len()));
        }
    }

    #[test]
    fn the_last_message_s_id_is_kept() {
        let place = Place {
            address: "127.0.0.1:1".parse().unwrap(),
            host: "x".to_owned(),
            path: "/publish".to_owned(),
        };
        let mut post = Post::new(&place);
        let line = |id: &str| format!("{{\"topic\":\"a\",\"id\":{id}}}\n");
        let id = "\"00000000000000ab-7\"";
        for (ids, last) in [([id, "null"], None), (["null", id], Some("00000000000000ab-7"))] {
            let body = ids.map(line).concat();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let answer = head + &body;
            assert_eq!(post.take_answer(answer.as_bytes()).unwrap(), Some(answer.len()));
            assert_eq!(post.last_id.map(|id| id.to_string()).as_deref(), last);
        }
    }

    #[test]
    fn a_refused_line_is_quoted() {
        assert!(check(200, b"{\"topic\":\"a\",\"id\":null}\n").is_ok());
        let refused = b"{\"topic\":\"a\",\"id\":null}\n{\"topic\":\"b\",\"error\":\"no\"}\n{}\n";
        let error = check(200, refused).unwrap_err().to_string();
        assert!(error.ends_with("200: {\"topic\":\"b\",\"error\":\"no\"}"), "{error}");
        let error = check(503, b"").unwrap_err().to_string();
        assert!(error.contains("503: no reason given"), "{error}");
    }
}
