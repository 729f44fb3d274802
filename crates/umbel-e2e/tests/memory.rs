//! Memory comes back: after a crowd, after a flood of topics, after hostile clients. Minutes each:
//! `make test-long`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::future::Future;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use umbel_e2e::{HANDSHAKE, Node, WebSocketClient, World, masked_frame};

/// Timers of what is gone fire soon.
const SETTINGS: &str = "[node]\nheartbeat_seconds = 2\n[limits]\nheader_seconds = 2";

/// A node whose allocator keeps nothing for its threads, since that would count as allocated.
async fn world() -> World {
    World::new().settings(SETTINGS).environment("_RJEM_MALLOC_CONF", "tcache:false").start().await
}

/// How much more than before a round the program may have allocated after it.
const ALLOCATED_TOLERANCE: f64 = 0.02;

/// What one connection has at most: where the program holds little, that may be more than the tolerance.
const ALLOCATED_GRAIN: f64 = 16_384.0;

/// How much more of the machine's memory it may occupy after the third round than after the first:
/// the allocator keeps some pages, but not more each time.
const RESIDENT_TOLERANCE: f64 = 0.05;

/// Where the program is as small as after start, this many bytes count as flat.
const RESIDENT_GRAIN: f64 = 2_000_000.0;

/// Runs `round` four times, the first to warm up what is allocated once, and checks that the
/// memory is the same after each.
async fn check_rounds<'n, F: Future<Output = ()>>(node: &'n Node, round: impl Fn(&'n Node) -> F) {
    round(node).await;
    let before = settled(node).await;
    println!("before: {before:?}");
    let mut resident_after_first = 0.0;
    for number in 1..=3 {
        round(node).await;
        let after = settled(node).await;
        println!("round {number}: {after:?}");
        let bound = before.allocated * (1.0 + ALLOCATED_TOLERANCE) + ALLOCATED_GRAIN;
        assert!(
            after.allocated <= bound,
            "{} bytes allocated after round {number}, {} before",
            after.allocated,
            before.allocated
        );
        if number == 1 {
            resident_after_first = after.resident;
        }
        let bound = resident_after_first * (1.0 + RESIDENT_TOLERANCE) + RESIDENT_GRAIN;
        assert!(
            after.resident <= bound,
            "{} bytes resident after round {number}, {resident_after_first} after the first",
            after.resident
        );
    }
}

#[derive(Debug, Clone, Copy)]
struct Memory {
    allocated: f64,
    resident: f64,
}

/// The memory once everything of a round is gone.
async fn settled(node: &Node) -> Memory {
    node.metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
    node.metric_becomes("umbel_sessions_open{transport=\"sse\"}", 0.0).await;
    node.metric_becomes("umbel_connections_open", 0.0).await;
    for by in ["mailbox", "input", "control", "bodies", "connections", "streams"] {
        node.metric_becomes(&format!("umbel_held_bytes{{by=\"{by}\"}}"), 0.0).await;
    }
    node.metric_becomes("umbel_log_bytes", 0.0).await;
    // What can't be waited on: timers of connections and unfinished frames that are gone keep a little
    // until they fire, after 30 s at the latest; tables shrink once a second, the allocator returns
    // pages over ten seconds and more.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let metrics = node.metrics().await;
    Memory {
        allocated: metrics.value("umbel_allocator_allocated_bytes"),
        resident: metrics.value("process_resident_memory_bytes"),
    }
}

/// 1000 sessions take up 1000 topics each, no two the same, and leave: half by unsubscribing.
async fn a_million_topics(node: &Node) {
    let mut sessions = JoinSet::new();
    for session in 0..1000 {
        let mut client = node.json().await;
        sessions.spawn(async move {
            let names: Vec<_> =
                (0..1000).map(|topic| format!("session.{session}.topic.{topic}")).collect();
            for some in names.chunks(100) {
                let topics: Vec<_> = some.iter().map(|name| json!({ "topic": name })).collect();
                client.send_text(&json!({"op": "subscribe", "topics": topics}).to_string()).await;
                for name in some {
                    assert_eq!(client.json().await, json!({"op": "subscribed", "topic": name}));
                }
            }
            if session % 2 == 0 {
                for name in &names {
                    client
                        .send_text(&json!({"op": "unsubscribe", "topic": name}).to_string())
                        .await;
                    assert_eq!(client.json().await["op"], "unsubscribed");
                }
            }
            client
        });
    }
    let clients = sessions.join_all().await;
    node.metric_becomes("umbel_topics", 500_000.0).await;
    drop(clients);
    node.metric_becomes("umbel_topics", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-long"]
async fn a_million_topics_taken_up_and_left_leave_nothing() {
    let world = world().await;
    check_rounds(world.node(0), a_million_topics).await;
}

/// 50 000 sessions come and go, some hundreds at a time.
async fn fifty_thousand_sessions(node: &Node) {
    let mut comers = JoinSet::new();
    for comer in 0..200 {
        let address = node.http();
        comers.spawn(async move {
            for visit in 0..250 {
                let mut client =
                    WebSocketClient::open(address, &format!("/topics/t.{comer}")).await;
                client.send_text("x").await;
                assert_eq!(client.text().await, "x");
                match visit % 3 {
                    0 => {
                        client.send_raw(&masked_frame(true, 0x8, &1000_u16.to_be_bytes())).await;
                        client.next().await;
                    }
                    1 => client.send_raw(b"\x81").await,
                    _ => {}
                }
            }
        });
    }
    comers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-long"]
async fn fifty_thousand_sessions_that_came_and_went_leave_nothing() {
    let world = world().await;
    check_rounds(world.node(0), fifty_thousand_sessions).await;
}

/// One of each kind of hostile client, many times, while a healthy session goes on.
async fn hostile_clients(node: &Node) {
    let mut healthy = node.subscribe("healthy").await;
    let mut hostiles = JoinSet::new();
    for kind in 0..8_usize {
        let address = node.http();
        hostiles.spawn(async move {
            for _ in 0..100 {
                one_hostile(address, kind).await;
            }
        });
    }
    for number in 0..500 {
        node.publish("healthy", &number.to_string()).await;
        assert_eq!(healthy.text().await, number.to_string());
    }
    hostiles.join_all().await;
}

async fn one_hostile(address: std::net::SocketAddr, kind: usize) {
    let mut http = umbel_e2e::HttpClient::connect(address).await;
    match kind {
        // Half a handshake, held for a moment.
        0 => http.send(b"GET /topics/a HTTP/1.1\r\nhost: x\r\nupgra").await,
        // A body that is longer than allowed.
        1 => {
            let head = "POST /topics/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            http.send(head.as_bytes()).await;
            let _ =
                http.try_send(&[b"20000\r\n", &vec![b'x'; 0x20000][..], b"\r\n"].concat()).await;
        }
        // Half a body.
        2 => {
            http.send(b"POST /topics/a HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\nabc")
                .await
        }
        // A broken body.
        3 => {
            assert_eq!(http.post("/publish", "application/json", b"[{\"topic\":").await.status, 400)
        }
        _ => hostile_session(http, kind).await,
    }
}

async fn hostile_session(mut http: umbel_e2e::HttpClient, kind: usize) {
    let headers: Vec<_> =
        HANDSHAKE.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let path = if kind == 7 { "/ws" } else { "/topics/hostile" };
    http.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n{}\r\n", headers.concat()).as_bytes())
        .await;
    let mut client = WebSocketClient::after_request(http).await;
    match kind {
        // A message that never ends.
        4 => {
            for _ in 0..20 {
                let _ = client.try_send_raw(&masked_frame(false, 0x1, &[b'x'; 10_000])).await;
            }
            let _ = client.try_send_raw(&masked_frame(false, 0x0, &[b'x'; 10_000])).await;
        }
        // A length that is a lie.
        5 => client.send_raw(b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\0\0\0\0some").await,
        // Someone who publishes much and never reads.
        6 => {
            for _ in 0..20 {
                let _ = client.try_send_raw(&masked_frame(true, 0x2, &vec![b'x'; 60_000])).await;
            }
        }
        // Commands that make no sense.
        _ => {
            for command in ["{\"op\":\"fly\"}", "{\"op\":\"subscribe\",\"topic\":\"a b\"}", "{"] {
                client.send_text(command).await;
            }
            client.json().await;
            client.closed_with(4400).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-long"]
async fn hostile_clients_leave_nothing_and_harm_nobody() {
    let world = world().await;
    check_rounds(world.node(0), hostile_clients).await;
}
