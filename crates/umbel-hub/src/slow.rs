//! Slow consumers: the whole policy in one place.
//!
//! A subscription is slow when it is further behind than its budget of bytes, or when all
//! subscriptions of its session together are; then the one that is furthest behind gives way. The
//! frame that is being written doesn't count. What happens is a move of the position:
//!
//! | policy | the position moves to | the client is told |
//! |---|---|---|
//! | `latest` | the newest frame | nothing: the topic carries values, not a history |
//! | `drop` | the first frame within half the budget | one gap |
//! | `drop`, with history | out of the log: the subscription ends and reads on from history | nothing, unless history falls short |
//! | `disconnect` | nowhere | close code 4408 |

use umbel_protocol::{GapReason, Position, Topic};

use crate::keys::{SessionKey, SubscriptionKey};
use crate::tally::Skipped;
use crate::{Hub, Terms};

/// What becomes of a subscription that is further behind than its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSlow {
    /// Close the session; it comes back and resumes.
    #[default]
    Disconnect,
    /// Drop the oldest frames and tell a gap.
    Drop,
    /// Keep only the newest frame (conflation).
    Latest,
}

impl OnSlow {
    /// All policies, for settings and metrics.
    pub const ALL: [Self; 3] = [Self::Disconnect, Self::Drop, Self::Latest];

    /// The policy's name in settings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Drop => "drop",
            Self::Latest => "latest",
        }
    }
}

/// What [`Hub::enforce`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session is within its budget.
    Within,
    /// Positions were moved.
    Moved {
        /// Whether messages of a topic under `drop` are lost to the session, which was told of a
        /// gap (or, for the plain dialect, it was counted).
        gap: bool,
        /// What the session doesn't hold any more, since history has it.
        left: Vec<Left>,
    },
    /// The session must be closed.
    Disconnect,
}

/// A topic that a session doesn't hold any more: it is to be given what comes behind `after` from
/// the topic's history, and then to hold it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which topic.
    pub topic: Topic,
    /// What it was held under.
    pub terms: Terms,
    /// What the session has got.
    pub after: Position,
    /// Whether it was the topic's last subscription in the hub.
    pub last: bool,
}

/// A due subscription and what counts of what it is behind by.
#[derive(Clone, Copy)]
struct Behind {
    key: SubscriptionKey,
    bytes: usize,
}

impl<S> Hub<S> {
    /// Changes how far behind a subscription, and all of a session together, may be. It holds for
    /// each session from the next time that it is [enforced](Self::enforce).
    pub fn set_behind_bytes(&mut self, behind_bytes: usize) {
        self.behind_bytes = behind_bytes;
    }

    /// How many bytes a session is behind by, all its subscriptions together.
    pub fn behind_bytes_of(&self, session: SessionKey) -> usize {
        self.measure(session).0
    }

    /// Holds a session that can't be written to its budget. To be called whenever a write was cut
    /// short and whenever more became due since.
    pub fn enforce(&mut self, session: SessionKey) -> Verdict {
        let budget = self.behind_bytes;
        let (mut moved, mut gap, mut left) = (false, false, Vec::new());
        loop {
            let (sum, furthest) = self.measure(session);
            self.tally.furthest = self.tally.furthest.max(sum);
            let Some(Behind { key, bytes }) = furthest.filter(|_| sum > budget) else {
                return if moved { Verdict::Moved { gap, left } } else { Verdict::Within };
            };
            let keep = if bytes > budget { budget / 2 } else { bytes / 2 };
            moved = true;
            match self.policy_of(key) {
                OnSlow::Disconnect => return Verdict::Disconnect,
                OnSlow::Drop => {
                    self.finish_partial_frame(session, key);
                    if let Some(topic) = self.leave_behind(session, key) {
                        left.push(topic);
                    } else {
                        self.drop_oldest(session, key, keep);
                        gap = true;
                    }
                }
                OnSlow::Latest => self.keep_newest(session, key),
            }
        }
    }

    /// What a session is behind by in all, and the subscription with the largest part in it.
    fn measure(&self, session: SessionKey) -> (usize, Option<Behind>) {
        let state = &self.sessions[session.index()];
        let (mut sum, mut furthest) = (0, None::<Behind>);
        let (mut next, mut partial) = (state.first_due, state.partial);
        while let Some(key) = next {
            let bytes = self.counted_bytes(key, std::mem::take(&mut partial));
            sum += bytes;
            if bytes > furthest.map_or(0, |f| f.bytes) {
                furthest = Some(Behind { key, bytes });
            }
            next = self.subscriptions[key.index()].next_due;
        }
        (sum, furthest)
    }

    fn counted_bytes(&self, key: SubscriptionKey, partial: u32) -> usize {
        let subscription = &self.subscriptions[key.index()];
        let topic = &self.topics[subscription.topic.index()];
        let log = topic.lane(subscription.encoding).log();
        let from = subscription.position + u64::from(partial > 0);
        // Under `latest` the newest frame always stays: there is nothing to gain.
        if topic.terms.on_slow == OnSlow::Latest
            && log.newest_message().is_none_or(|newest| from >= newest)
        {
            return 0;
        }
        log.bytes_from(from)
    }

    fn policy_of(&self, key: SubscriptionKey) -> OnSlow {
        self.topics[self.subscriptions[key.index()].topic.index()].terms.on_slow
    }

    /// Ends a subscription of a topic with history, which has what it lacks.
    fn leave_behind(&mut self, session: SessionKey, key: SubscriptionKey) -> Option<Left> {
        let subscription = &self.subscriptions[key.index()];
        let (topic, position) = (subscription.topic, subscription.position);
        let after = self.log_of(key).stood_before(position)?;
        let state = &self.topics[topic.index()];
        let (name, terms) = (state.name.clone(), state.terms);
        let end = state.lane(subscription.encoding).next;
        self.move_position(session, key, end, Skipped::CatchUp);
        self.sessions[session.index()].subscriptions.retain(|(_, held)| *held != key);
        let last = self.end_subscription(session, topic, key).is_some();
        Some(Left { topic: name, terms, after, last })
    }

    fn drop_oldest(&mut self, session: SessionKey, key: SubscriptionKey, keep: usize) {
        let log = self.log_of(key);
        let to = log.position_within(keep);
        self.move_position(session, key, to, Skipped::SlowDrop);
        self.tell_slow(session, key);
    }

    fn keep_newest(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.finish_partial_frame(session, key);
        // Only what is behind a message counts, so there is one.
        if let Some(newest) = self.log_of(key).newest_message() {
            self.move_position(session, key, newest, Skipped::SlowLatest);
        }
    }

    fn tell_slow(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.tally.gaps += 1;
        let subscription = &mut self.subscriptions[key.index()];
        if std::mem::replace(&mut subscription.gap_waiting, true) {
            return;
        }
        let topic = &self.topics[subscription.topic.index()].name;
        let state = &mut self.sessions[session.index()];
        state.gaps_waiting = true;
        let dialect = state.encoding.dialect;
        dialect.write_gap(state.control.bytes_mut(), topic, GapReason::Slow, None);
    }
}
