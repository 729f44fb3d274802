//! What a session is to be written next, as slices of logs.

use umbel_protocol::SessionId;

use crate::Hub;
use crate::keys::SubscriptionKey;
use crate::log::Runs;
use crate::session::ControlSlices;

/// Slices in the order in which they must be written; made by [`Hub::pending`].
///
/// Mostly there is exactly one: all that is new of one topic.
#[derive(Debug)]
pub struct Pending<'h, S> {
    hub: &'h Hub<S>,
    session: SessionId,
    /// Frames for this session alone; empty once given.
    control: ControlSlices<'h>,
    /// Set while the rest of a frame must precede the control frames.
    control_waits: bool,
    runs: Option<Runs<'h>>,
    next: Option<SubscriptionKey>,
}

impl<'h, S> Pending<'h, S> {
    /// HOT PATH: once per session and batch.
    #[allow(clippy::inline_always, reason = "a call would cost the hot path 15 instructions")]
    #[inline(always)]
    pub(crate) fn new(hub: &'h Hub<S>, key: crate::SessionKey) -> Self {
        let session = &hub.sessions[key.index()];
        let mut pending = Self {
            hub,
            session: session.id,
            control: session.control.pending(),
            control_waits: session.partial > 0,
            runs: None,
            // What is due to a session with a cursor of its own is rendered among its own bytes.
            next: if session.composite.is_none() { session.first_due } else { None },
        };
        pending.next_subscription(session.partial);
        pending
    }

    fn next_subscription(&mut self, partial: u32) {
        self.runs = self.next.map(|key| {
            let subscription = &self.hub.subscriptions[key.index()];
            self.next = subscription.next_due;
            let topic = &self.hub.topics[subscription.topic.index()];
            let log = topic.lane(subscription.encoding).log();
            log.runs(subscription.position, partial, self.session)
        });
    }
}

impl<'h, S> Iterator for Pending<'h, S> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        loop {
            if !self.control_waits && !self.control.is_empty() {
                return self.control.next();
            }
            if let Some(run) = self.runs.as_mut()?.next() {
                return Some(run);
            }
            self.control_waits = false;
            self.next_subscription(0);
            if self.runs.is_none() && self.control.is_empty() {
                return None;
            }
        }
    }
}
