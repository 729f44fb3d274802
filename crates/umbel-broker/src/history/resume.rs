//! Where a reader goes on, and whether it has missed something: the rules of resuming, as a function
//! of facts, whoever found them.

use umbel_protocol::{GapReason, MessageId, Position};

/// What is known of a topic's history about one id, that the reader says it has got last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    /// The oldest message that is held.
    pub(crate) first: Option<MessageId>,
    /// Where the topic stands; its last message may be too old to be held.
    pub(crate) end: Position,
    /// The epoch of the message at the id's offset, if that is held.
    pub(crate) at: Option<u64>,
    /// The epoch of the message at the offset behind it, if that is held.
    pub(crate) following: Option<u64>,
    /// The newest message of the id's epoch before the id's offset, if one is held.
    pub(crate) before: Option<MessageId>,
    /// What the epochs that begin now have as their upper half: which server it is.
    pub(crate) server: u32,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// What comes behind this is given.
    pub(crate) position: Position,
    /// Why that isn't all that the reader lacks.
    pub(crate) gap: Option<GapReason>,
}

impl Start {
    /// Names a place to go on at, of which a gap is told, by the epoch of the message that comes
    /// next: else whoever returns to it would be told again, that epochs change there.
    pub(crate) fn settled(self, next: Option<MessageId>) -> Self {
        match (self.gap, next) {
            (Some(_), Some(next)) => Self { position: before(next), ..self },
            _ => self,
        }
    }
}

/// Whether the broker may have gone back between a place and the message that comes next: a server
/// that was restarted or promoted begins another epoch, and nobody knows what the last one had
/// besides.
pub(crate) fn crosses(position: Position, next: MessageId) -> bool {
    !position.goes_on_in(next.epoch)
}

/// Where a reader that has got `after` goes on.
///
/// An id is exact if the message that it names is held or is the topic's last, or if the next one is
/// held and of its epoch. Otherwise a reader of a known epoch goes on behind the last message of it,
/// and any other at the first that is held.
pub(crate) fn resume(after: Position, facts: &Facts) -> Start {
    let exact = Start { position: after, gap: None };
    let Some(id) = after.0 else {
        return match (facts.first, facts.end.offset()) {
            (Some(first), _) if first.offset == 1 => Start { position: before(first), gap: None },
            (None, 0) => Start { position: facts.end, gap: None },
            _ => gap(at_first(facts), GapReason::TooOld),
        };
    };
    if after == facts.end || facts.at == Some(id.epoch) || facts.following == Some(id.epoch) {
        return exact;
    }
    if id.is_before_any_epoch() {
        let ours = |known: &MessageId| known.offset > 0 && known.server() == id.server();
        return match (facts.first, facts.end.0) {
            (Some(first), _) if ours(&first) && first.offset == 1 => exact,
            (first, end) if first.or(end).as_ref().is_some_and(ours) => {
                gap(at_first(facts), GapReason::TooOld)
            }
            _ => gap(at_first(facts), GapReason::UnknownEpoch),
        };
    }
    let went_back = match facts.end.0 {
        // It may have been published to a server that is gone, or never.
        Some(end) if end.epoch == id.epoch && end.server() == facts.server => GapReason::Future,
        _ => GapReason::Rewound,
    };
    if let Some(last) = facts.before {
        return gap(last.into(), went_back);
    }
    let same_epoch = |known: MessageId| known.epoch == id.epoch;
    match (facts.first, facts.end.0) {
        (_, Some(end)) if same_epoch(end) && end.offset < id.offset => gap(facts.end, went_back),
        (first, end) if first.or(end).is_some_and(same_epoch) => {
            gap(at_first(facts), GapReason::TooOld)
        }
        _ => gap(at_first(facts), GapReason::UnknownEpoch),
    }
}

/// The position before a message in its own epoch: who resumes there misses nothing.
pub(crate) fn before(id: MessageId) -> Position {
    Position(Some(MessageId { offset: id.offset.saturating_sub(1), ..id }))
}

fn at_first(facts: &Facts) -> Position {
    facts.first.map_or(facts.end, before)
}

fn gap(position: Position, reason: GapReason) -> Start {
    Start { position, gap: Some(reason) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: u64 = (7 << 32) + 1;
    const OLD: u64 = (3 << 32) + 1;

    fn id(epoch: u64, offset: u64) -> MessageId {
        MessageId { epoch, offset }
    }

    /// The facts about an id, by looking at all that is held.
    pub(crate) fn facts(held: &[MessageId], end: Position, after: Position, server: u32) -> Facts {
        let epoch_at = |offset| held.iter().find(|id| id.offset == offset).map(|id| id.epoch);
        let mut facts = Facts { first: held.first().copied(), end, server, ..Facts::default() };
        if let Some(after) = after.0 {
            facts.at = epoch_at(after.offset);
            facts.following = epoch_at(after.offset + 1);
            let earlier = |id: &&MessageId| id.epoch == after.epoch && id.offset < after.offset;
            facts.before = held.iter().rfind(earlier).copied();
        }
        facts
    }

    fn start(held: &[MessageId], after: Position) -> (Position, Option<GapReason>) {
        let end = held.last().map_or(Position::empty(7), |last| (*last).into());
        let Start { position, gap } = resume(after, &facts(held, end, after, 7));
        (position, gap)
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_why_not() {
        use GapReason::{Future, Rewound, TooOld, UnknownEpoch};
        // Messages 1 to 3 of an earlier server, then 4 to 6 of this one.
        let all: Vec<_> =
            (1..=3).map(|n| id(OLD, n)).chain((4..=6).map(|n| id(SERVER, n))).collect();
        let at = |epoch, offset| Position(Some(id(epoch, offset)));
        for (held, after, position, gap) in [
            (&all[..], at(SERVER, 6), at(SERVER, 6), None),
            (&all, at(SERVER, 5), at(SERVER, 5), None),
            (&all, at(OLD, 2), at(OLD, 2), None),
            (&all, at(OLD, 3), at(OLD, 3), None),
            (&all, Position::START, at(OLD, 0), None),
            (&all, at(OLD, 0), at(OLD, 0), None),
            // From a time before the topic's first message, on this server and on another.
            (&all, Position::empty(3), Position::empty(3), None),
            (&all, Position::empty(7), at(OLD, 0), Some(UnknownEpoch)),
            (&all[..3], Position::empty(9), at(OLD, 0), Some(UnknownEpoch)),
            (&all[1..], Position::empty(3), at(OLD, 1), Some(TooOld)),
            // What a gap at the change of servers names.
            (&all, at(SERVER, 3), at(SERVER, 3), None),
            (&all, at(OLD, 4), at(OLD, 3), Some(Rewound)),
            (&all, at(OLD, 99), at(OLD, 3), Some(Rewound)),
            (&all, at(SERVER, 7), at(SERVER, 6), Some(Future)),
            (&all, at(SERVER, 2), at(OLD, 0), Some(UnknownEpoch)),
            (&all, at(1, 5), at(OLD, 0), Some(UnknownEpoch)),
            // Trimmed.
            (&all[4..], at(SERVER, 4), at(SERVER, 4), None),
            (&all[4..], at(SERVER, 3), at(SERVER, 4), Some(TooOld)),
            (&all[4..], at(OLD, 3), at(SERVER, 4), Some(UnknownEpoch)),
            (&all[4..], Position::START, at(SERVER, 4), Some(TooOld)),
            (&all[3..], at(OLD, 3), at(SERVER, 3), Some(UnknownEpoch)),
            // The server went back and nothing was published since.
            (&all[..3], at(OLD, 5), at(OLD, 3), Some(Rewound)),
            // The topic is gone.
            (&[], at(OLD, 5), Position::empty(7), Some(UnknownEpoch)),
            (&[], Position::START, Position::empty(7), None),
            (&[], Position::empty(7), Position::empty(7), None),
            (&[], Position::empty(3), Position::empty(7), Some(UnknownEpoch)),
        ] {
            assert_eq!(start(held, after), (position, gap), "{after} in {held:?}");
        }
    }

    #[test]
    fn a_last_message_that_is_too_old_is_still_a_place() {
        let end = Position(Some(id(SERVER, 5)));
        for (after, position, gap) in [
            (end, end, None),
            (Position(Some(id(SERVER, 4))), end, Some(GapReason::TooOld)),
            (Position(Some(id(SERVER, 6))), end, Some(GapReason::Future)),
            (Position(Some(id(OLD, 5))), end, Some(GapReason::UnknownEpoch)),
            (Position::START, end, Some(GapReason::TooOld)),
            (Position::empty(7), end, Some(GapReason::TooOld)),
            (Position::empty(3), end, Some(GapReason::UnknownEpoch)),
        ] {
            let start = resume(after, &facts(&[], end, after, 7));
            assert_eq!(start, Start { position, gap }, "{after}");
        }
    }

    proptest! {
        /// Whatever a client claims: where it goes on is a place at which it would be exact, so
        /// that it isn't told of the same gap twice, and it is told nothing only if all behind its
        /// own place is held.
        #[test]
        fn a_place_to_go_on_at_is_exact(
            epochs in prop::collection::vec((1_u64..4, 1_u64..5), 0..4),
            trimmed in 0_usize..8,
            epoch in 1_u64..5,
            offset in 0_u64..20,
        ) {
            let mut offset_of = 0;
            let mut ids = Vec::new();
            for (at, (epoch, count)) in epochs.iter().enumerate() {
                for _ in 0..*count {
                    offset_of += 1;
                    // Each row of an epoch is another life.
                    ids.push(id((epoch << 32) + 1 + at as u64, offset_of));
                }
            }
            let held = &ids[trimmed.min(ids.len())..];
            let end = ids.last().map_or(Position::empty(2), |last| (*last).into());
            for life in 0..5 {
                let after = Position(Some(id((epoch << 32) + life, offset)));
                let start = resume(after, &facts(held, end, after, 2));
                let again = resume(start.position, &facts(held, end, start.position, 2));
                prop_assert_eq!(again, Start { gap: None, ..start }, "{} in {:?}", after, held);
                if start.gap.is_none() {
                    prop_assert_eq!(start.position, after);
                    let next = held.iter().find(|id| id.offset > offset);
                    prop_assert!(next.is_none_or(|next| next.offset == offset + 1));
                    let known = ids.iter().any(|known| after.goes_on_in(known.epoch));
                    prop_assert!(known || after == end);
                }
            }
        }
    }
}
