//! Frames that sessions were left with a part of: each is kept once for all who are to get its rest.
//!
//! A crowd that stalls together stands in few frames. When their positions move on, the rest of the
//! frame must still leave before anything else; a copy for each of them would be as large as what
//! the logs save.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::Segment;
use crate::encoding::Encoding;
use crate::keys::TopicKey;

/// The frames, as long as somebody is to get a rest.
#[derive(Debug, Default)]
pub(crate) struct CutFrames {
    /// Those for further sessions that stand in them, the newest last.
    recent: VecDeque<(Cut, Rc<Segment>)>,
    held: Held,
}

/// Which frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) topic: TopicKey,
    pub(crate) encoding: Encoding,
    pub(crate) position: u64,
}

/// What all of them take in memory, in bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Rc<Cell<usize>>);

/// One frame's part in that.
#[derive(Debug)]
pub(crate) struct Part {
    held: Held,
    bytes: usize,
}

/// How many frames are remembered.
const RECENT: usize = 8;

impl CutFrames {
    /// The frame as one copy for all who stand in it; `bytes` are its own.
    pub(crate) fn frame(&mut self, cut: Cut, bytes: &[u8]) -> Rc<Segment> {
        if let Some((_, frame)) = self.recent.iter().find(|(known, _)| *known == cut) {
            return frame.clone();
        }
        let frame = Rc::new(Segment::of_frame(bytes, self.held.part(bytes.len())));
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((cut, frame.clone()));
        frame
    }

    /// Forgets the frames of a lane that is no more: another may get its name and begin its numbers
    /// anew.
    pub(crate) fn forget_lane(&mut self, topic: TopicKey, encoding: Encoding) {
        self.recent.retain(|(cut, _)| (cut.topic, cut.encoding) != (topic, encoding));
    }

    /// Forgets all that nobody is to get the rest of any more.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }

    /// What they take in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.held.0.get()
    }
}

impl Held {
    fn part(&self, bytes: usize) -> Part {
        self.0.set(self.0.get() + bytes);
        Part { held: self.clone(), bytes }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.held.0.set(self.held.0.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::Dialect;

    fn cut(position: u64) -> Cut {
        let encoding = Encoding { dialect: Dialect::Plain, without_id: false, default_event: None };
        Cut { topic: TopicKey::new(0), encoding, position }
    }

    #[test]
    fn a_frame_is_kept_once_and_as_long_as_somebody_has_it() {
        let mut frames = CutFrames::default();
        let first = frames.frame(cut(1), b"abc");
        let second = frames.frame(cut(1), b"abc");
        assert!(Rc::ptr_eq(&first, &second));
        let _other = frames.frame(cut(2), b"de");
        assert_eq!(frames.bytes(), 5);
        frames.forget();
        assert_eq!(frames.bytes(), 5, "sessions have them");
        drop((first, second));
        assert_eq!(frames.bytes(), 2);
    }

    #[test]
    fn a_lane_s_frames_go_with_it() {
        let mut frames = CutFrames::default();
        let before = frames.frame(cut(1), b"abc");
        frames.forget_lane(TopicKey::new(0), cut(1).encoding);
        let after = frames.frame(cut(1), b"xyz");
        assert!(!Rc::ptr_eq(&before, &after));
    }
}
