//! What all ways to publish have in common.

use super::batch::{Batch, Message};
use super::fault::Fault;
use crate::load::target::topic_name;
use crate::wire::payload::Template;

/// How messages become requests, and what answers tell of them. It knows no socket.
pub(super) trait Way {
    /// The first bytes of a connection; what was cut on the last one is forgotten.
    fn greet(&mut self, _out: &mut Vec<u8>) {}

    /// Whether messages may be sent.
    fn is_open(&self) -> bool {
        true
    }

    /// Appends `messages`, the whole batch; says how many requests they are.
    fn write(&mut self, messages: &[Message], template: &mut Template, out: &mut Vec<u8>) -> u64;

    /// Takes whole answers off the front of `bytes` and tells `batch`; appends what must be replied. Says how many
    /// bytes it took.
    fn hear(
        &mut self,
        bytes: &[u8],
        batch: &mut Batch,
        reply: &mut Vec<u8>,
    ) -> Result<usize, Fault>;

    /// The server said that it closes the connection.
    fn is_over(&self) -> bool {
        false
    }

    /// There are no answers: a message is published once the kernel has it.
    fn is_unanswered(&self) -> bool {
        false
    }

    /// What was heard last, where nobody knows what it means.
    fn last_words(&self) -> Option<String> {
        None
    }
}

/// Keys by which a server knows a message again: their names in one run, each for one topic alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    run: u64,
}

impl Keys {
    /// Of a run of its own.
    pub(super) fn new() -> Self {
        Self { run: fastrand::u64(..) }
    }

    /// Of a topic's message of this number.
    pub(super) fn of(self, sequence: u64) -> String {
        format!("{:016x}-{sequence}", self.run)
    }
}

/// What is the same for all messages of a topic, made once.
pub(super) struct ByTopic<T> {
    make: Box<dyn Fn(&str) -> T>,
    made: Vec<T>,
}

impl<T> ByTopic<T> {
    /// `make` is given a topic's name.
    pub(super) fn new(make: impl Fn(&str) -> T + 'static) -> Self {
        Self { make: Box::new(make), made: Vec::new() }
    }

    pub(super) fn of(&mut self, topic: usize) -> &T {
        while self.made.len() <= topic {
            self.made.push((self.make)(&topic_name(self.made.len())));
        }
        &self.made[topic]
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Payloads of the least size.
    fn template() -> Template {
        Template::new(crate::wire::payload::MIN_BYTES).expect("the least size")
    }

    /// `way` sends messages of the topics 0, 1, 0, 1 and so on; says what it wrote.
    pub(in super::super) fn written(way: &mut dyn Way, messages: usize) -> (Batch, String, u64) {
        let mut batch = Batch::default();
        for number in 0..messages {
            let sequence = number as u64 / 2;
            batch.push(Message { topic: number % 2, sequence, due: 5 });
        }
        let mut out = Vec::new();
        let requests = way.write(batch.messages(), &mut template(), &mut out);
        (batch, String::from_utf8_lossy(&out).into_owned(), requests)
    }

    /// What comes of a batch of `messages` when `bytes` are heard in two parts: what was replied, places of messages
    /// that must be sent again, and how many aren't answered.
    pub(in super::super) fn heard(
        way: &mut dyn Way,
        messages: usize,
        bytes: &[u8],
        cut: usize,
    ) -> Result<(Vec<u8>, Vec<u64>, usize), Fault> {
        let mut batch = Batch::default();
        (0..messages as u64).for_each(|due| batch.push(Message { topic: 0, sequence: due, due }));
        way.greet(&mut Vec::new());
        way.write(batch.messages(), &mut template(), &mut Vec::new());
        let (mut reply, mut kept) = (Vec::new(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            kept.extend_from_slice(part);
            let taken = way.hear(&kept, &mut batch, &mut reply)?;
            kept.drain(..taken);
        }
        let unanswered = batch.unanswered();
        batch.settle();
        let again = batch.messages().iter().map(|message| message.sequence).collect();
        Ok((reply, again, unanswered))
    }
}
