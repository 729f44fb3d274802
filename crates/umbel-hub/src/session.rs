//! What the hub keeps of a session: what it holds, what is due, and the bytes that are its own.

use umbel_protocol::{Dialect, SessionId};

use crate::encoding::Encoding;
use crate::keys::{SubscriptionKey, TopicKey};

/// One session's slot. `data` is what the caller attached.
#[derive(Debug)]
pub(crate) struct Session<S> {
    pub(crate) data: S,
    pub(crate) id: SessionId,
    pub(crate) encoding: Encoding,
    /// Whether it waits in the hub's queue of due sessions.
    pub(crate) queued: bool,
    /// Whether a gap was told of some topic and hasn't left yet.
    pub(crate) gaps_waiting: bool,
    /// How much is written of the first frame of the first due subscription.
    pub(crate) partial: u32,
    pub(crate) first_due: Option<SubscriptionKey>,
    pub(crate) last_due: Option<SubscriptionKey>,
    /// Frames for this session alone: replies, pings, gaps.
    pub(crate) control: Control,
    /// Sorted by topic.
    pub(crate) subscriptions: Vec<(TopicKey, SubscriptionKey)>,
}

/// Bytes for one session alone. They leave before what is due, but never inside a frame.
#[derive(Debug, Default)]
pub(crate) struct Control {
    bytes: Vec<u8>,
    written: usize,
}

/// One subscription: a session's position in a lane.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) session: crate::SessionKey,
    pub(crate) topic: TopicKey,
    pub(crate) encoding: Encoding,
    /// Behind the end of its lane, hence in its session's list of due subscriptions.
    pub(crate) due: bool,
    /// A gap of it was told and hasn't left yet; another would say nothing new.
    pub(crate) gap_waiting: bool,
    /// Its index among the lane's subscribers.
    pub(crate) place: u32,
    pub(crate) next_due: Option<SubscriptionKey>,
    /// The next frame to write.
    pub(crate) position: u64,
}

impl<S> Session<S> {
    pub(crate) fn new(id: SessionId, dialect: Dialect, data: S) -> Self {
        Self {
            data,
            id,
            encoding: Encoding { dialect, default_event: None },
            queued: false,
            gaps_waiting: false,
            partial: 0,
            first_due: None,
            last_due: None,
            control: Control::default(),
            subscriptions: Vec::new(),
        }
    }
}

impl Control {
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts the rest of a frame that is partly written before all else.
    pub(crate) fn push_front(&mut self, rest: &[u8]) {
        debug_assert_eq!(self.written, 0, "only one frame of a session can be partly written");
        self.bytes.splice(..0, rest.iter().copied());
    }

    /// Counts up to `written` bytes as gone and returns how many it took.
    pub(crate) fn advance(&mut self, written: usize) -> usize {
        let taken = written.min(self.pending().len());
        self.written += taken;
        if self.written == self.bytes.len() {
            *self = Self::default();
        }
        taken
    }
}
