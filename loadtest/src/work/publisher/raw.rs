//! Publishing by a script's words over TCP.

use memchr::memmem;

use super::batch::{Batch, Message};
use super::fault::Fault;
use super::text::Text;
use super::way::{ByTopic, Way};
use crate::wire::payload::Template;

/// So many of the last bytes that were heard are kept to be quoted.
const LAST_WORDS: usize = 120;

/// The words to one server.
pub(super) struct Raw {
    open: String,
    messages: ByTopic<Text>,
    /// What the server says to each message; empty: nothing.
    expect: String,
    /// What was heard last.
    heard: Vec<u8>,
}

impl Raw {
    /// `message` is said for each, whose payload has `size` bytes. What the server says to `open` is not told apart from
    /// what it says to messages.
    pub(super) fn new(open: &str, message: &str, expect: &str, size: usize) -> Self {
        let message = message.to_owned();
        Self {
            open: open.to_owned(),
            messages: ByTopic::new(move |topic| Text::new(&message, topic, size)),
            expect: expect.to_owned(),
            heard: Vec::new(),
        }
    }
}

impl Way for Raw {
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.heard.clear();
        out.extend_from_slice(self.open.as_bytes());
    }

    fn write(&mut self, messages: &[Message], template: &mut Template, out: &mut Vec<u8>) -> u64 {
        for Message { topic, sequence, due } in messages.iter().copied() {
            self.messages.of(topic).write(out, |out| template.write(out, sequence, due));
        }
        1
    }

    fn hear(&mut self, bytes: &[u8], batch: &mut Batch, _: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut taken = bytes.len();
        if !self.is_unanswered() {
            let mut end = 0;
            for at in memmem::find_iter(bytes, &self.expect) {
                batch.confirm()?;
                end = at + self.expect.len();
            }
            // Its beginning may be there already.
            taken = end.max((bytes.len() + 1).saturating_sub(self.expect.len()));
        }
        self.heard.extend_from_slice(&bytes[..taken]);
        self.heard.drain(..self.heard.len().saturating_sub(LAST_WORDS));
        Ok(taken)
    }

    fn is_unanswered(&self) -> bool {
        self.expect.is_empty()
    }

    fn last_words(&self) -> Option<String> {
        (!self.heard.is_empty()).then(|| self.heard.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::way::testing::{heard, written};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_said_at_the_begin_and_for_each_message() {
        let mut raw = Raw::new("CONNECT\r\n", "PUB {topic} {bytes}\r\n{payload}\r\n", "", 38);
        let mut out = Vec::new();
        raw.greet(&mut out);
        assert_eq!(out, b"CONNECT\r\n");
        let (_, text, _) = written(&mut raw, 2);
        let begins: Vec<_> = text.lines().step_by(2).collect();
        assert_eq!(begins, ["PUB bench.0 38", "PUB bench.1 38"]);
    }

    #[test]
    fn without_an_expectation_nothing_heard_confirms() {
        let mut raw = Raw::new("", "{payload}", "", 38);
        assert!(raw.is_unanswered());
        let (_, _, unanswered) = heard(&mut raw, 2, b"INFO {}\r\n-ERR no\r\n", 3).unwrap();
        assert_eq!(unanswered, 2);
        assert!(raw.last_words().unwrap().ends_with("-ERR no\\r\\n"));
    }

    proptest! {
        #[test]
        fn each_expected_word_confirms_one_wherever_it_is_cut(
            between in prop::collection::vec("[a-z\r\n]{0,9}", 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let said = between.join("+OK\r\n");
            let cut = cut.index(said.len() + 1);
            let mut raw = Raw::new("", "{payload}", "+OK\r\n", 38);
            let (_, again, unanswered) = heard(&mut raw, 7, said.as_bytes(), cut).unwrap();
            prop_assert_eq!((again.len(), unanswered), (0, 8 - between.len()));
        }
    }
}
