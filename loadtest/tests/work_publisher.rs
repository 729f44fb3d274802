//! Publishing by all ways, to real servers that are killed and come back, and to one that refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "work_publisher/servers.rs"]
mod servers;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use servers::{Does, Scripted, Server, cut_once, place};
use umbel_loadtest::channels::Channels;
use umbel_loadtest::load::clock;
use umbel_loadtest::load::target::topic_name;
use umbel_loadtest::os::poller::Poller;
use umbel_loadtest::wire::payload::Template;
use umbel_loadtest::wire::subscribe::{Dialect, Subscribe};
use umbel_loadtest::wire::{frame, response};
use umbel_loadtest::work::file::By;
use umbel_loadtest::work::publisher::{Feed, PublishFigures, Publisher};
use umbel_loadtest::work::script::Script;

const SIZE: usize = 64;
const MESSAGES: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest wait of a test.
const DEADLINE: Duration = Duration::from_secs(10);

/// A publisher and what tells of its events.
struct Driven {
    publisher: Publisher,
    poller: Poller,
}

impl Driven {
    fn new(feed: &Feed, batch: usize, patience: Duration) -> Self {
        let template = Template::new(SIZE).unwrap();
        let mut publisher = Publisher::connect(feed, template, batch, patience).unwrap();
        let poller = Poller::new().unwrap();
        publisher.register(&poller, 7).unwrap();
        Self { publisher, poller }
    }

    fn add(&mut self, topic: usize, messages: u64) {
        (0..messages).for_each(|_| self.publisher.add(topic, clock::nanos()));
    }

    /// Goes on until all is confirmed or `span` is over.
    fn go_on(&mut self, span: Duration) -> Result<()> {
        let end = Instant::now() + span;
        while self.publisher.outstanding() > 0 && Instant::now() < end {
            self.publisher.pump(&self.poller)?;
            let wait = self.publisher.wakes_in().unwrap_or_default().min(span);
            for index in 0..self.poller.wait(Some(wait))? {
                let ready = self.poller.ready(index);
                assert_eq!(ready.token, 7);
                self.publisher.serve(ready, &self.poller)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, topic: usize, messages: u64) -> Result<PublishFigures> {
        self.add(topic, messages);
        self.go_on(DEADLINE)?;
        assert_eq!(self.publisher.outstanding(), 0, "not all was confirmed");
        Ok(self.publisher.figures())
    }
}

fn feed(by: By, server: &Server) -> Feed {
    let (place, redis) = (Some(server.place()), Some(server.channels()));
    Feed { by, place, redis, script: None, keyed: true }
}

fn scripted(publish: &str, server: &Server) -> Feed {
    let script = Script::parse(&format!("path = \"/\"\n[publish]\n{publish}")).unwrap();
    Feed { script: Some(script), ..feed(By::Script, server) }
}

/// Subscribes to one topic of a node, over WebSocket.
struct Listener {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Listener {
    fn new(node: &Server, topic: usize) -> Self {
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let subscribe = Subscribe::new(Dialect::WebSocket, &node.address.to_string());
        let mut request = Vec::new();
        subscribe.write(&mut request, &format!("/topics/{}", topic_name(topic)));
        stream.write_all(&request).unwrap();
        let mut listener = Self { stream, read: Vec::new() };
        let head =
            listener.next(|bytes| response::parse(bytes).unwrap().map(|head| (head.taken, head)));
        subscribe.judge(&head).unwrap();
        listener
    }

    fn next<T>(&mut self, take: impl Fn(&[u8]) -> Option<(usize, T)>) -> T {
        loop {
            if let Some((taken, found)) = take(&self.read) {
                self.read.drain(..taken);
                return found;
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the node closed a subscriber's connection");
            self.read.extend_from_slice(&buffer[..read]);
        }
    }

    /// All messages come, in order.
    fn hears_all(&mut self) {
        let template = Template::new(SIZE).unwrap();
        for expected in 0..MESSAGES {
            let payload = self.next(|bytes| {
                frame::parse(bytes).unwrap().map(|frame| (frame.taken, frame.payload.to_vec()))
            });
            assert_eq!(template.sequence(&payload), Ok(expected));
        }
    }
}

#[test]
fn a_node_gets_all_messages_in_order_by_all_ways() {
    let node = Server::node(None);
    let each =
        "post = '/topics/{topic}'\nheaders = ['Content-Type: text/plain']\nbody = '{payload}'";
    let lines = "post = '/publish'\nheaders = ['Content-Type: application/x-ndjson']\nlines = true\nbody = '{\"topic\":\"{topic}\",\"text\":\"{payload}\"}'";
    let unkeyed = Feed { keyed: false, ..feed(By::Post, &node) };
    for (topic, (feed, requests)) in [
        (unkeyed, 15),
        (feed(By::Post, &node), 15),
        (feed(By::Session, &node), 15),
        (scripted(each, &node), 100),
        (scripted(lines, &node), 15),
    ]
    .into_iter()
    .enumerate()
    {
        let mut listener = Listener::new(&node, topic);
        let mut driven = Driven::new(&feed, 7, PATIENCE);
        let figures = driven.publish(topic, MESSAGES).unwrap();
        let expected = PublishFigures { added: MESSAGES, confirmed: MESSAGES, requests, ..figures };
        assert_eq!(figures, expected);
        assert_eq!((figures.failed_requests, figures.doubtful), (0, 0), "{:?}", feed.by);
        assert_eq!(driven.publisher.published()[topic], MESSAGES);
        assert_eq!(driven.publisher.take_times().len(), MESSAGES);
        assert!(driven.publisher.take_times().is_empty());
        listener.hears_all();
    }
}

#[test]
fn a_node_gets_all_messages_in_order_from_redis_by_all_ways() {
    let redis = Server::redis("ways");
    let node = Server::node(Some(&redis));
    let words = "tcp = \"PUBLISH umbel:{topic} '{payload}'\\r\\n\"";
    let answered = format!("{words}\nopen = \"CLIENT SETNAME x\\r\\n\"\nexpect = \":1\\r\\n\"");
    for (topic, feed) in [
        feed(By::Redis, &redis),
        feed(By::History, &redis),
        Feed { keyed: false, ..feed(By::History, &redis) },
        scripted("redis = 'umbel:'", &redis),
        scripted(&answered, &redis),
        scripted(words, &redis),
    ]
    .into_iter()
    .enumerate()
    {
        let mut listener = Listener::new(&node, topic);
        let figures = Driven::new(&feed, 7, PATIENCE).publish(topic, MESSAGES).unwrap();
        assert_eq!((figures.requests, figures.failed_requests, figures.doubtful), (15, 0, 0));
        listener.hears_all();
    }
}

/// Half of the messages, then a server that is killed and comes back, and the other half.
fn survives(feed: &Feed, server: &mut Server) {
    let mut driven = Driven::new(feed, 10, PATIENCE);
    driven.publish(0, MESSAGES / 2).unwrap();
    driven.add(0, MESSAGES / 2);
    driven.publisher.pump(&driven.poller).unwrap();
    server.kill();
    driven.go_on(Duration::from_millis(200)).unwrap();
    assert!(driven.publisher.outstanding() > 0);
    server.start();
    let figures = driven.publish(0, 0).unwrap();
    assert_eq!((figures.added, figures.confirmed), (MESSAGES, MESSAGES), "{:?}", feed.by);
    assert!(figures.failed_requests > 0, "{:?}", feed.by);
    let times = driven.publisher.take_times();
    assert_eq!(times.len(), MESSAGES);
    assert!(times.max() > 200_000_000, "what was due while nobody was there took as long");
}

#[test]
fn a_node_that_is_killed_gets_the_rest_when_it_is_back() {
    let mut node = Server::node(None);
    survives(&feed(By::Post, &node), &mut node);
    survives(&feed(By::Session, &node), &mut node);
}

#[test]
fn a_redis_that_is_killed_gets_the_rest_when_it_is_back() {
    let mut redis = Server::redis("killed");
    survives(&feed(By::Redis, &redis), &mut redis);
    let library = include_str!("../../crates/umbel-broker/src/redis/library.lua");
    let load = format!("*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n${}\r\n{library}\r\n", library.len());
    assert_eq!(told(&redis, &load), "$5\r\numbel\r\n");
    survives(&feed(By::History, &redis), &mut redis);
    assert_eq!(told(&redis, "XLEN umbel:bench.0\r\n"), ":100\r\n", "each has its place once");
}

#[test]
fn what_was_published_before_the_connection_broke_is_no_double() {
    let redis = Server::redis("cut");
    let node = Server::node(Some(&redis));
    for (topic, (by, answer)) in
        [(By::Post, "\"id\":"), (By::Session, "\"op\":\"published\""), (By::History, "*2\r\n")]
            .into_iter()
            .enumerate()
    {
        let mut listener = Listener::new(&node, topic);
        let mut feed = feed(by, if by == By::History { &redis } else { &node });
        let address =
            cut_once(if by == By::History { redis.address } else { node.address }, answer);
        feed.place = Some(place(address));
        feed.redis = Some(Channels { address, ..redis.channels() });
        let figures = Driven::new(&feed, 10, PATIENCE).publish(topic, MESSAGES).unwrap();
        assert_eq!((figures.requests, figures.failed_requests, figures.doubtful), (11, 1, 0));
        listener.hears_all();
    }
}

/// What Redis answers to `command`.
fn told(redis: &Server, command: &str) -> String {
    let mut stream = TcpStream::connect(redis.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    let mut buffer = [0; 256];
    let read = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

/// Publishes three messages to a server that does so; says what came of it and which bodies came.
fn told_to(does: Vec<Does>, keyed: bool) -> (Result<PublishFigures>, Vec<String>) {
    let server = Scripted::start(does);
    let place = Some(place(server.address));
    let feed = Feed { by: By::Post, place, redis: None, script: None, keyed };
    let figures = Driven::new(&feed, 10, Duration::from_millis(500)).publish(0, 3);
    (figures, server.bodies())
}

fn taken() -> Does {
    Does::Answer(200, "{\"topic\":\"bench.0\",\"id\":null}\n".repeat(3))
}

#[test]
fn what_is_refused_for_now_is_sent_again() {
    let busy = || Does::Answer(503, "busy".to_owned());
    let (figures, bodies) = told_to(vec![busy(), busy(), taken()], false);
    let expected =
        PublishFigures { added: 3, confirmed: 3, requests: 3, failed_requests: 2, doubtful: 0 };
    assert_eq!(figures.unwrap(), expected);
    assert_eq!(bodies[0].lines().count(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[test]
fn only_the_lines_that_were_refused_are_sent_again_with_their_keys() {
    let one = "{\"topic\":\"bench.0\",\"id\":null}\n";
    let refused = "{\"topic\":\"bench.0\",\"error\":\"no\",\"status\":503}\n";
    let some = Does::Answer(200, [refused, one, refused].concat());
    let (figures, bodies) = told_to(vec![some, Does::Answer(200, one.repeat(2))], true);
    assert_eq!(figures.unwrap().failed_requests, 1);
    let lines: Vec<_> = bodies[0].lines().collect();
    assert_eq!(bodies[1].lines().collect::<Vec<_>>(), [lines[0], lines[2]]);
    assert!(lines.iter().all(|line| line.contains("\"key\":\"")), "{lines:?}");
}

#[test]
fn what_may_have_been_published_is_doubtful_without_a_key() {
    for (does, keyed, doubtful) in [
        (Does::Close, false, 3),
        (Does::Close, true, 0),
        (Does::Answer(504, String::new()), false, 3),
        (Does::Answer(503, String::new()), false, 0),
        (Does::AnswerAndClose(503, String::new()), false, 0),
    ] {
        let (figures, _) = told_to(vec![does, taken()], keyed);
        let figures = figures.unwrap();
        assert_eq!((figures.confirmed, figures.failed_requests), (3, 1));
        assert_eq!(figures.doubtful, doubtful);
    }
}

#[test]
fn what_will_never_pass_ends_the_run_with_the_answer_s_words() {
    let line = "{\"topic\":\"bench.0\",\"error\":\"not you\",\"status\":403}\n";
    for (does, words) in [
        (Does::Answer(403, "not you".to_owned()), "status 403: not you"),
        (Does::AnswerAndClose(413, "too long".to_owned()), "status 413: too long"),
        (
            Does::Answer(200, line.repeat(3)),
            "status 403: {\"topic\":\"bench.0\",\"error\":\"not you\"",
        ),
    ] {
        let error = told_to(vec![does], false).0.unwrap_err().to_string();
        assert!(error.contains("doesn't take what is published: it answered with"), "{error}");
        assert!(error.contains("127.0.0.1:") && error.contains(words), "{error}");
    }
}

#[test]
fn a_server_that_confirms_nothing_ends_the_patience() {
    for (does, words) in [
        (Does::Nothing, "last failure: none, it just didn't answer"),
        (Does::Answer(503, "busy".to_owned()), "last failure: it answered with status 503: busy"),
        (Does::Close, "closed the connection"),
    ] {
        let (figures, _) = told_to(vec![does], false);
        let error = figures.unwrap_err().to_string();
        assert!(error.contains("confirmed no message for 0.5 s"), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn nobody_there_at_the_begin_is_an_error() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let feed =
        Feed { by: By::Post, place: Some(place(address)), redis: None, script: None, keyed: false };
    let template = Template::new(SIZE).unwrap();
    let error = Publisher::connect(&feed, template, 1, PATIENCE).err().unwrap().to_string();
    assert_eq!(error, format!("publisher can't connect to {address}"));
}
