//! What the hub counts: plain numbers, read by the worker that owns it.

/// Counts since the hub was made, and one peak since it was last asked for.
///
/// `expected = delivered + skipped (all reasons) + what is still to be written`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// What topics of each tag have, by [`Tag::index`].
    pub by_tag: [TagTally; Tag::COUNT],
    /// Frames that a subscription was not given, by [`Skipped::index`].
    pub skipped: [u64; Skipped::COUNT],
    /// Frames of history written whole, which nobody expected.
    pub replayed: u64,
    /// Writes, whatever was in them.
    pub writes: u64,
    /// What these had in bytes.
    pub written_bytes: u64,
    /// Frames in which binary travels as text.
    pub base64: u64,
    /// Gaps told, or for the plain dialect counted.
    pub gaps: u64,
    /// What the logs take in memory, in bytes.
    pub log_bytes: usize,
    /// The most bytes that a session was found behind by since [`crate::Hub::take_furthest`].
    pub furthest: usize,
}

/// What the topics of one [`Tag`] have, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TagTally {
    /// Messages that were fanned out.
    pub fanned_out: u64,
    /// Frames × subscriptions at the time of their fan-out.
    pub expected: u64,
    /// Frames written whole.
    pub delivered: u64,
}

/// By what the caller has the messages of topics counted apart: one of a small closed set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tag(u8);

impl Tag {
    /// How many there are.
    pub const COUNT: usize = 21;

    /// The tag of this number; whatever is beyond the last is the last.
    #[allow(clippy::cast_possible_truncation, reason = "it is below COUNT")]
    pub fn new(number: usize) -> Self {
        Self(number.min(Self::COUNT - 1) as u8)
    }

    /// A place in [`Tally::by_tag`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a subscription wasn't given a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Skipped {
    /// Slow consumer under the policy `drop`.
    SlowDrop,
    /// Slow consumer under the policy `latest`.
    SlowLatest,
    /// The subscription ended before the frame was written.
    Ended,
    /// The session's own message, of which it asked for no echo.
    Own,
    /// The subscription was too far behind and reads on from the topic's history.
    CatchUp,
}

impl Skipped {
    /// How many reasons there are.
    pub const COUNT: usize = 5;

    /// All of them, in the order of [`Skipped::index`].
    pub const ALL: [Self; Self::COUNT] =
        [Self::SlowDrop, Self::SlowLatest, Self::Ended, Self::Own, Self::CatchUp];

    /// A place in [`Tally::skipped`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The reason as metrics see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowDrop => "slow_drop",
            Self::SlowLatest => "slow_latest",
            Self::Ended => "ended",
            Self::Own => "own",
            Self::CatchUp => "catch_up",
        }
    }
}

impl Tally {
    pub(crate) fn skip(&mut self, reason: Skipped, frames: u64) {
        self.skipped[reason.index()] += frames;
    }

    /// Frames × subscriptions at the time of their fan-out, over all tags.
    pub fn expected(&self) -> u64 {
        self.by_tag.iter().map(|tag| tag.expected).sum()
    }

    /// Frames written whole, over all tags.
    pub fn delivered(&self) -> u64 {
        self.by_tag.iter().map(|tag| tag.delivered).sum()
    }

    /// Frames that are fanned out and neither written nor skipped yet.
    pub fn in_flight(&self) -> u64 {
        self.expected() - self.delivered() - self.skipped.iter().sum::<u64>()
    }
}
