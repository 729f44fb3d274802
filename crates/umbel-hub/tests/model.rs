//! The hub against a model that knows only what each session must get.
//!
//! Random sequences of subscribing, publishing, writes cut anywhere and policies at work; after
//! each, the bytes that a session got must be whole frames, per topic in order, without what was
//! published before or after it held the topic, and what is missing must have been counted.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::HashMap;

use proptest::prelude::*;
use umbel_hub::{Hub, OnSlow, SessionKey, Skipped, Verdict};
use umbel_protocol::{
    Delivery, Dialect, EventName, GapReason, Message, Payload, SessionId, Timestamp, Topic,
};

const TOPICS: usize = 3;
const SESSIONS: usize = 4;

/// Stands for a gap among the numbers of messages.
const GAP: u32 = u32::MAX;

#[derive(Debug, Clone)]
enum Op {
    Subscribe {
        session: usize,
        topic: usize,
    },
    Unsubscribe {
        session: usize,
        topic: usize,
    },
    /// Publish these to their topics as one batch; `own` names a session that shall not hear it.
    Publish(Vec<(usize, Option<usize>)>),
    /// Write at most so many bytes to a session.
    Write {
        session: usize,
        bytes: usize,
    },
    /// A reply or ping for one session.
    Control {
        session: usize,
    },
    /// The broker lost messages of a topic.
    Gap {
        topic: usize,
    },
    Reopen {
        session: usize,
    },
    /// Memory is short, or not any more: from now on this is how far behind one may be.
    Allow {
        bytes: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let session = || 0..SESSIONS;
    let topic = || 0..TOPICS;
    prop_oneof![
        3 => (session(), topic()).prop_map(|(session, topic)| Op::Subscribe { session, topic }),
        1 => (session(), topic()).prop_map(|(session, topic)| Op::Unsubscribe { session, topic }),
        6 => prop::collection::vec((topic(), prop::option::weighted(0.2, session())), 1..6).prop_map(Op::Publish),
        6 => (session(), 0..150_usize).prop_map(|(session, bytes)| Op::Write { session, bytes }),
        1 => session().prop_map(|session| Op::Control { session }),
        3 => topic().prop_map(|topic| Op::Gap { topic }),
        1 => session().prop_map(|session| Op::Reopen { session }),
        1 => (20..200_usize).prop_map(|bytes| Op::Allow { bytes }),
    ]
}

/// What the model knows of one session.
struct Client {
    key: SessionKey,
    id: SessionId,
    got: Vec<u8>,
    /// Per held topic: what was fanned out to it since, in order.
    held: HashMap<usize, Vec<u32>>,
    /// Everything that a topic ever had for it, over all times that it was held.
    expected: HashMap<usize, Vec<u32>>,
    /// Whether the last write took all that was pending.
    drained: bool,
}

struct Bed {
    hub: Hub<()>,
    clients: Vec<Client>,
    on_slow: OnSlow,
    next: u32,
    next_id: u64,
    gaps: u64,
}

impl Bed {
    fn new(behind_bytes: usize, on_slow: OnSlow) -> Self {
        let mut bed = Self {
            hub: Hub::new(behind_bytes),
            clients: Vec::new(),
            on_slow,
            next: 0,
            next_id: 0,
            gaps: 0,
        };
        for session in 0..SESSIONS {
            let client = bed.open(dialect(session));
            bed.clients.push(client);
        }
        bed
    }

    fn open(&mut self, dialect: Dialect) -> Client {
        self.next_id += 1;
        let id = SessionId(self.next_id);
        let key = self.hub.open(id, dialect, ());
        // Neither dialect has event names: what differs is only the lane.
        let name = match self.next_id % 3 {
            0 => None,
            1 => Some("one"),
            _ => Some("two"),
        };
        if let Some(name) = name {
            self.hub.set_default_event(key, &EventName::new(name).unwrap());
        }
        Client {
            key,
            id,
            got: Vec::new(),
            held: HashMap::new(),
            expected: HashMap::new(),
            drained: true,
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Subscribe { session, topic } => {
                let client = &mut self.clients[session];
                let subscribed = self.hub.subscribe(client.key, &name(topic), self.on_slow, None);
                assert_eq!(subscribed.is_ok(), !client.held.contains_key(&topic));
                client.held.entry(topic).or_default();
            }
            Op::Unsubscribe { session, topic } => {
                let client = &mut self.clients[session];
                let unsubscribed = self.hub.unsubscribe(client.key, &name(topic));
                assert_eq!(unsubscribed.is_ok(), client.held.contains_key(&topic));
                client.held.remove(&topic);
            }
            Op::Publish(batch) => self.publish(&batch),
            Op::Write { session, bytes } => self.write(session, bytes),
            Op::Control { session } => {
                let client = &mut self.clients[session];
                client.drained = false;
                umbel_protocol::websocket::write_frame(
                    self.hub.control(client.key),
                    umbel_protocol::websocket::Opcode::Ping,
                    b"control",
                );
            }
            Op::Gap { topic } => self.gap(topic),
            Op::Allow { bytes } => {
                self.hub.set_behind_bytes(bytes);
                for session in 0..SESSIONS {
                    // What was written meanwhile is what the socket took.
                    let key = self.clients[session].key;
                    if !self.clients[session].drained {
                        self.enforce(key);
                    }
                }
                self.hub.shorten_logs();
            }
            Op::Reopen { session } => {
                let fresh = self.open(dialect(session));
                let old = std::mem::replace(&mut self.clients[session], fresh);
                check(&old, self.on_slow);
                self.hub.close(old.key, |_| {});
            }
        }
    }

    fn publish(&mut self, batch: &[(usize, Option<usize>)]) {
        let mut deliveries = Vec::new();
        for (topic, own) in batch {
            let number = self.next;
            self.next += 1;
            let origin = own.map(|session| self.clients[session].id);
            deliveries.push(Delivery {
                message: Message {
                    topic: name(*topic),
                    // Frames of different lengths, so that every cut is met.
                    payload: Payload::text(format!(
                        "{topic}:{number}{}",
                        ".".repeat(number as usize % 7)
                    )),
                    event: None,
                    published: Timestamp(0),
                    origin,
                    trace: None,
                    id: None,
                },
                received: u64::from(number),
                bare: false,
                life: 0,
            });
            for client in &mut self.clients {
                let Some(since) = client.held.get_mut(topic) else {
                    continue;
                };
                client.drained = false;
                if Some(client.id) == origin {
                    // Its own value, which it knows, is newer than all before.
                    since.clear();
                } else {
                    since.push(number);
                    client.expected.entry(*topic).or_default().push(number);
                }
            }
        }
        self.hub.fan_out(&deliveries);
        while let Some(key) = self.hub.next_due() {
            self.enforce(key);
        }
    }

    fn gap(&mut self, topic: usize) {
        let mut concerned = 0;
        for (session, client) in self.clients.iter_mut().enumerate() {
            if !client.held.contains_key(&topic) {
                continue;
            }
            concerned += 1;
            if dialect(session) == Dialect::Json {
                client.drained = false;
                client.expected.entry(topic).or_default().push(GAP);
            }
        }
        let told = self.hub.append_gap(&name(topic), GapReason::BrokerLink, None, 0);
        assert_eq!(told, concerned);
        self.gaps += told;
        self.hub.mark_appended();
        while let Some(key) = self.hub.next_due() {
            self.enforce(key);
        }
    }

    fn enforce(&mut self, key: SessionKey) {
        match self.hub.enforce(key) {
            Verdict::Within => {}
            Verdict::Moved { gap, left } => {
                assert_eq!(left, [], "there is no history");
                assert_ne!(self.on_slow, OnSlow::Disconnect);
                assert_eq!(gap, self.on_slow == OnSlow::Drop);
                self.gaps += u64::from(gap);
            }
            Verdict::Disconnect => {
                assert_eq!(self.on_slow, OnSlow::Disconnect);
                self.hub.leave_all(key, |_| {});
                let client = self.clients.iter_mut().find(|client| client.key == key).unwrap();
                client.held.clear();
            }
        }
    }

    fn write(&mut self, session: usize, bytes: usize) {
        let client = &mut self.clients[session];
        let pending = self.hub.pending(client.key).collect::<Vec<_>>().concat();
        let written = bytes.min(pending.len());
        client.got.extend_from_slice(&pending[..written]);
        client.drained = written == pending.len();
        let before = self.hub.tally().delivered();
        self.hub.advance(client.key, written);
        let delivers = self.hub.tally().delivered() > before;
        let noted =
            std::iter::from_fn(|| self.hub.take_wait()).map(|wait| wait.writes).sum::<u64>();
        assert_eq!(noted, u64::from(delivers), "one note per write that delivers");
        let key = client.key;
        assert_eq!(self.hub.is_drained(key), written == pending.len());
        self.enforce(key);
    }

    fn finish(mut self) {
        for session in 0..SESSIONS {
            self.write(session, usize::MAX);
            check(&self.clients[session], self.on_slow);
        }
        let tally = self.hub.tally();
        assert_eq!(tally.in_flight(), 0, "{tally:?}");
        assert_eq!(tally.log_bytes, 0, "all logs are given back");
        assert_eq!(tally.gaps > 0, self.gaps > 0);
        if self.on_slow != OnSlow::Drop {
            assert_eq!(tally.skipped[Skipped::SlowDrop.index()], 0);
        }
        let mut left = 0;
        for client in &self.clients {
            self.hub.close(client.key, |_| left += 1);
        }
        assert_eq!(
            (self.hub.topic_count(), self.hub.subscription_count(), self.hub.session_count()),
            (0, 0, 0)
        );
    }
}

/// Every other session is told of gaps.
fn dialect(session: usize) -> Dialect {
    if session.is_multiple_of(2) { Dialect::Plain } else { Dialect::Json }
}

fn name(topic: usize) -> Topic {
    Topic::new(&format!("topic.{topic}")).unwrap()
}

/// What a session got so far: per topic a part of what it was to get, in order.
fn check(client: &Client, on_slow: OnSlow) {
    let got = received(&client.got);
    for (topic, numbers) in &got {
        let mut expected = client.expected.get(topic).into_iter().flatten();
        for number in numbers.iter().filter(|number| **number != GAP) {
            assert!(
                expected.any(|e| e == number),
                "{number} of topic {topic} is out of place in {numbers:?}"
            );
        }
    }
    // Conflation never loses the newest value of a topic that is still held.
    if on_slow == OnSlow::Latest && client.drained {
        for (topic, since) in &client.held {
            if let Some(newest) = since.last() {
                assert_eq!(got[topic].iter().rfind(|number| **number != GAP), Some(newest));
            }
        }
    }
}

/// The numbers of each topic in the order of their frames. A frame that is cut at the end is
/// passed over; anything else that isn't a whole frame panics.
fn received(mut bytes: &[u8]) -> HashMap<usize, Vec<u32>> {
    let mut got: HashMap<usize, Vec<u32>> = HashMap::new();
    while bytes.len() >= 2 && bytes.len() >= 2 + usize::from(bytes[1]) {
        let (frame, rest) = bytes.split_at(2 + usize::from(bytes[1]));
        bytes = rest;
        match frame[0] {
            0x89 => assert_eq!(&frame[2..], b"control"),
            0x81 => {
                let body = std::str::from_utf8(&frame[2..]).unwrap();
                if let Some(rest) = body.strip_prefix(r#"{"op":"gap","topic":"topic."#) {
                    let (topic, rest) = rest.split_at(1);
                    match rest {
                        r#"","reason":"broker_link"}"# => {
                            got.entry(topic.parse().unwrap()).or_default().push(GAP);
                        }
                        // Told ahead of what waits, so it has no place among the messages.
                        r#"","reason":"slow"}"# => {}
                        other => panic!("{other}"),
                    }
                    continue;
                }
                let text = match body.split_once(r#""text":""#) {
                    Some((_, text)) => text.strip_suffix(r#""}"#).unwrap(),
                    None => body,
                };
                let (topic, number) = text.trim_end_matches('.').split_once(':').unwrap();
                got.entry(topic.parse().unwrap()).or_default().push(number.parse().unwrap());
            }
            other => panic!("a frame begins with {other:#x}"),
        }
    }
    got
}

proptest! {
    #[test]
    fn streams_stay_whole_under_every_policy(
        ops in prop::collection::vec(op(), 1..80),
        budget in prop_oneof![0..60_usize, Just(1 << 20)],
        on_slow in prop::sample::select(&OnSlow::ALL[..]),
    ) {
        let mut bed = Bed::new(budget, on_slow);
        for op in ops {
            bed.run(op);
        }
        bed.finish();
    }

    #[test]
    fn within_the_budget_nothing_is_lost_or_doubled(ops in prop::collection::vec(op(), 1..80)) {
        let mut bed = Bed::new(1 << 20, OnSlow::Disconnect);
        for op in ops {
            match op {
                Op::Unsubscribe { .. } | Op::Reopen { .. } => {}
                // Memory is given back, and nobody is too far behind.
                Op::Allow { .. } => bed.run(Op::Allow { bytes: 1 << 20 }),
                op => bed.run(op),
            }
        }
        for session in 0..SESSIONS {
            bed.write(session, usize::MAX);
        }
        for client in &bed.clients {
            // Gaps without a message in between may be told as one.
            let joined = |mut numbers: HashMap<usize, Vec<u32>>| {
                for numbers in numbers.values_mut() {
                    numbers.dedup();
                }
                numbers
            };
            assert_eq!(joined(received(&client.got)), joined(client.expected.clone()));
        }
        bed.finish();
    }
}
