//! A topic's subscribers of one encoding, and the log that they share.

use umbel_protocol::{Dialect, Stand, Topic};

use crate::encoding::Encoding;
use crate::keys::SubscriptionKey;
use crate::log::Log;
use crate::wait::Kind;
use crate::{OnSlow, Tag};

/// What holds for a topic as long as it has subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What becomes of slow consumers.
    pub on_slow: OnSlow,
    /// Which others its messages are counted with.
    pub tag: Tag,
}

impl From<OnSlow> for Terms {
    fn from(on_slow: OnSlow) -> Self {
        Self { on_slow, tag: Tag::default() }
    }
}

/// A topic that has subscribers.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) name: Topic,
    pub(crate) terms: Terms,
    /// What was appended last; `None` without history, or as long as that isn't known.
    pub(crate) stand: Option<Stand>,
    /// The lanes in use, chained per dialect, by [`Dialect::index`]. A chain is one lane but for
    /// topics that SSE sessions get under several default event names or cursors.
    lanes: [Option<Box<Lane>>; Dialect::COUNT],
}

/// The subscribers of one topic in one encoding.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) encoding: Encoding,
    /// What its deliveries are told apart by.
    pub(crate) kind: Kind,
    pub(crate) subscribers: Vec<SubscriptionKey>,
    /// Only while some subscriber is behind: a quiet topic holds no buffer.
    pub(crate) log: Option<Box<Log>>,
    /// The number of the next frame, log or no log.
    pub(crate) next: u64,
    /// How many subscribers are behind.
    pub(crate) behind: u32,
    /// Whether the batch at hand has appended to it already.
    pub(crate) touched: bool,
    /// The next lane of the same dialect.
    following: Option<Box<Lane>>,
}

impl TopicState {
    pub(crate) fn new(name: Topic, terms: Terms, stand: Option<Stand>) -> Self {
        Self { name, terms, stand, lanes: Default::default() }
    }

    pub(crate) fn lane(&self, encoding: Encoding) -> &Lane {
        let mut next = self.lanes[encoding.dialect.index()].as_deref();
        while let Some(lane) = next {
            if lane.encoding == encoding {
                return lane;
            }
            next = lane.following.as_deref();
        }
        unreachable!("a lane stays as long as it has subscribers")
    }

    pub(crate) fn lane_mut(&mut self, encoding: Encoding) -> &mut Lane {
        self.place(encoding).as_deref_mut().expect("a lane stays as long as it has subscribers")
    }

    pub(crate) fn lane_or_new(&mut self, encoding: Encoding) -> &mut Lane {
        let tag = self.terms.tag;
        self.place(encoding).get_or_insert_with(|| Box::new(Lane::new(encoding, tag)))
    }

    pub(crate) fn remove_lane(&mut self, encoding: Encoding) {
        let place = self.place(encoding);
        *place = place.take().and_then(|lane| lane.following);
    }

    /// Has `each` look at every lane.
    pub(crate) fn for_each_lane(&mut self, mut each: impl FnMut(&mut Lane)) {
        for first in &mut self.lanes {
            let mut next = first.as_deref_mut();
            while let Some(lane) = next {
                each(lane);
                next = lane.following.as_deref_mut();
            }
        }
    }

    /// The lanes of a dialect.
    pub(crate) fn lanes_of(&self, dialect: Dialect) -> impl Iterator<Item = &Lane> {
        let first = self.lanes[dialect.index()].as_deref();
        std::iter::successors(first, |lane| lane.following.as_deref())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// Where the lane of an encoding is, or would be: at the end of the chain of its dialect.
    fn place(&mut self, encoding: Encoding) -> &mut Option<Box<Lane>> {
        let mut place = &mut self.lanes[encoding.dialect.index()];
        while place.as_ref().is_some_and(|lane| lane.encoding != encoding) {
            place = &mut place.as_mut().expect("it was looked at").following;
        }
        place
    }
}

impl Lane {
    fn new(encoding: Encoding, tag: Tag) -> Self {
        Self {
            encoding,
            kind: Kind::new(encoding.dialect, tag),
            subscribers: Vec::new(),
            log: None,
            next: 0,
            behind: 0,
            touched: false,
            following: None,
        }
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_deref().expect("a log stays as long as a subscriber is behind")
    }
}
