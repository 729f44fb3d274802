//! The fan-out core: a log per topic, a position per subscription.
//!
//! In each worker a topic that has subscribers keeps a short [log](log) of frames, encoded once
//! per encoding in use (a dialect, or SSE with a default event name), framing included. A subscription is a position in that log. To deliver is
//! to write all that lies between the position and the end; there is no queue per session.
//!
//! ```text
//!  fan_out(batch) ──► log of the topic, one lane per encoding ─► marks each subscription due
//!                                                                          │
//!  next_due() ──► pending(session): slices of the logs ──► the caller's write ──► advance(session, n)
//! ```
//!
//! The hub does no I/O and knows no sockets, no broker and no clock. What the caller attaches to a
//! session (`S`) lives in the same slot as the hub's own state, so that a delivery touches one
//! place in memory per session.
//!
//! **Invariants**
//!
//! - A message is encoded once per encoding in use; its bytes are never copied per session, but for the
//!   rest of a frame that was partly written when the position had to move.
//! - Frames of one topic reach a session in the order in which they were appended, whole, or not
//!   at all; what is skipped is counted by reason ([`Tally`]).
//! - A log holds what its subscriptions are behind by, and is given back when none is.
//! - What a session is [replayed](Segment) of a topic's history comes before the topic is held, and is
//!   shared by all who are replayed the same.

mod append;
mod composite;
mod cut;
mod encoding;
mod hub;
mod keys;
mod lane;
mod log;
mod pending;
mod replay;
mod session;
mod slow;
mod tally;
mod wait;

pub use hub::{AlreadySubscribed, Hub, NotSubscribed, Subscribed, Unsubscribed};
pub use keys::SessionKey;
pub use lane::Terms;
pub use pending::Pending;
pub use replay::{Segment, SharedBy};
pub use slow::{Left, OnSlow, Verdict};
pub use tally::{Skipped, Tag, TagTally, Tally};
pub use wait::Wait;
