//! Pieces of history that sessions are given, kept as long as somebody reads them: those who come
//! back together mostly want the same.

use std::collections::HashMap;
use std::rc::Rc;

use umbel_hub::{Segment, SharedBy};
use umbel_protocol::history::Item;
use umbel_protocol::{Stand, Topic};

/// The pieces of one worker.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    kept: HashMap<(SharedBy, Topic), Vec<Kept>>,
    bytes: usize,
    /// From how many bytes on it is looked what nobody reads.
    forget_at: usize,
}

/// A piece and what it is.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The life of the topic that it belongs to; `None` if it fits nobody but who it was made for.
    life: Option<u64>,
    /// It has all that lies behind this offset and not behind that.
    after: u64,
    up_to: u64,
    segment: Rc<Segment>,
    /// Whether it was asked for since it was last looked through.
    used: bool,
}

/// How much is kept that nobody reads any more.
const MAX_IDLE_BYTES: usize = 8 << 20;

impl Kept {
    /// A piece with these items, read from `began` to `ended`.
    pub(crate) fn of(
        items: &[Item],
        began: Option<Stand>,
        ended: Option<Stand>,
        segment: &Rc<Segment>,
    ) -> Self {
        // A gap is told to who stood before it, and to nobody who begins behind it.
        let has_gap = items.iter().any(|item| matches!(item, Item::Gap(..)));
        let (life, after, up_to) = match (began, ended) {
            (Some(began), Some(ended)) if began.life == ended.life && !has_gap => {
                (Some(began.life), began.offset(), ended.offset())
            }
            _ => (None, 0, 0),
        };
        Self { life, after, up_to, segment: segment.clone(), used: true }
    }
}

impl Segments {
    /// What somebody who stands there gets next, and no more than up to `up_to`: a piece and its
    /// frames from and to.
    pub(crate) fn find(
        &mut self,
        encoding: SharedBy,
        topic: &Topic,
        stand: Stand,
        up_to: Option<Stand>,
    ) -> Option<(Rc<Segment>, usize, usize)> {
        let offset = stand.offset();
        let until = match up_to {
            Some(up_to) if up_to.life != stand.life => return None,
            Some(up_to) => up_to.offset(),
            None => u64::MAX,
        };
        let pieces = self.kept.get_mut(&(encoding, topic.clone()))?;
        let fits = |kept: &&mut Kept| {
            kept.life == Some(stand.life) && kept.after <= offset && offset < kept.up_to
        };
        let kept = pieces.iter_mut().find(fits)?;
        let (from, to) = kept.segment.between(offset, until);
        // Where another epoch begins there is a gap to be told.
        let goes_on = |from| {
            let next = kept.segment.position(from).0;
            next.is_none_or(|next| stand.position.goes_on_in(next.epoch))
        };
        if from == to || !goes_on(from) {
            return None;
        }
        kept.used = true;
        Some((kept.segment.clone(), from, to))
    }

    /// Keeps a piece for others.
    pub(crate) fn keep(&mut self, encoding: SharedBy, topic: Topic, kept: Kept) {
        self.bytes += kept.segment.bytes();
        self.kept.entry((encoding, topic)).or_default().push(kept);
        if self.bytes > self.forget_at.max(MAX_IDLE_BYTES) {
            self.forget(|_| true);
            // So that looking is paid for by growing, however much is being read.
            self.forget_at = 2 * self.bytes;
        }
    }

    /// Forgets what nobody reads and nobody asked for since the last call.
    pub(crate) fn tend(&mut self) {
        self.forget(|kept| !std::mem::take(&mut kept.used));
    }

    /// What the pieces take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, is_old: impl Fn(&mut Kept) -> bool) {
        self.bytes = 0;
        self.kept.retain(|_, pieces| {
            pieces.retain_mut(|kept| Rc::strong_count(&kept.segment) > 1 || !is_old(kept));
            self.bytes += pieces.iter().map(|kept| kept.segment.bytes()).sum::<usize>();
            !pieces.is_empty()
        });
        if self.kept.is_empty() {
            self.kept = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_hub::Hub;
    use umbel_protocol::{
        Delivery, Dialect, GapReason, Message, MessageId, Payload, Position, SessionId, Timestamp,
    };

    const LIFE: u64 = 7;

    struct Bed {
        hub: Hub<()>,
        encoding: SharedBy,
        topic: Topic,
        segments: Segments,
    }

    fn stand(life: u64, offset: u64) -> Stand {
        Stand { life, position: position(offset) }
    }

    fn position(offset: u64) -> Position {
        if offset == 0 { Position::START } else { Position(Some(MessageId { epoch: 1, offset })) }
    }

    impl Bed {
        fn new() -> Self {
            let mut hub = Hub::new(1 << 20);
            let session = hub.open(SessionId(1), Dialect::Json, ());
            let encoding = hub.shared_by(session);
            let (topic, segments) = (Topic::new("news").unwrap(), Segments::default());
            Self { hub, encoding, topic, segments }
        }

        /// The messages behind an offset, up to another.
        fn items(&self, after: u64, up_to: u64) -> Vec<Item> {
            let message = |offset| Message {
                topic: self.topic.clone(),
                payload: Payload::text("x".repeat(100)),
                event: None,
                published: Timestamp(0),
                origin: None,
                trace: None,
                id: position(offset).0,
            };
            (after + 1..=up_to)
                .map(|offset| {
                    let message = message(offset);
                    Item::Message(Delivery { message, received: 0, bare: false, life: LIFE })
                })
                .collect()
        }

        fn keep(&mut self, items: &[Item], after: u64, up_to: u64) -> Rc<Segment> {
            let segment = Rc::new(self.hub.segment(self.encoding, &self.topic, items));
            let (began, ended) = (Some(stand(LIFE, after)), Some(stand(LIFE, up_to)));
            let kept = Kept::of(items, began, ended, &segment);
            self.segments.keep(self.encoding, self.topic.clone(), kept);
            segment
        }

        fn find(&mut self, at: Stand, up_to: Option<Stand>) -> Option<(usize, usize)> {
            let found = self.segments.find(self.encoding, &self.topic, at, up_to);
            found.map(|(_, from, to)| (from, to))
        }
    }

    #[test]
    fn who_stands_within_a_piece_gets_the_rest_of_it() {
        let mut bed = Bed::new();
        let items = bed.items(10, 20);
        bed.keep(&items, 10, 20);
        assert_eq!(bed.find(stand(LIFE, 10), None), Some((0, 10)));
        assert_eq!(bed.find(stand(LIFE, 17), None), Some((7, 10)));
        assert_eq!(bed.find(stand(LIFE, 17), Some(stand(LIFE, 18))), Some((7, 8)));
        assert_eq!(bed.find(stand(LIFE, 17), Some(stand(LIFE, 17))), None, "nothing is left");
        for nothing in [stand(LIFE, 9), stand(LIFE, 20), stand(LIFE + 1, 15)] {
            assert_eq!(bed.find(nothing, None), None, "{nothing:?}");
        }
        assert_eq!(bed.find(stand(LIFE, 15), Some(stand(LIFE + 1, 18))), None, "another life");
    }

    #[test]
    fn who_stands_at_the_end_of_another_epoch_finds_nothing() {
        let mut bed = Bed::new();
        let items = bed.items(10, 20);
        bed.keep(&items, 10, 20);
        let elsewhere = Position(Some(MessageId { epoch: 0, offset: 10 }));
        assert_eq!(bed.find(Stand { life: LIFE, position: elsewhere }, None), None);
    }

    #[test]
    fn a_piece_with_a_gap_is_for_who_it_was_read_for() {
        let mut bed = Bed::new();
        let mut items = bed.items(10, 20);
        items.insert(0, Item::Gap(GapReason::TooOld, position(10)));
        bed.keep(&items, 3, 20);
        for offset in 0..20 {
            assert_eq!(bed.find(stand(LIFE, offset), None), None);
        }
    }

    #[test]
    fn what_nobody_reads_or_asks_for_is_forgotten() {
        let mut bed = Bed::new();
        let read = bed.keep(&bed.items(0, 5), 0, 5);
        bed.keep(&bed.items(5, 10), 5, 10);
        bed.segments.tend();
        assert!(bed.find(stand(LIFE, 5), None).is_some(), "it was new");
        bed.segments.tend();
        assert!(bed.find(stand(LIFE, 5), None).is_some(), "it was asked for");
        bed.segments.tend();
        bed.segments.tend();
        assert_eq!(bed.find(stand(LIFE, 5), None), None);
        assert!(bed.find(stand(LIFE, 0), None).is_some(), "it is read");
        assert_eq!(bed.segments.bytes(), read.bytes());
        drop(read);
        bed.segments.tend();
        bed.segments.tend();
        assert_eq!((bed.segments.bytes(), bed.segments.kept.len()), (0, 0));
    }

    #[test]
    fn what_nobody_reads_is_bounded_however_much_is_asked_for() {
        let mut bed = Bed::new();
        let items = bed.items(0, 1000);
        for _ in 0..500 {
            bed.keep(&items, 0, 1000);
            assert!(bed.segments.bytes() <= MAX_IDLE_BYTES + (1 << 20));
        }
    }
}
