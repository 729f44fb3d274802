//! The recent messages of one topic.
//!
//! They lie in the order of their offsets and none is missing between them. The memory broker's
//! rings are all there is of a topic's history; a Redis broker's are a node's own copy of the end
//! of it, so that a reader seldom has to ask the server.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;
use umbel_protocol::{After, Delivery, GapReason, MessageId, Position, Stand, Timestamp};

use super::{Budget, Facts, History, Start, before, resume};

/// The ring of a topic.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) history: History,
    messages: VecDeque<Delivery>,
    stand: Stand,
    /// Whether its first message is the oldest that the topic's history holds.
    whole: bool,
    /// Whether it is a copy of what a server has: the server may be further.
    is_copy: bool,
    /// The upper half of epochs that begin now.
    server: u32,
    /// Readers that wait for more, and how many there may be before it is looked who gave up.
    waiting: Vec<Arc<Notify>>,
    waiting_limit: usize,
}

/// What a ring says about a reader's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Located {
    /// It goes on there.
    At(Start),
    /// The ring doesn't reach so far back; the server does, perhaps.
    Unknown,
    /// The ring doesn't know the place; it may be one that the server has reached and the ring not
    /// yet.
    Unconfirmed,
}

impl Ring {
    /// An empty ring of a topic that stands there, and which is all that there is of its history.
    pub(crate) fn new(history: History, stand: Stand, server: u32) -> Self {
        Self {
            history,
            messages: VecDeque::new(),
            stand,
            whole: true,
            is_copy: false,
            server,
            waiting: Vec::new(),
            waiting_limit: 0,
        }
    }

    /// An empty ring for a copy of what a server has.
    pub(crate) fn copy(history: History, stand: Stand) -> Self {
        Self { whole: false, is_copy: true, ..Self::new(history, stand, 0) }
    }

    /// Where the topic stands.
    pub(crate) fn stand(&self) -> Stand {
        self.stand
    }

    /// Whether its first message is the oldest that the topic's history holds.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Which server it is a copy of, by its own word.
    pub(crate) fn server(&self) -> u32 {
        self.server
    }

    pub(crate) fn set_server(&mut self, server: u32) {
        self.server = server;
    }

    /// The oldest message on it.
    pub(crate) fn first_id(&self) -> Option<MessageId> {
        self.messages.front().and_then(|first| first.message.id)
    }

    /// Whether a message of this offset is on it.
    pub(crate) fn has(&self, offset: u64) -> bool {
        let at = self.index_behind(offset);
        at > 0 && offset_of(&self.messages[at - 1]) == offset
    }

    /// Puts the message on it that follows all that is there, and takes off what is more than the
    /// topic's history holds.
    pub(crate) fn push(&mut self, mut delivery: Delivery, budget: &mut Budget) {
        let id = delivery.message.id.expect("a message with history has an id");
        debug_assert!(id.offset > self.stand.offset(), "offsets grow");
        self.stand = Stand { life: delivery.life, position: id.into() };
        let now = delivery.message.published;
        if self.messages.front().is_some_and(|first| self.is_expired(first, now)) {
            self.expire(now, budget);
        }
        // To read history is no part of the publisher's trace.
        delivery.message.trace = None;
        budget.add(&delivery);
        self.messages.push_back(delivery);
        let most = self.history.messages as usize;
        while self.messages.len() > most {
            self.drop_first(budget);
        }
        if !self.waiting.is_empty() {
            self.waiting.drain(..).for_each(|reader| reader.notify_one());
        }
    }

    /// Puts messages before all others, if they are just what precedes them. `whole` says that they
    /// begin with the oldest that is held.
    pub(crate) fn push_front(&mut self, older: Vec<Delivery>, whole: bool, budget: &mut Budget) {
        for mut delivery in older.into_iter().rev() {
            delivery.message.trace = None;
            budget.add(&delivery);
            self.messages.push_front(delivery);
        }
        self.whole = whole;
    }

    /// Empties it: the topic goes on from another place, in another life.
    pub(crate) fn restart(&mut self, stand: Stand, budget: &mut Budget) {
        self.clear(budget);
        self.stand = stand;
        self.whole = false;
    }

    /// Takes off everything.
    pub(crate) fn clear(&mut self, budget: &mut Budget) {
        for delivery in std::mem::take(&mut self.messages) {
            budget.remove(&delivery);
        }
        self.whole = false;
    }

    /// Gives the message of this offset up, and all before it. Whether it is `whole` afterwards is
    /// for who has no other copy of it to say.
    pub(crate) fn evict(&mut self, offset: u64, still_whole: bool, budget: &mut Budget) {
        while self.messages.front().is_some_and(|first| offset_of(first) <= offset) {
            self.drop_first(budget);
            self.whole = still_whole;
        }
        self.shrink();
    }

    /// Takes off what is older than the topic's history holds.
    pub(crate) fn expire(&mut self, now: Timestamp, budget: &mut Budget) {
        for _ in 0..self.expired(now) {
            self.drop_first(budget);
        }
        self.shrink();
    }

    /// Where a reader begins that wants what comes after this. `is_confirmed` says that a copy has
    /// been compared with the server since the reader came.
    pub(crate) fn locate(&self, after: After, is_confirmed: bool, now: Timestamp) -> Located {
        let expired = self.expired(now);
        match after {
            After::Latest(count) => self.locate_latest(count as usize, expired),
            After::Position(position) => self.locate_position(position, is_confirmed, expired),
        }
    }

    fn locate_latest(&self, count: usize, expired: usize) -> Located {
        let held = self.messages.len() - expired;
        if count > held && !self.whole {
            return Located::Unknown;
        }
        let first = self.messages.get(self.messages.len() - count.min(held));
        let id = first.and_then(|first| first.message.id);
        Located::At(Start { position: id.map_or(self.stand.position, before), gap: None })
    }

    fn locate_position(&self, position: Position, is_confirmed: bool, expired: usize) -> Located {
        let start = resume(position, &self.facts(position, expired));
        let is_confirmed = is_confirmed || !self.is_copy;
        match start.gap {
            // Not even an epoch that it has never heard of proves anything: the server may have
            // begun it.
            Some(_) if !is_confirmed && !self.is_behind_us(position) => Located::Unconfirmed,
            // The server may hold what the ring doesn't.
            Some(GapReason::TooOld | GapReason::UnknownEpoch) if !self.whole => Located::Unknown,
            _ => {
                let next = self.index_behind(start.position.offset()).max(expired);
                let next = self.messages.get(next).and_then(|next| next.message.id);
                Located::At(start.settled(next))
            }
        }
    }

    /// Whether a place is one that the topic has left behind.
    fn is_behind_us(&self, position: Position) -> bool {
        let stand = self.stand.position;
        let is_ours = stand.0.is_some_and(|stand| position.goes_on_in(stand.epoch));
        position.0.is_none() || is_ours && position.offset() <= stand.offset()
    }

    fn facts(&self, position: Position, expired: usize) -> Facts {
        let held = |at: usize| self.messages.get(at).filter(|_| at >= expired);
        let id_at = |at: usize| held(at).and_then(|delivery| delivery.message.id);
        let mut facts = Facts {
            first: id_at(expired),
            end: self.stand.position,
            server: self.server,
            ..Facts::default()
        };
        if let Some(id) = position.0 {
            let behind = self.index_behind(id.offset);
            let epoch = |at: usize, offset| {
                id_at(at).filter(|id: &MessageId| id.offset == offset).map(|id| id.epoch)
            };
            facts.at = behind.checked_sub(1).and_then(|at| epoch(at, id.offset));
            facts.following = epoch(behind, id.offset.saturating_add(1));
            facts.before = (expired..behind)
                .rev()
                .filter_map(id_at)
                .find(|known| known.epoch == id.epoch && known.offset < id.offset);
        }
        facts
    }

    /// The messages behind an offset and up to another, as far as `bytes` reach, at least one if
    /// there is any. `None` if some may be missing.
    pub(crate) fn between(&self, after: u64, up_to: u64, bytes: usize) -> Option<Vec<Delivery>> {
        let from = self.index_behind(after);
        let lacks = match self.messages.front() {
            Some(first) => from == 0 && offset_of(first) > after.saturating_add(1),
            None => self.stand.offset() > after,
        };
        if lacks {
            return None;
        }
        Some(super::reader::taken(self.messages.range(from..), up_to, bytes))
    }

    /// Has a reader woken at the next message.
    pub(crate) fn wait(&mut self, reader: &Arc<Notify>) {
        if self.waiting.len() >= self.waiting_limit {
            // Those that gave up are held by nobody else.
            self.waiting.retain(|known| Arc::strong_count(known) > 1);
            self.waiting_limit = 2 * self.waiting.len() + 8;
        }
        self.waiting.push(reader.clone());
    }

    fn drop_first(&mut self, budget: &mut Budget) {
        if let Some(first) = self.messages.pop_front() {
            budget.remove(&first);
        }
    }

    fn shrink(&mut self) {
        if self.messages.len() < self.messages.capacity() / 4 {
            self.messages.shrink_to(2 * self.messages.len());
        }
    }

    /// How many are older than the topic's history holds.
    fn expired(&self, now: Timestamp) -> usize {
        self.messages.iter().take_while(|delivery| self.is_expired(delivery, now)).count()
    }

    fn is_expired(&self, delivery: &Delivery, now: Timestamp) -> bool {
        let age = now.0.saturating_sub(delivery.message.published.0);
        age >= u64::from(self.history.seconds) * 1_000_000
    }

    fn index_behind(&self, offset: u64) -> usize {
        self.messages.partition_point(|delivery| offset_of(delivery) <= offset)
    }
}

fn offset_of(delivery: &Delivery) -> u64 {
    delivery.message.id.map_or(0, |id| id.offset)
}
