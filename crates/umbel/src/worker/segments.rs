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
        kept.used = true;
        let (from, to) = kept.segment.between(offset, until);
        (from < to).then(|| (kept.segment.clone(), from, to))
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
