//! The recent frames of one topic in one dialect.
//!
//! The bytes of all frames lie in one vector, so that whatever a subscription is behind by is one
//! slice. Frames have consecutive sequence numbers; a position is the number of the next frame to
//! write. Whether a log is kept at all, and which frames still matter, is the lane's business.

use std::collections::VecDeque;

use umbel_protocol::{Position, SessionId};

use crate::wait::{Kind, Subject};

/// Frames from `first` on, in order, contiguous.
#[derive(Debug, Default)]
pub(crate) struct Log {
    bytes: Vec<u8>,
    /// What all frames that ever left the front had in bytes: `Entry::end` counts from there.
    trimmed: u64,
    entries: VecDeque<Entry>,
    first: u64,
    /// What its deliveries are told apart by.
    kind: Kind,
    /// The first frame's.
    oldest: Subject,
    /// Whether any frame has an origin that must not hear it.
    has_origins: bool,
    /// Whether there are neither origins nor notices.
    is_simple: bool,
    /// Which frames are notices, in order: they tell of the topic and are no messages.
    notices: VecDeque<u64>,
    /// Where the topic stood before the first frame and after each, if anybody may ask.
    positions: Option<Positions>,
    /// Trim when the bytes reach this, so that looking for the slowest is paid for by appending.
    trim_at: usize,
}

#[derive(Debug)]
struct Entry {
    /// Where the frame ends, in bytes since the log began.
    end: u64,
    subject: Subject,
    origin: Option<SessionId>,
}

#[derive(Debug)]
struct Positions {
    before: Position,
    after: VecDeque<Position>,
}

/// What lies between a position and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// The first frame's.
    pub(crate) subject: Subject,
    /// Of all frames, those that the session must not hear included.
    pub(crate) bytes: usize,
}

/// How far a write went into one subscription's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The next frame to write.
    pub(crate) position: u64,
    /// How much of that frame is written.
    pub(crate) partial: u32,
    /// How many frames were completed.
    pub(crate) delivered: u64,
    /// How many of the session's own frames were passed over.
    pub(crate) own: u64,
    /// How many of the written bytes are used up.
    pub(crate) used: usize,
}

/// The least growth between two looks for the slowest subscription, in bytes.
const TRIM_STEP: usize = 64 * 1024;

/// A log whose buffer grew beyond this isn't kept for the next topic.
const KEEP_CAPACITY: usize = 64 * 1024;

impl Log {
    /// Makes an empty log whose next frame is `first`, keeping the allocations. It keeps positions
    /// if it is told where the topic stands.
    pub(crate) fn restart(&mut self, kind: Kind, first: u64, stand: Option<Position>) {
        self.kind = kind;
        self.bytes.clear();
        self.entries.clear();
        self.trimmed = 0;
        self.first = first;
        self.has_origins = false;
        self.is_simple = true;
        self.notices.clear();
        self.positions = stand.map(|before| Positions { before, after: VecDeque::new() });
        self.trim_at = TRIM_STEP;
    }

    /// Takes note where the topic stands after the frame that was appended last.
    pub(crate) fn reached(&mut self, position: Position) {
        if let Some(positions) = &mut self.positions {
            // Frames without a place of their own, such as messages without an id, don't move it.
            let last = positions.after.back().copied().unwrap_or(positions.before);
            let frames = self.entries.len();
            positions.after.resize(frames.saturating_sub(1), last);
            positions.after.push_back(position);
        }
    }

    /// Where the topic stood before the frame at `position`, if the log keeps that.
    pub(crate) fn stood_before(&self, position: u64) -> Option<Position> {
        let positions = self.positions.as_ref()?;
        let frames = self.index_of(position).min(positions.after.len());
        Some(match frames.checked_sub(1) {
            Some(last) => positions.after[last],
            None => positions.before,
        })
    }

    /// The bytes of the frame at `position`.
    pub(crate) fn frame(&self, position: u64) -> &[u8] {
        self.rest_of_frame(position, 0)
    }

    /// Appends the frame that `encode` writes.
    pub(crate) fn append(
        &mut self,
        published: u64,
        origin: Option<SessionId>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        encode(&mut self.bytes);
        let subject = Subject::new(published, self.kind);
        if self.entries.is_empty() {
            self.oldest = subject;
        }
        self.has_origins |= origin.is_some();
        self.is_simple &= origin.is_none();
        self.entries.push_back(Entry {
            end: self.trimmed + self.bytes.len() as u64,
            subject,
            origin,
        });
    }

    /// Appends a notice.
    pub(crate) fn append_notice(&mut self, published: u64, encode: impl FnOnce(&mut Vec<u8>)) {
        self.notices.push_back(self.end());
        self.is_simple = false;
        self.append(published, None, encode);
    }

    /// The newest frame, if it is a notice.
    pub(crate) fn newest_notice(&self) -> Option<u64> {
        let newest = self.end().checked_sub(1)?;
        self.is_notice(newest).then_some(newest)
    }

    /// How many of the frames from `from` up to `to` are messages.
    pub(crate) fn messages_between(&self, from: u64, to: u64) -> u64 {
        if self.notices.is_empty() {
            return to - from;
        }
        let before = |position| self.notices.partition_point(|notice| *notice < position) as u64;
        (to - from) - (before(to) - before(from))
    }

    /// The newest frame that is a message.
    pub(crate) fn newest_message(&self) -> Option<u64> {
        (self.first..self.end()).rev().find(|position| !self.is_notice(*position))
    }

    /// Whether the frame at `position` is a notice.
    pub(crate) fn is_notice(&self, position: u64) -> bool {
        self.notices.binary_search(&position).is_ok()
    }

    /// The number of the frame that will be appended next.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// How many bytes lie between `position` and the end.
    pub(crate) fn bytes_from(&self, position: u64) -> usize {
        self.bytes.len() - self.start_of(position)
    }

    /// How many bytes the frame at `position` has.
    pub(crate) fn frame_len(&self, position: u64) -> usize {
        self.start_of(position + 1) - self.start_of(position)
    }

    /// What a write that begins at `position` is noted by.
    pub(crate) fn subject(&self, position: u64) -> Subject {
        self.entries[self.index_of(position)].subject
    }

    /// What lies ahead of a subscription.
    ///
    /// HOT PATH: once per session and batch.
    #[allow(clippy::inline_always, reason = "a call would cost as much again")]
    #[inline(always)]
    pub(crate) fn ahead_of(&self, position: u64) -> Ahead {
        // Most are given all that there is.
        if position == self.first {
            return Ahead { subject: self.oldest, bytes: self.bytes.len() };
        }
        Ahead { subject: self.subject(position), bytes: self.bytes_from(position) }
    }

    /// Whether all frames are messages that every session hears.
    pub(crate) fn is_simple(&self) -> bool {
        self.is_simple
    }

    /// What the allocations take, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        let positions = self.positions.as_ref().map_or(0, |positions| positions.after.capacity());
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + positions * size_of::<Position>()
    }

    /// Whether the allocations are small enough to keep for another topic.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.capacity() <= KEEP_CAPACITY
    }

    /// Whether it has grown enough since the last [`Log::trim`] to look for the slowest again.
    pub(crate) fn wants_trim(&self) -> bool {
        self.bytes.len() >= self.trim_at
    }

    /// Forgets the frames before `slowest`.
    pub(crate) fn trim(&mut self, slowest: u64) {
        let cut = self.start_of(slowest);
        if let Some(before) = self.stood_before(slowest)
            && let Some(positions) = &mut self.positions
        {
            let gone = usize::try_from(slowest - self.first).unwrap_or(usize::MAX);
            positions.after.drain(..gone.min(positions.after.len()));
            positions.before = before;
        }
        self.entries.drain(..self.index_of(slowest));
        self.oldest = self.entries.front().map_or_else(Subject::default, |entry| entry.subject);
        self.bytes.drain(..cut);
        self.trimmed += cut as u64;
        self.first = slowest;
        while self.notices.front().is_some_and(|notice| *notice < slowest) {
            self.notices.pop_front();
        }
        self.trim_at = self.bytes.len() + TRIM_STEP.max(self.bytes.len() / 4);
        if self.bytes.capacity() > 4 * self.trim_at {
            self.bytes.shrink_to(self.trim_at);
        }
    }

    /// Gives back what the allocations hold beyond twice their need.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        if self.entries.capacity() > 2 * self.entries.len() {
            self.entries.shrink_to_fit();
        }
        if let Some(positions) = &mut self.positions
            && positions.after.capacity() > 2 * positions.after.len()
        {
            positions.after.shrink_to_fit();
        }
    }

    /// What remains of the frame at `position` of which `partial` bytes are written.
    pub(crate) fn rest_of_frame(&self, position: u64, partial: u32) -> &[u8] {
        &self.bytes[self.start_of(position) + partial as usize..self.start_of(position + 1)]
    }

    /// The newest position from which at most `keep` bytes lie before the end.
    pub(crate) fn position_within(&self, keep: usize) -> u64 {
        let from = self.trimmed + (self.bytes.len() - keep.min(self.bytes.len())) as u64;
        // The first frame that begins at or behind `from`.
        let before = if from == self.trimmed {
            0
        } else {
            self.entries.partition_point(|entry| entry.end < from) + 1
        };
        self.first + before as u64
    }

    /// The slices to write for a subscription: one, unless it must not hear some of the frames.
    ///
    /// HOT PATH: once per session and batch.
    pub(crate) fn runs(&self, position: u64, partial: u32, session: SessionId) -> Runs<'_> {
        Runs { log: self, position, partial, session }
    }

    /// Where a subscription stands after `written` bytes of its runs were written. [`Log::ahead_of`]
    /// knows it sooner where all was written of a log that [is simple](Log::is_simple).
    pub(crate) fn step(
        &self,
        position: u64,
        partial: u32,
        session: SessionId,
        written: usize,
    ) -> Step {
        let mut step = Step { position, partial, delivered: 0, own: 0, used: 0 };
        while step.position < self.end() {
            if self.is_own(step.position, session) {
                step.own += 1;
            } else {
                let rest = self.frame_len(step.position) - step.partial as usize;
                let left = written - step.used;
                if left < rest {
                    step.partial += u32::try_from(left)
                        .expect("less than a frame, whose length is bounded far below 4 GiB");
                    step.used = written;
                    break;
                }
                step.used += rest;
                step.delivered += u64::from(!self.is_notice(step.position));
            }
            step.partial = 0;
            step.position += 1;
        }
        step
    }

    /// Whether the frame at `position` is a message that the session sent and must not hear.
    pub(crate) fn is_own(&self, position: u64, session: SessionId) -> bool {
        self.has_origins && self.entries[self.index_of(position)].origin == Some(session)
    }

    fn index_of(&self, position: u64) -> usize {
        usize::try_from(position - self.first)
            .expect("a position is within the log, which is in memory")
    }

    /// Where the frame at `position` begins in `bytes`; at the end, where the next one would.
    fn start_of(&self, position: u64) -> usize {
        match self.index_of(position) {
            0 => 0,
            index => {
                usize::try_from(self.entries[index - 1].end - self.trimmed).expect("within `bytes`")
            }
        }
    }
}

/// The slices between a position and the end, without the frames that the session sent itself.
#[derive(Debug, Clone)]
pub(crate) struct Runs<'l> {
    log: &'l Log,
    position: u64,
    partial: u32,
    session: SessionId,
}

impl<'l> Iterator for Runs<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        let log = self.log;
        let end = log.end();
        if !log.has_origins {
            let start = log.start_of(self.position) + std::mem::take(&mut self.partial) as usize;
            self.position = end;
            return Some(&log.bytes[start..]).filter(|run| !run.is_empty());
        }
        while self.position < end && log.is_own(self.position, self.session) {
            self.position += 1;
        }
        let start = log.start_of(self.position) + std::mem::take(&mut self.partial) as usize;
        while self.position < end && !log.is_own(self.position, self.session) {
            self.position += 1;
        }
        Some(&log.bytes[start..log.start_of(self.position)]).filter(|run| !run.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: SessionId = SessionId(1);

    fn log_of(frames: &[(&str, Option<SessionId>)]) -> Log {
        let mut log = Log::default();
        log.restart(Kind::default(), 10, None);
        for (at, (frame, origin)) in frames.iter().enumerate() {
            log.append(at as u64, *origin, |out| {
                out.extend_from_slice(frame.as_bytes());
            });
        }
        log
    }

    fn text(runs: Runs<'_>) -> Vec<&str> {
        runs.map(|run| std::str::from_utf8(run).unwrap()).collect()
    }

    #[test]
    fn what_a_subscription_is_behind_by_is_one_slice() {
        let log = log_of(&[("aa", None), ("b", None), ("cccc", None)]);
        assert_eq!(text(log.runs(10, 0, ME)), ["aabcccc"]);
        assert_eq!(text(log.runs(11, 0, ME)), ["bcccc"]);
        assert_eq!(text(log.runs(12, 3, ME)), ["c"]);
        assert_eq!(text(log.runs(13, 0, ME)), [""; 0]);
    }

    #[test]
    fn own_frames_are_left_out() {
        let me = Some(ME);
        let log = log_of(&[
            ("a", me),
            ("b", None),
            ("c", Some(SessionId(2))),
            ("d", me),
            ("e", None),
            ("f", me),
        ]);
        assert_eq!(text(log.runs(10, 0, ME)), ["bc", "e"]);
        assert_eq!(text(log.runs(10, 0, SessionId(3))), ["abcdef"]);
        let step = log.step(10, 0, ME, 3);
        assert_eq!((step.position, step.delivered, step.own, step.used), (16, 3, 3, 3));
        let step = log.step(10, 0, ME, 2);
        assert_eq!((step.position, step.delivered, step.own, step.used), (14, 2, 2, 2));
    }

    #[test]
    fn the_newest_position_within_a_budget_is_a_frame_s_start() {
        let log = log_of(&[("aaaa", None), ("bb", None), ("cccc", None)]);
        for (keep, position) in
            [(0, 13), (3, 13), (4, 12), (5, 12), (6, 11), (9, 11), (10, 10), (99, 10)]
        {
            assert_eq!(log.position_within(keep), position, "{keep}");
        }
        let mut trimmed = log;
        trimmed.trim(11);
        for (keep, position) in [(0, 13), (4, 12), (6, 11), (99, 11)] {
            assert_eq!(trimmed.position_within(keep), position, "{keep}");
        }
    }

    proptest! {
        /// However writes are cut, and whatever is trimmed meanwhile, the pieces are the frames.
        #[test]
        fn cut_writes_add_up(
            frames in prop::collection::vec(("[a-z]{1,9}", prop::option::of(0..3_u64)), 1..12),
            cuts in prop::collection::vec(0..12_usize, 0..40),
        ) {
            let frames: Vec<_> = frames.iter().map(|(f, o)| (f.as_str(), o.map(SessionId))).collect();
            let mut log = log_of(&frames);
            let expected: String = frames.iter().filter(|(_, origin)| *origin != Some(ME)).map(|(f, _)| *f).collect();
            let (mut position, mut partial, mut got, mut delivered) = (10, 0, String::new(), 0);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let all = text(log.runs(position, partial, ME)).concat();
                let written = cut.min(all.len());
                got.push_str(&all[..written]);
                let step = log.step(position, partial, ME, written);
                prop_assert_eq!(step.used, written);
                (position, partial) = (step.position, step.partial);
                delivered += step.delivered;
                log.trim(position);
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(position, log.end());
            prop_assert_eq!(delivered, frames.iter().filter(|(_, origin)| *origin != Some(ME)).count() as u64);
        }
    }
}
