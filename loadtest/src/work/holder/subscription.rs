//! What a session has received of one topic, whatever becomes of its connections.

use crate::load::ledger::{Integrity, Receipt, Track};

/// Number of the first message while none was seen that anything could be expected from.
const UNSEEN: u64 = u64::MAX;

/// One topic of one session.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its number.
    pub(super) topic: usize,
    /// Number of the first message that must come.
    first: u64,
    track: Track,
    /// The place of the last message seen, where one comes back to; bytes, since they are written over.
    place: Option<Box<[u8]>>,
}

impl Subscription {
    /// All that is ever published must come.
    pub(super) fn from_the_start(topic: usize) -> Self {
        Self { topic, first: 0, track: Track::starting_at(0), place: None }
    }

    /// All from the first message on that comes.
    pub(super) fn from_now_on(topic: usize) -> Self {
        Self { first: UNSEEN, ..Self::from_the_start(topic) }
    }

    /// Enters the receipt of message `sequence`.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub(super) fn receive(&mut self, sequence: u64) -> Receipt {
        if self.first == UNSEEN {
            (self.first, self.track) = (sequence, Track::starting_at(sequence));
        }
        self.track.receive(sequence)
    }

    /// `place` is that of the last message seen.
    ///
    /// HOT PATH: once per delivery to sessions that go on where they were. Places of one topic mostly have one length.
    #[inline]
    pub(super) fn reach(&mut self, place: &str) {
        match &mut self.place {
            Some(kept) if kept.len() == place.len() => kept.copy_from_slice(place.as_bytes()),
            kept => *kept = Some(place.as_bytes().into()),
        }
    }

    /// The place of the last message seen.
    pub(super) fn place(&self) -> Option<&str> {
        self.place.as_deref().and_then(|place| std::str::from_utf8(place).ok())
    }

    /// Of the messages below `end`, some haven't come.
    pub(super) fn lacks(&self, end: u64) -> bool {
        self.first != UNSEEN && self.track.lost(end) > 0
    }

    /// The last message below `end` hasn't come, nor any behind it.
    pub(super) fn lacks_the_last(&self, end: u64) -> bool {
        self.first != UNSEEN && self.track.next() < end
    }

    /// Adds what was expected of the messages below `end`, and lost.
    pub(super) fn judge(&self, end: u64, sums: &mut Integrity) {
        if self.first != UNSEEN {
            sums.expected += end.saturating_sub(self.first);
            sums.lost += self.track.lost(end);
        }
    }

    /// The same up to the last message seen: for who leaves.
    pub(super) fn judge_what_was_seen(&self, sums: &mut Integrity) {
        self.judge(self.track.next(), sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(subscription: &Subscription, end: u64) -> (u64, u64) {
        let mut sums = Integrity::default();
        subscription.judge(end, &mut sums);
        (sums.expected, sums.lost)
    }

    #[test]
    fn from_the_start_all_is_expected_and_later_only_what_follows_the_first() {
        let (mut early, mut late) = (Subscription::from_the_start(0), Subscription::from_now_on(0));
        assert_eq!((judged(&early, 5), judged(&late, 5)), ((5, 5), (0, 0)));
        assert!(early.lacks_the_last(5) && !late.lacks_the_last(5) && !late.lacks(5));
        for sequence in [2, 4] {
            early.receive(sequence);
            late.receive(sequence);
        }
        assert_eq!((judged(&early, 6), judged(&late, 6)), ((6, 4), (4, 2)));
        assert!(early.lacks(5) && !early.lacks_the_last(5) && early.lacks_the_last(6));
    }

    #[test]
    fn who_leaves_is_judged_by_what_it_has_seen() {
        let mut subscription = Subscription::from_now_on(0);
        let mut sums = Integrity::default();
        subscription.judge_what_was_seen(&mut sums);
        assert_eq!(sums, Integrity::default());
        subscription.receive(7);
        subscription.receive(9);
        subscription.judge_what_was_seen(&mut sums);
        assert_eq!((sums.expected, sums.lost), (3, 1));
    }

    #[test]
    fn a_place_is_replaced_whatever_its_length() {
        let mut subscription = Subscription::from_the_start(0);
        assert_eq!(subscription.place(), None);
        for place in ["1-9", "2-9", "2-10", "x"] {
            subscription.reach(place);
            assert_eq!(subscription.place(), Some(place));
        }
    }
}
