//! What a subscription has received, by sequence number: loss, doubles and order.

use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

/// The sequence numbers that one (session, topic) has received.
#[derive(Debug, Default)]
pub struct Track {
    /// The lowest number above all that were received.
    next: u64,
    /// Numbers below `next` that haven't come, in order; almost always none.
    missing: Vec<Range<u64>>,
}

/// How a message fits to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It was the next, or the ones between are missing so far.
    New,
    /// It comes after later ones.
    Reordered,
    /// It has been received before.
    Doubled,
}

impl Track {
    /// A subscription whose first message is number `next`.
    pub fn starting_at(next: u64) -> Self {
        Self { next, missing: Vec::new() }
    }

    /// Enters the receipt of message `sequence`.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub fn receive(&mut self, sequence: u64) -> Receipt {
        if sequence == self.next {
            self.next += 1;
            return Receipt::New;
        }
        self.receive_out_of_order(sequence)
    }

    #[cold]
    fn receive_out_of_order(&mut self, sequence: u64) -> Receipt {
        let missing = &mut self.missing;
        if sequence > self.next {
            missing.push(self.next..sequence);
            self.next = sequence + 1;
            return Receipt::New;
        }
        match missing.iter().position(|range| range.contains(&sequence)) {
            Some(index) => {
                let range = missing[index].clone();
                let around = [range.start..sequence, sequence + 1..range.end];
                missing.splice(index..=index, around.into_iter().filter(|part| !part.is_empty()));
                Receipt::Reordered
            }
            None => Receipt::Doubled,
        }
    }

    /// The lowest number above all that were received.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many of the messages below `end` haven't come.
    pub fn lost(&self, end: u64) -> u64 {
        let gaps = self.missing.iter();
        gaps.map(|range| range.end - range.start).sum::<u64>() + end.saturating_sub(self.next)
    }
}

/// Sums over all subscriptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integrity {
    /// Messages times their subscriptions.
    pub expected: u64,
    /// Those received, doubles left out.
    pub received: u64,
    /// Those that never came.
    pub lost: u64,
    /// Those that came again.
    pub doubled: u64,
    /// Those that came after a later one.
    pub reordered: u64,
    /// Payloads that nobody published, or that came to a session without their topic.
    pub garbled: u64,
    /// What servers say beside messages: named events.
    pub notices: u64,
}

impl Integrity {
    /// Everything came once, in order and unchanged.
    pub fn is_clean(&self) -> bool {
        self.received == self.expected
            && self.lost + self.doubled + self.reordered + self.garbled == 0
    }

    /// Counts one receipt.
    #[inline]
    pub fn count(&mut self, receipt: Receipt) {
        match receipt {
            Receipt::New => self.received += 1,
            Receipt::Reordered => {
                self.received += 1;
                self.reordered += 1;
            }
            Receipt::Doubled => self.doubled += 1,
        }
    }
}

impl AddAssign for Integrity {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.garbled += other.garbled;
        self.notices += other.notices;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn check(received: &[u64], end: u64, reordered: u64, doubled: u64, lost: u64) {
        let (mut track, mut sums) = (Track::default(), Integrity::default());
        for sequence in received {
            sums.count(track.receive(*sequence));
        }
        let found = (sums.reordered, sums.doubled, track.lost(end));
        assert_eq!(found, (reordered, doubled, lost), "{received:?} of {end}");
    }

    #[test]
    fn loss_doubles_and_order_are_told_apart() {
        check(&[0, 1, 2], 3, 0, 0, 0);
        check(&[0, 2], 3, 0, 0, 1);
        check(&[0, 1], 4, 0, 0, 2);
        check(&[0, 1, 1, 2], 3, 0, 1, 0);
        check(&[0, 2, 1, 3], 4, 1, 0, 0);
        check(&[3, 1, 1], 4, 1, 1, 2);
        check(&[], 5, 0, 0, 5);
    }

    #[test]
    fn a_later_start_expects_nothing_from_before() {
        assert_eq!(Track::starting_at(10).lost(12), 2);
    }

    proptest! {
        #[test]
        fn any_receipts_agree_with_a_set(received in prop::collection::vec(0u64..30, 0..60)) {
            let (mut track, mut sums, mut seen) = (Track::default(), Integrity::default(), HashSet::new());
            for sequence in received {
                let receipt = track.receive(sequence);
                sums.count(receipt);
                prop_assert_eq!(seen.insert(sequence), receipt != Receipt::Doubled);
            }
            prop_assert_eq!(sums.received, seen.len() as u64);
            prop_assert_eq!(track.lost(30), 30 - seen.len() as u64);
        }
    }
}
