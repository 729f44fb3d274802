//! What a node knows of the topics with history that it is subscribed to, and how it repairs what it
//! missed of them. Plain state: it is told what came and says what to hand on and what to ask.
//!
//! Each topic is followed by a [track](track), which hands messages on in one row without a hole:
//! where the next one doesn't fit, it holds back what comes, asks the server for what lies between,
//! and goes on behind it. What it handed on last stays on a ring, so that sessions that come back
//! mostly need no read.
//!
//! ```text
//!  channel ──► received ──► track ──► parcels for the workers
//!                             │ ▲
//!                     asks ◄──┘ └── answered ◄── reads of the server
//! ```

#[cfg(test)]
mod model;
mod track;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, oneshot};
use umbel_protocol::{After, Delivery, Position, Stand, Timestamp, Topic};

use super::answer::{Answer, Stands};
use crate::history::{Budget, History, Lack, Page, Read, Reader};
use crate::{FetchError, Parcel};
use track::{Placed, Track};

/// Every topic with history that a link carries.
#[derive(Debug)]
pub(super) struct Archive {
    topics: HashMap<Topic, Track>,
    budget: Budget,
    /// What was read for readers that want more than the rings have, in the order in which it came.
    pages: VecDeque<Kept>,
    pages_bytes: usize,
    asks: Asks,
    /// What all topics hold back until they are repaired, in bytes.
    held_bytes: usize,
    /// There are asks for the link.
    asked: Arc<Notify>,
    /// How far the server's clock is ahead of the node's, in microseconds.
    ahead: i64,
    lives: u64,
    /// How many topics lack messages now.
    behind: usize,
}

/// What is to be asked, each in the order in which it came.
#[derive(Debug, Default)]
struct Asks {
    /// Somebody waits for these.
    follows: VecDeque<Ask>,
    readers: VecDeque<Ask>,
    /// Quiet topics that a comparison didn't do for; nobody waits for them.
    suspects: VecDeque<Ask>,
    /// Quiet topics that are to be compared.
    checks: VecDeque<Topic>,
}

/// What is to be asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// What comes behind the last message that was handed on.
    Follow(Topic),
    /// All that the topic's history holds.
    Whole(Topic),
    /// What comes behind a place, for readers that want more than the node keeps.
    Page(Topic, After),
}

/// Quiet topics of one history, compared with the server by one call.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    pub(super) history: History,
    /// Where the node stands in each.
    pub(super) topics: Vec<(Topic, Stand)>,
}

/// An ask on its way, with what it must be judged by.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) after: After,
    pub(super) history: History,
    /// Where the node stood.
    stand: Stand,
    /// How often it had asked what follows.
    asks: u64,
}

/// What an answer changes.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// For the workers that are attached to the topic.
    pub(super) parcels: Vec<Parcel>,
    /// Whether nobody knew before where the topic stands.
    pub(super) is_first: bool,
    /// Whether the server had refused to say it before, so that sessions were let in without.
    pub(super) was_refused: bool,
    /// Where it stands now, if that is known.
    pub(super) stand: Option<Stand>,
    /// Messages that the node had missed.
    pub(super) repaired: u64,
    /// Entries that are no messages.
    pub(super) malformed: u64,
}

/// How a message from a channel fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It was handed on.
    Next,
    /// It was handed on, and only now it is known where the topic stood before it: sessions that
    /// were let in without waiting for that may have missed messages.
    First(Stand),
    /// It was handed on before.
    Duplicate,
    /// It waits for those that are missing before it.
    Held,
}

/// What a reader waits for.
pub(super) enum Fetching {
    /// The ring is being filled.
    Ring(OwnedNotified),
    /// A page, and the server's word on the place.
    Page(oneshot::Receiver<Result<Placed, FetchError>>),
    /// The server is compared with what the node knows.
    Confirmation(oneshot::Receiver<Result<(), FetchError>>),
}

/// A page that somebody may still want.
#[derive(Debug)]
struct Kept {
    topic: Topic,
    page: Arc<Page>,
    came: Instant,
}

/// How many topics go into one comparison: the server does nothing else meanwhile.
const COMPARED_AT_ONCE: usize = 128;

/// How long pages are kept, and what part of the memory for history they may take: who needs one
/// again has it read again.
const PAGE_LIFE: Duration = Duration::from_secs(5);
const PAGES_PART: usize = 4;

impl Archive {
    pub(super) fn new(history_bytes: usize) -> Self {
        Self {
            topics: HashMap::new(),
            budget: Budget::new(Arc::new(AtomicUsize::new(0)), history_bytes),
            pages: VecDeque::new(),
            pages_bytes: 0,
            asks: Asks::default(),
            held_bytes: 0,
            asked: Arc::default(),
            ahead: 0,
            lives: 0,
            behind: 0,
        }
    }

    /// What tells the link of asks.
    pub(super) fn asked(&self) -> Arc<Notify> {
        self.asked.clone()
    }

    /// Begins to follow a topic, unless it does already.
    pub(super) fn follow(&mut self, topic: &Topic, history: History) {
        if !self.topics.contains_key(topic) {
            self.lives += 1;
            self.topics.insert(topic.clone(), Track::new(history, self.lives));
        }
    }

    /// Gives a topic up.
    pub(super) fn forget(&mut self, topic: &Topic) {
        if let Some(mut track) = self.topics.remove(topic) {
            self.behind -= usize::from(track.is_behind());
            self.held_bytes -= track.held_bytes();
            track.ring.clear(&mut self.budget);
        }
        if self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to_fit();
        }
    }

    /// A message with an id came by a topic's channel.
    pub(super) fn received(
        &mut self,
        topic: &Topic,
        delivery: Delivery,
        parcels: &mut Vec<Parcel>,
    ) -> Fit {
        let Some(track) = self.topics.get_mut(topic) else {
            // It is being given up.
            return Fit::Duplicate;
        };
        let mut hands = Hands { topic, lives: &mut self.lives, budget: &mut self.budget, parcels };
        let (was_behind, held_bytes) = (track.is_behind(), track.held_bytes());
        let (fit, mut asks) = track.received(delivery, &mut hands);
        self.behind += usize::from(track.is_behind() && !was_behind);
        self.held_bytes = self.held_bytes + track.held_bytes() - held_bytes;
        if self.held_bytes > self.budget.limit() && track.is_behind() {
            self.held_bytes -= track.held_bytes();
            asks |= track.drop_held();
        }
        if asks {
            self.ask(Ask::Follow(topic.clone()));
        }
        self.make_room();
        fit
    }

    /// The server has confirmed the subscription: from now on nothing is missed, so it can be asked
    /// what was.
    pub(super) fn confirmed(&mut self, topic: &Topic) {
        if let Some(track) = self.topics.get_mut(topic)
            && track.confirmed()
        {
            self.ask(Ask::Follow(topic.clone()));
        }
    }

    /// Has those topics looked at of which nothing was heard since the last call.
    pub(super) fn check_quiet(&mut self) {
        for (topic, track) in &mut self.topics {
            if track.is_quiet() && track.wants_check() {
                self.asks.checks.push_back(topic.clone());
            }
        }
        if !self.asks.checks.is_empty() {
            self.asked.notify_one();
        }
    }

    /// The next comparisons, of at most `most` topics. Of those which a comparison doesn't do for asks follow.
    pub(super) fn take_comparisons(&mut self, most: usize) -> Vec<Comparison> {
        let mut taken: Vec<Comparison> = Vec::new();
        let mut count = 0;
        while count < most
            && let Some(topic) = self.asks.checks.pop_front()
        {
            let Some(track) = self.topics.get(&topic).filter(|track| track.awaits_check()) else {
                // It was given up, or somebody had it asked meanwhile.
                continue;
            };
            if !track.is_settled() {
                self.asks.suspects.push_back(Ask::Follow(topic));
                continue;
            }
            count += 1;
            let (history, stand) = (track.ring.history, track.ring.stand());
            let has_room =
                |of: &&mut Comparison| of.history == history && of.topics.len() < COMPARED_AT_ONCE;
            match taken.iter_mut().rfind(has_room) {
                Some(comparison) => comparison.topics.push((topic, stand)),
                None => taken.push(Comparison { history, topics: vec![(topic, stand)] }),
            }
        }
        taken
    }

    /// The server's answer to a comparison, or none: what isn't where it was known to be is asked for.
    pub(super) fn compared(
        &mut self,
        Comparison { topics, .. }: Comparison,
        stands: Option<Stands>,
    ) {
        if let Some(Stands { now, .. }) = &stands {
            self.ahead = signed_difference(*now, crate::clock::wall());
        }
        let Stands { server, ends, .. } =
            stands.filter(|stands| stands.ends.len() == topics.len()).unwrap_or_else(|| Stands {
                server: 0,
                now: Timestamp(0),
                ends: vec![None; topics.len()],
            });
        for ((topic, stand), end) in topics.into_iter().zip(ends) {
            let Some(track) = self.topics.get_mut(&topic) else {
                continue;
            };
            if track.awaits_check() && !track.agrees(stand, server, end) {
                self.asks.suspects.push_back(Ask::Follow(topic));
            }
        }
    }

    /// Forgets pages that came long ago.
    pub(super) fn forget_old_pages(&mut self) {
        while self.pages.front().is_some_and(|kept| kept.came.elapsed() > PAGE_LIFE) {
            self.forget_page();
        }
    }

    /// The next asks, at most `most`, and `large` of readers'.
    pub(super) fn take_asks(&mut self, most: usize, large: usize) -> Vec<Asked> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((ask, is_check)) = self.asks.next(taken.len() < large)
        {
            let Some(track) = self.topics.get_mut(ask.topic()) else {
                continue;
            };
            let after = match &ask {
                // Somebody had it asked meanwhile.
                Ask::Follow(_) if is_check && !track.awaits_check() => continue,
                Ask::Follow(_) => track.begin_follow(),
                // It found what it wants on another's page, or is gone.
                Ask::Page(_, after) if !track.is_wanted(*after) => continue,
                Ask::Whole(_) => After::Position(Position::START),
                Ask::Page(_, after) => *after,
            };
            let (history, stand) = (track.ring.history, track.ring.stand());
            let asks = track.asks();
            taken.push(Asked { ask, after, history, stand, asks });
        }
        taken
    }

    /// The link is gone, and with it all that was under way. Every topic is asked for again when its
    /// subscription is confirmed.
    pub(super) fn lost(&mut self) {
        self.asks = Asks::default();
        self.held_bytes = 0;
        for track in self.topics.values_mut() {
            track.lost();
        }
    }

    /// The server's answer.
    pub(super) fn answered(&mut self, asked: &Asked, answer: &Answer, received: u64) -> Answered {
        let topic = asked.ask.topic().clone();
        self.ahead = signed_difference(answer.now, crate::clock::wall());
        let Some(track) = self.topics.get_mut(&topic) else {
            return Answered::default();
        };
        track.ring.set_server(answer.facts.server);
        let mut answered = Answered::default();
        let (messages, malformed) = answer.messages(&topic, received);
        answered.malformed = malformed;
        match &asked.ask {
            Ask::Follow(_) => {
                let parcels = &mut answered.parcels;
                let mut hands = Hands {
                    topic: &topic,
                    lives: &mut self.lives,
                    budget: &mut self.budget,
                    parcels,
                };
                let place = matches!(asked.after, After::Position(_)).then_some(asked.stand);
                let (was_behind, held_bytes) = (track.is_behind(), track.held_bytes());
                let followed = track.followed(place, asked.asks, answer, messages, &mut hands);
                self.behind += usize::from(track.is_behind());
                self.behind -= usize::from(was_behind);
                self.held_bytes = self.held_bytes + track.held_bytes() - held_bytes;
                answered.is_first = followed.is_first;
                answered.was_refused = followed.was_refused;
                answered.repaired = followed.repaired;
                answered.stand = track.known_stand();
                if followed.asks_again {
                    self.ask(Ask::Follow(topic));
                }
            }
            Ask::Whole(_) => {
                track.fill(asked.stand, answer, messages, &mut self.budget);
            }
            Ask::Page(_, after) => {
                let page = track.take_page(*after, answer, messages);
                self.keep(topic, page);
            }
        }
        self.make_room();
        answered
    }

    /// The server refused to answer.
    pub(super) fn refused(&mut self, asked: &Asked, error: &FetchError) -> Answered {
        let topic = asked.ask.topic();
        let mut answered = Answered::default();
        let Some(track) = self.topics.get_mut(topic) else {
            return answered;
        };
        match &asked.ask {
            Ask::Follow(_) => {
                let parcels = &mut answered.parcels;
                let mut hands =
                    Hands { topic, lives: &mut self.lives, budget: &mut self.budget, parcels };
                self.behind -= usize::from(track.is_behind());
                self.held_bytes -= track.held_bytes();
                track.give_up(error, &mut hands);
                answered.is_first = !track.is_known();
                answered.stand = track.known_stand();
            }
            Ask::Whole(_) => track.refuse_ring(),
            Ask::Page(_, after) => track.refuse_page(*after, error),
        }
        answered
    }

    pub(super) fn read(&self, reader: &mut Reader, up_to: Option<Stand>, bytes: usize) -> Read {
        match self.topics.get(reader.topic()) {
            Some(track) if track.is_known() => {
                reader.read(&track.ring, &track.pages, up_to, bytes, self.now())
            }
            _ => Read::Missing,
        }
    }

    /// Has fetched what a reader lacks; readers of one topic share it as far as the node can keep
    /// it.
    pub(super) fn fetch(
        &mut self,
        topic: &Topic,
        (after, lack): (After, Lack),
    ) -> Result<Fetching, FetchError> {
        let Some(track) = self.topics.get_mut(topic) else {
            let text = format!("this node is not subscribed to `{topic}`");
            return Err(FetchError { passes: true, text });
        };
        let (fetching, ask) = track.fetch(topic, after, lack)?;
        if let Some(ask) = ask {
            self.ask(ask);
        }
        Ok(fetching)
    }

    pub(super) fn stand(&self, topic: &Topic) -> Option<Stand> {
        self.topics.get(topic)?.known_stand()
    }

    pub(super) fn wait(&mut self, topic: &Topic, reader: &Arc<Notify>) {
        if let Some(track) = self.topics.get_mut(topic) {
            track.ring.wait(reader);
        }
    }

    /// What the rings take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.budget.used()
    }

    /// How many topics lack messages now.
    pub(super) fn behind_count(&self) -> usize {
        self.behind
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Follow(_) => self.asks.follows.push_back(ask),
            Ask::Whole(_) | Ask::Page(..) => self.asks.readers.push_back(ask),
        }
        self.asked.notify_one();
    }

    /// The time of day by the server's clock, which all ages are measured by.
    fn now(&self) -> Timestamp {
        Timestamp(crate::clock::wall().0.saturating_add_signed(self.ahead))
    }

    fn keep(&mut self, topic: Topic, page: Arc<Page>) {
        self.pages_bytes += page.bytes();
        self.budget.charge(page.bytes());
        self.pages.push_back(Kept { topic, page, came: Instant::now() });
        while self.pages.len() > 1 && self.pages_bytes > self.budget.limit() / PAGES_PART {
            self.forget_page();
        }
    }

    fn forget_page(&mut self) {
        let Some(Kept { topic, page, .. }) = self.pages.pop_front() else {
            return;
        };
        self.pages_bytes -= page.bytes();
        self.budget.discharge(page.bytes());
        if let Some(track) = self.topics.get_mut(&topic) {
            track.pages.retain(|known| !Arc::ptr_eq(known, &page));
        }
    }

    /// Gives up the oldest messages until all are within the budget.
    fn make_room(&mut self) {
        while self.budget.is_over()
            && let Some((topic, offset)) = self.budget.oldest()
        {
            if let Some(track) = self.topics.get_mut(&topic)
                && track.ring.has(offset)
            {
                track.ring.evict(offset, false, &mut self.budget);
            }
        }
        if self.budget.is_stale() {
            let topics = &self.topics;
            let has = |topic: &Topic, offset| {
                topics.get(topic).is_some_and(|track| track.ring.has(offset))
            };
            self.budget.retain(has);
        }
    }
}

impl Asks {
    /// The one that comes next, and whether it is a check; readers' first, as long as there is room
    /// for what they get.
    fn next(&mut self, has_room: bool) -> Option<(Ask, bool)> {
        let reader = if has_room { self.readers.pop_front() } else { None };
        let urgent = reader.or_else(|| self.follows.pop_front()).map(|ask| (ask, false));
        urgent.or_else(|| self.suspects.pop_front().map(|ask| (ask, true)))
    }
}

impl Ask {
    pub(super) fn topic(&self) -> &Topic {
        match self {
            Self::Follow(topic) | Self::Whole(topic) | Self::Page(topic, _) => topic,
        }
    }
}

/// What a track needs to hand something on.
struct Hands<'a> {
    topic: &'a Topic,
    lives: &'a mut u64,
    budget: &'a mut Budget,
    parcels: &'a mut Vec<Parcel>,
}

fn signed_difference(a: Timestamp, b: Timestamp) -> i64 {
    let signed = |time: Timestamp| i64::try_from(time.0).unwrap_or(i64::MAX);
    signed(a) - signed(b)
}
