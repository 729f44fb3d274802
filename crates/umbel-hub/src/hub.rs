//! The hub: topics, subscriptions and sessions of one worker.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use slab::Slab;
use umbel_protocol::{Dialect, SessionId, Stand, Topic};

use crate::cut::{Cut, CutFrames};
use crate::encoding::{Encoding, EventNames};
use crate::keys::{SessionKey, SubscriptionKey, TopicKey};
use crate::lane::TopicState;
use crate::log::{Ahead, Log};
use crate::replay::Share;
use crate::session::{Session, Subscription};
use crate::tally::Skipped;
use crate::wait::Waits;
use crate::{Pending, Segment, Tally, Terms};

/// Topics, subscriptions and sessions of one worker. `S` is what the caller keeps per session.
#[derive(Debug)]
pub struct Hub<S> {
    pub(crate) behind_bytes: usize,
    pub(crate) names: HashMap<Topic, TopicKey>,
    pub(crate) topics: Slab<TopicState>,
    pub(crate) subscriptions: Slab<Subscription>,
    pub(crate) sessions: Slab<Session<S>>,
    pub(crate) due: VecDeque<SessionKey>,
    /// Lanes that the batch at hand has appended to.
    pub(crate) touched: Vec<(TopicKey, Encoding)>,
    /// Empty logs with their allocations, for the next topics that need one. Boxed as the lanes
    /// have them: a quiet lane is small, and a log moves by its pointer.
    #[allow(clippy::vec_box)]
    pub(crate) spare: Vec<Box<Log>>,
    pub(crate) event_names: EventNames,
    cut_frames: CutFrames,
    pub(crate) waits: Waits,
    pub(crate) tally: Tally,
}

/// How many empty logs are kept. A batch seldom touches more topics whose sessions can't be
/// written at once; each holds at most 64 KiB.
const SPARE_LOGS: usize = 64;

/// A topic is held from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// Whether it is the first subscription of this topic in the hub.
    pub first: bool,
}

/// A topic isn't held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribed {
    /// Whether it was the last subscription of this topic in the hub.
    pub last: bool,
}

/// The session holds the topic already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadySubscribed;

/// The session doesn't hold the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSubscribed;

impl<S> Hub<S> {
    /// An empty hub. `behind_bytes` is how far behind a subscription, and all of a session
    /// together, may be before the topic's [`OnSlow`] applies.
    pub fn new(behind_bytes: usize) -> Self {
        Self {
            behind_bytes,
            names: HashMap::new(),
            topics: Slab::new(),
            subscriptions: Slab::new(),
            sessions: Slab::new(),
            due: VecDeque::new(),
            touched: Vec::new(),
            spare: Vec::new(),
            event_names: EventNames::default(),
            cut_frames: CutFrames::default(),
            waits: Waits::default(),
            tally: Tally::default(),
        }
    }

    /// Adds a session that holds nothing yet.
    pub fn open(&mut self, id: SessionId, dialect: Dialect, data: S) -> SessionKey {
        SessionKey::new(self.sessions.insert(Session::new(id, dialect, data)))
    }

    /// Removes a session with all that it holds and gives back what the caller attached.
    ///
    /// `left` is called for each topic of which the hub now has no subscription.
    pub fn close(&mut self, session: SessionKey, left: impl FnMut(&Topic)) -> S {
        self.leave_all(session, left);
        self.sessions.remove(session.index()).data
    }

    /// Ends all subscriptions of a session but lets what was begun be finished: the rest of a
    /// frame partly written stays to be written, before any control frame.
    pub fn leave_all(&mut self, session: SessionKey, mut left: impl FnMut(&Topic)) {
        // First what is due, in the order of its list, where each is found at once.
        while let Some(first) = self.sessions[session.index()].first_due {
            self.skip_rest(session, first);
        }
        let held = std::mem::take(&mut self.sessions[session.index()].subscriptions);
        for (topic, subscription) in held {
            let name = self.end_subscription(session, topic, subscription);
            if let Some(name) = name {
                left(&name);
            }
        }
    }

    /// Lets a session hold a topic, from the next message on. `stand` is where a topic with history
    /// stands if the hub doesn't have it yet: what is appended up to there is passed over.
    pub fn subscribe(
        &mut self,
        session: SessionKey,
        name: &Topic,
        terms: impl Into<Terms>,
        stand: Option<Stand>,
    ) -> Result<Subscribed, AlreadySubscribed> {
        let topic = match self.names.get(name) {
            Some(&topic) => topic,
            None => self.add_topic(name, terms.into(), stand),
        };
        let first = self.topics[topic.index()].is_empty();
        let held = &self.sessions[session.index()].subscriptions;
        let Err(slot) = held.binary_search_by_key(&topic, |held| held.0) else {
            return Err(AlreadySubscribed);
        };
        let subscription = self.add_subscription(session, topic);
        self.sessions[session.index()].subscriptions.insert(slot, (topic, subscription));
        Ok(Subscribed { first })
    }

    /// Gives a topic up. Frames that were due are skipped, but for one partly written.
    pub fn unsubscribe(
        &mut self,
        session: SessionKey,
        name: &Topic,
    ) -> Result<Unsubscribed, NotSubscribed> {
        let topic = *self.names.get(name).ok_or(NotSubscribed)?;
        let held = &mut self.sessions[session.index()].subscriptions;
        let slot = held.binary_search_by_key(&topic, |held| held.0).map_err(|_| NotSubscribed)?;
        let (_, subscription) = held.remove(slot);
        let left = self.end_subscription(session, topic, subscription);
        Ok(Unsubscribed { last: left.is_some() })
    }

    /// The next session for which something is due; each is given once until more is due.
    pub fn next_due(&mut self) -> Option<SessionKey> {
        while let Some(key) = self.due.pop_front() {
            // A key may be stale: its session was closed, perhaps the slot is used again.
            if let Some(session) = self.sessions.get_mut(key.index())
                && std::mem::take(&mut session.queued)
            {
                return Some(key);
            }
        }
        None
    }

    /// What is to be written to a session now, in order.
    ///
    /// HOT PATH: once per session and batch.
    pub fn pending(&self, session: SessionKey) -> Pending<'_, S> {
        Pending::new(self, session)
    }

    /// Takes note that so many bytes were written to a session in one go, whatever they are.
    ///
    /// HOT PATH: once per write.
    pub fn count_write(&mut self, bytes: usize) {
        self.tally.writes += 1;
        self.tally.written_bytes += bytes as u64;
    }

    /// How many gaps there were, all together.
    pub fn gaps(&self) -> u64 {
        self.tally.gaps
    }

    /// How many bytes were written, all together.
    pub fn written_bytes(&self) -> u64 {
        self.tally.written_bytes
    }

    /// Takes note that the first `written` bytes of [`Hub::pending`] were written. To be called also
    /// when nothing was pending, since then own frames may have been passed over.
    ///
    /// HOT PATH: once per session and write.
    pub fn advance(&mut self, session: SessionKey, mut written: usize) {
        if self.sessions[session.index()].partial == 0 {
            written -= self.advance_control(session, written);
        }
        if self.sessions[session.index()].composite.is_some() {
            debug_assert_eq!(written, 0, "what was due was rendered among its own bytes");
            return;
        }
        let mut is_noted = false;
        while let Some(key) = self.sessions[session.index()].first_due {
            written -= self.advance_subscription(session, key, written, &mut is_noted);
            if self.subscriptions[key.index()].due {
                break;
            }
            // The rest of the frame that control frames waited for is out.
            written -= self.advance_control(session, written);
        }
        debug_assert_eq!(written, 0, "more was written than was pending");
    }

    /// Whether nothing is left to be written to a session.
    pub fn is_drained(&self, session: SessionKey) -> bool {
        let state = &self.sessions[session.index()];
        state.first_due.is_none() && state.control.is_empty()
    }

    /// The frames for a session alone: whole frames may be appended. The caller writes them out.
    pub fn control(&mut self, session: SessionKey) -> &mut Vec<u8> {
        self.sessions[session.index()].control.bytes_mut()
    }

    /// How many bytes of control frames wait, without what the session shares with others.
    pub fn control_len(&self, session: SessionKey) -> usize {
        self.sessions[session.index()].control.own_bytes()
    }

    /// Whether nothing but what is due waits to be written.
    pub fn is_control_empty(&self, session: SessionKey) -> bool {
        self.sessions[session.index()].control.is_empty()
    }

    /// What the caller attached to a session.
    pub fn get(&self, session: SessionKey) -> Option<&S> {
        self.sessions.get(session.index()).map(|session| &session.data)
    }

    /// What the caller attached to a session.
    pub fn get_mut(&mut self, session: SessionKey) -> Option<&mut S> {
        self.sessions.get_mut(session.index()).map(|session| &mut session.data)
    }

    /// The dialect that a session was opened with.
    pub fn dialect(&self, session: SessionKey) -> Dialect {
        self.sessions[session.index()].encoding.dialect
    }

    /// How many topics a session holds.
    pub fn held(&self, session: SessionKey) -> usize {
        self.sessions[session.index()].subscriptions.len()
    }

    /// Whether any session holds a topic.
    pub fn holds_any(&self, name: &Topic) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a session holds a topic.
    pub fn holds(&self, session: SessionKey, name: &Topic) -> bool {
        self.names.get(name).is_some_and(|topic| {
            let held = &self.sessions[session.index()].subscriptions;
            held.binary_search_by_key(topic, |held| held.0).is_ok()
        })
    }

    /// The sessions that hold a topic in one dialect.
    pub fn subscribers(&self, name: &Topic, dialect: Dialect) -> impl Iterator<Item = SessionKey> {
        let topic = self.names.get(name).map(|topic| &self.topics[topic.index()]);
        topic
            .into_iter()
            .flat_map(move |topic| topic.lanes_of(dialect))
            .flat_map(|lane| &lane.subscribers)
            .map(|key| self.subscriptions[key.index()].session)
    }

    /// How many subscriptions there are to a topic.
    pub fn subscriber_count(&self, name: &Topic) -> usize {
        let topic = self.names.get(name).map(|topic| &self.topics[topic.index()]);
        let lanes = |dialect| topic.into_iter().flat_map(move |topic| topic.lanes_of(dialect));
        let all = Dialect::ALL.into_iter().flat_map(lanes);
        all.map(|lane| lane.subscribers.len()).sum()
    }

    /// The keys of all open sessions.
    pub fn sessions(&self) -> impl Iterator<Item = SessionKey> {
        self.sessions.iter().map(|(index, _)| SessionKey::new(index))
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many topics have subscriptions.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        self.waits.add_to(&mut tally);
        tally
    }

    /// The most bytes that a session was found behind by since the last call.
    pub fn take_furthest(&mut self) -> usize {
        std::mem::take(&mut self.tally.furthest)
    }

    /// What is kept of frames for those who have got a part of them, in bytes.
    pub fn cut_bytes(&self) -> usize {
        self.cut_frames.bytes()
    }

    /// Gives memory back that tables hold beyond four times their need. For a quiet moment: it
    /// walks what it shrinks.
    pub fn shrink(&mut self) {
        self.cut_frames.forget();
        if is_oversized(self.names.len(), self.names.capacity()) {
            self.names.shrink_to_fit();
        }
        if is_oversized(self.topics.len(), self.topics.capacity()) {
            self.topics.shrink_to_fit();
        }
        if is_oversized(self.subscriptions.len(), self.subscriptions.capacity()) {
            self.subscriptions.shrink_to_fit();
        }
        if is_oversized(self.sessions.len(), self.sessions.capacity()) {
            self.sessions.shrink_to_fit();
        }
        if is_oversized(self.due.len(), self.due.capacity()) {
            self.due.shrink_to_fit();
        }
        if is_oversized(self.touched.len(), self.touched.capacity()) {
            self.touched.shrink_to_fit();
        }
    }

    /// Gives back what logs hold beyond what is still to be written, and forgets spare ones. For
    /// when memory is short: it walks all topics and their subscriptions.
    pub fn shorten_logs(&mut self) {
        self.spare.clear();
        self.cut_frames.forget();
        let Self { topics, subscriptions, tally, .. } = self;
        for (_, topic) in topics {
            topic.for_each_lane(|lane| {
                let positions =
                    lane.subscribers.iter().map(|key| subscriptions[key.index()].position);
                let slowest = positions.min().unwrap_or(lane.next);
                if let Some(log) = &mut lane.log {
                    let capacity = log.capacity();
                    log.trim(slowest);
                    log.shrink();
                    tally.log_bytes = tally.log_bytes + log.capacity() - capacity;
                }
            });
        }
    }

    /// Where a topic that is held stands; `None` if it isn't held.
    pub fn stand(&self, name: &Topic) -> Option<Option<Stand>> {
        Some(self.topics[self.names.get(name)?.index()].stand)
    }

    fn add_topic(&mut self, name: &Topic, terms: Terms, stand: Option<Stand>) -> TopicKey {
        let key = TopicKey::new(self.topics.insert(TopicState::new(name.clone(), terms, stand)));
        self.names.insert(name.clone(), key);
        key
    }

    fn add_subscription(&mut self, session: SessionKey, topic: TopicKey) -> SubscriptionKey {
        let encoding = self.sessions[session.index()].encoding;
        let lane = self.topics[topic.index()].lane_or_new(encoding);
        let key = SubscriptionKey::new(self.subscriptions.insert(Subscription {
            session,
            topic,
            encoding,
            due: false,
            gap_waiting: false,
            place: u32::try_from(lane.subscribers.len()).expect("fewer than 2^32 subscriptions"),
            next_due: None,
            position: lane.next,
        }));
        lane.subscribers.push(key);
        key
    }

    /// Removes a subscription that its session doesn't list any more. Gives the topic's name if it
    /// was the last one.
    pub(crate) fn end_subscription(
        &mut self,
        session: SessionKey,
        topic: TopicKey,
        key: SubscriptionKey,
    ) -> Option<Topic> {
        self.skip_rest(session, key);
        let Subscription { encoding, place, .. } = self.subscriptions.remove(key.index());
        let state = &mut self.topics[topic.index()];
        let lane = state.lane_mut(encoding);
        lane.subscribers.swap_remove(place as usize);
        if let Some(moved) = lane.subscribers.get(place as usize) {
            self.subscriptions[moved.index()].place = place;
        } else if lane.subscribers.is_empty() {
            state.remove_lane(encoding);
            self.cut_frames.forget_lane(topic, encoding);
        }
        if !state.is_empty() {
            return None;
        }
        let state = self.topics.remove(topic.index());
        self.names.remove(&state.name);
        Some(state.name)
    }

    /// Makes a subscription that ends skip what is due, but for a frame partly written.
    fn skip_rest(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.finish_partial_frame(session, key);
        let Subscription { due, topic, encoding, .. } = self.subscriptions[key.index()];
        if due {
            let end = self.topics[topic.index()].lane(encoding).next;
            self.move_position(session, key, end, Skipped::Ended);
        }
    }

    #[allow(clippy::inline_always, reason = "a session seldom has bytes of its own")]
    #[inline(always)]
    fn advance_control(&mut self, session: SessionKey, written: usize) -> usize {
        if self.sessions[session.index()].control.is_empty() {
            return 0;
        }
        self.advance_own(session, written)
    }

    fn advance_own(&mut self, session: SessionKey, written: usize) -> usize {
        let state = &mut self.sessions[session.index()];
        let (taken, replayed) = state.control.advance(written);
        self.tally.replayed += replayed;
        if state.gaps_waiting && state.control.is_empty() {
            state.gaps_waiting = false;
            for (_, key) in &state.subscriptions {
                self.subscriptions[key.index()].gap_waiting = false;
            }
        }
        taken
    }

    /// Moves the first due subscription by what was written of it; returns the bytes used. A write is
    /// noted by the first message that it delivers.
    fn advance_subscription(
        &mut self,
        session: SessionKey,
        key: SubscriptionKey,
        written: usize,
        is_noted: &mut bool,
    ) -> usize {
        let state = &mut self.sessions[session.index()];
        let subscription = &mut self.subscriptions[key.index()];
        let lane = self.topics[subscription.topic.index()].lane(subscription.encoding);
        let log = lane.log();
        let Ahead { subject, bytes } = log.ahead_of(subscription.position);
        let rest = bytes - state.partial as usize;
        // Nearly always all is written, of messages that the session is to hear.
        let (used, delivered) = if log.is_simple() && written >= rest {
            let delivered = lane.next - subscription.position;
            subscription.position = lane.next;
            state.partial = 0;
            (rest, delivered)
        } else {
            let step = log.step(subscription.position, state.partial, state.id, written);
            subscription.position = step.position;
            state.partial = step.partial;
            self.tally.skip(Skipped::Own, step.own);
            (step.used, step.delivered)
        };
        if delivered > 0 {
            if std::mem::replace(is_noted, true) {
                self.tally.by_tag[subject.tag().index()].delivered += delivered;
            } else {
                self.waits.note(subject, delivered);
            }
        }
        if subscription.position == lane.next {
            self.caught_up(session, key);
        }
        used
    }

    /// Takes the first due subscription of a session, which has nothing to be written any more,
    /// out of the list; the last one of the lane gives the log back.
    pub(crate) fn caught_up(&mut self, session: SessionKey, key: SubscriptionKey) {
        self.unlink_due(session, key);
        let subscription = &self.subscriptions[key.index()];
        let lane = self.topics[subscription.topic.index()].lane_mut(subscription.encoding);
        lane.behind -= 1;
        if lane.behind == 0
            && let Some(log) = lane.log.take()
        {
            self.tally.log_bytes -= log.capacity();
            if self.spare.len() < SPARE_LOGS && log.is_worth_keeping() {
                self.spare.push(log);
            }
        }
    }

    fn unlink_due(&mut self, session: SessionKey, key: SubscriptionKey) {
        let next = self.subscriptions[key.index()].next_due.take();
        self.subscriptions[key.index()].due = false;
        let state = &mut self.sessions[session.index()];
        let mut previous = None;
        let mut at = state.first_due;
        while let Some(here) = at
            && here != key
        {
            previous = at;
            at = self.subscriptions[here.index()].next_due;
        }
        match previous {
            Some(previous) => self.subscriptions[previous.index()].next_due = next,
            None => state.first_due = next,
        }
        if state.last_due == Some(key) {
            state.last_due = previous;
        }
    }

    pub(crate) fn log_of(&self, key: SubscriptionKey) -> &Log {
        let subscription = &self.subscriptions[key.index()];
        self.topics[subscription.topic.index()].lane(subscription.encoding).log()
    }

    /// If a frame of this subscription is partly written, hands its rest over to the session, so
    /// that the position may move.
    pub(crate) fn finish_partial_frame(&mut self, session: SessionKey, key: SubscriptionKey) {
        let state = &mut self.sessions[session.index()];
        if state.partial == 0 || state.first_due != Some(key) {
            return;
        }
        let partial = std::mem::take(&mut state.partial);
        if state.control.is_empty() {
            let frame = self.cut_frame(key);
            let rest = Share::rest_of(frame, partial as usize);
            self.sessions[session.index()].control.push_share(rest);
        } else {
            let Subscription { topic, encoding, position, .. } = self.subscriptions[key.index()];
            let log = self.topics[topic.index()].lane(encoding).log();
            let rest = log.rest_of_frame(position, partial);
            self.sessions[session.index()].control.push_front(rest);
        }
        let subscription = &mut self.subscriptions[key.index()];
        let topic = &self.topics[subscription.topic.index()];
        let lane = topic.lane(subscription.encoding);
        let is_message = !lane.log().is_notice(subscription.position);
        subscription.position += 1;
        self.tally.by_tag[topic.terms.tag.index()].delivered += u64::from(is_message);
        if subscription.position == lane.next {
            self.caught_up(session, key);
        }
    }

    /// The frame that a subscription stands in, as one copy for all that do.
    fn cut_frame(&mut self, key: SubscriptionKey) -> Rc<Segment> {
        let Subscription { topic, encoding, position, .. } = self.subscriptions[key.index()];
        let log = self.topics[topic.index()].lane(encoding).log();
        self.cut_frames.frame(Cut { topic, encoding, position }, log.frame(position))
    }

    /// Moves a due subscription, of which no frame is partly written, forward.
    pub(crate) fn move_position(
        &mut self,
        session: SessionKey,
        key: SubscriptionKey,
        to: u64,
        reason: Skipped,
    ) {
        let subscription = &mut self.subscriptions[key.index()];
        debug_assert!(to >= subscription.position, "a position never moves back");
        let lane = self.topics[subscription.topic.index()].lane(subscription.encoding);
        self.tally.skip(reason, lane.log().messages_between(subscription.position, to));
        subscription.position = to;
        if to == lane.next {
            self.caught_up(session, key);
        }
    }
}

fn is_oversized(len: usize, capacity: usize) -> bool {
    const SMALL: usize = 1024;
    capacity > SMALL && len < capacity / 4
}
