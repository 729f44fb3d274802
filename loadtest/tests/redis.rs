//! Redis as the source: the same scenarios, with a private redis-server, and what may go wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "redis/faulty_link.rs"]
mod faulty_link;
#[path = "running/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use faulty_link::Fault;
use server::{Running, Start};
use umbel_loadtest::bench::redis::Redis;
use umbel_loadtest::channels::Channels;
use umbel_loadtest::cost::history_reads::Witnesses;
use umbel_loadtest::load::ledger::Integrity;
use umbel_loadtest::load::members::At;
use umbel_loadtest::load::pacing::Span;
use umbel_loadtest::load::target::Target;
use umbel_loadtest::load::{Deaf, Load, Manner, Waited};
use umbel_loadtest::scenario::fanout::Fanout;
use umbel_loadtest::scenario::latency::Latency;
use umbel_loadtest::scenario::storm::Storm;
use umbel_loadtest::scenario::subscribe_many::SubscribeMany;
use umbel_loadtest::scenario::throughput::Throughput;
use umbel_loadtest::scenario::unicast::Unicast;
use umbel_loadtest::scenario::{Outcome, Plan, Scenario};
use umbel_loadtest::wire::subscribe::Dialect;

/// A Redis for one test, whose name tells its log from the others'.
fn redis(test: &str) -> Redis {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{test}.log"));
    Redis::start(&log).unwrap()
}

/// How a load of messages from `channels` goes to the server at `target`.
fn plan(target: Target, scenario: Scenario, rounds: u64) -> Plan {
    Plan {
        manner: Manner {
            target,
            payload_bytes: 128,
            concurrency: 8,
            patience: Duration::from_secs(5),
        },
        scenario,
        span: Span::Rounds(rounds),
        warm_up: Duration::ZERO,
        server: None,
    }
}

fn servers(channels: &Channels) -> [Running; 2] {
    [Running::baseline(Some(channels)).unwrap(), Running::naive(Some(channels)).unwrap()]
}

/// Runs `rounds` of `scenario` against both servers in both dialects.
fn check(test: &str, scenario: Scenario, rounds: u64, expect: impl Fn(&Outcome)) {
    let redis = redis(test);
    for server in servers(redis.channels()) {
        for dialect in [Dialect::WebSocket, Dialect::Sse] {
            let target = Target::of_server(server.address, dialect);
            let target = target.fed_by(redis.channels().clone());
            let outcome = plan(target, scenario, rounds).run().unwrap();
            assert!(outcome.is_clean(), "{dialect}: {outcome:?}");
            expect(&outcome);
        }
    }
}

#[test]
fn a_fan_out_is_received_by_all() {
    let fanout = Fanout { subscribers: 20, at_hand: 64, pause: Duration::ZERO };
    check("fanout", Scenario::Fanout(fanout), 10, |outcome| {
        assert_eq!(outcome.measured.units, 20 * 64 * 10);
        assert_eq!((outcome.measured.rounds, outcome.measured.posts), (10, 10));
    });
}

#[test]
fn a_thousand_messages_at_once_are_received() {
    let burst = Fanout { subscribers: 2, at_hand: 1000, pause: Duration::from_millis(1) };
    check("burst", Scenario::Burst(burst), 10, |outcome| {
        assert_eq!(outcome.measured.units, 2 * 1000 * 10);
    });
}

#[test]
fn each_subscriber_receives_its_own_messages() {
    let unicast = Unicast { topics: 300, outstanding: 100 };
    check("unicast", Scenario::Unicast(unicast), 10, |outcome| {
        assert_eq!(outcome.measured.units, outcome.measured.messages);
    });
}

#[test]
fn as_much_as_can_be_delivered_is_under_way_and_comes() {
    let throughput = Throughput { topics: 100, outstanding: 400 };
    check("throughput", Scenario::Throughput(throughput), 10, |outcome| {
        assert_eq!(outcome.measured.units, outcome.measured.messages);
    });
}

#[test]
fn latency_counts_each_message_once() {
    let latency = Latency { subscribers: 10, per_second: 1000 };
    check("latency", Scenario::Latency(latency), 10, |outcome| {
        assert_eq!(outcome.measured.latency.unwrap().count, 10);
    });
}

#[test]
fn a_storm_opens_all_sessions() {
    check("storm", Scenario::Storm(Storm { sessions: 200 }), 2, |outcome| {
        assert_eq!(outcome.measured.units, 200 * 2);
    });
}

/// What a node loads into Redis when it connects.
const LIBRARY: &str = include_str!("../../crates/umbel-broker/src/redis/library.lua");

fn load_library(redis: &Redis) {
    let mut stream = connect(redis.channels().address);
    let length = LIBRARY.len();
    write!(stream, "*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n${length}\r\n{LIBRARY}\r\n").unwrap();
    read_until(&mut stream, b"$5\r\numbel\r\n");
}

/// Publishes with history, to nobody.
fn publish_to_history(redis: &Redis, messages: usize) -> Result<Load> {
    let address = redis.channels().address;
    let target = Target::of_server(address, Dialect::WebSocket).fed_by(redis.channels().clone());
    let storm = Scenario::Storm(Storm { sessions: 1 });
    let mut load = Load::new(&plan(target.with_history(), storm, 1).manner)?;
    for _ in 0..messages {
        load.add(0, 0);
    }
    load.post()?;
    let answered = load.wait_until(&mut Deaf, |_, publisher| !publisher.waiting())?;
    assert_eq!(answered, Waited::Done);
    Ok(load)
}

#[test]
fn messages_get_their_place_in_history_at_redis() {
    let redis = redis("history");
    load_library(&redis);
    let witnesses = Witnesses { redis: Some(redis.channels().address), admin: None };
    let before = witnesses.read().unwrap();
    let load = publish_to_history(&redis, 250).unwrap();
    assert_eq!(load.publisher().last_id().unwrap().offset, 250);
    let calls = witnesses.read().unwrap().since(before).redis_calls;
    assert_eq!(calls, Some(250));
    let mut stream = connect(redis.channels().address);
    write!(stream, "XLEN umbel:bench.0\r\n").unwrap();
    read_until(&mut stream, b":100\r\n");
}

#[test]
fn history_at_a_redis_without_the_function_ends_the_run() {
    let error = publish_to_history(&redis("no-function"), 1).err().unwrap();
    assert!(format!("{error:#}").contains("Function not found"), "{error:#}");
}

/// Redis is late with its confirmation: until then the session isn't told that it is open, and from then on nothing
/// that is published is missed.
#[test]
fn a_session_is_open_once_redis_has_confirmed_its_topic() {
    let redis = redis("open");
    for start in [Running::baseline as Start, Running::naive] {
        let (address, gate) = faulty_link::listen_behind_gate(redis.channels().address);
        let server = start(Some(&Channels { address, ..redis.channels().clone() })).unwrap();
        let mut session = connect(server.address);
        let head = "HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
        write!(session, "GET /topics/a {head}").unwrap();
        session.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let early = session.read(&mut [0]);
        assert!(early.is_err(), "the session was answered before Redis had confirmed");
        gate.open();
        session.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        read_until(&mut session, b": open\n\n");
        let mut publisher = connect(redis.channels().address);
        write!(publisher, "PUBLISH umbel:a hello\r\n").unwrap();
        read_until(&mut publisher, b":1\r\n");
        read_until(&mut session, b"data: hello\n\n");
    }
}

/// A connection whose reads end in time.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn read_until(mut stream: impl Read, expect: &[u8]) {
    let mut read = Vec::new();
    while !read.windows(expect.len()).any(|bytes| bytes == expect) {
        let mut byte = [0];
        let all = stream.read_exact(&mut byte);
        all.unwrap_or_else(|error| panic!("{error} after {}", read.escape_ascii()));
        read.extend(byte);
    }
}

#[test]
fn subscriptions_at_redis_itself_are_timed_and_proven() {
    let redis = redis("subscribe-many");
    let target = Target::of_server(redis.channels().address, Dialect::WebSocket);
    let many = SubscribeMany { sessions: 2, topics: 1500, at: At::Redis };
    let plan = plan(target.fed_by(redis.channels().clone()), Scenario::SubscribeMany(many), 3);
    let outcome = plan.run().unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!((outcome.measured.units, outcome.measured.rounds), (3 * 1500, 3));
    // Each wave is proven with all topics before it.
    assert_eq!(outcome.integrity.received, (1 + 2 + 3) * 1500);
}

/// A fan-out over a link that does wrong once; also Redis and its server, which live on.
fn run_with(fault: Fault) -> (Redis, Running, Result<Outcome>) {
    let redis = redis(&format!("{fault:?}"));
    let channels = redis.channels().clone();
    let link = faulty_link::listen(channels.address, fault);
    let server = Running::baseline(Some(&Channels { address: link, ..channels.clone() })).unwrap();
    let target = Target::of_server(server.address, Dialect::WebSocket).fed_by(channels);
    let fanout = Fanout { subscribers: 3, at_hand: 10, pause: Duration::ZERO };
    let mut plan = plan(target, Scenario::Fanout(fanout), 1);
    plan.manner.patience = Duration::from_millis(500);
    let outcome = plan.run();
    (redis, server, outcome)
}

/// The baseline, given a link with `fault`, makes the load report `faults` at each session, and nothing else.
fn check_fault(fault: Fault, faults: fn(&mut Integrity)) {
    let mut each = Integrity::default();
    faults(&mut each);
    let (_redis, _server, outcome) = run_with(fault);
    let found = outcome.unwrap().integrity;
    let expected = Integrity {
        expected: 3 * 20,
        received: 3 * (20 - each.lost),
        lost: 3 * each.lost,
        doubled: 3 * each.doubled,
        garbled: 3 * each.garbled,
        ..Integrity::default()
    };
    assert_eq!(found, expected, "{fault:?}");
    assert!(!found.is_clean());
}

#[test]
fn a_message_that_is_lost_behind_redis_is_noticed() {
    check_fault(Fault::Drop, |faults| faults.lost = 1);
}

#[test]
fn a_message_that_comes_twice_is_noticed() {
    check_fault(Fault::Double, |faults| faults.doubled = 1);
}

#[test]
fn a_message_that_is_changed_is_noticed() {
    check_fault(Fault::Garble, |faults| {
        faults.garbled = 1;
        faults.lost = 1;
    });
}

#[test]
fn a_server_whose_link_is_cut_ends_with_an_error_and_so_does_the_run() {
    let (_redis, server, outcome) = run_with(Fault::Cut);
    let error = format!("{:#}", outcome.unwrap_err());
    assert!(error.contains("server closed its connection"), "{error}");
    let error = server.ended().unwrap_err().to_string();
    assert!(error.contains("link to Redis failed"), "{error}");
}

#[test]
fn servers_end_with_an_error_when_redis_is_gone() {
    let redis = redis("gone");
    let servers = servers(redis.channels());
    for server in &servers {
        let fanout = Fanout { subscribers: 1, at_hand: 1, pause: Duration::ZERO };
        let target = Target::of_server(server.address, Dialect::Sse);
        let target = target.fed_by(redis.channels().clone());
        assert!(plan(target, Scenario::Fanout(fanout), 1).run().unwrap().is_clean());
    }
    drop(redis);
    for server in servers {
        let error = server.ended().unwrap_err().to_string();
        assert!(error.contains("Redis"), "{error}");
    }
}

#[test]
fn a_message_that_reaches_nobody_ends_the_run() {
    let redis = redis("nobody");
    let server = Running::baseline(Some(redis.channels())).unwrap();
    let other = Channels { prefix: "other:".to_owned(), ..redis.channels().clone() };
    let target = Target::of_server(server.address, Dialect::WebSocket).fed_by(other);
    let fanout = Fanout { subscribers: 1, at_hand: 1, pause: Duration::ZERO };
    let error = format!("{:#}", plan(target, Scenario::Fanout(fanout), 1).run().unwrap_err());
    assert!(error.contains("a channel without subscribers"), "{error}");
}

#[test]
fn an_absent_redis_is_named_with_its_address() {
    let absent = Channels { address: "127.0.0.1:9".parse().unwrap(), prefix: String::new() };
    let refused = |error: &str| {
        assert!(error.contains("Redis at 127.0.0.1:9") && error.contains("refused"), "{error}");
    };
    refused(&format!("{:#}", Running::baseline(Some(&absent)).err().unwrap()));
    refused(&Running::naive(Some(&absent)).unwrap().ended().unwrap_err().to_string());
    let server = Running::baseline(None).unwrap();
    let target = Target::of_server(server.address, Dialect::Sse).fed_by(absent);
    let fanout = Fanout { subscribers: 1, at_hand: 1, pause: Duration::ZERO };
    let error = plan(target, Scenario::Fanout(fanout), 1).run().unwrap_err();
    refused(&format!("{error:#}"));
}

#[test]
fn a_server_that_is_fed_by_redis_takes_no_posts() {
    let redis = redis("posts");
    for server in servers(redis.channels()) {
        let fanout = Fanout { subscribers: 1, at_hand: 1, pause: Duration::ZERO };
        let target = Target::of_server(server.address, Dialect::WebSocket);
        let error = plan(target, Scenario::Fanout(fanout), 1).run().unwrap_err();
        assert!(format!("{error:#}").contains("server refused messages"), "{error:#}");
    }
}
