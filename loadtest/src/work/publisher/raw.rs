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
