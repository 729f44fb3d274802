//! A session: one client connection after its handshake.

mod catch_up;
mod close;
mod commands;
mod frame_parser;
mod hold;
pub mod incoming;
mod join;
mod open;
mod rate;
mod segments;
mod stream;
mod task;
mod wire;

pub(crate) use catch_up::{CatchUp, CatchUps, Fetch};
pub(crate) use close::CloseReason;
pub(crate) use hold::{Beginning, From, Granted, Hold};
pub(crate) use join::{Join, Next, Told};
pub(crate) use open::{Opening, open, open_stream};
pub(crate) use rate::Rate;
pub(crate) use segments::Segments;
pub(crate) use stream::{PIECE_BYTES, SEND_BUFFER_BYTES, SessionBody, Stream};
pub(crate) use task::SessionTask;
pub(crate) use wire::{Wire, Written};

use std::rc::Rc;
use std::task::Waker;

use umbel_hub::SessionKey;
use umbel_protocol::{SessionId, Topic};

use crate::admission::Seat;
use crate::config::Limits;
use crate::ledger::Ledger;
use crate::route::Stamp;
use crate::wheel::Tick;
use crate::worker::Held;
use incoming::Incoming;

/// What a worker keeps of a session, in the hub's slot for it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) wire: Wire,
    /// Of the session's task, which waits for input and, when blocked, for room to write. Over
    /// HTTP/2 there is none.
    pub(crate) waker: Option<Waker>,
    pub(crate) incoming: Incoming,
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    /// The socket took nothing last time; its task waits until it does. Over HTTP/2: what was
    /// taken last waits for window.
    pub(crate) blocked: bool,
    /// Something that the client asked for is under way.
    pub(crate) is_busy: bool,
    /// Since when its client is in the midst of a frame or fragmented message.
    pub(crate) unfinished_since: Option<Tick>,
    /// Whether the wheel has an entry for that.
    pub(crate) has_input_timer: bool,
    /// When it has lasted as long as it may.
    pub(crate) expires: Tick,
    /// Until when it has used what it may publish, in nanoseconds of the node's clock.
    pub(crate) published_until: u64,
    /// Its place among the node's sessions.
    pub(crate) _seat: Seat,
    /// When something was last written: silence since then is for the heartbeat.
    pub(crate) last_written: Tick,
    /// What the worker's ledger was told of this session's input and control frames.
    pub(crate) charged: Charged,
    /// The topics whose history it is given before it holds them.
    pub(crate) catch_ups: Option<Box<CatchUps>>,
}

/// What the worker's ledger holds on account of one session, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Charged {
    pub(crate) input: u32,
    pub(crate) control: u32,
    /// Whether its socket is full.
    pub(crate) socket: bool,
}

/// Names a session for as long as it lives. The key alone may have passed to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub(crate) key: SessionKey,
    pub(crate) id: SessionId,
}

/// What a session's client may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Frames are payloads, for this target if it may publish at all.
    Plain { publish: Option<PublishTarget>, close_on_gap: bool },
    /// Frames are commands.
    Json,
    /// Nothing: the stream goes one way.
    Sse,
}

/// What becomes of the frames of a plain session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishTarget {
    pub(crate) topic: Topic,
    /// Whether the session hears its own messages.
    pub(crate) echo: bool,
    /// Whether a broker beyond the node carries the payload alone.
    pub(crate) bare: bool,
    /// What is set in each message.
    pub(crate) stamp: Option<Rc<Stamp>>,
}

/// Where a session stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It holds its topics, but its head isn't written yet, so nothing may be.
    Opening,
    /// Messages flow.
    Open,
    /// The close frame or the end of the stream is on its way; over at the deadline.
    Closing { reason: CloseReason, deadline: Tick },
}

impl Role {
    /// A WebSocket whose client only listens.
    pub(crate) const RECEIVE_ONLY: Self = Self::Plain { publish: None, close_on_gap: false };

    /// The longest message that this client may send.
    pub(crate) fn max_message_bytes(&self, limits: &Limits) -> usize {
        match self {
            Self::Plain { .. } => limits.payload_bytes,
            // A frame may hold several commands.
            Self::Json => limits.body_bytes,
            Self::Sse => 0,
        }
    }
}

impl Session {
    /// Whether it is given the history of a topic that it is about to hold.
    pub(crate) fn catches_up_with(&self, topic: &Topic) -> bool {
        self.catch_ups.as_ref().is_some_and(|catch_ups| catch_ups.has(topic))
    }

    /// Whether there is nothing to do when all is written.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Open && self.catch_ups.is_none() && self.charged.control == 0
    }

    /// Takes note whether the socket is full, and so what the kernel may hold.
    pub(crate) fn set_blocked(&mut self, blocked: bool, ledger: &Ledger, socket_bytes: usize) {
        let bytes = |is_full| if is_full { socket_bytes } else { 0 };
        let is_full = blocked && matches!(self.wire, Wire::Tcp(_));
        let was_full = std::mem::replace(&mut self.charged.socket, is_full);
        ledger.change(Held::Sockets, bytes(was_full), bytes(is_full));
        self.blocked = blocked;
    }

    /// Whether its client doesn't take in what it is sent. A session that waits for its next turn is
    /// blocked too.
    pub(crate) fn is_held_up(&self) -> bool {
        self.blocked && (self.charged.socket || matches!(self.wire, Wire::H2(_)))
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }
}
