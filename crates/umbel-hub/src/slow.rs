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
//! | `disconnect` | nowhere | close code 4408 |

use umbel_protocol::GapReason;

use crate::Hub;
use crate::keys::{SessionKey, SubscriptionKey};
use crate::tally::Skipped;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The session is within its budget.
    Within,
    /// Positions were moved; `gap` says whether messages of a topic under `drop` are lost to it.
    Moved {
        /// Whether a gap was told (or, for the plain dialect, counted).
        gap: bool,
    },
    /// The session must be closed.
    Disconnect,
}

/// A due subscription and what counts of what it is behind by.
#[derive(Clone, Copy)]
struct Behind {
    key: SubscriptionKey,
    bytes: usize,
}

impl<S> Hub<S> {
    /// Holds a session that can't be written to its budget. To be called whenever a write was cut
    /// short and whenever more became due since.
    pub fn enforce(&mut self, session: SessionKey) -> Verdict {
        let budget = self.behind_bytes;
        let mut verdict = Verdict::Within;
        loop {
            let (sum, furthest) = self.measure(session);
            self.tally.furthest = self.tally.furthest.max(sum);
            let Some(furthest) = furthest else {
                return verdict;
            };
            let keep = if furthest.bytes > budget {
                budget / 2
            } else if sum > budget {
                furthest.bytes / 2
            } else {
                return verdict;
            };
            let gap = match self.policy_of(furthest.key) {
                OnSlow::Disconnect => return Verdict::Disconnect,
                OnSlow::Drop => {
                    self.drop_oldest(session, furthest.key, keep);
                    true
                }
                OnSlow::Latest => {
                    self.keep_newest(session, furthest.key);
                    false
                }
            };
            verdict = Verdict::Moved { gap: gap || verdict == Verdict::Moved { gap: true } };
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
        if topic.on_slow == OnSlow::Latest
            && log.newest_message().is_none_or(|newest| from >= newest)
        {
            return 0;
        }
        log.bytes_from(from)
    }

    fn policy_of(&self, key: SubscriptionKey) -> OnSlow {
        self.topics[self.subscriptions[key.index()].topic.index()].on_slow
    }

    fn drop_oldest(&mut self, session: SessionKey, key: SubscriptionKey, keep: usize) {
        self.finish_partial_frame(session, key);
        let log = self.log_of(key);
        let to = log.position_within(keep);
        self.move_position(session, key, to, Skipped::SlowDrop);
        self.tell_gap(session, key);
    }

    fn keep_newest(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.finish_partial_frame(session, key);
        // Only what is behind a message counts, so there is one.
        if let Some(newest) = self.log_of(key).newest_message() {
            self.move_position(session, key, newest, Skipped::SlowLatest);
        }
    }

    fn tell_gap(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.tally.gaps += 1;
        let subscription = &mut self.subscriptions[key.index()];
        if std::mem::replace(&mut subscription.gap_waiting, true) {
            return;
        }
        let topic = &self.topics[subscription.topic.index()].name;
        let state = &mut self.sessions[session.index()];
        state.gaps_waiting = true;
        state.encoding.dialect.write_gap(state.control.bytes_mut(), topic, GapReason::Slow);
    }
}
