//! Workers of a node, and sets of them.

use umbel_protocol::Delivery;

use crate::Parcel;

/// Which worker of a node: 0 up to [`WorkerId::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The highest number: a set of workers is one machine word of 128 bits.
    pub const MAX: usize = 127;

    /// The worker of this number, if it isn't above [`WorkerId::MAX`].
    pub fn new(number: usize) -> Option<Self> {
        match u8::try_from(number) {
            Ok(number) if usize::from(number) <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, to index with.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The workers that are attached to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WorkerSet(u128);

impl WorkerSet {
    pub(crate) fn insert(&mut self, worker: WorkerId) {
        self.0 |= 1 << worker.0;
    }

    pub(crate) fn remove(&mut self, worker: WorkerId) {
        self.0 &= !(1 << worker.0);
    }

    pub(crate) fn contains(self, worker: WorkerId) -> bool {
        self.0 & (1 << worker.0) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Gives each of them a copy, the last one the message itself.
    pub(crate) fn hand_out(self, delivery: Delivery, mut give: impl FnMut(WorkerId, Parcel)) {
        let mut last = None;
        for worker in self.iter() {
            if let Some(before) = last.replace(worker) {
                give(before, Parcel::Message(delivery.clone()));
            }
        }
        if let Some(last) = last {
            give(last, Parcel::Message(delivery));
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = WorkerId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = u8::try_from(rest.trailing_zeros()).expect("at most 128");
            rest &= rest.checked_sub(1)?;
            Some(WorkerId(lowest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_gives_its_members_in_order(members in prop::collection::btree_set(0..=WorkerId::MAX, 0..20), gone in 0..=WorkerId::MAX) {
            let mut set = WorkerSet::default();
            for &member in &members {
                set.insert(WorkerId::new(member).unwrap());
            }
            set.remove(WorkerId::new(gone).unwrap());
            let expected: Vec<_> = members.into_iter().filter(|&member| member != gone).collect();
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            prop_assert!(expected.iter().all(|member| set.contains(WorkerId::new(*member).unwrap())));
            prop_assert!(!set.contains(WorkerId::new(gone).unwrap()));
            prop_assert_eq!(set.iter().map(WorkerId::index).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn there_are_128_workers_at_most() {
        assert!(WorkerId::new(127).is_some());
        assert!(WorkerId::new(128).is_none());
    }
}
