//! A topic's subscribers of one dialect, and the log that they share.

use umbel_protocol::{Dialect, Topic};

use crate::OnSlow;
use crate::keys::SubscriptionKey;
use crate::log::Log;

/// A topic that has subscribers.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) name: Topic,
    pub(crate) on_slow: OnSlow,
    /// One lane per dialect in use, by [`Dialect::index`].
    pub(crate) lanes: [Option<Box<Lane>>; Dialect::COUNT],
}

/// The subscribers of one topic in one dialect.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) subscribers: Vec<SubscriptionKey>,
    /// Only while some subscriber is behind: a quiet topic holds no buffer.
    pub(crate) log: Option<Box<Log>>,
    /// The number of the next frame, log or no log.
    pub(crate) next: u64,
    /// How many subscribers are behind.
    pub(crate) behind: u32,
    /// Whether the batch at hand has appended to it already.
    pub(crate) touched: bool,
}

impl TopicState {
    pub(crate) fn new(name: Topic, on_slow: OnSlow) -> Self {
        Self { name, on_slow, lanes: Default::default() }
    }

    pub(crate) fn lane(&self, dialect: Dialect) -> &Lane {
        self.lanes[dialect.index()].as_deref().expect("a lane stays as long as it has subscribers")
    }

    pub(crate) fn lane_mut(&mut self, dialect: Dialect) -> &mut Lane {
        self.lanes[dialect.index()]
            .as_deref_mut()
            .expect("a lane stays as long as it has subscribers")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }
}

impl Lane {
    pub(crate) fn log(&self) -> &Log {
        self.log.as_deref().expect("a log stays as long as a subscriber is behind")
    }
}
