//! Every transport against a real node: sessions open, hear what is published, and go on where they were.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use umbel_loadtest::bench::server::{Program, Server};
use umbel_loadtest::load::target::topic_name;
use umbel_loadtest::wire::payload::Template;
use umbel_loadtest::wire::publish_line;
use umbel_loadtest::work::file::Transport;
use umbel_loadtest::work::orders::Place;
use umbel_loadtest::work::script::Script;
use umbel_loadtest::work::speech::{Heard, Speech, Spoken, Wanted};

const SIZE: usize = 64;
/// Messages that a topic keeps.
const KEPT: u64 = 20;
/// The topic that keeps none.
const LIVE: usize = 99;
const DEADLINE: Duration = Duration::from_secs(15);

/// A node whose topics keep history.
fn node(test: &str) -> Server {
    let program = Path::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    let program = program.with_file_name("examples").join("fleet_node");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let settings = out.join(format!("speaking-{test}.toml"));
    let topics = [
        ("**", format!("history = {{ messages = {KEPT}, seconds = 300 }}")),
        ("bench.99", String::new()),
    ];
    let rule = |(name, history)| {
        format!(
            "[[topics]]\nmatch = \"{name}\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n{history}\n"
        )
    };
    std::fs::write(&settings, topics.map(rule).concat()).unwrap();
    let node = Program::node(&program, Some(1), &[], None, Some(&settings)).unwrap();
    Server::start(node, &out.join(format!("speaking-{test}.log")), || Ok(())).unwrap()
}

fn publish(node: &Server, topic: usize, sequences: Range<u64>) {
    let (mut template, mut body) = (Template::new(SIZE).unwrap(), Vec::new());
    for sequence in sequences {
        let text = |out: &mut Vec<u8>| template.write(out, sequence, 1);
        publish_line::write(&mut body, &topic_name(topic), text);
    }
    let mut stream = connect(node.address());
    let length = body.len();
    write!(
        stream,
        "POST /publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn speech(node: &Server, transport: Transport, script: Option<&str>) -> Speech {
    let place = Place { address: node.address(), host: "x".to_owned(), path: String::new() };
    let script = script.map(|text| Script::parse(text).unwrap());
    let template = Template::new(SIZE).unwrap();
    Speech::new(transport, &place, script.as_ref(), &template, true).unwrap()
}

/// A session over a connection that blocks.
struct Session<'s> {
    stream: TcpStream,
    speech: &'s Speech,
    spoken: Spoken,
    heard: Notes,
}

/// What a session heard.
#[derive(Default)]
struct Notes {
    is_open: bool,
    messages: Vec<(usize, u64)>,
    places: BTreeMap<usize, String>,
    gaps: u64,
}

impl Notes {
    fn take(&mut self, heard: &Heard<'_>) {
        match *heard {
            Heard::Open => self.is_open = true,
            Heard::Message { topic, payload, place } => {
                let sequence = Template::new(SIZE).unwrap().sequence(payload).unwrap();
                self.messages.push((topic, sequence));
                if let Some(place) = place {
                    self.places.insert(topic, place.to_owned());
                }
            }
            Heard::At { topic, place } => {
                self.places.insert(topic, place.to_owned());
            }
            Heard::Gap { .. } => self.gaps += 1,
        }
    }
}

impl<'s> Session<'s> {
    /// Opens a session with these topics, which goes on from these places.
    fn open(
        node: &Server,
        speech: &'s Speech,
        topics: &[usize],
        places: BTreeMap<usize, String>,
    ) -> Result<Self> {
        let stream = connect(node.address());
        let (spoken, heard) = (Spoken::default(), Notes { places, ..Notes::default() });
        let mut session = Self { stream, speech, spoken, heard };
        for topic in topics {
            session.heard.places.entry(*topic).or_default();
        }
        let places = session.heard.places.clone();
        let mut out = Vec::new();
        session.speech.greet(&mut session.spoken, &wanted(&places), &mut out);
        session.stream.write_all(&out)?;
        session.hear_until(|heard| heard.is_open)?;
        Ok(session)
    }

    fn hear_until(&mut self, is_enough: impl Fn(&Notes) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        // Small, so that messages are cut.
        let mut buffer = [0; 100];
        while !is_enough(&self.heard) {
            ensure!(Instant::now() < deadline, "not enough was heard: {:?}", self.heard.messages);
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                bail!("the node ended the connection");
            }
            let (places, mut out) = (self.heard.places.clone(), Vec::new());
            let Self { speech, spoken, heard, .. } = self;
            speech.hear(spoken, &wanted(&places), &mut buffer[..read], &mut out, &mut |said| {
                heard.take(&said);
            })?;
            self.stream.write_all(&out)?;
        }
        Ok(())
    }

    /// The next messages of one topic must be these.
    fn expect(&mut self, topic: usize, sequences: Range<u64>) {
        let expected: Vec<_> = sequences.map(|sequence| (topic, sequence)).collect();
        self.hear_until(|heard| heard.messages.len() >= expected.len()).unwrap();
        assert_eq!(std::mem::take(&mut self.heard.messages), expected);
    }
}

fn wanted(places: &BTreeMap<usize, String>) -> Vec<Wanted<'_>> {
    places.iter().map(|(topic, place)| Wanted { topic: *topic, after: Some(place) }).collect()
}

#[test]
fn who_comes_back_hears_all_that_it_missed_and_nothing_twice() {
    let node = node("resume");
    for (topic, transport) in [Transport::Json, Transport::Sse, Transport::Poll].iter().enumerate()
    {
        let speech = speech(&node, *transport, None);
        let mut session = Session::open(&node, &speech, &[topic], BTreeMap::new()).unwrap();
        publish(&node, topic, 0..10);
        session.expect(topic, 0..10);
        for round in 1..4 {
            let places = std::mem::take(&mut session.heard.places);
            drop(session);
            publish(&node, topic, round * 10..round * 10 + 5);
            session = Session::open(&node, &speech, &[topic], places).unwrap();
            publish(&node, topic, round * 10 + 5..round * 10 + 10);
            session.expect(topic, round * 10..round * 10 + 10);
            assert_eq!(session.heard.gaps, 0, "{transport:?}");
        }
    }
}

#[test]
fn who_missed_more_than_is_kept_is_told_so_once() {
    let node = node("gap");
    for (topic, transport) in [Transport::Json, Transport::Sse, Transport::Poll].iter().enumerate()
    {
        let speech = speech(&node, *transport, None);
        let mut session = Session::open(&node, &speech, &[topic], BTreeMap::new()).unwrap();
        publish(&node, topic, 0..1);
        session.expect(topic, 0..1);
        let places = std::mem::take(&mut session.heard.places);
        drop(session);
        publish(&node, topic, 1..KEPT + 10);
        session = Session::open(&node, &speech, &[topic], places).unwrap();
        session.expect(topic, 10..KEPT + 10);
        assert_eq!(session.heard.gaps, 1, "{transport:?}");
    }
}

#[test]
fn sessions_hear_a_topic_without_history() {
    let node = node("live");
    for transport in [Transport::WebSocket, Transport::Json, Transport::Sse] {
        let speech = speech(&node, transport, None);
        for _ in 0..2 {
            let mut session = Session::open(&node, &speech, &[LIVE], BTreeMap::new()).unwrap();
            publish(&node, LIVE, 0..10);
            session.expect(LIVE, 0..10);
        }
    }
    let polls = speech(&node, Transport::Poll, None);
    let refused = Session::open(&node, &polls, &[LIVE], BTreeMap::new()).err().unwrap();
    assert!(refused.to_string().contains("status 400: no_history"), "{refused}");
}

#[test]
fn a_json_session_changes_its_topics() {
    let node = node("change");
    let speech = speech(&node, Transport::Json, None);
    publish(&node, 2, 0..4);
    let mut session = Session::open(&node, &speech, &[0, 1], BTreeMap::new()).unwrap();
    let mut out = Vec::new();
    assert!(speech.change(1, &Wanted { topic: 2, after: None }, &mut out));
    session.stream.write_all(&out).unwrap();
    session.hear_until(|heard| heard.places.contains_key(&2)).unwrap();
    publish(&node, 1, 0..1);
    publish(&node, 2, 4..6);
    session.expect(2, 4..6);
    publish(&node, 0, 0..3);
    session.expect(0, 0..3);
}

#[test]
fn scripts_speak_to_a_server_that_they_were_written_for() {
    let node = node("script");
    let frames = r#"
        path = "/ws"
        subprotocol = "umbel.v1.json"
        [[steps]]
        wait = '"op":"welcome"'
        [[steps]]
        send = '{"op":"subscribe","topic":"{topic}"}'
        wait = '"op":"subscribed","topic":"{topic}"'
    "#;
    let events = "path = \"/topics/{topic}\"\ntransport = \"sse\"";
    for (topic, script) in [frames, events].into_iter().enumerate() {
        let speech = speech(&node, Transport::Script, Some(script));
        let mut session = Session::open(&node, &speech, &[topic], BTreeMap::new()).unwrap();
        publish(&node, topic, 0..10);
        session.expect(topic, 0..10);
    }
}
