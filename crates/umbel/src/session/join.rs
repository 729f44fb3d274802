//! The join between a topic's history and what comes live: which piece a session is given next, and
//! when it may hold the topic.
//!
//! Nothing is missed and nothing doubled at the seam, since all of this happens between two turns of
//! the worker: what the broker has on record is read up to where the worker's hub stands, or, if
//! nobody there holds the topic, up to the end, where the hub is then told to begin.

use std::rc::Rc;

use umbel_broker::{Broker, Read, Reader};
use umbel_hub::{Hub, Segment, SessionKey};
use umbel_protocol::history::Item;
use umbel_protocol::{GapReason, Position, Stand, Topic};

use super::segments::{Kept, Segments};
use crate::worker::ReadFrom;

/// A session's way through one topic's history.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) reader: Reader,
    /// A piece that was read, and the next of its frames that the session is to be given.
    piece: Option<(Rc<Segment>, usize)>,
    /// Whether the session is open already, without knowing where the topic begins for it.
    is_late: bool,
}

/// What came of a session's way, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A piece was read.
    Read(ReadFrom),
    /// The session is told of a gap.
    Gap(GapReason),
}

/// What a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write what it was given.
    Write,
    /// Hold the topic, whose hub begins there if it doesn't have it.
    Hold(Stand),
    /// Wait until the worker has fanned out what is in its mailbox.
    Wait,
    /// Have the broker asked.
    Fetch,
}

impl Join {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, piece: None, is_late: false }
    }

    /// The session was opened before it was known where the topic begins: what was published since
    /// it may miss, and it is told so, with the place, once that is known.
    pub(crate) fn begin_late(&mut self) {
        self.is_late = true;
    }

    pub(crate) fn topic(&self) -> &Topic {
        self.reader.topic()
    }

    /// Gives a session, whose own bytes are written, what comes next, about `bytes` of it. `told` is
    /// called for each piece that is read and each gap that the session is told of.
    pub(crate) fn next<S>(
        &mut self,
        hub: &mut Hub<S>,
        session: SessionKey,
        broker: &Broker,
        segments: &mut Segments,
        bytes: usize,
        mut told: impl FnMut(Told),
    ) -> Next {
        let topic = self.topic().clone();
        loop {
            if let Some((piece, from)) = self.piece.take() {
                let taken = hub.replay(session, &topic, &piece, from, piece.len());
                if from + taken < piece.len() {
                    self.piece = Some((piece, from + taken));
                }
                return Next::Write;
            }
            // A hub that doesn't know where its topic stands is waiting for a gap to tell it.
            let unknown = Stand { life: 0, position: Position::START };
            let up_to = hub.stand(&topic).map(|stand| stand.unwrap_or(unknown));
            if self.next_of_others(hub, session, segments, up_to) {
                told(Told::Read(ReadFrom::Shared));
                return Next::Write;
            }
            let began = self.reader.stand();
            match broker.read(&mut self.reader, up_to, bytes) {
                Read::Located { gap, position, .. } => {
                    if let Some(reason) = gap.or(self.is_late.then_some(GapReason::BrokerLink)) {
                        hub.tell_gap(session, &topic, reason, Some(position));
                        told(Told::Gap(reason));
                    }
                }
                Read::Page(items) => {
                    told(Told::Read(ReadFrom::of(&mut self.reader)));
                    let encoding = hub.shared_by(session);
                    let piece = Rc::new(hub.segment(encoding, &topic, &items));
                    let kept = Kept::of(&items, began, self.reader.stand(), &piece);
                    segments.keep(encoding, topic.clone(), kept);
                    self.piece = Some((piece, 0));
                    for item in items {
                        if let Item::Gap(reason, _) = item {
                            told(Told::Gap(reason));
                        }
                    }
                }
                Read::Joined(stand) => return Next::Hold(stand),
                Read::Ahead => return Next::Wait,
                Read::Missing => return Next::Fetch,
            }
        }
    }

    /// Goes on with what another session was given.
    fn next_of_others<S>(
        &mut self,
        hub: &mut Hub<S>,
        session: SessionKey,
        segments: &mut Segments,
        up_to: Option<Stand>,
    ) -> bool {
        let topic = self.topic().clone();
        let Some(stand) = self.reader.stand() else {
            return false;
        };
        let encoding = hub.shared_by(session);
        let Some((segment, from, to)) = segments.find(encoding, &topic, stand, up_to) else {
            return false;
        };
        let taken = hub.replay(session, &topic, &segment, from, to);
        if let Some(last) = taken.checked_sub(1) {
            self.reader.skip_to(segment.position(from + last));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;
    use umbel_broker::{History, Mailbox, MemoryBroker, Parcel, Publish, WorkerId};
    use umbel_hub::{OnSlow, Verdict};
    use umbel_protocol::{
        After, CompositeTopics, Cursor, Delivery, Dialect, Message, MessageId, Payload, SessionId,
        Timestamp, sse::EventParser,
    };

    const SESSIONS: usize = 4;
    const TOPICS: usize = 2;
    const HISTORY: History = History { messages: 1000, seconds: 1 << 20, keep_seconds: 1 << 20 };

    #[derive(Debug, Clone)]
    enum Op {
        Publish(usize),
        /// The worker takes what is in its mailbox, and appends so many messages of it.
        Append(usize),
        /// A session comes, or comes back, with a place so far behind.
        Come {
            session: usize,
            topic: usize,
            behind: u64,
        },
        /// A session gives a topic up.
        Leave {
            session: usize,
            topic: usize,
        },
        /// A session's socket takes at most so many bytes.
        Write {
            session: usize,
            bytes: usize,
        },
    }

    fn op() -> impl Strategy<Value = Op> {
        let session = || 0..SESSIONS;
        let topic = || 0..TOPICS;
        prop_oneof![
            6 => topic().prop_map(Op::Publish),
            4 => (1_usize..6).prop_map(Op::Append),
            3 => (session(), topic(), 0_u64..12).prop_map(|(session, topic, behind)| Op::Come { session, topic, behind }),
            1 => (session(), topic()).prop_map(|(session, topic)| Op::Leave { session, topic }),
            8 => (session(), 0_usize..400).prop_map(|(session, bytes)| Op::Write { session, bytes }),
        ]
    }

    /// A session, and what it must get.
    struct Client {
        key: SessionKey,
        joins: Vec<Join>,
        got: Vec<u8>,
        /// Per topic that it has: the offset that it has got last.
        places: HashMap<usize, u64>,
        dialect: Dialect,
    }

    struct Bed {
        runtime: tokio::runtime::Runtime,
        broker: Broker,
        mailbox: Arc<Mailbox>,
        taken: std::collections::VecDeque<Parcel>,
        hub: Hub<()>,
        segments: Segments,
        clients: Vec<Client>,
        epochs: HashMap<usize, u64>,
        published: [u64; TOPICS],
        gaps: u64,
        on_slow: OnSlow,
        /// How often a session was too far behind and read on from history.
        left: u64,
    }

    fn name(topic: usize) -> Topic {
        Topic::new(&format!("topic.{topic}")).unwrap()
    }

    impl Bed {
        fn new(on_slow: OnSlow, behind_bytes: usize) -> Self {
            let mailbox = Arc::new(Mailbox::new(usize::MAX));
            let broker = Broker::Memory(MemoryBroker::new([mailbox.clone()], 1 << 24));
            for topic in 0..TOPICS {
                // As if somebody were always about to hold it.
                let _ = broker.attach(WorkerId::new(0).unwrap(), &name(topic), Some(HISTORY));
            }
            let mut hub = Hub::new(behind_bytes);
            let clients = (0..SESSIONS)
                .map(|number| {
                    let dialect = if number % 2 == 0 { Dialect::Json } else { Dialect::Sse };
                    let key = hub.open(SessionId(number as u64), dialect, ());
                    if number == 3 {
                        let topics = [name(0), name(1)];
                        let names = CompositeTopics::new(&topics).unwrap();
                        hub.set_composite(key, topics.into(), names);
                    }
                    let (joins, got, places) = (Vec::new(), Vec::new(), HashMap::new());
                    Client { key, joins, got, places, dialect }
                })
                .collect();
            Self {
                runtime: tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap(),
                broker,
                mailbox,
                taken: std::collections::VecDeque::new(),
                hub,
                segments: Segments::default(),
                clients,
                epochs: HashMap::new(),
                published: [0; TOPICS],
                gaps: 0,
                on_slow,
                left: 0,
            }
        }

        fn run(&mut self, op: &Op) {
            match *op {
                Op::Publish(topic) => self.publish(topic),
                Op::Append(count) => self.append(count),
                Op::Come { session, topic, behind } => self.come(session, topic, behind),
                Op::Leave { session, topic } => self.leave(session, topic),
                Op::Write { session, bytes } => self.write(session, bytes),
            }
        }

        fn publish(&mut self, topic: usize) {
            self.published[topic] += 1;
            let text = format!("{topic}:{}", self.published[topic]);
            let message = Message {
                topic: name(topic),
                payload: Payload::text(text),
                event: None,
                published: Timestamp(1 << 52),
                origin: None,
                trace: None,
                id: None,
            };
            let delivery = Delivery { message, received: 0, bare: false, life: 0 };
            let publish = Publish { delivery, history: Some(HISTORY), key: None };
            let published = self.runtime.block_on(self.broker.publish(publish)).unwrap();
            self.epochs.insert(topic, published.id.unwrap().epoch);
        }

        fn append(&mut self, count: usize) {
            let mut batch = Vec::new();
            let take = self.mailbox.take(&mut batch);
            let _ = self
                .runtime
                .block_on(async { tokio::time::timeout(std::time::Duration::ZERO, take).await });
            self.taken.extend(batch);
            for _ in 0..count {
                if let Some(Parcel::Message(delivery)) = self.taken.pop_front() {
                    self.hub.append(&delivery, 0);
                }
            }
            self.hub.mark_appended();
            while let Some(key) = self.hub.next_due() {
                self.enforce(key);
            }
        }

        /// Has a session that is too far behind read on from history.
        fn enforce(&mut self, key: SessionKey) {
            let Verdict::Moved { gap, left } = self.hub.enforce(key) else {
                return;
            };
            assert!(!gap, "history has it");
            let client = self.clients.iter_mut().find(|client| client.key == key).unwrap();
            for left in left {
                self.left += 1;
                let reader = Reader::new(left.topic, After::Position(left.after));
                client.joins.push(Join::new(reader));
            }
        }

        fn come(&mut self, session: usize, topic: usize, behind: u64) {
            let client = &mut self.clients[session];
            if client.places.contains_key(&topic) {
                return;
            }
            let offset = self.published[topic].saturating_sub(behind);
            let position = match (self.epochs.get(&topic), offset) {
                (Some(epoch), 1..) => Position(Some(MessageId { epoch: *epoch, offset })),
                _ => Position::START,
            };
            self.hub.set_position(client.key, &name(topic), position);
            let reader = Reader::new(name(topic), After::Position(position));
            client.joins.push(Join::new(reader));
            client.places.insert(topic, position.offset());
        }

        fn leave(&mut self, session: usize, topic: usize) {
            if self.hub.is_composite(self.clients[session].key) {
                // It holds all of its topics until it ends.
                return;
            }
            // Read to the end first, so that what is on its way is told from what must not come.
            self.write(session, usize::MAX);
            self.check();
            let client = &mut self.clients[session];
            for (topic, number) in received(&client.got, client.dialect) {
                client.places.insert(topic, number);
            }
            client.got.clear();
            if client.places.remove(&topic).is_none() {
                return;
            }
            client.joins.retain(|join| *join.topic() != name(topic));
            let _ = self.hub.unsubscribe(client.key, &name(topic));
        }

        /// What a worker does for a session whose socket has room.
        fn write(&mut self, session: usize, mut bytes: usize) {
            loop {
                let client = &mut self.clients[session];
                let key = client.key;
                if self.hub.is_composite(key) {
                    self.hub.render(key);
                }
                let pending = self.hub.pending(key).collect::<Vec<_>>().concat();
                let written = pending.len().min(bytes);
                client.got.extend_from_slice(&pending[..written]);
                self.hub.advance(key, written);
                bytes -= written;
                if !self.hub.is_drained(key) {
                    if bytes == 0 {
                        return self.enforce(key);
                    }
                    continue;
                }
                let Some(join) = client.joins.first_mut() else {
                    return;
                };
                let topic = join.topic().clone();
                let (broker, segments, gaps) = (&self.broker, &mut self.segments, &mut self.gaps);
                let told = |told: Told| *gaps += u64::from(matches!(told, Told::Gap(_)));
                match join.next(&mut self.hub, key, broker, segments, 300, told) {
                    Next::Write => {}
                    Next::Hold(stand) => {
                        client.joins.remove(0);
                        let subscribed = self.hub.subscribe(key, &topic, self.on_slow, Some(stand));
                        subscribed.expect("it isn't held yet");
                    }
                    Next::Wait => return,
                    Next::Fetch => unreachable!("the broker is in memory"),
                }
            }
        }

        fn check(&self) {
            for client in &self.clients {
                let mut last = HashMap::new();
                if client.dialect == Dialect::Sse {
                    self.check_ids(client);
                }
                for (topic, number) in received(&client.got, client.dialect) {
                    let place = client.places.get(&topic).expect("a topic that it has");
                    let before = last.insert(topic, number).unwrap_or(*place);
                    assert_eq!(number, before + 1, "of topic {topic}");
                }
            }
        }

        /// Each event's id names the place behind it: in its topic, or in all of them.
        fn check_ids(&self, client: &Client) {
            let mut places = client.places.clone();
            for event in EventParser::default().feed(&client.got) {
                let (topic, number) = numbered(&event.data);
                places.insert(topic, number);
                let all: Vec<_> = (0..TOPICS)
                    .filter_map(|topic| Some((name(topic), *places.get(&topic)?)))
                    .collect();
                match Cursor::parse(&event.id).unwrap() {
                    Cursor::Composite(cursor) => {
                        for (topic, place) in all {
                            // None: it has come since.
                            let position = cursor.position_of(&topic).map(Position::offset);
                            assert_eq!(position.unwrap_or(place), place, "{topic}");
                        }
                    }
                    Cursor::All(after) => {
                        let id = MessageId { epoch: self.epochs[&topic], offset: number };
                        assert_eq!(after, After::Position(Position(Some(id))));
                    }
                }
            }
        }

        fn settle(&mut self) {
            self.append(10_000);
            for session in 0..SESSIONS {
                self.write(session, usize::MAX);
            }
            self.check();
            for client in &self.clients {
                for (topic, place) in &client.places {
                    let got = received(&client.got, client.dialect);
                    let last = got.iter().rfind(|(of, _)| of == topic).map(|(_, number)| *number);
                    assert_eq!(last.unwrap_or(*place), self.published[*topic], "of {topic}");
                }
            }
            assert_eq!(self.gaps, 0, "all that is missing is there");
        }
    }

    fn numbered(text: &str) -> (usize, u64) {
        let (topic, number) = text.split_once(':').expect("a topic and a number");
        (topic.parse().unwrap(), number.parse().unwrap())
    }

    /// Topics and numbers, in order. A frame that is cut at the end is passed over.
    fn received(bytes: &[u8], dialect: Dialect) -> Vec<(usize, u64)> {
        if dialect == Dialect::Sse {
            let events = EventParser::default().feed(bytes);
            return events.iter().map(|event| numbered(&event.data)).collect();
        }
        let mut got = Vec::new();
        let mut rest = bytes;
        while rest.len() > 4 {
            let (header, len) = match rest[1] {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                short => (2, usize::from(short)),
            };
            let Some(body) = rest.get(header..header + len) else {
                break;
            };
            let value: serde_json::Value = serde_json::from_slice(body).unwrap();
            got.push(numbered(value["text"].as_str().unwrap_or_else(|| panic!("{value}"))));
            rest = &rest[header + len..];
        }
        got
    }

    proptest! {
        /// Whatever comes in which order: every session gets everything behind its place once, in
        /// order, by history and live, and nothing before it.
        #[test]
        fn history_and_live_join_without_a_seam(ops in prop::collection::vec(op(), 1..150)) {
            let mut bed = Bed::new(OnSlow::Disconnect, 1 << 24);
            for op in &ops {
                bed.run(op);
                bed.check();
            }
            bed.settle();
            prop_assert_eq!(bed.left, 0);
        }

        /// The same for sessions that are too slow for what comes live.
        #[test]
        fn who_is_too_slow_reads_on_without_a_seam(
            ops in prop::collection::vec(op(), 1..150),
            budget in 0_usize..200,
        ) {
            let mut bed = Bed::new(OnSlow::Drop, budget);
            for op in &ops {
                bed.run(op);
                bed.check();
            }
            bed.settle();
        }
    }
}
