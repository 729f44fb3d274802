//! Publishing by `PUBLISH`, or by the node's function that gives messages a place in history, all messages of a request
//! pipelined in one write.

use anyhow::{Context, Result, bail, ensure};

use crate::wire::message_id::MessageId;
use crate::wire::resp::{self, Answer};

/// The answers that are still to come.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    unanswered: usize,
    /// The id that came last, if messages are given any.
    pub(super) last_id: Option<MessageId>,
}

impl Pipeline {
    /// `commands` more are on their way.
    pub(super) fn expect(&mut self, commands: usize) {
        self.unanswered += commands;
    }

    /// Takes the whole answers at the front of `bytes`; says how many bytes they are, and whether none is missing now.
    ///
    /// A message that reached nobody isn't lost on its way: the server that has to hear it isn't subscribed, and
    /// to wait for it would tell less. With history somebody may still come for it.
    pub(super) fn take_answers(&mut self, bytes: &[u8]) -> Result<(usize, bool)> {
        let mut taken = 0;
        while let Some((answer, length)) = resp::parse_answer(&bytes[taken..])? {
            taken += length;
            match answer {
                Answer::Heard(receivers) => ensure!(
                    receivers > 0,
                    "a message was published to a channel without subscribers"
                ),
                Answer::Placed(id) => {
                    let id = MessageId::parse(id).with_context(|| {
                        format!("Redis gave a message the id {}", id.escape_ascii())
                    })?;
                    self.last_id = Some(id);
                }
                Answer::Refused(reason) => {
                    bail!("Redis refused a message: {}", String::from_utf8_lossy(reason))
                }
            }
            ensure!(self.unanswered > 0, "Redis answered more often than it was asked");
            self.unanswered -= 1;
        }
        Ok((taken, self.unanswered == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(expected: usize, answers: &str) -> Result<(usize, bool)> {
        let mut pipeline = Pipeline::default();
        pipeline.expect(expected);
        pipeline.take_answers(answers.as_bytes())
    }

    #[test]
    fn a_pipeline_is_done_when_all_its_answers_are_there() {
        assert_eq!(taken(2, ":1\r\n:2\r").unwrap(), (4, false));
        assert_eq!(taken(2, ":1\r\n:2\r\n").unwrap(), (8, true));
    }

    #[test]
    fn a_message_with_history_gets_an_id_and_needs_nobody() {
        let mut pipeline = Pipeline::default();
        pipeline.expect(1);
        let answer = b"*2\r\n$18\r\n00000000000000ab-7\r\n:0\r\n";
        assert_eq!(pipeline.take_answers(&answer[..20]).unwrap(), (0, false));
        assert_eq!(pipeline.take_answers(answer).unwrap(), (answer.len(), true));
        assert_eq!(pipeline.last_id, Some(MessageId { epoch: 0xab, offset: 7 }));
    }

    #[test]
    fn what_is_not_a_number_of_receivers_is_an_error() {
        for (answers, reason) in [
            (":0\r\n", "without subscribers"),
            ("-NOAUTH Authentication required.\r\n", "NOAUTH"),
            ("+OK\r\n", "something else"),
            (":1\r\n:1\r\n", "more often"),
            ("*2\r\n$1\r\nx\r\n:1\r\n", "the id x"),
        ] {
            let error = taken(1, answers).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
