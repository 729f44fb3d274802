//! What the hub keeps of a session: what it holds, what is due, and the bytes that are its own.

use umbel_protocol::{Dialect, SessionId};

use crate::composite::CompositeCursor;
use crate::encoding::Encoding;
use crate::keys::{SubscriptionKey, TopicKey};
use crate::replay::Share;

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
    /// Set if the session gets frames without `id:` and writes the lines itself.
    pub(crate) composite: Option<Box<CompositeCursor>>,
}

/// Bytes for one session alone, and its share of what several sessions are replayed. They leave
/// before what is due, but never inside a frame.
#[derive(Debug, Default)]
pub(crate) struct Control {
    bytes: Vec<u8>,
    written: usize,
    tail: Option<Box<Tail>>,
}

/// What follows the bytes.
#[derive(Debug)]
struct Tail {
    share: Share,
    after: Vec<u8>,
}

/// What is to be written of a [`Control`], in order.
#[derive(Debug)]
pub(crate) struct ControlSlices<'c> {
    first: &'c [u8],
    tail: Option<&'c Tail>,
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
            encoding: Encoding { dialect, without_id: false, default_event: None },
            queued: false,
            gaps_waiting: false,
            partial: 0,
            first_due: None,
            last_due: None,
            control: Control::default(),
            subscriptions: Vec::new(),
            composite: None,
        }
    }
}

impl Control {
    pub(crate) fn pending(&self) -> ControlSlices<'_> {
        ControlSlices { first: &self.bytes[self.written..], tail: self.tail.as_deref() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.tail.is_none()
    }

    /// How many bytes of the session's own wait.
    pub(crate) fn own_bytes(&self) -> usize {
        let after = self.tail.as_ref().map_or(0, |tail| tail.after.len());
        self.bytes.len() - self.written + after
    }

    /// Forgets what is written, so that what waits is all that there is.
    pub(crate) fn forget_written(&mut self) {
        self.bytes.drain(..std::mem::take(&mut self.written));
    }

    /// Where more may be appended.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        match &mut self.tail {
            Some(tail) => &mut tail.after,
            None => &mut self.bytes,
        }
    }

    /// Puts the rest of a frame that is partly written before all else.
    pub(crate) fn push_front(&mut self, rest: &[u8]) {
        debug_assert_eq!(self.written, 0, "only one frame of a session can be partly written");
        self.bytes.splice(..0, rest.iter().copied());
    }

    /// Appends a share, of which there must be none yet.
    pub(crate) fn push_share(&mut self, share: Share) {
        debug_assert!(self.tail.is_none(), "a session is replayed one piece at a time");
        self.tail = Some(Box::new(Tail { share, after: Vec::new() }));
    }

    /// Counts up to `written` bytes as gone. Returns how many it took and how many messages of a
    /// share were completed with them.
    pub(crate) fn advance(&mut self, written: usize) -> (usize, u64) {
        let taken = written.min(self.bytes.len() - self.written);
        self.written += taken;
        if self.written < self.bytes.len() {
            return (taken, 0);
        }
        let Some(tail) = &mut self.tail else {
            *self = Self::default();
            return (taken, 0);
        };
        let of_share = tail.share.advance(written - taken);
        if !tail.share.is_written() {
            return (taken + of_share, 0);
        }
        let messages = tail.share.messages();
        self.bytes = std::mem::take(&mut tail.after);
        self.written = 0;
        self.tail = None;
        let (of_rest, _) = self.advance(written - taken - of_share);
        (taken + of_share + of_rest, messages)
    }
}

impl ControlSlices<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.tail.is_none()
    }
}

impl<'c> Iterator for ControlSlices<'c> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        let tail = self.tail.take()?;
        self.first = &tail.after;
        Some(tail.share.pending())
    }
}
