//! The archive against a server that loses links, messages, data and time.
//!
//! Random runs of publishing, delivering, cutting, asking and going back; after each, what was
//! handed on must be one row: each message behind the last, or behind a gap that was told.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;
use umbel_protocol::history::Item;
use umbel_protocol::{
    After, Delivery, GapReason, Message, MessageId, Payload, Position, Timestamp, Topic, envelope,
};

use super::{Archive, Ask, Asked, Comparison, Fetching, Placed};
use crate::history::{Facts, History, Lack, Read, Reader};
use crate::redis::answer::{Answer, Stands};
use crate::{FetchError, Parcel};

const KEEP: usize = 12;

fn topic() -> Topic {
    Topic::new("a").unwrap()
}

fn history() -> History {
    History { messages: u32::try_from(KEEP).unwrap(), seconds: 1 << 30, keep_seconds: 1 << 30 }
}

/// What a server does, in a few lines.
#[derive(Default)]
struct Server {
    held: Vec<MessageId>,
    end: Option<MessageId>,
    id: u32,
    epochs: u32,
}

impl Server {
    fn publish(&mut self) -> MessageId {
        let offset = self.end.map_or(1, |end| end.offset + 1);
        let ours = self.end.filter(|end| end.epoch >> 32 == u64::from(self.id));
        let epoch = ours.map_or_else(
            || {
                self.epochs += 1;
                u64::from(self.id) << 32 | u64::from(self.epochs)
            },
            |end| end.epoch,
        );
        let id = MessageId { epoch, offset };
        self.end = Some(id);
        self.held.push(id);
        let excess = self.held.len().saturating_sub(KEEP);
        self.held.drain(..excess);
        id
    }

    fn stand(&self) -> Position {
        self.end.map_or(Position::empty(self.id), Position::from)
    }

    fn stands(&self) -> Stands {
        Stands { server: self.id, now: Timestamp(0), ends: vec![Some(self.stand())] }
    }

    fn go_back(&mut self, by: usize) {
        self.id += 1;
        let stays = self.held.len().saturating_sub(by);
        self.held.truncate(stays);
        self.end = self.held.last().copied();
    }

    fn answer(&self, after: After, most: usize) -> Answer {
        let epoch_at = |offset| self.held.iter().find(|id| id.offset == offset).map(|id| id.epoch);
        let mut facts = Facts {
            first: self.held.first().copied(),
            end: self.stand(),
            server: self.id,
            ..Facts::default()
        };
        let mut from = 0;
        match after {
            After::Latest(0) => from = usize::MAX,
            After::Latest(count) => from = self.held.len().saturating_sub(count as usize),
            After::Position(Position(None)) => {}
            After::Position(Position(Some(id))) => {
                facts.at = epoch_at(id.offset);
                facts.following = epoch_at(id.offset + 1);
                let earlier = |of: &&MessageId| of.epoch == id.epoch && of.offset < id.offset;
                let is_exact = [facts.at, facts.following].contains(&Some(id.epoch));
                facts.before = self.held.iter().rfind(earlier).copied().filter(|_| !is_exact);
                let behind = match facts.before {
                    Some(before) => before.offset,
                    None if is_exact || Some(id) == self.end => id.offset,
                    None => 0,
                };
                from = self.held.iter().take_while(|of| of.offset <= behind).count();
            }
        }
        let given: Vec<_> = self.held.iter().skip(from).take(most).copied().collect();
        let more = from.saturating_add(given.len()) < self.held.len();
        let entries = given.into_iter().map(|id| (id.offset, bytes(id))).collect();
        Answer::of(Timestamp(0), facts, more, entries)
    }
}

fn message(id: MessageId) -> Message {
    Message {
        topic: topic(),
        payload: Payload::text(id.offset.to_string()),
        event: None,
        published: Timestamp(0),
        origin: None,
        trace: None,
        id: Some(id),
    }
}

fn bytes(id: MessageId) -> bytes::Bytes {
    envelope::encode(&message(id)).into()
}

fn delivery(id: MessageId) -> Delivery {
    Delivery { message: message(id), received: 0, bare: false, life: 0 }
}

#[derive(Debug, Clone)]
enum Op {
    Publish,
    /// So many messages come by the channel.
    Deliver(usize),
    /// One on its way vanishes.
    Swallow,
    Cut,
    Mend,
    Check,
    /// The server takes asks and works on them.
    Work(usize),
    /// So many of its answers come.
    Answer(usize),
    /// It refuses the oldest ask that it hasn't answered.
    Refuse,
    /// Somebody comes who has got all up to the message published so long ago, by another node.
    Come(usize),
    /// All that came go on, by so many bytes.
    Read(usize),
    /// They have no patience and try again.
    TryAgain,
    GoBack(usize),
}

/// Somebody who came.
struct Visitor {
    reader: Reader,
    waits: Option<Waits>,
    last: Position,
    gaps: Vec<GapReason>,
}

enum Waits {
    Ring(Pin<Box<OwnedNotified>>),
    Page(oneshot::Receiver<Result<Placed, FetchError>>),
    Confirmation(oneshot::Receiver<Result<(), FetchError>>),
}

fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl Visitor {
    /// Whether what it waited for is there. After a failure it tries again.
    fn is_served(&mut self) -> bool {
        let served = match &mut self.waits {
            None => return true,
            Some(Waits::Ring(filled)) => now(filled).is_some(),
            Some(Waits::Page(place)) => match now(place) {
                Some(Ok(Ok((start, stand)))) => {
                    self.reader.place(start, stand);
                    true
                }
                outcome => outcome.is_some(),
            },
            Some(Waits::Confirmation(confirmed)) => match now(confirmed) {
                Some(Ok(Ok(()))) => {
                    self.reader.confirm();
                    true
                }
                outcome => outcome.is_some(),
            },
        };
        if served {
            self.waits = None;
        }
        served
    }

    /// Goes on as far as it can without waiting.
    fn go_on(&mut self, archive: &mut Archive, server: &Server, bytes: usize) {
        while self.is_served() {
            match archive.read(&mut self.reader, None, bytes) {
                Read::Located { position, gap: None, .. } => {
                    assert_eq!(position.offset(), self.last.offset());
                    self.last = position;
                }
                Read::Located { position, gap: Some(reason), .. } => {
                    self.told(reason, position, server);
                }
                Read::Page(items) => items.iter().for_each(|item| self.take(item, server)),
                Read::Joined(stand) => {
                    // By another node it may have got what isn't here yet.
                    assert!(stand.position.offset() <= self.last.offset());
                    return;
                }
                Read::Ahead => unreachable!("it reads for nobody else"),
                Read::Missing => match archive.fetch(&topic(), self.reader.wanted()) {
                    Ok(Fetching::Ring(filled)) => self.waits = Some(Waits::Ring(Box::pin(filled))),
                    Ok(Fetching::Page(place)) => self.waits = Some(Waits::Page(place)),
                    Ok(Fetching::Confirmation(reply)) => {
                        self.waits = Some(Waits::Confirmation(reply));
                    }
                    // It isn't known yet where the topic stands, or the server refused to say.
                    Err(_) => return,
                },
            }
        }
    }

    fn take(&mut self, item: &Item, server: &Server) {
        match item {
            Item::Gap(reason, position) => self.told(*reason, *position, server),
            Item::Message(delivery) => {
                let id = delivery.message.id.expect("it has a place");
                let last = self.last;
                assert_eq!(id.offset, last.offset() + 1, "behind {last}");
                let same = last.goes_on_in(id.epoch);
                assert!(same, "{id} behind {last} without a word");
                self.last = id.into();
            }
        }
    }

    fn told(&mut self, reason: GapReason, position: Position, server: &Server) {
        // A server that went back may have what it hadn't when it was asked.
        if reason == GapReason::TooOld && server.id == 1 {
            let first = server.held.first().map_or(u64::MAX, |first| first.offset);
            assert!(first > self.last.offset() + 1, "it is still there");
        }
        self.gaps.push(reason);
        self.last = position;
    }
}

/// What the server said, and to what.
enum Replied {
    Read(Box<(Asked, Answer)>),
    Comparison(Comparison, Stands),
}

struct Bed {
    server: Server,
    archive: Archive,
    /// Messages on the subscribe connection.
    channel: VecDeque<MessageId>,
    /// Answers on the other.
    answers: VecDeque<Replied>,
    is_up: bool,
    last: Option<Position>,
    gaps: Vec<GapReason>,
    got: Vec<MessageId>,
    /// Everything that was ever published.
    published: Vec<MessageId>,
    visitors: Vec<Visitor>,
}

impl Bed {
    fn new(history_bytes: usize) -> Self {
        let mut archive = Archive::new(history_bytes);
        archive.follow(&topic(), history());
        let mut bed = Self {
            server: Server { id: 1, ..Server::default() },
            archive,
            channel: VecDeque::new(),
            answers: VecDeque::new(),
            is_up: false,
            last: None,
            gaps: Vec::new(),
            got: Vec::new(),
            published: Vec::new(),
            visitors: Vec::new(),
        };
        bed.run(&Op::Mend);
        bed
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Publish => {
                let id = self.server.publish();
                self.published.push(id);
                if self.is_up {
                    self.channel.push_back(id);
                }
            }
            Op::Deliver(count) => {
                for _ in 0..count {
                    let Some(id) = self.channel.pop_front() else {
                        break;
                    };
                    let mut parcels = Vec::new();
                    self.archive.received(&topic(), delivery(id), &mut parcels);
                    self.take(parcels);
                }
            }
            Op::Swallow => drop(self.channel.pop_front()),
            Op::Cut => self.cut(),
            Op::Mend => {
                if !self.is_up {
                    self.is_up = true;
                    self.archive.confirmed(&topic());
                }
            }
            Op::Check => self.archive.check_quiet(),
            Op::Work(most) => {
                if self.is_up {
                    for comparison in self.archive.take_comparisons(usize::MAX) {
                        let stands = self.server.stands();
                        self.answers.push_back(Replied::Comparison(comparison, stands));
                    }
                    for asked in self.archive.take_asks(usize::MAX, 16) {
                        let answer = self.server.answer(asked.after, most);
                        self.answers.push_back(Replied::Read(Box::new((asked, answer))));
                    }
                }
            }
            Op::Answer(count) => {
                for _ in 0..count {
                    match self.answers.pop_front() {
                        Some(Replied::Read(read)) => {
                            let (asked, answer) = *read;
                            let answered = self.archive.answered(&asked, &answer, 0);
                            self.take(answered.parcels);
                        }
                        Some(Replied::Comparison(comparison, stands)) => {
                            self.archive.compared(comparison, Some(stands));
                        }
                        None => break,
                    }
                }
            }
            Op::Refuse => match self.answers.pop_front() {
                Some(Replied::Read(read)) => {
                    let (asked, _) = *read;
                    let error = crate::FetchError { passes: false, text: String::new() };
                    let answered = self.archive.refused(&asked, &error);
                    self.take(answered.parcels);
                }
                Some(Replied::Comparison(comparison, ..)) => {
                    self.archive.compared(comparison, None);
                }
                None => {}
            },
            Op::Come(ago) => {
                let behind = self.published.len().checked_sub(ago + 1);
                let last = Position(behind.map(|at| self.published[at]));
                let reader = Reader::new(topic(), After::Position(last));
                self.visitors.push(Visitor { reader, waits: None, last, gaps: Vec::new() });
            }
            Op::Read(bytes) => {
                for visitor in &mut self.visitors {
                    visitor.go_on(&mut self.archive, &self.server, bytes);
                }
            }
            Op::TryAgain => {
                for visitor in &mut self.visitors {
                    visitor.waits = None;
                }
            }
            Op::GoBack(by) => {
                self.cut();
                self.server.go_back(by);
            }
        }
        self.check();
    }

    fn cut(&mut self) {
        self.is_up = false;
        self.channel.clear();
        self.answers.clear();
        self.archive.lost();
    }

    fn take(&mut self, parcels: Vec<Parcel>) {
        for parcel in parcels {
            match parcel {
                Parcel::Canary(_) => panic!("canaries aren't messages of a topic"),
                Parcel::Gap { reason, stand, .. } => {
                    self.gaps.push(reason);
                    let position = stand.expect("the topic has history").position;
                    if let (Some(last), Some(id)) = (self.last, position.0)
                        && reason == GapReason::TooOld
                        && last.goes_on_in(id.epoch)
                    {
                        assert!(id.offset >= last.offset(), "back from {last} to {id}");
                    }
                    self.last = Some(position);
                }
                Parcel::Message(delivery) => {
                    let id = delivery.message.id.expect("it has a place");
                    if let Some(last) = self.last {
                        assert_eq!(id.offset, last.offset() + 1, "behind {last}");
                        assert!(last.goes_on_in(id.epoch), "behind {last}");
                    }
                    self.last = Some(id.into());
                    self.got.push(id);
                }
            }
        }
    }

    /// What readers find is what was handed on.
    fn check(&mut self) {
        if let (Some(stand), Some(last)) = (self.archive.stand(&topic()), self.last) {
            assert_eq!(stand.position, last);
        } else if let Some(stand) = self.archive.stand(&topic()) {
            self.last = Some(stand.position);
        }
    }

    /// Mends everything and lets it come to rest.
    fn settle(&mut self) {
        self.run(&Op::Mend);
        for _ in 0..20 {
            self.run(&Op::Deliver(usize::MAX));
            self.run(&Op::Work(3));
            self.run(&Op::Answer(usize::MAX));
            self.run(&Op::Check);
        }
        let stand = self.archive.stand(&topic()).expect("it was asked for");
        // One that is empty may stand on the server that was before: what comes next will tell.
        assert!(
            stand.position == self.server.stand()
                || (stand.position.offset(), self.server.stand().offset()) == (0, 0),
            "{:?}",
            self.gaps
        );
        assert_eq!(self.archive.behind_count(), 0);
        // A topic that is gone from the server goes on with what comes next.
        self.run(&Op::Publish);
        for _ in 0..20 {
            self.run(&Op::Deliver(usize::MAX));
            self.run(&Op::Work(3));
            self.run(&Op::Answer(usize::MAX));
            self.run(&Op::Read(500));
        }
        assert_eq!(self.got.last(), self.published.last());
        for visitor in &self.visitors {
            assert_eq!(visitor.last.0, self.server.end, "{:?}", visitor.gaps);
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Publish),
        4 => (1_usize..4).prop_map(Op::Deliver),
        1 => Just(Op::Swallow),
        1 => Just(Op::Cut),
        2 => Just(Op::Mend),
        2 => Just(Op::Check),
        4 => (1_usize..6).prop_map(Op::Work),
        4 => (1_usize..3).prop_map(Op::Answer),
        2 => (0_usize..20).prop_map(Op::Come),
        4 => (0_usize..3000).prop_map(Op::Read),
        1 => Just(Op::TryAgain),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => op(),
        1 => (0_usize..20).prop_map(Op::GoBack),
        1 => Just(Op::Refuse),
    ]
}

/// Room for everything, for a part, for hardly anything.
fn history_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1 << 20), 2000..6000_usize, 0..500_usize]
}

proptest! {
    /// Whatever is lost: nobody is given a message twice or out of its place, and what is left out
    /// is told.
    #[test]
    fn what_is_handed_on_is_one_row(
        ops in prop::collection::vec(any_op(), 1..120),
        history_bytes in history_bytes(),
    ) {
        let mut bed = Bed::new(history_bytes);
        for op in &ops {
            bed.run(op);
        }
        bed.settle();
    }

    /// As long as the server has what was missed, nothing is told and everything comes.
    #[test]
    fn what_history_has_is_repaired_without_a_word(
        ops in prop::collection::vec(op(), 1..120),
        history_bytes in history_bytes(),
    ) {
        let mut bed = Bed::new(history_bytes);
        bed.run(&Op::Work(1));
        bed.run(&Op::Answer(1));
        let mut published = 0;
        for op in &ops {
            bed.run(op);
            if matches!(op, Op::Publish) {
                published += 1;
                if published % KEEP == 0 {
                    // Before any of them is trimmed.
                    bed.run(&Op::Mend);
                    bed.run(&Op::Check);
                    for _ in 0..10 {
                        bed.run(&Op::Deliver(usize::MAX));
                        bed.run(&Op::Work(4));
                        bed.run(&Op::Answer(usize::MAX));
                        bed.run(&Op::Check);
                    }
                }
            }
        }
        bed.settle();
        prop_assert_eq!(&bed.gaps, &[]);
        // Whoever came may have come too late, which was judged when it was told.
        for visitor in &bed.visitors {
            prop_assert!(visitor.gaps.iter().all(|reason| *reason == GapReason::TooOld));
        }
        let offsets: Vec<_> = bed.got.iter().map(|id| id.offset).collect();
        prop_assert_eq!(offsets, (1..=published as u64 + 1).collect::<Vec<_>>());
    }
}

#[test]
fn readers_share_what_is_read_for_them() {
    let mut bed = Bed::new(1 << 20);
    (0..5).for_each(|_| bed.run(&Op::Publish));
    bed.channel.clear();
    let start = (After::Position(Position::START), Lack::Messages);
    assert!(bed.archive.fetch(&topic(), start).is_err(), "nobody knows yet where it stands");
    bed.run(&Op::Work(9));
    bed.run(&Op::Answer(1));
    for _ in 0..3 {
        let fetching = bed.archive.fetch(&topic(), start);
        assert!(matches!(fetching, Ok(Fetching::Ring(_))));
        let confirming = bed.archive.fetch(&topic(), (start.0, Lack::Confirmation));
        assert!(matches!(confirming, Ok(Fetching::Confirmation(_))));
    }
    let asks: Vec<_> = bed.archive.take_asks(9, 9).into_iter().map(|asked| asked.ask).collect();
    assert_eq!(asks, [Ask::Whole(topic()), Ask::Follow(topic())]);
}

#[test]
fn what_a_quiet_topic_missed_is_found_by_a_comparison_and_read() {
    let mut bed = Bed::new(1 << 20);
    let work = |bed: &mut Bed| {
        let comparisons = bed.archive.take_comparisons(9);
        let asks = bed.archive.take_asks(9, 9);
        (comparisons, asks)
    };
    bed.run(&Op::Publish);
    bed.run(&Op::Work(9));
    bed.run(&Op::Deliver(1));
    bed.run(&Op::Answer(1));
    bed.run(&Op::Check);
    bed.run(&Op::Check);
    let (mut comparisons, asks) = work(&mut bed);
    assert_eq!((comparisons.len(), asks.len()), (1, 0));
    bed.run(&Op::Check);
    assert_eq!(work(&mut bed).0.len(), 0, "it is under way");
    let stands = bed.server.stands();
    bed.archive.compared(comparisons.remove(0), Some(stands));
    assert_eq!(work(&mut bed).1.len(), 0, "nothing was missed");

    bed.run(&Op::Publish);
    bed.run(&Op::Swallow);
    bed.run(&Op::Check);
    bed.run(&Op::Work(9));
    bed.run(&Op::Answer(1));
    assert_eq!(bed.got.len(), 1, "only that something was missed is known");
    bed.run(&Op::Work(9));
    bed.run(&Op::Answer(1));
    assert_eq!(bed.got.len(), 2);

    // The same place at another server is no proof.
    bed.run(&Op::Check);
    let (mut comparisons, _) = work(&mut bed);
    let stands = Stands { server: 2, ..bed.server.stands() };
    bed.archive.compared(comparisons.remove(0), Some(stands));
    assert_eq!(work(&mut bed).1.len(), 1);
}
