//! The recent messages of one topic, framed for who comes back: what it missed is one slice of them.

use crate::wire::event_stream;
use crate::wire::message_id::MessageId;

/// One life is all that a floor has.
const EPOCH: u64 = 1;

/// At least as many messages as are to be kept, at most twice as many.
#[derive(Debug)]
pub(super) struct Kept {
    most: usize,
    /// Event-stream blocks with their ids, one behind the other.
    blocks: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
    /// Offset of the last message; the first has 1.
    last: u64,
}

impl Kept {
    /// Keeps the last `most` messages.
    pub(super) fn new(most: usize) -> Self {
        Self { most, blocks: Vec::new(), starts: Vec::new(), last: 0 }
    }

    /// Adds a message; says its id.
    pub(super) fn push(&mut self, text: &[u8]) -> MessageId {
        if self.starts.len() == self.most * 2 {
            self.drop_first(self.most);
        }
        self.last += 1;
        let id = MessageId { epoch: EPOCH, offset: self.last };
        self.starts.push(self.blocks.len());
        self.blocks.extend_from_slice(format!("id: {id}\n").as_bytes());
        event_stream::write_message(&mut self.blocks, text);
        id
    }

    fn drop_first(&mut self, messages: usize) {
        let cut = self.starts.get(messages).copied().unwrap_or(self.blocks.len());
        self.blocks.drain(..cut);
        self.starts.drain(..messages);
        self.starts.iter_mut().for_each(|start| *start -= cut);
    }

    /// The block of the last message.
    pub(super) fn last_block(&self) -> &[u8] {
        self.starts.last().map_or(&[], |start| &self.blocks[*start..])
    }

    /// The blocks of all that is kept behind the message of `id`.
    pub(super) fn behind(&self, id: MessageId) -> &[u8] {
        let missed = usize::try_from(self.last.saturating_sub(id.offset)).unwrap_or(usize::MAX);
        let first = self.starts.len().saturating_sub(missed);
        self.starts.get(first).map_or(&[], |start| &self.blocks[*start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(blocks: &[u8]) -> Vec<String> {
        let (mut taken, mut texts) = (0, Vec::new());
        while let Some(block) = event_stream::parse(&blocks[taken..]) {
            taken += block.taken;
            texts.extend(block.data.map(|data| String::from_utf8_lossy(&data).into_owned()));
        }
        texts
    }

    #[test]
    fn who_comes_back_gets_what_is_behind_its_place() {
        let mut kept = Kept::new(3);
        let mut ids = Vec::new();
        for number in 1..=20_u64 {
            ids.push(kept.push(number.to_string().as_bytes()));
            assert_eq!(texts(kept.last_block()), [number.to_string()]);
            for missed in 0..number.min(3) {
                let expected: Vec<_> =
                    (number - missed + 1..=number).map(|n| n.to_string()).collect();
                let place = MessageId { epoch: EPOCH, offset: number - missed };
                assert_eq!(texts(kept.behind(place)), expected);
            }
        }
        assert!(ids.windows(2).all(|pair| pair[1].follows(pair[0])));
        assert!(texts(kept.behind(MessageId { epoch: EPOCH, offset: 0 })).len() >= 3);
        assert_eq!(kept.behind(MessageId { epoch: EPOCH, offset: 99 }), b"");
    }

    #[test]
    fn an_empty_topic_has_nothing_to_give() {
        let kept = Kept::new(3);
        assert_eq!(
            (kept.behind(MessageId { epoch: EPOCH, offset: 0 }), kept.last_block()),
            (&b""[..], &b""[..])
        );
    }
}
