//! Chunked transfer coding (RFC 9112 section 7.1), decoded in place and cut anywhere.
//!
//! Most servers send event streams in chunks; a chunk's border means nothing to the stream.

use std::fmt;

/// Longest chunk that is believed: a wrong length must not look like a slow server.
const MAX_CHUNK: u64 = 1 << 30;

/// Where in the coding the bytes so far ended.
#[derive(Debug, Clone, Default)]
pub struct Dechunker {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { sum: u64, digits: bool },
    Extension { size: u64 },
    Content { left: u64 },
    AfterContent,
    Trailer { empty: bool },
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { sum: 0, digits: false }
    }
}

/// Bytes that aren't chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkError {
    byte: u8,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunked body has {:#04x} where its framing should be", self.byte)
    }
}

impl std::error::Error for ChunkError {}

impl Dechunker {
    /// Moves the content in `bytes` to their front and says how much there is.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, ChunkError> {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            if let State::Content { left } = self.state {
                let part = (bytes.len() - from).min(usize::try_from(left).unwrap_or(usize::MAX));
                bytes.copy_within(from..from + part, to);
                (from, to) = (from + part, to + part);
                self.state = State::after(left - part as u64);
            } else {
                self.state = self.state.next(bytes[from])?;
                from += 1;
            }
        }
        Ok(to)
    }

    /// The last chunk and its trailers were seen.
    pub fn finished(&self) -> bool {
        self.state == State::Done
    }
}

impl State {
    fn after(left: u64) -> Self {
        if left == 0 { Self::AfterContent } else { Self::Content { left } }
    }

    fn next(self, byte: u8) -> Result<Self, ChunkError> {
        let next = match (self, byte) {
            (Self::Size { sum, digits: true } | Self::Extension { size: sum }, b'\n') => {
                Self::sized(sum)
            }
            (Self::Size { sum, digits: true }, b'\r' | b';' | b' ' | b'\t') => {
                Self::Extension { size: sum }
            }
            (Self::Size { sum, .. }, _) => {
                Self::with_digit(sum, byte).ok_or(ChunkError { byte })?
            }
            (Self::Extension { .. }, _)
            | (Self::AfterContent | Self::Trailer { empty: true }, b'\r') => self,
            (Self::AfterContent, b'\n') => Self::default(),
            (Self::Trailer { empty: true }, b'\n') => Self::Done,
            (Self::Trailer { .. }, _) => Self::Trailer { empty: byte == b'\n' },
            (Self::AfterContent | Self::Done | Self::Content { .. }, _) => {
                return Err(ChunkError { byte });
            }
        };
        Ok(next)
    }

    fn sized(size: u64) -> Self {
        if size == 0 { Self::Trailer { empty: true } } else { Self::Content { left: size } }
    }

    fn with_digit(sum: u64, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16)?;
        let sum = sum * 16 + u64::from(digit);
        (sum <= MAX_CHUNK).then_some(Self::Size { sum, digits: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(coded: &[u8], cut: usize) -> Result<(Vec<u8>, bool), ChunkError> {
        let mut dechunker = Dechunker::default();
        let mut found = Vec::new();
        for part in [&coded[..cut], &coded[cut..]] {
            let mut part = part.to_vec();
            let length = dechunker.decode(&mut part)?;
            found.extend_from_slice(&part[..length]);
        }
        Ok((found, dechunker.finished()))
    }

    #[test]
    fn the_content_comes_back() {
        let coded = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: z\r\n\r\n";
        assert_eq!(decode(coded, 9), Ok((b"hello world".to_vec(), true)));
        assert_eq!(decode(b"5\r\nhel", 2), Ok((b"hel".to_vec(), false)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for coded in ["x", "\r\n", "5\r\nhelloX", "0\r\n\r\nmore", "FFFFFFFFFFFFFFFFF\r\n"] {
            assert!(decode(coded.as_bytes(), 0).is_err(), "{coded:?}");
        }
    }

    proptest! {
        #[test]
        fn a_body_cut_anywhere_gives_the_same_content(
            parts in prop::collection::vec("[a-z\r\n]{1,40}", 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let chunk = |part: &String| format!("{:x}\r\n{part}\r\n", part.len());
            let coded = parts.iter().map(chunk).collect::<Vec<_>>().concat() + "0\r\n\r\n";
            let cut = cut.index(coded.len() + 1);
            prop_assert_eq!(decode(coded.as_bytes(), cut), Ok((parts.concat().into_bytes(), true)));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes, 0);
        }
    }
}
