//! One topic, followed without a hole.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use umbel_protocol::{After, Delivery, GapReason, MessageId, Position, Stand, Topic};

use super::{Ask, Fetching, Fit, Hands};
use crate::history::{Budget, History, Lack, Page, Ring, Start, before, crosses, resume};
use crate::redis::answer::Answer;
use crate::{FetchError, Parcel};

/// How much of a topic is held back while it is repaired, in bytes. Beyond it what came is given
/// up: it is in the history, which is read again.
const HELD_BYTES: usize = 4 << 20;

/// A topic.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) ring: Ring,
    /// Whether the ring's stand is the server's word.
    known: bool,
    /// Why the server doesn't say, if it refuses to.
    refused: Option<FetchError>,
    /// What came and doesn't fit yet. `Some` as long as something is missing.
    held: Option<Held>,
    follow: Follow,
    /// How often the server was asked.
    asks: u64,
    /// Whether a message came since the last check.
    heard: bool,
    /// How many checks there were since a message came.
    quiet: u32,
    subscription: Subscription,
    /// Whether the topic's history is more than the ring is for.
    is_deep: bool,
    /// Who waits until the ring is filled.
    filling: Option<Arc<Notify>>,
    /// What was read for readers that want more than the ring has.
    pub(super) pages: Vec<Arc<Page>>,
    /// Who waits for such a read, by their places.
    readers: Vec<(After, Vec<Reply<Placed>>)>,
    /// Who waits until all that the server has by now is known here, and how often it had been asked
    /// when they came.
    confirming: Vec<(u64, Reply<()>)>,
    /// Where the server stood when it was asked for the nth time, of what is still on its way.
    awaited: VecDeque<(u64, u64)>,
}

/// Where a reader begins, of a topic that stands there.
pub(super) type Placed = (Start, Stand);

type Reply<T> = oneshot::Sender<Result<T, FetchError>>;

/// What is held back.
#[derive(Debug, Default)]
struct Held {
    messages: Vec<Delivery>,
    bytes: usize,
    /// How many of them had come when the server was asked last: it knew of them then.
    asked: usize,
}

/// What comes by the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    /// Nothing that could be counted on.
    None,
    /// Everything from now on. How often the server had been asked until then.
    Confirmed { asks: u64 },
    /// The server was asked since: nothing is missing but what is on its way.
    Intact,
}

/// Whether the server is asked what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    Idle,
    /// It is to be, but nobody waits for it.
    Check,
    /// It is to be.
    Wanted,
    UnderWay,
}

/// What an answer to [`Ask::Follow`] came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) is_first: bool,
    /// Whether the server had refused to say it before.
    pub(super) was_refused: bool,
    pub(super) repaired: u64,
    pub(super) asks_again: bool,
}

/// What an answer was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// So many messages were missing and are handed on.
    Repaired(u64),
    /// What it has no more is coming by the channel.
    OnItsWay,
    /// The topic went on meanwhile.
    Outdated,
}

/// How a message fits behind where a topic stands.
enum Place {
    Next,
    Before,
    Elsewhere,
}

/// What part of the node's history one topic's ring may be filled with: more would push out what
/// others have.
const FILL_PART: usize = 4;

impl Track {
    pub(super) fn new(history: History, life: u64) -> Self {
        let stand = Stand { life, position: Position::START };
        Self {
            ring: Ring::copy(history, stand),
            known: false,
            refused: None,
            held: None,
            follow: Follow::Idle,
            asks: 0,
            heard: false,
            quiet: 0,
            subscription: Subscription::None,
            is_deep: false,
            filling: None,
            pages: Vec::new(),
            readers: Vec::new(),
            confirming: Vec::new(),
            awaited: VecDeque::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    pub(super) fn is_behind(&self) -> bool {
        self.held.is_some()
    }

    /// How much is held back, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes)
    }

    /// Gives up what is held back: it is read again. Whether the server must be asked.
    pub(super) fn drop_held(&mut self) -> bool {
        self.held = Some(Held::default());
        self.wants_follow()
    }

    /// How often the server was asked so far.
    pub(super) fn asks(&self) -> u64 {
        self.asks
    }

    pub(super) fn known_stand(&self) -> Option<Stand> {
        self.known.then(|| self.ring.stand())
    }

    /// Whether nothing was heard of it since the last call.
    pub(super) fn is_quiet(&mut self) -> bool {
        let is_quiet = !std::mem::take(&mut self.heard);
        self.quiet = if is_quiet { self.quiet.saturating_add(1) } else { 0 };
        is_quiet
    }

    /// The server has confirmed the subscription. Whether it must be asked what was missed.
    pub(super) fn confirmed(&mut self) -> bool {
        self.subscription = Subscription::Confirmed { asks: self.asks };
        self.wants_follow()
    }

    /// Has the server asked what comes next when nobody else wants to ask; false if it is asked
    /// already.
    pub(super) fn wants_check(&mut self) -> bool {
        let is_idle = self.follow == Follow::Idle;
        if is_idle {
            self.follow = Follow::Check;
        }
        is_idle
    }

    /// Whether the check is still to be made.
    pub(super) fn awaits_check(&self) -> bool {
        self.follow == Follow::Check
    }

    /// Whether all that came is here, as far as anybody knows, and nobody waits for the server's word: that it has
    /// nothing else would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        let is_intact = self.subscription == Subscription::Intact;
        let is_complete = self.known && !self.is_behind();
        is_complete && is_intact && self.confirming.is_empty() && self.awaited.is_empty()
    }

    /// Takes the server's word on where the topic stands, given when it stood at `compared` here. True if that is what
    /// is known: the check is over.
    pub(super) fn agrees(&mut self, compared: Stand, server: u32, end: Option<Position>) -> bool {
        let stand = self.ring.stand();
        // Where nothing was published, another server says it of an epoch of its own.
        let is_empty = |end: Position| end.offset() == 0 && stand.offset() == 0;
        let is_same = |end| end == compared.position || end == stand.position || is_empty(end);
        let is_same = end.is_some_and(is_same);
        let agrees = is_same && compared.life == stand.life && server == self.ring.server();
        if agrees {
            self.follow = Follow::Idle;
        }
        agrees
    }

    /// Has the server asked what comes next; false if it is asked already.
    pub(super) fn wants_follow(&mut self) -> bool {
        std::mem::replace(&mut self.follow, Follow::Wanted) != Follow::Wanted
    }

    /// The server is asked now: what comes behind this?
    pub(super) fn begin_follow(&mut self) -> After {
        self.follow = Follow::UnderWay;
        self.asks += 1;
        if let Some(held) = &mut self.held {
            held.asked = held.messages.len();
        }
        if self.known { After::Position(self.ring.stand().position) } else { After::Latest(0) }
    }

    /// What was asked won't be answered.
    pub(super) fn lost(&mut self) {
        self.follow = Follow::Idle;
        self.subscription = Subscription::None;
        // All of it is in the history, which is read once the link is back.
        if let Some(held) = &mut self.held {
            *held = Held::default();
        }
        let text = "the link to the broker was lost".to_owned();
        let error = FetchError { passes: true, text };
        for (_, replies) in std::mem::take(&mut self.readers) {
            answer_all(replies, &Err(error.clone()));
        }
        self.confirm(u64::MAX, &Err(error));
        self.awaited.clear();
        self.end_filling();
    }

    /// Answers those who came before the server was asked for the `asks`th time.
    fn confirm(&mut self, asks: u64, outcome: &Result<(), FetchError>) {
        let confirmed = self.confirming.extract_if(.., |(came, _)| *came < asks);
        answer_all(confirmed.map(|(_, reply)| reply), outcome);
    }

    /// Takes a message that came by the channel. Tells how it fits, and whether the server must be
    /// asked.
    pub(super) fn received(&mut self, delivery: Delivery, hands: &mut Hands<'_>) -> (Fit, bool) {
        let id = delivery.message.id.expect("messages without an id have no place here");
        self.heard = true;
        self.quiet = 0;
        let is_first = !self.known;
        if is_first {
            let stand = Stand { position: before(id), ..self.ring.stand() };
            self.know(stand, hands.budget);
        }
        if self.held.is_none() {
            match self.place_of(id) {
                Place::Next => {
                    if matches!(self.subscription, Subscription::Confirmed { .. }) {
                        // Nothing lies between what was known before it and now.
                        self.subscription = Subscription::Intact;
                    }
                    let stand = self.ring.stand();
                    self.hand_on(delivery, hands);
                    return (if is_first { Fit::First(stand) } else { Fit::Next }, false);
                }
                Place::Before => return (Fit::Duplicate, false),
                Place::Elsewhere => {}
            }
        }
        (Fit::Held, self.hold(delivery))
    }

    /// It is found out where the topic stands.
    fn know(&mut self, stand: Stand, budget: &mut Budget) {
        self.known = true;
        self.refused = None;
        self.ring.restart(stand, budget);
    }

    /// Holds a message back; whether the server must be asked.
    fn hold(&mut self, delivery: Delivery) -> bool {
        let is_new = self.held.is_none();
        let held = self.held.get_or_insert_default();
        held.bytes += Budget::weight(&delivery);
        held.messages.push(delivery);
        if held.bytes > HELD_BYTES {
            return self.drop_held();
        }
        is_new && self.wants_follow()
    }

    /// Takes the server's answer to what comes behind `asked`, which it was asked as the `asks`th
    /// time; `None` if it was only asked where the topic stands.
    pub(super) fn followed(
        &mut self,
        asked: Option<Stand>,
        asks: u64,
        answer: &Answer,
        messages: Vec<Delivery>,
        hands: &mut Hands<'_>,
    ) -> Followed {
        let mut followed = Followed::default();
        let is_newest = asks == self.asks;
        let is_asked_again = !is_newest || self.follow == Follow::Wanted;
        if !is_asked_again {
            self.follow = Follow::Idle;
        }
        let mut judged = Judged::Repaired(0);
        let leads_nowhere = answer.more && messages.is_empty() && self.known;
        let life = self.ring.stand().life;
        if !self.known {
            followed.was_refused = self.refused.is_some();
            let stand = Stand { position: answer.facts.end, ..self.ring.stand() };
            self.know(stand, hands.budget);
            followed.is_first = true;
        } else if let Some(asked) = asked {
            judged = if asked.life == life {
                self.take_answer(asked, answer, messages, hands)
            } else {
                Judged::Outdated
            };
        }
        let lacks = match judged {
            Judged::Repaired(_) if leads_nowhere => {
                let text = "its entries are no messages".to_owned();
                self.give_up(&FetchError { passes: false, text }, hands);
                false
            }
            Judged::Repaired(count) => {
                followed.repaired = count;
                let is_behind = self.held.is_some() || answer.more;
                is_behind && self.go_on(is_newest, answer.more, hands)
            }
            Judged::OnItsWay => {
                let end = answer.facts.end.offset();
                if end <= self.ring.stand().offset() {
                    self.confirm(asks, &Ok(()));
                } else {
                    self.awaited.push_back((asks, end));
                }
                false
            }
            Judged::Outdated => true,
        };
        followed.asks_again = lacks && !is_asked_again && self.wants_follow();
        if matches!(judged, Judged::Repaired(_)) && !self.is_behind() {
            match self.subscription {
                Subscription::Confirmed { asks: before } if asks > before => {
                    self.subscription = Subscription::Intact;
                }
                _ => {}
            }
            self.confirm(asks, &Ok(()));
        }
        followed
    }

    /// Hands on what the server has behind what was handed on last.
    fn take_answer(
        &mut self,
        asked: Stand,
        answer: &Answer,
        messages: Vec<Delivery>,
        hands: &mut Hands<'_>,
    ) -> Judged {
        if asked.offset() == 0 && answer.facts.end.offset() == 0 {
            // Another server, perhaps, where nothing was published so far: what comes next will tell.
            return Judged::Repaired(0);
        }
        let first = messages.first().and_then(|first| first.message.id);
        let start = resume(asked.position, &answer.facts).settled(first);
        if let Some(reason) = start.gap {
            if self.is_on_its_way(reason) {
                return Judged::OnItsWay;
            }
            if self.ring.stand().position != asked.position {
                return Judged::Outdated;
            }
            self.tell_gap(reason, start.position, hands);
        }
        let mut repaired = 0;
        for delivery in messages {
            let id = delivery.message.id.expect("entries without an id are no messages");
            if id.offset <= self.ring.stand().offset() {
                continue;
            }
            if crosses(self.ring.stand().position, id) {
                self.tell_gap(GapReason::Rewound, before(id), hands);
            }
            repaired += 1;
            self.hand_on(delivery, hands);
        }
        Judged::Repaired(repaired)
    }

    /// Whether what the server holds no more is still to come by the channel: a history of few
    /// messages is soon ahead of what was read from there. If nothing comes for two checks, it
    /// won't.
    fn is_on_its_way(&self, reason: GapReason) -> bool {
        let was_published = reason == GapReason::TooOld;
        let is_intact = self.subscription == Subscription::Intact;
        was_published && is_intact && self.held.is_none() && self.quiet < 2
    }

    /// Hands on what was held back, if all before it is there. Whether the server must be asked
    /// again.
    fn go_on(&mut self, is_newest: bool, more: bool, hands: &mut Hands<'_>) -> bool {
        let held = self.held.take().unwrap_or_default();
        // What came since may lie behind what the server knew when it answered.
        let known = if is_newest { held.asked } else { 0 };
        if more {
            // What comes meanwhile has to wait, too.
            self.held = Some(Held { asked: 0, ..held });
            return true;
        }
        let mut messages = held.messages.into_iter().enumerate();
        while let Some((at, delivery)) = messages.next() {
            let id = delivery.message.id.expect("only messages with an id are held back");
            match self.place_of(id) {
                Place::Next => self.hand_on(delivery, hands),
                Place::Before => {}
                Place::Elsewhere if at < known => {
                    // The server was asked after this came, and doesn't have what lies before it.
                    let went_back = crosses(self.ring.stand().position, id);
                    let reason = if went_back { GapReason::Rewound } else { GapReason::TooOld };
                    self.tell_gap(reason, before(id), hands);
                    self.hand_on(delivery, hands);
                }
                Place::Elsewhere => {
                    let asked = held.asked.saturating_sub(at);
                    let mut kept = Held { asked, ..Held::default() };
                    let rest = messages.map(|(_, delivery)| delivery);
                    for delivery in std::iter::once(delivery).chain(rest) {
                        kept.bytes += Budget::weight(&delivery);
                        kept.messages.push(delivery);
                    }
                    self.held = Some(kept);
                    return true;
                }
            }
        }
        false
    }

    /// The server can't be asked about this topic: what came is handed on, and what is missing
    /// before it is told.
    pub(super) fn give_up(&mut self, error: &FetchError, hands: &mut Hands<'_>) {
        self.follow = Follow::Idle;
        self.confirm(u64::MAX, &Err(error.clone()));
        if !self.known {
            self.refused = Some(error.clone());
        }
        let Some(held) = self.held.take() else {
            return;
        };
        for delivery in held.messages {
            let id = delivery.message.id.expect("only messages with an id are held back");
            match self.place_of(id) {
                Place::Next => {}
                Place::Before => continue,
                Place::Elsewhere => self.tell_gap(GapReason::BrokerLink, before(id), hands),
            }
            self.hand_on(delivery, hands);
        }
    }

    /// Fills the ring with all that the history holds.
    pub(super) fn fill(
        &mut self,
        asked: Stand,
        answer: &Answer,
        mut messages: Vec<Delivery>,
        budget: &mut Budget,
    ) {
        let stand = self.ring.stand();
        let until = self.ring.first_id().map_or(stand.offset() + 1, |first| first.offset);
        let reaches = answer.facts.end.offset() + 1 >= until && self.is_of(&messages);
        messages.retain(|delivery| delivery.message.id.is_some_and(|id| id.offset < until));
        let bytes: usize = messages.iter().map(Budget::weight).sum();
        let fits = !answer.more && bytes <= budget.limit() / FILL_PART;
        if asked.life != stand.life || !reaches || !fits {
            // A page will do for whoever waits.
            self.is_deep = true;
        } else {
            for delivery in &mut messages {
                delivery.life = stand.life;
            }
            self.ring.push_front(messages, true, budget);
        }
        self.end_filling();
    }

    /// The server doesn't give the whole history: who waits for it will ask for a page and be told.
    pub(super) fn refuse_ring(&mut self) {
        self.is_deep = true;
        self.end_filling();
    }

    /// Whether messages that were read are of the same row as those on the ring.
    fn is_of(&self, messages: &[Delivery]) -> bool {
        let known = self.ring.first_id().or(self.ring.stand().position.0);
        let Some(known) = known else {
            return true;
        };
        let same = messages.iter().filter_map(|delivery| delivery.message.id);
        same.filter(|id| id.offset == known.offset).all(|id| id == known)
    }

    fn end_filling(&mut self) {
        if let Some(filling) = self.filling.take() {
            filling.notify_waiters();
        }
    }

    /// What a reader has to wait for, and what must be asked for it.
    pub(super) fn fetch(
        &mut self,
        topic: &Topic,
        after: After,
        lack: Lack,
    ) -> Result<(Fetching, Option<Ask>), FetchError> {
        if !self.known {
            let text = || format!("it is not known yet where `{topic}` stands");
            let unknown = || FetchError { passes: true, text: text() };
            return Err(self.refused.clone().unwrap_or_else(unknown));
        }
        if lack == Lack::Confirmation {
            let (reply, confirmed) = oneshot::channel();
            self.confirming.push((self.asks, reply));
            let ask = self.wants_follow().then(|| Ask::Follow(topic.clone()));
            return Ok((Fetching::Confirmation(confirmed), ask));
        }
        if self.ring.is_whole() {
            // It was filled since the reader looked.
            let filled = Arc::new(Notify::new());
            filled.notify_one();
            return Ok((Fetching::Ring(filled.notified_owned()), None));
        }
        if !self.is_deep {
            let is_new = self.filling.is_none();
            let filling = self.filling.get_or_insert_default();
            let waiting = Fetching::Ring(filling.clone().notified_owned());
            return Ok((waiting, is_new.then(|| Ask::Whole(topic.clone()))));
        }
        let (reply, place) = oneshot::channel();
        if let Some((_, replies)) = self.readers.iter_mut().find(|(known, _)| *known == after) {
            replies.push(reply);
            return Ok((Fetching::Page(place), None));
        }
        self.readers.push((after, vec![reply]));
        Ok((Fetching::Page(place), Some(Ask::Page(topic.clone(), after))))
    }

    /// Takes the server's answer to what comes behind a place, tells who waits for it where to go on,
    /// and gives the page that they find it on. What the ring has itself is left out.
    pub(super) fn take_page(
        &mut self,
        after: After,
        answer: &Answer,
        mut messages: Vec<Delivery>,
    ) -> Arc<Page> {
        let stand = self.ring.stand();
        let next = messages.first().and_then(|first| first.message.id);
        let start = match after {
            After::Position(position) => resume(position, &answer.facts).settled(next),
            After::Latest(_) => {
                Start { position: next.map_or(answer.facts.end, before), gap: None }
            }
        };
        let until = self.ring.first_id().map_or(stand.offset() + 1, |first| first.offset);
        messages.retain(|delivery| delivery.message.id.is_some_and(|id| id.offset < until));
        for delivery in &mut messages {
            delivery.life = stand.life;
        }
        // Not all entries are messages.
        let known = if answer.more { answer.last_offset() } else { None };
        let end = known.unwrap_or(answer.facts.end.offset()).min(until - 1);
        if answer.more && next.is_none() {
            let text = "its entries are no messages".to_owned();
            self.refuse_page(after, &FetchError { passes: false, text });
        }
        let page = Arc::new(Page::new(stand.life, start.position, end, messages));
        self.pages.push(page.clone());
        self.answer_readers(after, &Ok((start, stand)));
        // Others whose place is on it go on from there.
        for (place, replies) in std::mem::take(&mut self.readers) {
            match place {
                After::Position(position @ Position(Some(id))) if page.has(id) => {
                    answer_all(replies, &Ok((Start { position, gap: None }, stand)));
                }
                _ => self.readers.push((place, replies)),
            }
        }
        page
    }

    /// Whether somebody still waits for a page behind this place.
    pub(super) fn is_wanted(&mut self, after: After) -> bool {
        for (_, replies) in self.readers.iter_mut().filter(|(place, _)| *place == after) {
            replies.retain(|reply| !reply.is_closed());
        }
        self.readers.retain(|(_, replies)| !replies.is_empty());
        self.readers.iter().any(|(place, _)| *place == after)
    }

    pub(super) fn refuse_page(&mut self, after: After, error: &FetchError) {
        self.answer_readers(after, &Err(error.clone()));
    }

    fn answer_readers(&mut self, after: After, outcome: &Result<Placed, FetchError>) {
        if let Some(at) = self.readers.iter().position(|(place, _)| *place == after) {
            let (_, replies) = self.readers.swap_remove(at);
            answer_all(replies, outcome);
        }
    }

    fn place_of(&self, id: MessageId) -> Place {
        let stand = self.ring.stand().position;
        if !stand.goes_on_in(id.epoch) || id.offset > stand.offset() + 1 {
            Place::Elsewhere
        } else if id.offset == stand.offset() + 1 {
            Place::Next
        } else {
            Place::Before
        }
    }

    fn hand_on(&mut self, mut delivery: Delivery, hands: &mut Hands<'_>) {
        delivery.life = self.ring.stand().life;
        self.ring.push(delivery.clone(), hands.budget);
        hands.parcels.push(Parcel::Message(delivery));
        while let Some((asks, end)) = self.awaited.front().copied()
            && end <= self.ring.stand().offset()
        {
            self.awaited.pop_front();
            self.confirm(asks, &Ok(()));
        }
    }

    fn tell_gap(&mut self, reason: GapReason, position: Position, hands: &mut Hands<'_>) {
        *hands.lives += 1;
        let stand = Stand { life: *hands.lives, position };
        self.ring.restart(stand, hands.budget);
        self.is_deep = false;
        self.pages.clear();
        self.awaited.clear();
        let topic = hands.topic.clone();
        hands.parcels.push(Parcel::Gap { topic, reason, stand: Some(stand) });
    }
}

/// Who has gone meanwhile needs no answer.
fn answer_all<T: Clone>(
    replies: impl IntoIterator<Item = Reply<T>>,
    outcome: &Result<T, FetchError>,
) {
    for reply in replies {
        let _ = reply.send(outcome.clone());
    }
}
