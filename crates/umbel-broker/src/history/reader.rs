//! Reading a topic's history, up to where it can be joined live.

use std::cmp::Ordering;
use std::sync::Arc;

use umbel_protocol::history::Item;
use umbel_protocol::{After, Delivery, GapReason, Position, Stand, Timestamp, Topic};

use super::ring::{Located, Ring};
use super::{Budget, Page, Start, before, crosses};

/// Somebody on the way through a topic's history.
#[derive(Debug)]
pub struct Reader {
    topic: Topic,
    place: Place,
    /// What was found out for it and is to be told first.
    told: Option<Read>,
    lack: Lack,
    /// Whether what the node knows was compared with the server since it was wanted.
    is_confirmed: bool,
    /// Whether something was fetched for it since [`Reader::take_fetched`].
    was_fetched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is yet to be found.
    Wanted(After),
    /// All up to there was given, in this life of the topic.
    At { life: u64, position: Position },
}

/// What a reader lacks that has to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Messages that the node has no copy of, or the server's word on the place.
    Messages,
    /// That the node knows of all that the server has by now.
    Confirmation,
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
    /// The reader is further than who it reads for: a gap or messages are still on their way there.
    Ahead,
    /// The node has no copy of what the reader wants: it must be fetched.
    Missing,
}

impl Reader {
    /// A reader that wants what comes after this.
    pub fn new(topic: Topic, after: After) -> Self {
        let place = Place::Wanted(after);
        Self {
            topic,
            place,
            told: None,
            lack: Lack::Messages,
            is_confirmed: false,
            was_fetched: false,
        }
    }

    /// What is read.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Whether the broker had to be asked for what it reads next, since this was called last.
    pub fn take_fetched(&mut self) -> bool {
        std::mem::take(&mut self.was_fetched)
    }

    /// Something was fetched for it.
    pub(crate) fn fetched(&mut self) {
        self.was_fetched = true;
    }

    /// Up to where it has read, in which life of the topic. `None` as long as its place isn't found,
    /// or something has to be told before it goes on.
    pub fn stand(&self) -> Option<Stand> {
        match self.place {
            Place::At { life, position } if self.told.is_none() => Some(Stand { life, position }),
            _ => None,
        }
    }

    /// Goes on behind this, which was taken from elsewhere.
    pub fn skip_to(&mut self, reached: Position) {
        if let Place::At { position, .. } = &mut self.place {
            *position = reached;
        }
    }

    /// What it still wants, and what of it has to be fetched.
    pub(crate) fn wanted(&self) -> (After, Lack) {
        let after = match self.place {
            Place::Wanted(after) => after,
            Place::At { position, .. } => After::Position(position),
        };
        (after, self.lack)
    }

    /// The node has compared itself with the server.
    pub(crate) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// The server has said where it goes on, of a topic that stands there.
    pub(crate) fn place(&mut self, start: Start, stand: Stand) {
        self.told = match (self.place, start.gap) {
            (Place::Wanted(_), _) => Some(located(start, stand)),
            (_, Some(reason)) => Some(Read::Page(vec![Item::Gap(reason, start.position)])),
            (_, None) => None,
        };
        self.place = Place::At { life: stand.life, position: start.position };
    }

    /// Reads from a ring and from pages: up to `up_to` if the reader joins who stands there, else to
    /// the end.
    pub(crate) fn read(
        &mut self,
        ring: &Ring,
        pages: &[Arc<Page>],
        up_to: Option<Stand>,
        bytes: usize,
        now: Timestamp,
    ) -> Read {
        if let Some(read) = self.told.take() {
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
            place => match self.locate(ring, pages, now) {
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
        match position.offset().cmp(&until.offset()) {
            // What the reader has already is still on its way to who it reads for.
            Ordering::Greater if up_to.is_some() => return Read::Ahead,
            Ordering::Less => {}
            _ => return Read::Joined(stand),
        }
        let until = until.offset();
        let of_this_life = || pages.iter().filter(|page| page.life == stand.life);
        let messages = ring.between(position.offset(), until, bytes).or_else(|| {
            if let Some(behind) = of_this_life().find_map(|page| page.behind(position)) {
                return Some(taken(behind, until, bytes));
            }
            // What stands there are no messages: the ring may begin behind them.
            let end = of_this_life().find_map(|page| page.end_behind(position))?;
            ring.between(end, until, bytes)
        });
        match messages {
            Some(messages) if messages.is_empty() => Read::Joined(stand),
            Some(messages) => Read::Page(self.take_messages(position, messages)),
            // What it was about to read is on neither.
            None => match self.locate(ring, pages, now) {
                Some(Start { position, gap: Some(reason) }) => {
                    Read::Page(vec![Item::Gap(reason, position)])
                }
                _ => Read::Missing,
            },
        }
    }

    fn locate(&mut self, ring: &Ring, pages: &[Arc<Page>], now: Timestamp) -> Option<Start> {
        let (after, _) = self.wanted();
        let life = ring.stand().life;
        // A place that was given here is known here.
        let is_confirmed = self.is_confirmed || matches!(self.place, Place::At { .. });
        let start = match ring.locate(after, is_confirmed, now) {
            Located::At(start) => start,
            Located::Unconfirmed => {
                self.lack = Lack::Confirmation;
                return None;
            }
            Located::Unknown => {
                self.lack = Lack::Messages;
                let After::Position(position @ Position(Some(id))) = after else {
                    return None;
                };
                pages.iter().find(|page| page.life == life && page.has(id))?;
                Start { position, gap: None }
            }
        };
        self.place = Place::At { life, position: start.position };
        self.is_confirmed = false;
        Some(start)
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
}

/// The first messages up to an offset, as far as `bytes` reach; at least one if there is any.
pub(super) fn taken<'a>(
    messages: impl IntoIterator<Item = &'a Delivery>,
    up_to: u64,
    bytes: usize,
) -> Vec<Delivery> {
    let mut weight = 0;
    let mut taken = Vec::new();
    for delivery in messages {
        let is_behind = delivery.message.id.is_some_and(|id| id.offset > up_to);
        if is_behind || (weight > 0 && weight > bytes) {
            break;
        }
        weight += Budget::weight(delivery);
        taken.push(delivery.clone());
    }
    taken
}

fn located(start: Start, stand: Stand) -> Read {
    // Before any message there is no epoch that could have ended.
    let same_epoch = stand.position.0.is_none_or(|stand| start.position.goes_on_in(stand.epoch));
    let is_complete = start.gap.is_none() && same_epoch;
    Read::Located { position: start.position, gap: start.gap, is_complete }
}

/// What is to be told before a message that begins another epoch than the last one had.
pub(crate) fn gap_before(position: Position, next: &Delivery) -> Option<Item> {
    let next = next.message.id?;
    crosses(position, next).then(|| Item::Gap(GapReason::Rewound, before(next)))
}

#[cfg(test)]
mod tests {
    use super::super::History;
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicUsize;
    use umbel_protocol::{Message, MessageId, Payload};

    const EPOCH: u64 = (7 << 32) + 1;
    const KEEP: u32 = 8;

    fn delivery(epoch: u64, offset: u64, life: u64) -> Delivery {
        Delivery {
            message: Message {
                topic: Topic::new("a").unwrap(),
                payload: Payload::text(offset.to_string()),
                event: None,
                published: Timestamp(0),
                origin: None,
                trace: None,
                id: Some(MessageId { epoch, offset }),
            },
            received: 0,
            bare: false,
            life,
        }
    }

    struct Bed {
        ring: Ring,
        budget: Budget,
        epoch: u64,
        life: u64,
    }

    impl Bed {
        fn new() -> Self {
            let history = History { messages: KEEP, seconds: 1000, keep_seconds: 1000 };
            let stand = Stand { life: 1, position: Position::empty(7) };
            let mut budget = Budget::new(Arc::new(AtomicUsize::new(0)), usize::MAX);
            let mut ring = Ring::copy(history, stand);
            ring.set_server(7);
            ring.push_front(Vec::new(), true, &mut budget);
            Self { ring, budget, epoch: EPOCH, life: 1 }
        }

        fn publish(&mut self) {
            let offset = self.ring.stand().offset() + 1;
            let delivery = delivery(self.epoch, offset, self.life);
            self.ring.push(delivery, &mut self.budget);
        }

        /// The server went back by so many messages and begins another epoch.
        fn go_back(&mut self, by: u64) {
            self.life += 1;
            self.epoch += 1;
            let offset = self.ring.stand().offset().saturating_sub(by);
            let position = Position(Some(MessageId { epoch: self.epoch, offset }));
            self.ring.restart(Stand { life: self.life, position }, &mut self.budget);
        }

        /// What a reader gets from a node that is as far as its server.
        fn read(&self, reader: &mut Reader, bytes: usize) -> Read {
            reader.confirm();
            reader.read(&self.ring, &[], None, bytes, Timestamp(0))
        }
    }

    fn reader(after: Position) -> Reader {
        Reader::new(Topic::new("a").unwrap(), After::Position(after))
    }

    fn offsets(read: Read) -> Vec<u64> {
        match read {
            Read::Page(items) => items
                .iter()
                .map(|item| match item {
                    Item::Message(delivery) => delivery.message.id.unwrap().offset,
                    Item::Gap(..) => panic!("{item:?}"),
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_is_located_reads_pages_and_joins() {
        let mut bed = Bed::new();
        (0..5).for_each(|_| bed.publish());
        let at = |offset| Position(Some(MessageId { epoch: EPOCH, offset }));
        let mut reader = reader(at(1));
        let located = Read::Located { position: at(1), gap: None, is_complete: true };
        assert_eq!(bed.read(&mut reader, 0), located);
        assert_eq!(offsets(bed.read(&mut reader, 0)), [2], "at least one");
        assert_eq!(offsets(bed.read(&mut reader, usize::MAX)), [3, 4, 5]);
        assert_eq!(bed.read(&mut reader, 0), Read::Joined(bed.ring.stand()));
        bed.publish();
        assert_eq!(offsets(bed.read(&mut reader, 0)), [6]);
    }

    #[test]
    fn a_copy_judges_no_place_that_its_server_may_have_reached() {
        let mut bed = Bed::new();
        (0..5).for_each(|_| bed.publish());
        let at = |epoch, offset| Position(Some(MessageId { epoch, offset }));
        let read = |reader: &mut Reader| reader.read(&bed.ring, &[], None, 99, Timestamp(0));
        for place in [at(EPOCH, 6), at(EPOCH + 1, 2), at(EPOCH + 1, 9)] {
            let mut reader = reader(place);
            assert_eq!(read(&mut reader), Read::Missing);
            assert_eq!(reader.wanted(), (After::Position(place), Lack::Confirmation));
            reader.confirm();
            let Read::Located { gap, .. } = read(&mut reader) else { panic!("it is found") };
            assert!(gap.is_some());
        }
        for place in [Position::START, at(EPOCH, 2), at(EPOCH, 5)] {
            assert!(matches!(read(&mut reader(place)), Read::Located { gap: None, .. }));
        }
    }

    #[test]
    fn pages_serve_whoever_comes_by() {
        let mut bed = Bed::new();
        (0..30).for_each(|_| bed.publish());
        bed.ring.restart(bed.ring.stand(), &mut bed.budget);
        let at = |offset| Position(Some(MessageId { epoch: EPOCH, offset }));
        let messages = (11..=20).map(|offset| delivery(EPOCH, offset, 1)).collect();
        let pages = [Arc::new(Page::new(1, at(10), 20, messages))];
        let read = |reader: &mut Reader, up_to: u64| {
            let up_to = Some(Stand { life: 1, position: at(up_to) });
            reader.read(&bed.ring, &pages, up_to, usize::MAX, Timestamp(0))
        };
        // The one that it was read for, whose place the server found.
        let mut first = reader(at(3));
        assert_eq!(read(&mut first, 30), Read::Missing);
        first.place(Start { position: at(10), gap: Some(GapReason::TooOld) }, bed.ring.stand());
        assert_eq!(first.stand(), None, "something is to be told first");
        let Read::Located { gap: Some(GapReason::TooOld), .. } = read(&mut first, 30) else {
            panic!("the server's word is told");
        };
        assert_eq!(offsets(read(&mut first, 30)), (11..=20).collect::<Vec<_>>());
        assert_eq!(read(&mut first, 30), Read::Missing, "the next page");
        // Another that stands on it, and reads for who isn't so far.
        let mut second = reader(at(15));
        assert!(matches!(read(&mut second, 18), Read::Located { gap: None, .. }));
        assert_eq!(offsets(read(&mut second, 18)), [16, 17, 18]);
        // One that stands nowhere on it, and one of an epoch that isn't there.
        assert_eq!(read(&mut reader(at(9)), 30), Read::Missing);
        let elsewhere = Position(Some(MessageId { epoch: EPOCH - 1, offset: 15 }));
        assert_eq!(read(&mut reader(elsewhere), 30), Read::Missing);
    }

    #[test]
    fn whoever_reads_for_another_stops_where_that_stands() {
        let mut bed = Bed::new();
        (0..5).for_each(|_| bed.publish());
        let stand = |life, offset| Stand {
            life,
            position: Position(Some(MessageId { epoch: EPOCH, offset })),
        };
        let mut reader = reader(Position::START);
        bed.read(&mut reader, 0);
        let mut read = |up_to| reader.read(&bed.ring, &[], Some(up_to), usize::MAX, Timestamp(0));
        assert_eq!(offsets(read(stand(1, 3))), [1, 2, 3]);
        assert_eq!(read(stand(1, 3)), Read::Joined(bed.ring.stand()));
        assert_eq!(read(stand(0, 9)), Read::Ahead, "there the last gap isn't told yet");
        assert_eq!(read(stand(1, 2)), Read::Ahead, "there messages are on their way");
        assert_eq!(offsets(read(stand(1, 4))), [4]);
    }

    #[test]
    fn a_reader_that_is_overtaken_by_the_trimming_is_told() {
        let mut bed = Bed::new();
        (0..8).for_each(|_| bed.publish());
        let mut reader = reader(Position::START);
        bed.read(&mut reader, 0);
        assert_eq!(offsets(bed.read(&mut reader, 0)), [1]);
        (0..4).for_each(|_| bed.publish());
        let before = Position(Some(MessageId { epoch: EPOCH, offset: 4 }));
        let gap = Read::Page(vec![Item::Gap(GapReason::TooOld, before)]);
        assert_eq!(bed.read(&mut reader, 0), gap);
        assert_eq!(offsets(bed.read(&mut reader, usize::MAX)), [5, 6, 7, 8, 9, 10, 11, 12]);
    }

    #[test]
    fn another_life_is_crossed_with_a_word() {
        let mut bed = Bed::new();
        (0..5).for_each(|_| bed.publish());
        let mut reader = reader(Position::START);
        bed.read(&mut reader, 0);
        assert_eq!(offsets(bed.read(&mut reader, 0)), [1]);
        bed.go_back(2);
        bed.publish();
        // Its place is of an epoch that the ring doesn't reach back to: the server must be asked.
        assert_eq!(bed.read(&mut reader, usize::MAX), Read::Missing);
        let whole = [delivery(EPOCH, 2, 2), delivery(EPOCH, 3, 2)];
        bed.ring.push_front(whole.into(), true, &mut bed.budget);
        let Read::Located { gap, .. } = bed.read(&mut reader.clone_wanting(), 0) else {
            panic!("a place is found");
        };
        assert_eq!(gap, None);
        let Read::Page(items) = bed.read(&mut reader, usize::MAX) else {
            panic!("there is something to read");
        };
        let told = |item: &Item| match item {
            Item::Message(delivery) => delivery.message.id.unwrap().to_string(),
            Item::Gap(reason, position) => format!("{} {position}", reason.as_str()),
        };
        assert_eq!(
            items.iter().map(told).collect::<Vec<_>>(),
            [
                "0000000700000001-2",
                "0000000700000001-3",
                "rewound 0000000700000002-3",
                "0000000700000002-4",
            ]
        );
    }

    impl Reader {
        /// One that wants what this one wants.
        fn clone_wanting(&self) -> Self {
            Self::new(self.topic.clone(), self.wanted().0)
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Publish,
        GoBack(u64),
        Read(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => Just(Op::Publish),
            1 => (0_u64..4).prop_map(Op::GoBack),
            4 => (0_usize..800).prop_map(Op::Read),
        ]
    }

    proptest! {
        /// Whatever happens between its reads: what a reader gets is in order, nothing is left out
        /// or comes twice without a word, and in the end it stands where the topic does.
        #[test]
        fn a_reader_misses_nothing_without_a_word(
            published in 0_usize..12,
            place in 0_u64..14,
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let mut bed = Bed::new();
            (0..published).for_each(|_| bed.publish());
            let after = if place == 0 { Position::START } else {
                Position(Some(MessageId { epoch: EPOCH, offset: place }))
            };
            let mut reader = reader(after);
            let mut last = None::<Position>;
            let mut take = |bed: &Bed, reader: &mut Reader, bytes| {
                match bed.read(reader, bytes) {
                    Read::Located { position, .. } => last = Some(position),
                    Read::Page(items) => for item in items {
                        match item {
                            Item::Gap(_, position) => last = Some(position),
                            Item::Message(delivery) => {
                                let id = delivery.message.id.unwrap();
                                let previous = last.expect("its place comes first");
                                assert_eq!(id.offset, previous.offset() + 1);
                                assert!(previous.goes_on_in(id.epoch));
                                last = Some(id.into());
                            }
                        }
                    },
                    Read::Joined(stand) => {
                        assert_eq!(last.map(Position::offset), Some(stand.offset()));
                        return false;
                    }
                    // What the ring has not, a server would: here there is none.
                    Read::Missing => {
                        let position = bed.ring.stand().position;
                        let start = Start { position, gap: Some(GapReason::UnknownEpoch) };
                        reader.place(start, bed.ring.stand());
                    }
                    Read::Ahead => unreachable!("nobody is read for"),
                }
                true
            };
            for op in ops {
                match op {
                    Op::Publish => bed.publish(),
                    Op::GoBack(by) => bed.go_back(by),
                    Op::Read(bytes) => {
                        take(&bed, &mut reader, bytes);
                    }
                }
            }
            let mut reads = 0;
            while take(&bed, &mut reader, usize::MAX) {
                reads += 1;
                prop_assert!(reads < 10, "a reader arrives");
            }
        }
    }
}
