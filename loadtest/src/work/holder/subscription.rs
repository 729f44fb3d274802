//! What a session has received of one topic, whatever becomes of its connections.

use super::dues::Dues;
use crate::load::ledger::{Integrity, Receipt, Track};

/// Number of the first message while none was seen that anything could be expected from.
const UNSEEN: u64 = u64::MAX;

/// Not confirmed.
const NEVER: u64 = u64::MAX;
/// What was due so long before a topic was left must have come, in nanoseconds.
const IN_TIME: u64 = 5_000_000_000;

/// One topic of one session.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its number.
    pub(super) topic: usize,
    /// Number of the first message that must come.
    first: u64,
    /// When a server confirmed it, if it was taken later; what is due from then on must come.
    confirmed: u64,
    track: Track,
    /// The place of the last message seen, where one comes back to; bytes, since they are written over.
    place: Option<Box<[u8]>>,
}

impl Subscription {
    /// All that is ever published must come.
    pub(super) fn from_the_start(topic: usize) -> Self {
        Self { topic, first: 0, confirmed: NEVER, track: Track::starting_at(0), place: None }
    }

    /// All from the first message on that comes, or that is due when the subscription is confirmed already.
    pub(super) fn from_now_on(topic: usize) -> Self {
        Self { first: UNSEEN, ..Self::from_the_start(topic) }
    }

    /// Enters the receipt of message `sequence`.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub(super) fn receive(&mut self, sequence: u64) -> Receipt {
        if sequence < self.first && self.first != UNSEEN {
            return Receipt::Reordered;
        }
        if self.first == UNSEEN {
            (self.first, self.track) = (sequence, Track::starting_at(sequence));
        }
        self.track.receive(sequence)
    }

    /// The server has confirmed it, as of `now`.
    pub(super) fn confirm(&mut self, now: u64) {
        self.confirmed = self.confirmed.min(now);
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
    pub(super) fn lacks(&self, end: u64, dues: &Dues) -> bool {
        match self.first {
            UNSEEN => self.owed(u64::MAX, dues).is_some(),
            _ => self.track.lost(end) > 0,
        }
    }

    /// The last message below `end` hasn't come, nor any behind it.
    pub(super) fn lacks_the_last(&self, end: u64) -> bool {
        self.first != UNSEEN && self.track.next() < end
    }

    /// Adds what was expected of the messages below `end`, and lost.
    pub(super) fn judge(&self, end: u64, dues: &Dues, sums: &mut Integrity) {
        self.judge_until(end, u64::MAX, dues, sums);
    }

    /// The same for who leaves at `now`: up to the last message seen, or the last that must have come.
    pub(super) fn judge_left(&self, now: u64, dues: &Dues, sums: &mut Integrity) {
        let in_time = now.saturating_sub(IN_TIME);
        let seen = if self.first == UNSEEN { 0 } else { self.track.next() };
        self.judge_until(seen.max(dues.end(self.topic, in_time)), in_time, dues, sums);
    }

    /// Counts of the messages below `end` those from the first that came, or that was due before `to` and is owed.
    fn judge_until(&self, end: u64, to: u64, dues: &Dues, sums: &mut Integrity) {
        let first = self.first.min(self.owed(to, dues).unwrap_or(UNSEEN));
        sums.expected += end.saturating_sub(first);
        sums.lost += match self.first {
            UNSEEN => end.saturating_sub(first),
            seen => seen - first + self.track.lost(end),
        };
    }

    /// The first message due before `to` that must come since the subscription was confirmed before it was due.
    fn owed(&self, to: u64, dues: &Dues) -> Option<u64> {
        let confirmed = Some(self.confirmed).filter(|at| *at != NEVER);
        confirmed.and_then(|at| dues.first(self.topic, at, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(subscription: &Subscription, end: u64) -> (u64, u64) {
        let mut sums = Integrity::default();
        subscription.judge(end, &Dues::default(), &mut sums);
        (sums.expected, sums.lost)
    }

    #[test]
    fn from_the_start_all_is_expected_and_later_only_what_follows_the_first() {
        let (mut early, mut late) = (Subscription::from_the_start(0), Subscription::from_now_on(0));
        assert_eq!((judged(&early, 5), judged(&late, 5)), ((5, 5), (0, 0)));
        assert!(
            early.lacks_the_last(5) && !late.lacks_the_last(5) && !late.lacks(5, &Dues::default())
        );
        for sequence in [2, 4] {
            early.receive(sequence);
            late.receive(sequence);
        }
        assert_eq!((judged(&early, 6), judged(&late, 6)), ((6, 4), (4, 2)));
        assert!(
            early.lacks(5, &Dues::default()) && !early.lacks_the_last(5) && early.lacks_the_last(6)
        );
    }

    #[test]
    fn who_leaves_is_judged_by_what_it_has_seen() {
        let mut subscription = Subscription::from_now_on(0);
        let mut sums = Integrity::default();
        subscription.judge_left(1, &Dues::default(), &mut sums);
        assert_eq!(sums, Integrity::default());
        subscription.receive(7);
        subscription.receive(9);
        assert_eq!(subscription.receive(6), Receipt::Reordered);
        subscription.judge_left(1, &Dues::default(), &mut sums);
        assert_eq!((sums.expected, sums.lost), (3, 1));
    }

    #[test]
    fn what_is_due_behind_the_confirmation_must_come() {
        let mut dues = Dues::default();
        for sequence in 0..10 {
            dues.enter(0, sequence, (sequence + 1) * IN_TIME);
        }
        let mut subscription = Subscription::from_now_on(0);
        let counts = |subscription: &Subscription, left: Option<u64>| {
            let mut sums = Integrity::default();
            match left {
                Some(now) => subscription.judge_left(now, &dues, &mut sums),
                None => subscription.judge(10, &dues, &mut sums),
            }
            (sums.expected, sums.lost)
        };
        assert_eq!(counts(&subscription, None), (0, 0), "it isn't confirmed");
        // From number 3 on.
        subscription.confirm(3 * IN_TIME + 1);
        subscription.confirm(9 * IN_TIME);
        assert_eq!(counts(&subscription, None), (7, 7));
        assert!(subscription.lacks(10, &dues));
        // Number 5 was due 6 times that long after the begin.
        assert_eq!(counts(&subscription, Some(7 * IN_TIME)), (2, 2));
        assert_eq!(counts(&subscription, Some(7 * IN_TIME + 1)), (3, 3));
        assert_eq!(counts(&subscription, Some(4 * IN_TIME)), (0, 0));
        subscription.receive(5);
        assert_eq!(counts(&subscription, None), (7, 6));
        assert_eq!(counts(&subscription, Some(7 * IN_TIME)), (3, 2));
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
