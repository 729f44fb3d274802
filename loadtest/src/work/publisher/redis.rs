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

#[cfg(test)]
mod tests {
    use super::super::way::testing::{heard, written};
    use super::*;
    use proptest::prelude::*;

    fn channels() -> Channels {
        Channels { address: ([127, 0, 0, 1], 1).into(), prefix: "p:".to_owned() }
    }

    fn plain() -> Commands {
        Commands::plain(channels(), 38)
    }

    #[test]
    fn a_call_with_a_key_names_where_it_is_kept() {
        let keys = Keys::new();
        let (_, text, requests) = written(&mut Commands::placed(channels(), 38, Some(keys)), 3);
        assert_eq!((requests, text.matches("umbel_publish").count()), (1, 3));
        for (topic, sequence) in [(0, 0), (1, 0), (0, 1)] {
            let key = format!("{{p:bench.{topic}}}:once:{}", keys.of(sequence));
            assert!(text.contains(&format!("\r\n${}\r\n{key}\r\n$38\r\n", key.len())), "{text}");
        }
        let (_, text, _) = written(&mut Commands::placed(channels(), 38, None), 1);
        assert!(text.contains("\r\n1\r\n$9\r\np:bench.0\r\n$38\r\n"), "{text}");
        let (_, text, _) = written(&mut plain(), 1);
        assert!(text.starts_with("*3\r\n$7\r\nPUBLISH\r\n$9\r\np:bench.0\r\n$38\r\n"), "{text}");
    }

    #[test]
    fn what_redis_cannot_now_is_told_from_what_it_never_will() {
        for passing in ["LOADING x", "READONLY x", "ERR Function not found", "OOM x"] {
            let answers = format!(":0\r\n-{passing}\r\n:1\r\n");
            let (_, again, unanswered) = heard(&mut plain(), 3, answers.as_bytes(), 0).unwrap();
            assert_eq!((again, unanswered), (vec![1], 0), "{passing}");
        }
        for error in ["NOAUTH x", "NOPERM x", "WRONGTYPE x", "UMBELKEY x", "ERR x"] {
            let fault = heard(&mut plain(), 1, format!("-{error}\r\n").as_bytes(), 0).unwrap_err();
            let Fault::Final(reason) = fault else { panic!("{fault:?}") };
            assert_eq!(reason, format!("Redis refused: {error}"));
        }
        for nonsense in ["+OK\r\n", ":1\r\n:1\r\n"] {
            let fault = heard(&mut plain(), 1, nonsense.as_bytes(), 0).unwrap_err();
            assert!(matches!(fault, Fault::Lost(_)), "{fault:?}");
        }
    }

    proptest! {
        #[test]
        fn answers_cut_anywhere_say_the_same(cut in any::<prop::sample::Index>()) {
            let answers = b":1\r\n*2\r\n$4\r\nab-1\r\n:0\r\n-LOADING x\r\n:0\r\n";
            let cut = cut.index(answers.len() + 1);
            let (_, again, unanswered) = heard(&mut plain(), 5, answers, cut).unwrap();
            prop_assert_eq!((again, unanswered), (vec![2], 1));
        }
    }
}
