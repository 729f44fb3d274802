//! The body of an answer as it comes: its end may be that of the connection, but behind a proxy it has a
//! length or is in chunks (RFC 9112 section 6.3).

use crate::Answer;

/// Takes the framing off, whatever pieces the bytes come in.
#[derive(Debug)]
pub(crate) enum Body {
    /// All until the connection ends.
    Open,
    /// So many bytes are still to come.
    Length(usize),
    /// Chunks, of which one is being read.
    Chunked(Chunk),
}

/// Where in a body of chunks we are (RFC 9112 section 7.1).
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// A size line that isn't complete.
    line: Vec<u8>,
    /// How much of the present chunk is still to come.
    left: usize,
    /// Whether it was the last.
    is_last: bool,
}

impl Body {
    /// The body behind a head.
    pub(crate) fn behind(head: &Answer) -> Self {
        match head.header("content-length") {
            Some(length) => Self::Length(length.parse().unwrap()),
            None if head.header("transfer-encoding") == Some("chunked") => {
                Self::Chunked(Chunk::default())
            }
            None => Self::Open,
        }
    }

    /// What of the bytes that came is the body's.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Open => bytes.to_owned(),
            Self::Length(left) => {
                let here = &bytes[..bytes.len().min(*left)];
                *left -= here.len();
                here.to_owned()
            }
            Self::Chunked(chunk) => chunk.feed(bytes),
        }
    }

    /// Whether nothing more of it comes, though the connection may go on.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Length(left) => *left == 0,
            Self::Chunked(chunk) => chunk.is_last,
        }
    }
}

impl Chunk {
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        while !bytes.is_empty() && !self.is_last {
            if self.left > 0 {
                let (here, rest) = bytes.split_at(self.left.min(bytes.len()));
                body.extend_from_slice(here);
                self.left -= here.len();
                bytes = rest;
            } else {
                self.line.push(bytes[0]);
                bytes = &bytes[1..];
                self.end_line();
            }
        }
        body
    }

    /// Reads the size line if it is complete. An empty one is the end of the chunk before.
    fn end_line(&mut self) {
        if let Some(line) = self.line.strip_suffix(b"\r\n") {
            if !line.is_empty() {
                let size = std::str::from_utf8(line).unwrap();
                self.left = usize::from_str_radix(size, 16).unwrap();
                self.is_last = self.left == 0;
            }
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_in_any_pieces_and_ends() {
        let headers = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (headers, bytes) in [
            (headers("content-length", "6"), &b"abcdefHTTP/1.1"[..]),
            (headers("transfer-encoding", "chunked"), b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"),
        ] {
            let head = Answer { status: 200, headers, body: Vec::new() };
            for size in 1..=bytes.len() {
                let mut body = Body::behind(&head);
                assert!(!body.is_complete());
                let whole: Vec<u8> = bytes.chunks(size).flat_map(|part| body.feed(part)).collect();
                assert_eq!(whole, b"abcdef", "in pieces of {size}");
                assert!(body.is_complete());
            }
        }
    }
}
