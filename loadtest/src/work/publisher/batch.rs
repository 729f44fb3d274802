//! The messages of one batch, and what became of each: answers come in the order of the messages.

use super::fault::Fault;

/// A message to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: usize,
    /// Its number in the topic, from 0.
    pub(super) sequence: u64,
    /// When it was due, by [`clock::nanos`](crate::load::clock::nanos).
    pub(super) due: u64,
}

/// Messages that were sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<Message>,
    /// So many of the first are answered.
    answered: usize,
    /// Those that must be sent again, in order.
    again: Vec<Message>,
    /// Why, at last.
    reason: Option<String>,
    /// Due times of those that were confirmed since they were taken last.
    confirmed: Vec<u64>,
    /// How many are sent again although they may have been published.
    doubtful: u64,
}

impl Batch {
    /// Nothing of it is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many aren't confirmed.
    pub(super) fn outstanding(&self) -> usize {
        self.messages.len() - self.answered + self.again.len()
    }

    /// Adds a message, before anything is sent.
    pub(super) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// What is to be sent, or was.
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The place of the message whose answer comes next.
    pub(super) fn next(&self) -> usize {
        self.answered
    }

    /// How many answers are still to come.
    pub(super) fn unanswered(&self) -> usize {
        self.messages.len() - self.answered
    }

    /// The next message was published.
    pub(super) fn confirm(&mut self) -> Result<(), Fault> {
        let message = self.answer()?;
        self.confirmed.push(message.due);
        Ok(())
    }

    /// All that isn't answered was published.
    pub(super) fn confirm_all(&mut self) {
        let rest = &self.messages[self.answered..];
        self.confirmed.extend(rest.iter().map(|message| message.due));
        self.answered = self.messages.len();
    }

    /// The next message was not published, for a reason that passes.
    pub(super) fn refuse(&mut self, reason: impl FnOnce() -> String) -> Result<(), Fault> {
        let message = self.answer()?;
        self.again.push(message);
        self.reason = Some(reason());
        Ok(())
    }

    /// As [`refuse`](Self::refuse), but it may have been published all the same.
    pub(super) fn doubt(&mut self, reason: impl FnOnce() -> String) -> Result<(), Fault> {
        self.doubtful += 1;
        self.refuse(reason)
    }

    /// The connection is gone: what isn't answered is sent again, and may have been published.
    pub(super) fn lose(&mut self, reason: &str) {
        while self.unanswered() > 0 && self.doubt(|| reason.to_owned()).is_ok() {}
    }

    fn answer(&mut self) -> Result<Message, Fault> {
        let message = self.messages.get(self.answered).copied();
        let message =
            message.ok_or_else(|| Fault::lost("it answered more often than it was asked"))?;
        self.answered += 1;
        Ok(message)
    }

    /// Once all are answered: what must be sent again becomes the batch; says why it must, if it must.
    pub(super) fn settle(&mut self) -> Option<String> {
        self.messages.clear();
        self.messages.append(&mut self.again);
        self.answered = 0;
        self.reason.take()
    }

    /// Due times of what was confirmed since the last call.
    pub(super) fn take_confirmed(&mut self) -> impl Iterator<Item = u64> {
        self.confirmed.drain(..)
    }

    /// How many were doubtful since the last call.
    pub(super) fn take_doubtful(&mut self) -> u64 {
        std::mem::take(&mut self.doubtful)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(messages: u64) -> Batch {
        let mut batch = Batch::default();
        for sequence in 0..messages {
            batch.push(Message { topic: 0, sequence, due: 100 + sequence });
        }
        batch
    }

    #[test]
    fn only_what_failed_is_left_and_in_order() {
        let mut batch = batch(4);
        batch.refuse(|| "no".to_owned()).unwrap();
        batch.confirm().unwrap();
        assert_eq!((batch.outstanding(), batch.unanswered(), batch.next()), (3, 2, 2));
        batch.lose("gone");
        assert!(batch.confirm().is_err(), "all are answered");
        assert_eq!(batch.settle().as_deref(), Some("gone"));
        let left: Vec<_> = batch.messages().iter().map(|message| message.sequence).collect();
        assert_eq!(left, [0, 2, 3]);
        assert_eq!(batch.take_confirmed().collect::<Vec<_>>(), [101]);
        assert_eq!((batch.take_doubtful(), batch.take_doubtful()), (2, 0));
        batch.confirm_all();
        assert_eq!((batch.outstanding(), batch.take_confirmed().count()), (0, 3));
        assert_eq!(batch.settle(), None);
        assert!(batch.is_empty());
    }
}
