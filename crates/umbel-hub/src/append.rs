//! From a batch of messages to logs and marks.

use slab::Slab;
use umbel_protocol::{Delivery, Dialect, GapReason, PayloadKind, Position, Stand, Topic};

use crate::encoding::Encoding;
use crate::keys::{SubscriptionKey, TopicKey};
use crate::lane::Lane;
use crate::log::Log;
use crate::session::Subscription;
use crate::{Hub, OnSlow, Tally, Terms};

/// What appending to the lanes of one topic changes besides them.
struct Appending<'h> {
    topic: TopicKey,
    on_slow: OnSlow,
    /// Where the topic stood before, and stands behind what is appended.
    before: Option<Position>,
    after: Option<Position>,
    #[allow(clippy::vec_box, reason = "as the hub has it")]
    spare: &'h mut Vec<Box<Log>>,
    touched: &'h mut Vec<(TopicKey, Encoding)>,
    tally: &'h mut Tally,
}

impl Appending<'_> {
    /// Appends a frame to a lane that has subscribers.
    fn append(&mut self, lane: &mut Lane, append: impl FnOnce(&mut Log)) {
        let log = lane.log.get_or_insert_with(|| {
            let mut log = self.spare.pop().unwrap_or_default();
            // Who asks is a session with a cursor of its own, and who falls behind and reads on
            // from history.
            let asked = lane.encoding.without_id || self.on_slow == OnSlow::Drop;
            log.restart(lane.kind, lane.next, self.before.filter(|_| asked));
            self.tally.log_bytes += log.capacity();
            log
        });
        let capacity = log.capacity();
        append(log);
        if let Some(after) = self.after {
            log.reached(after);
        }
        self.tally.log_bytes += log.capacity() - capacity;
        lane.next += 1;
        if !std::mem::replace(&mut lane.touched, true) {
            self.touched.push((self.topic, lane.encoding));
        }
    }
}

impl<S> Hub<S> {
    /// Appends messages to the logs of their topics and marks every subscription concerned as due.
    /// Messages of topics without subscribers are passed over.
    ///
    /// HOT PATH: one lookup per message, one encode per message and encoding in use, one mark per
    /// subscription and batch. No allocation but for growing logs, no lock, no log line.
    pub fn fan_out<'m>(&mut self, batch: impl IntoIterator<Item = &'m Delivery>) {
        for delivery in batch {
            self.append(delivery, delivery.received);
        }
        self.mark_appended();
    }

    /// Appends one message to the log of its topic, unless the topic has it behind it already.
    /// `published` is when it was published, by the caller's clock. [`Hub::mark_appended`] must
    /// follow.
    ///
    /// HOT PATH.
    pub fn append(&mut self, delivery: &Delivery, published: u64) {
        let Delivery { message, life, .. } = delivery;
        let Some(&topic) = self.names.get(&message.topic) else {
            return;
        };
        let event_names = &self.event_names;
        let Self { spare, touched, tally, .. } = self;
        let state = &mut self.topics[topic.index()];
        let before = state.stand.map(|stand| stand.position);
        let mut after = None;
        if let Some(id) = message.id {
            if state.stand.is_some_and(|stand| !stand.is_before(*life, id.offset)) {
                return;
            }
            after = Some(Position(Some(id)));
            state.stand = Some(Stand { life: *life, position: Position(Some(id)) });
        }
        let Terms { on_slow, tag } = state.terms;
        let mut appending = Appending { topic, on_slow, before, after, spare, touched, tally };
        appending.tally.by_tag[tag.index()].fanned_out += 1;
        state.for_each_lane(|lane| {
            appending.tally.by_tag[tag.index()].expected += lane.subscribers.len() as u64;
            let Encoding { dialect, .. } = lane.encoding;
            let style = lane.encoding.style(event_names);
            let is_base64 =
                dialect == Dialect::Sse && message.payload.kind() == PayloadKind::Binary;
            appending.tally.base64 += u64::from(is_base64);
            appending.append(lane, |log| {
                log.append(published, message.origin, |out| {
                    dialect.write_message(out, message, style);
                });
            });
        });
    }

    /// Tells every subscription of a topic of a gap, behind what came before it, and where the
    /// topic with history stands behind the gap. Returns how many subscriptions that concerns,
    /// those of the plain dialect included, which can't be told. [`Hub::mark_appended`] must
    /// follow.
    pub fn append_gap(
        &mut self,
        name: &Topic,
        reason: GapReason,
        stand: Option<Stand>,
        published: u64,
    ) -> u64 {
        let Some(&topic) = self.names.get(name) else {
            return 0;
        };
        let mut concerned = 0;
        let subscriptions = &self.subscriptions;
        let Self { spare, touched, tally, .. } = self;
        let state = &mut self.topics[topic.index()];
        let before = state.stand.map(|stand| stand.position);
        if let Some(stand) = stand {
            if state.stand.is_some_and(|known| !known.is_before(stand.life, stand.offset())) {
                return 0;
            }
            state.stand = Some(stand);
        }
        let (on_slow, after) = (state.terms.on_slow, stand.map(|stand| stand.position));
        let mut appending = Appending { topic, on_slow, before, after, spare, touched, tally };
        state.for_each_lane(|lane| {
            concerned += lane.subscribers.len() as u64;
            let Encoding { dialect, .. } = lane.encoding;
            let told = after.filter(|_| !lane.encoding.without_id);
            // Who is still to be told of the last gap needs no word of this one.
            if dialect.tells_gaps() && !all_await_a_notice(lane, subscriptions) {
                appending.append(lane, |log| {
                    log.append_notice(published, |out| dialect.write_gap(out, name, reason, told));
                });
            }
        });
        self.tally.gaps += concerned;
        concerned
    }

    /// Marks every subscription of the topics that were appended to as due.
    ///
    /// HOT PATH: one mark per subscription and batch.
    pub fn mark_appended(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for (topic, encoding) in touched.drain(..) {
            self.mark_due(topic, encoding);
        }
        self.touched = touched;
    }

    /// Marks every subscription of a lane as due.
    fn mark_due(&mut self, topic: TopicKey, encoding: Encoding) {
        let lane = self.topics[topic.index()].lane_mut(encoding);
        lane.touched = false;
        lane.behind = u32::try_from(lane.subscribers.len()).expect("fewer than 2^32 subscriptions");
        if let Some(log) = &mut lane.log
            && log.wants_trim()
        {
            let positions =
                lane.subscribers.iter().map(|key| self.subscriptions[key.index()].position);
            let capacity = log.capacity();
            log.trim(positions.min().unwrap_or(lane.next));
            self.tally.log_bytes = self.tally.log_bytes + log.capacity() - capacity;
        }
        for &key in &lane.subscribers {
            let subscription = &mut self.subscriptions[key.index()];
            if std::mem::replace(&mut subscription.due, true) {
                // Behind already: what is new lies behind what it has to write anyway.
                let session = &mut self.sessions[subscription.session.index()];
                if !std::mem::replace(&mut session.queued, true) {
                    self.due.push_back(subscription.session);
                }
                continue;
            }
            let session_key = subscription.session;
            let session = &mut self.sessions[session_key.index()];
            match session.last_due.replace(key) {
                Some(last) => self.subscriptions[last.index()].next_due = Some(key),
                None => session.first_due = Some(key),
            }
            if !std::mem::replace(&mut session.queued, true) {
                self.due.push_back(session_key);
            }
        }
    }
}

/// Whether the newest frame is a notice that every subscriber has before it.
fn all_await_a_notice(lane: &Lane, subscriptions: &Slab<Subscription>) -> bool {
    let notice = lane.log.as_deref().and_then(Log::newest_notice);
    notice.is_some_and(|notice| {
        let position = |key: &SubscriptionKey| subscriptions[key.index()].position;
        lane.subscribers.iter().all(|key| position(key) <= notice)
    })
}

#[cfg(test)]
mod tests {
    use crate::{Hub, OnSlow, SessionKey};
    use umbel_protocol::{Dialect, GapReason, SessionId, Topic};

    fn gaps_pending(hub: &mut Hub<()>, session: SessionKey) -> usize {
        let pending = hub.pending(session).collect::<Vec<_>>().concat();
        hub.advance(session, pending.len());
        String::from_utf8(pending).unwrap().matches("umbel.gap").count()
    }

    #[test]
    fn a_gap_is_told_once_to_who_has_not_heard_of_the_last_one_and_again_to_who_has() {
        let mut hub = Hub::new(1 << 20);
        let topic = Topic::new("a").unwrap();
        let sessions = [1, 2].map(|id| hub.open(SessionId(id), Dialect::Sse, ()));
        for session in sessions {
            hub.subscribe(session, &topic, OnSlow::Disconnect, None).unwrap();
        }
        let gap = |hub: &mut Hub<()>| {
            assert_eq!(hub.append_gap(&topic, GapReason::BrokerLink, None, 0), 2);
            hub.mark_appended();
        };
        gap(&mut hub);
        gap(&mut hub);
        assert_eq!(gaps_pending(&mut hub, sessions[0]), 1, "nothing lies between the two");
        gap(&mut hub);
        assert_eq!(gaps_pending(&mut hub, sessions[0]), 1, "it has heard of the others");
        assert!(gaps_pending(&mut hub, sessions[1]) >= 1);
        assert_eq!((hub.tally().gaps, hub.tally().expected(), hub.tally().delivered()), (6, 0, 0));
    }
}
