//! Publishing at Redis: a command for each message, all of a batch in one write.

use super::batch::{Batch, Message};
use super::fault::Fault;
use super::way::{ByTopic, Keys, Way};
use crate::channels::Channels;
use crate::wire::payload::Template;
use crate::wire::resp::{self, Answer};

/// Beginnings of errors that pass: Redis reads its file, is or becomes a replica, is out of memory, or doesn't know the
/// function until a node has given it to it.
const PASSING: [&[u8]; 13] = [
    b"LOADING",
    b"READONLY",
    b"MASTERDOWN",
    b"CLUSTERDOWN",
    b"TRYAGAIN",
    b"NOREPLICAS",
    b"MISCONF",
    b"BUSY",
    b"OOM",
    b"UNBLOCKED",
    b"ERR max number of clients reached",
    b"ERR Function not found",
    b"ERR Can't execute",
];

/// The commands to one Redis.
pub(super) struct Commands {
    /// How a topic's commands begin.
    heads: ByTopic<String>,
    /// Where Redis keeps what it knows messages by, if it shall; without the keys themselves.
    once: Option<(Keys, ByTopic<String>)>,
}

impl Commands {
    /// By `PUBLISH`, with payloads of `size` bytes.
    pub(super) fn plain(channels: Channels, size: usize) -> Self {
        let head = move |topic: &str| resp::publish_head(&channels.of(topic), size);
        Self { heads: ByTopic::new(head), once: None }
    }

    /// By the node's function, with the history that it takes without being told; once, if there are keys.
    pub(super) fn placed(channels: Channels, size: usize, keys: Option<Keys>) -> Self {
        let Some(keys) = keys else {
            let head = move |topic: &str| resp::placed_head(&channels.of(topic), size);
            return Self { heads: ByTopic::new(head), once: None };
        };
        let same = channels.clone();
        let once = ByTopic::new(move |topic| format!("{{{}}}:once:", same.of(topic)));
        let head = move |topic: &str| resp::once_head(&channels.of(topic));
        Self { heads: ByTopic::new(head), once: Some((keys, once)) }
    }
}

impl Way for Commands {
    fn write(&mut self, messages: &[Message], template: &mut Template, out: &mut Vec<u8>) -> u64 {
        let size = template.size();
        for Message { topic, sequence, due } in messages.iter().copied() {
            let head = self.heads.of(topic);
            let payload = |out: &mut Vec<u8>| template.write(out, sequence, due);
            match &mut self.once {
                None => resp::write_publish(out, head, payload),
                Some((keys, once)) => {
                    let key = once.of(topic).clone() + &keys.of(sequence);
                    resp::write_once(out, head, &key, size, payload);
                }
            }
        }
        1
    }

    fn hear(&mut self, bytes: &[u8], batch: &mut Batch, _: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut taken = 0;
        while let Some((answer, length)) = resp::parse_answer(&bytes[taken..])? {
            taken += length;
            match answer {
                // That nobody hears it is for who awaits it to say: a node that lost its Redis may not be back yet.
                Answer::Heard(_) | Answer::Placed(_) => batch.confirm()?,
                Answer::Refused(reason) => {
                    let text = || format!("Redis refused: {}", String::from_utf8_lossy(reason));
                    if PASSING.iter().any(|passing| reason.starts_with(passing)) {
                        batch.refuse(text)?;
                    } else {
                        return Err(Fault::fatal(text()));
                    }
                }
            }
        }
        Ok(taken)
    }
}
