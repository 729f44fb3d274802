//! Where the messages to publish come from.

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::{Failure, MAX_MESSAGE_BYTES};

/// What `umbel publish` publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// One message from the command line.
    Given(Bytes),
    /// All of the standard input as one message.
    Whole,
    /// Each line of the standard input, without its line feed.
    Lines,
}

/// The messages of an input, in order.
#[derive(Debug)]
pub(crate) struct Messages<S> {
    /// `None` once the only message was given.
    input: Option<Input>,
    source: S,
}

impl<S: AsyncBufRead + Unpin> Messages<S> {
    /// Reads from `source` if the input isn't given.
    pub(crate) fn new(input: Input, source: S) -> Self {
        Self { input: Some(input), source }
    }

    /// The next message. Lines are read one by one, so that each can be published as it comes.
    ///
    /// Not cancel safe: what was read of a message is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.input.take() {
            None => Ok(None),
            Some(Input::Given(message)) => Ok(Some(message)),
            Some(Input::Whole) => whole(&mut self.source, MAX_MESSAGE_BYTES).await.map(Some),
            Some(Input::Lines) => {
                self.input = Some(Input::Lines);
                next_line(&mut self.source, MAX_MESSAGE_BYTES).await
            }
        }
    }
}

async fn whole(source: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Result<Bytes, Failure> {
    let mut message = Vec::new();
    // One more than allowed shows that there is more.
    source.take(limit as u64 + 1).read_to_end(&mut message).await.map_err(Failure::Input)?;
    bounded(message, limit)
}

async fn next_line(
    source: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    // One for the line feed and one that shows that there is more.
    let mut reading = source.take(limit as u64 + 2);
    let read = reading.read_until(b'\n', &mut line).await.map_err(Failure::Input)?;
    if line.ends_with(b"\n") {
        line.pop();
    }
    if read == 0 { Ok(None) } else { bounded(line, limit).map(Some) }
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

    async fn read(input: Input, source: &[u8]) -> Vec<Bytes> {
        let mut messages = Messages::new(input, source);
        let mut read = Vec::new();
        while let Some(message) = messages.next().await.unwrap() {
            read.push(message);
        }
        read
    }

    #[tokio::test]
    async fn the_whole_input_is_one_message_to_the_last_byte() {
        assert_eq!(read(Input::Whole, b"a\nb\n").await, ["a\nb\n"]);
        assert_eq!(read(Input::Whole, b"").await, [""]);
        assert_eq!(read(Input::Given("x\n".into()), b"unread").await, ["x\n"]);
    }

    #[tokio::test]
    async fn each_line_is_a_message_an_empty_one_too() {
        let lines = read(Input::Lines, b"a\n\nb\r\n\xff").await;
        assert_eq!(lines, [&b"a"[..], b"", b"b\r", b"\xff"]);
        assert!(read(Input::Lines, b"").await.is_empty());
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_without_being_read_whole() {
        assert_eq!(whole(&mut &b"1234"[..], 4).await.unwrap(), "1234");
        let failure = whole(&mut &b"12345"[..], 4).await.unwrap_err();
        assert!(matches!(failure, Failure::TooLong { limit: 4 }));
        let mut lines = &b"1234\n12345678"[..];
        assert_eq!(next_line(&mut lines, 4).await.unwrap().unwrap(), "1234");
        let failure = next_line(&mut lines, 4).await.unwrap_err();
        assert!(matches!(failure, Failure::TooLong { limit: 4 }));
        assert_eq!(lines, b"78", "no more was read than shows it");
    }
}
