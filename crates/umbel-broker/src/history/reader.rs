//! Reading a topic's history, up to where it can be joined live.

use std::collections::VecDeque;

use umbel_protocol::history::Item;
use umbel_protocol::{After, Delivery, GapReason, Position, Stand, Timestamp, Topic};

use super::ring::{Located, Ring};
use super::{Start, before, crosses};

/// Somebody on the way through a topic's history.
#[derive(Debug)]
pub struct Reader {
    topic: Topic,
    place: Place,
    /// Its place, if that was found out by fetching and isn't told yet.
    found: Option<Read>,
    /// What was fetched for this reader alone, since the node keeps no copy of it.
    fetched: VecDeque<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is yet to be found.
    Wanted(After),
    /// All up to there was given, in this life of the topic.
    At { life: u64, position: Position },
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Its place was found: what comes behind this position is given next.
    Located {
        /// Where.
        position: Position,
        /// Why what the reader asked for can't all be given.
        gap: Option<GapReason>,
        /// Whether nothing is missing between there and where the topic stands.
        is_complete: bool,
    },
    /// The next items, at least one.
    Page(Vec<Item>),
    /// There is nothing more: what follows comes live, for who joins the topic before anything
    /// else happens.
    Joined(Stand),
    /// The topic has moved on beyond a gap that is still on its way to who asks.
    Ahead,
    /// The node has no copy of what the reader wants: it must be fetched.
    Missing,
}

impl Reader {
    /// A reader that wants what comes after this.
    pub fn new(topic: Topic, after: After) -> Self {
        Self { topic, place: Place::Wanted(after), found: None, fetched: VecDeque::new() }
    }

    /// What is read.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Up to where it has read, once its place is found; and in which life of the topic.
    pub fn stand(&self) -> Option<Stand> {
        match self.place {
            Place::Wanted(_) => None,
            Place::At { life, position } => Some(Stand { life, position }),
        }
    }

    /// Goes on behind this, which was taken from elsewhere.
    pub fn skip_to(&mut self, reached: Position) {
        if let Place::At { position, .. } = &mut self.place {
            *position = reached;
        }
    }

    /// What it still wants, if it has to be fetched.
    pub(crate) fn wanted(&self) -> After {
        match self.place {
            Place::Wanted(after) => after,
            Place::At { position, .. } => After::Position(position),
        }
    }

    /// Takes what was fetched for it. `stand` is where the topic stands.
    pub(crate) fn take_fetched(&mut self, start: Start, stand: Stand, messages: Vec<Delivery>) {
        let life = stand.life;
        if matches!(self.place, Place::Wanted(_)) {
            self.found = Some(located(start, stand));
        } else if let Some(reason) = start.gap {
            self.fetched.push_back(Item::Gap(reason, start.position));
        }
        let mut position = start.position;
        for delivery in messages {
            if let Some(gap) = gap_before(position, &delivery) {
                self.fetched.push_back(gap);
            }
            position = Position(delivery.message.id);
            self.fetched.push_back(Item::Message(delivery));
        }
        self.place = Place::At { life, position: start.position };
    }

    /// Reads from a ring: up to `up_to` if the reader joins who stands there, else to the end.
    pub(crate) fn read(
        &mut self,
        ring: &Ring,
        up_to: Option<Stand>,
        bytes: usize,
        now: Timestamp,
    ) -> Read {
        if let Some(read) = self.found.take().or_else(|| self.take_page(bytes)) {
            return read;
        }
        let stand = ring.stand();
        let until = match up_to {
            Some(up_to) if up_to.life < stand.life => return Read::Ahead,
            Some(up_to) => up_to,
            None => stand,
        };
        let position = match self.place {
            Place::At { life, position } if life == stand.life => position,
            place => match self.locate(ring, now) {
                Some(start) => match (place, start) {
                    (Place::Wanted(_), start) => return located(start, stand),
                    (_, Start { position, gap: Some(reason) }) => {
                        return Read::Page(vec![Item::Gap(reason, position)]);
                    }
                    (_, Start { position, .. }) => position,
                },
                None => return Read::Missing,
            },
        };
        if position.offset() >= until.offset() {
            return Read::Joined(stand);
        }
        match ring.between(position.offset(), until.offset(), bytes) {
            Some(messages) if messages.is_empty() => Read::Joined(stand),
            Some(messages) => Read::Page(self.take_messages(position, messages)),
            // What it was about to read is gone from the ring.
            None => match self.locate(ring, now) {
                Some(Start { position, gap: Some(reason) }) => {
                    Read::Page(vec![Item::Gap(reason, position)])
                }
                _ => Read::Missing,
            },
        }
    }

    fn locate(&mut self, ring: &Ring, now: Timestamp) -> Option<Start> {
        match ring.locate(self.wanted(), now) {
            Located::At(start) => {
                let life = ring.stand().life;
                self.place = Place::At { life, position: start.position };
                Some(start)
            }
            Located::Unknown => None,
        }
    }

    fn take_messages(&mut self, mut position: Position, messages: Vec<Delivery>) -> Vec<Item> {
        let mut items = Vec::with_capacity(messages.len());
        for delivery in messages {
            items.extend(gap_before(position, &delivery));
            position = Position(delivery.message.id);
            items.push(Item::Message(delivery));
        }
        self.skip_to(position);
        items
    }

    /// The next of what was fetched.
    fn take_page(&mut self, bytes: usize) -> Option<Read> {
        let mut items = Vec::new();
        let mut weight = 0;
        while weight <= bytes
            && let Some(item) = self.fetched.pop_front()
        {
            match &item {
                Item::Message(delivery) => {
                    weight += super::Budget::weight(delivery);
                    self.skip_to(Position(delivery.message.id));
                }
                Item::Gap(_, position) => self.skip_to(*position),
            }
            items.push(item);
        }
        (!items.is_empty()).then_some(Read::Page(items))
    }
}

fn located(start: Start, stand: Stand) -> Read {
    let epoch = |position: Position| position.0.map(|id| id.epoch);
    // Before any message there is no epoch that could have ended.
    let same_epoch =
        start.position == Position::START || epoch(start.position) == epoch(stand.position);
    let is_complete = start.gap.is_none() && same_epoch;
    Read::Located { position: start.position, gap: start.gap, is_complete }
}

/// What is to be told before a message that begins another epoch than the last one had.
pub(crate) fn gap_before(position: Position, next: &Delivery) -> Option<Item> {
    let next = next.message.id?;
    crosses(position, next).then(|| Item::Gap(GapReason::Rewound, before(next)))
}
