//! Where the messages to publish come from.

use std::io::{self, BufRead, Read as _};

use bytes::Bytes;

use super::{Failure, MAX_MESSAGE_BYTES};

/// What `umbel publish` publishes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// One message from the command line.
    Given(Vec<u8>),
    /// All of the standard input as one message.
    Whole,
    /// Each line of the standard input, without its line feed.
    Lines,
}

impl Input {
    /// The messages in order. Lines are read one by one, so that each is published as it comes.
    pub(crate) fn messages(
        self,
        mut source: impl BufRead,
    ) -> impl Iterator<Item = Result<Bytes, Failure>> {
        let mut first = true;
        std::iter::from_fn(move || match &self {
            Self::Lines => next_line(&mut source, MAX_MESSAGE_BYTES).transpose(),
            _ if !std::mem::take(&mut first) => None,
            Self::Given(message) => Some(Ok(Bytes::copy_from_slice(message))),
            Self::Whole => Some(whole(&mut source, MAX_MESSAGE_BYTES)),
        })
    }
}

fn whole(source: &mut impl BufRead, limit: usize) -> Result<Bytes, Failure> {
    let mut message = Vec::new();
    // One more than allowed shows that there is more.
    source.take(limit as u64 + 1).read_to_end(&mut message).map_err(Failure::Input)?;
    bounded(message, limit)
}

fn next_line(source: &mut impl BufRead, limit: usize) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    match read_line(source, limit, &mut line).map_err(Failure::Input)? {
        0 => return Ok(None),
        _ if line.ends_with(b"\n") => drop(line.pop()),
        _ => {}
    }
    bounded(line, limit).map(Some)
}

fn read_line(source: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<usize> {
    // One for the line feed and one that shows that there is more.
    source.take(limit as u64 + 2).read_until(b'\n', line)
}

fn bounded(message: Vec<u8>, limit: usize) -> Result<Bytes, Failure> {
    if message.len() > limit {
        return Err(Failure::TooLong { limit });
    }
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: Input, source: &[u8]) -> Vec<Vec<u8>> {
        input.messages(source).map(|message| message.unwrap().to_vec()).collect()
    }

    #[test]
    fn the_whole_input_is_one_message_to_the_last_byte() {
        assert_eq!(read(Input::Whole, b"a\nb\n"), [b"a\nb\n"]);
        assert_eq!(read(Input::Whole, b""), [b""]);
        assert_eq!(read(Input::Given(b"x\n".to_vec()), b"unread"), [b"x\n"]);
    }

    #[test]
    fn each_line_is_a_message_an_empty_one_too() {
        assert_eq!(read(Input::Lines, b"a\n\nb\r\n\xff"), [&b"a"[..], b"", b"b\r", b"\xff"]);
        assert_eq!(read(Input::Lines, b""), [b""; 0]);
    }

    #[test]
    fn what_is_too_long_is_refused_without_being_read_whole() {
        assert_eq!(whole(&mut &b"1234"[..], 4).unwrap(), &b"1234"[..]);
        assert!(matches!(whole(&mut &b"12345"[..], 4), Err(Failure::TooLong { limit: 4 })));
        let mut lines = &b"1234\n12345678"[..];
        assert_eq!(next_line(&mut lines, 4).unwrap().unwrap(), &b"1234"[..]);
        assert!(matches!(next_line(&mut lines, 4), Err(Failure::TooLong { limit: 4 })));
        assert_eq!(lines, b"78", "no more was read than shows it");
    }
}
