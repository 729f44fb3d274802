//! One line of a publish request, `{"topic":"bench.0","text":"…"}`: written by the load, read by the baseline.
//!
//! The baseline reads this form alone, and nothing with escapes: to parse JSON is not what it is the floor of.

use std::fmt;

use memchr::memchr2;

/// Most lines that one request may have.
pub const MAX_LINES: usize = 1000;

const OPEN: &[u8] = b"{\"topic\":\"";
const BETWEEN: &[u8] = b"\",\"text\":\"";
const CLOSE: &[u8] = b"\"}";

/// A message to publish, borrowed from the request's body.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it goes.
    pub topic: &'a [u8],
    /// What is delivered.
    pub text: &'a [u8],
}

/// A line that isn't of the fixed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineError {
    /// Its number in the body, from 1.
    line: usize,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} isn't {{\"topic\":\"…\",\"text\":\"…\"}} without escapes", self.line)
    }
}

impl std::error::Error for LineError {}

/// Appends a line whose text `write_text` appends; neither part may need escapes.
pub fn write(out: &mut Vec<u8>, topic: &str, write_text: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(OPEN);
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(BETWEEN);
    write_text(out);
    out.extend_from_slice(CLOSE);
    out.push(b'\n');
}

/// As [`write`], with the key by which a node knows the message again.
pub fn write_keyed(
    out: &mut Vec<u8>,
    topic: &str,
    key: &str,
    write_text: impl FnOnce(&mut Vec<u8>),
) {
    write(out, topic, |out| {
        write_text(out);
        out.extend_from_slice(b"\",\"key\":\"");
        out.extend_from_slice(key.as_bytes());
    });
}

/// The lines of a publish request's body, in order.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    read: usize,
}

impl<'a> Lines<'a> {
    /// Begins at the head of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body, read: 0 }
    }

    fn line(&mut self) -> Option<Line<'a>> {
        let (topic, rest) = string(self.rest.strip_prefix(OPEN)?)?;
        let (text, rest) = string(rest.strip_prefix(BETWEEN)?)?;
        self.rest = match rest.strip_prefix(CLOSE)? {
            [b'\n', rest @ ..] => rest,
            [] => &[],
            _ => return None,
        };
        Some(Line { topic, text })
    }
}

/// What stands before the next quote, which stays in the rest; escapes are refused.
#[inline]
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr2(b'"', b'\\', bytes)?;
    (bytes[end] == b'"').then(|| bytes.split_at(end))
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.read += 1;
        let line = self.line().ok_or(LineError { line: self.read });
        if line.is_err() {
            self.rest = &[];
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut body = Vec::new();
        write(&mut body, "bench.0", |out| out.extend_from_slice(b"one"));
        write(&mut body, "bench.1", |out| out.extend_from_slice(b""));
        let lines: Result<Vec<_>, _> = Lines::new(&body).collect();
        let expected = [(b"bench.0", "one"), (b"bench.1", "")];
        let expected = expected.map(|(topic, text)| Line { topic, text: text.as_bytes() });
        assert_eq!(lines.unwrap(), expected);
    }

    #[test]
    fn a_key_stands_behind_the_text() {
        let mut body = Vec::new();
        write_keyed(&mut body, "bench.0", "k-1", |out| out.extend_from_slice(b"one"));
        assert_eq!(body, b"{\"topic\":\"bench.0\",\"text\":\"one\",\"key\":\"k-1\"}\n");
    }

    #[test]
    fn the_last_line_needs_no_line_feed() {
        let lines: Vec<_> = Lines::new(br#"{"topic":"a","text":"b"}"#).collect();
        assert_eq!(lines, [Ok(Line { topic: b"a", text: b"b" })]);
    }

    #[test]
    fn other_forms_are_refused_with_their_line() {
        let good = "{\"topic\":\"a\",\"text\":\"b\"}\n";
        for bad in [
            "x",
            r#"{"topic":"a","text":"\n"}"#,
            r#"{"topic":"a","data":1}"#,
            r#"{"topic":"a","text":"b"} "#,
        ] {
            let body = format!("{good}{bad}");
            let lines: Vec<_> = Lines::new(body.as_bytes()).skip(1).collect();
            assert_eq!(lines, [Err(LineError { line: 2 })], "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Lines::new(&bytes).count();
        }
    }
}
