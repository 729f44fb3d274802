//! Memory: what a worker holds, and what it does when the node is short of it.
//!
//! Four times a second each worker says what it holds and looks at what all do. Short of memory it
//! lets nobody in; then whoever is behind may be less so, and meets the topic's policy earlier;
//! and if that doesn't suffice, those furthest behind are cut off.

use std::cmp::Reverse;

use umbel_hub::{Hub, SessionKey};
use umbel_metrics::LabelSet;

use super::labels::Limit;
use super::{Held, Worker};
use crate::budget::Pressure;
use crate::session::{CloseReason, Session};

/// What a session, a subscription and a topic take in tables, about (measured: 1108 bytes for a
/// session with one topic).
const SESSION_BYTES: usize = 1024;
const SUBSCRIPTION_BYTES: usize = 96;
const TOPIC_BYTES: usize = 512;

/// However short memory is, a client may be so many of the longest messages behind, which who reads
/// takes at its next turn; with their framing, and in base64.
const LEAST_BEHIND_MESSAGES: usize = 3;

/// If the logs of a worker hold less than this part of its share, shortening them would help nobody.
const LOGS_PART: usize = 4;

/// Which part of those that are behind goes at a time, at least one.
const SHED_PART: usize = 10;

impl Worker {
    /// Says what is held, and does what has to be done about it.
    pub(super) fn mind_memory(&self) {
        self.count_tables();
        let logs = self.hub.borrow().tally().log_bytes;
        let all = self.held_in_all() + logs + self.history_bytes();
        self.budget.holds(self.id.index(), all, logs);
        let pressure = self.budget.pressure();
        self.metrics.allowance_bytes.set_count(self.allowance.get());
        if pressure < Pressure::Shorten {
            return self.allow_more();
        }
        if logs > self.budget.share() / LOGS_PART {
            self.allow_less();
        }
        if pressure == Pressure::Shed {
            self.shed();
        }
    }

    /// Whether what clients send at once, and what is held by one kind of holder, has become too
    /// much: more than its share in the budget.
    pub(crate) fn is_over_share(&self, by: Held) -> bool {
        self.ledger.held(by) > self.budget.share()
    }

    /// Closes the session that holds most of unfinished frames.
    pub(crate) fn close_largest_input(&self, hub: &mut Hub<Session>) {
        let held = |key: &SessionKey| hub.get(*key).map_or(0, |session| session.charged.input);
        let Some(largest) = hub.sessions().max_by_key(held) else {
            return;
        };
        self.metrics.limited.of(Limit::Memory).add(1);
        let text = "the node is short of memory for unfinished frames";
        self.close(hub, largest, CloseReason::Overloaded, text);
        if let Some(state) = hub.get_mut(largest) {
            // What it still says isn't listened to.
            let before = std::mem::take(&mut state.charged.input);
            drop(std::mem::take(&mut state.incoming));
            self.ledger.change(Held::Input, before as usize, 0);
        }
    }

    /// What is held besides the logs.
    fn held_in_all(&self) -> usize {
        Held::ALL.iter().map(|held| self.held(*held)).sum()
    }

    /// What one kind of holder has.
    pub(super) fn held(&self, held: Held) -> usize {
        match held {
            Held::Mailbox => self.mailbox.bytes(),
            Held::Replays => self.segments.borrow().bytes() + self.ledger.held(held),
            Held::Control => self.hub.borrow().cut_bytes() + self.ledger.held(held),
            _ => self.ledger.held(held),
        }
    }

    /// The history of the whole node, which the first worker counts.
    fn history_bytes(&self) -> usize {
        if self.id.index() == 0 { self.broker.history_bytes() } else { 0 }
    }

    fn count_tables(&self) {
        let hub = self.hub.borrow();
        let bytes = hub.session_count() * SESSION_BYTES
            + hub.subscription_count() * SUBSCRIPTION_BYTES
            + hub.topic_count() * TOPIC_BYTES;
        self.ledger.change(Held::Tables, self.ledger.held(Held::Tables), bytes);
    }

    /// Gives back what was taken while memory was short, step by step.
    fn allow_more(&self) {
        let (now, most) = (self.allowance.get(), self.limits.behind_bytes);
        if now < most {
            self.set_allowance(now.saturating_mul(2).min(most));
        }
    }

    /// Lets sessions be half as far behind as before, and holds those that are further to it.
    fn allow_less(&self) {
        let mut hub = self.hub.borrow_mut();
        let held = hub.tally().log_bytes;
        let least = self.limits.payload_bytes.saturating_mul(LEAST_BEHIND_MESSAGES);
        let less = (self.allowance.get().min(held) / 2).max(least).min(self.limits.behind_bytes);
        self.set_allowance_of(&mut hub, less);
        for key in behind(&hub) {
            self.hold_to_budget(&mut hub, key);
        }
        hub.shorten_logs();
    }

    fn set_allowance(&self, bytes: usize) {
        self.set_allowance_of(&mut self.hub.borrow_mut(), bytes);
    }

    fn set_allowance_of(&self, hub: &mut Hub<Session>, bytes: usize) {
        self.allowance.set(bytes);
        hub.set_behind_bytes(bytes);
    }

    /// Cuts off some of those furthest behind: who has taken nothing in for longest, and among
    /// them who holds most. What they could be told they wouldn't read.
    fn shed(&self) {
        let mut hub = self.hub.borrow_mut();
        let mut behind = behind(&hub);
        behind.sort_by_cached_key(|key| {
            let session = hub.get(*key).expect("it was there a moment ago");
            let kept = session.charged.input as usize + session.charged.control as usize;
            (session.last_written, Reverse(hub.behind_bytes_of(*key) + kept))
        });
        let count = behind.len().div_ceil(SHED_PART);
        for key in behind.into_iter().take(count) {
            self.metrics.limited.of(Limit::Memory).add(1);
            self.remove(&mut hub, key, CloseReason::Memory);
        }
        hub.shorten_logs();
        if count > 0 {
            let (sessions, limit) = (count, self.budget.limit());
            tracing::warn!(
                sessions,
                limit,
                held = self.budget.held(),
                "Memory is short: sessions furthest behind are cut off"
            );
        }
    }
}

/// Those whose clients don't take in what they are sent. A stream whose last piece waits for window
/// is one only if more is due.
fn behind(hub: &Hub<Session>) -> Vec<SessionKey> {
    let is_behind =
        |key: &SessionKey| hub.get(*key).is_some_and(Session::is_held_up) && !hub.is_drained(*key);
    hub.sessions().filter(is_behind).collect()
}
