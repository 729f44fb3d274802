//! How a node leaves: what it says, to whom, in which order, and that nobody is reset.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use umbel_e2e::{HttpClient, Node, RawFrame, RawHttp2, Redis, World, WorldBuilder, eventually};

const HISTORY: &str = "[[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nhistory = { messages = 100, seconds = 300 }\n";

/// A world of one node that leaves in so many seconds: first its pause, then its sessions.
async fn leaving(pause: u32, drain: u32) -> World {
    leaving_node(pause, drain).start().await
}

fn leaving_node(pause: u32, drain: u32) -> WorldBuilder {
    let seconds = (pause.to_string(), drain.to_string(), (pause + drain + 10).to_string());
    World::new()
        .workers(2)
        .environment("UMBEL_DRAIN__PAUSE_SECONDS", &seconds.0)
        .environment("UMBEL_DRAIN__DRAIN_SECONDS", &seconds.1)
        .environment("UMBEL_DRAIN__DEADLINE_SECONDS", &seconds.2)
}

async fn stage(node: &Node) -> Value {
    HttpClient::connect(node.admin()).await.get("/drain").await.json()
}

async fn stage_becomes(node: &Node, stage: &str) {
    eventually("the stage", || async { (self::stage(node).await["stage"] == stage).then_some(()) })
        .await;
}

#[tokio::test]
async fn at_first_only_its_readiness_falls() {
    let world = leaving(1000, 0).await;
    let node = world.node(0);
    let mut held = node.subscribe("a").await;
    assert_eq!(stage(node).await, json!({"stage": "serving", "sessions": 1.0}));
    node.signal("TERM");
    assert_eq!(node.becomes_unready().await, "the node leaves\n");
    assert_eq!(stage(node).await["stage"], "announced");
    assert_eq!(HttpClient::connect(node.admin()).await.get("/livez").await.status, 200);
    assert!(node.metrics().await.value("umbel_leaving") > 0.0);
    // It serves whoever still comes, but says that it won't for long.
    let mut new = node.sse("/topics/a").await;
    let mut publisher = node.client().await;
    let answer = publisher.post("/topics/a", "text/plain", b"x").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(publisher.ends().await);
    assert_eq!(held.text().await, "x");
    assert_eq!(new.data().await, "x");
}

#[tokio::test]
async fn sessions_are_told_in_their_dialect_when_to_come_back() {
    let mut world = leaving(0, 1).await;
    let node = world.node(0);
    let mut plain = node.subscribe("a").await;
    let mut json = node.json().await;
    let mut sse = node.sse("/topics/a").await;
    let mut http2 = node.http2().await;
    let mut stream = http2.sse("/topics/a").await;
    let mut idle = node.client().await;
    assert_eq!(idle.get("/").await.status, 200);
    node.signal("TERM");
    assert_eq!(plain.closed_with(1012).await, "reconnect");
    let moving = json.json().await;
    let after = moving["reconnect_after_ms"].as_u64().unwrap();
    assert_eq!(moving, json!({"op": "moving", "reconnect_after_ms": after}));
    json.closed_with(1012).await;
    let event = sse.event().await;
    assert_eq!(event.name, "umbel.moving");
    let retry = sse.retry_millis().unwrap();
    assert_eq!(event.data, format!("{{\"reconnect_after_ms\":{retry}}}"));
    assert!(sse.ends().await);
    assert_eq!(stream.event().await.name, "umbel.moving");
    assert_eq!(stream.ends().await, None);
    http2.ended().await.unwrap();
    assert!(idle.ends().await, "who is idle is told last");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn http2_connections_get_goaway_and_their_streams_go_on() {
    let world = leaving(0, 1000).await;
    let node = world.node(0);
    let mut raw = RawHttp2::connect(node.http()).await;
    raw.send(RawHttp2::PREFACE).await;
    raw.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
    raw.send(&RawFrame::get(1, "/topics/a", &[])).await;
    raw.frame_of(RawFrame::DATA).await.unwrap();
    let mut publisher = node.client().await;
    assert_eq!(publisher.post("/topics/other", "text/plain", b"x").await.status, 200);
    // Many, so that this one isn't moved at once.
    let mut others = Vec::new();
    for _ in 0..40 {
        others.push(node.subscribe("b").await);
    }
    node.signal("TERM");
    let goaway = raw.frame_of(RawFrame::GOAWAY).await.expect("it is told");
    assert_eq!(goaway.error_code(), 0);
    // Who was connected may still publish.
    assert_eq!(publisher.post("/topics/a", "text/plain", b"late").await.status, 200);
    let data = raw.frame_of(RawFrame::DATA).await.unwrap();
    let text = String::from_utf8_lossy(&data.payload);
    assert!(text.contains("late") || text.contains("umbel.moving"), "{text}");
}

#[tokio::test]
async fn a_waiting_poll_is_answered_with_its_cursor() {
    let mut world =
        World::new().settings(HISTORY).environment("UMBEL_DRAIN__DRAIN_SECONDS", "1").start().await;
    let node = world.node(0);
    node.publish("a", "x").await;
    let mut client = node.client().await;
    let first = client.get("/topics/a?after=0&limit=10").await.json();
    let cursor = first["cursor"].as_str().unwrap().to_owned();
    let path = format!("/topics/a?after={cursor}&wait=60");
    client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    node.metric_becomes("umbel_polls_waiting", 1.0).await;
    node.signal("TERM");
    let answer = client.answer().await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.json(), json!({"messages": [], "cursor": cursor, "gaps": []}));
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn a_session_is_moved_when_what_it_asked_for_is_done() {
    let redis = Redis::start(&[]).await;
    let mut world = World::new()
        .broker(&redis.url())
        .environment("UMBEL_DRAIN__DRAIN_SECONDS", "3")
        .start()
        .await;
    let node = world.node(0);
    let mut session = node.json().await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(node.json().await);
    }
    redis.signal("STOP");
    session.send_text(r#"{"id":1,"op":"publish","topic":"a","text":"x"}"#).await;
    node.signal("TERM");
    // It holds up nobody else.
    for other in &mut others {
        assert_eq!(other.json().await["op"], "moving");
        other.closed_with(1012).await;
    }
    assert_eq!(stage(node).await["stage"], "moving");
    redis.signal("CONT");
    assert_eq!(session.json().await["op"], "published");
    assert_eq!(session.json().await["op"], "moving");
    session.closed_with(1012).await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn asked_again_it_hurries_and_spreads_who_comes_back() {
    let mut world = leaving(600, 600).await;
    let node = world.node(0);
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(node.json().await);
    }
    node.signal("TERM");
    stage_becomes(node, "announced").await;
    node.signal("TERM");
    let mut latest = 0;
    for session in &mut sessions {
        latest = latest.max(session.json().await["reconnect_after_ms"].as_u64().unwrap());
        session.closed_with(1012).await;
    }
    assert!(latest > 60_000, "they would have been moved over ten minutes: {latest}");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_takes_nothing_in_doesn_t_hold_it_up_for_long() {
    let mut world = leaving(0, 1).await;
    let node = world.node(0);
    let stuck = node.subscribe_without_reading("a").await;
    for _ in 0..20 {
        node.publish("a", &"x".repeat(60_000)).await;
    }
    node.signal("TERM");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    drop(stuck);
}

const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn an_operator_may_ask_for_it() {
    let mut world = World::new().settings(&format!("[admin]\ntoken = \"{TOKEN}\"\n")).start().await;
    let node = world.node(0);
    let mut session = node.json().await;
    let mut admin = HttpClient::connect(node.admin()).await;
    let bearer = format!("Bearer {TOKEN}");
    for (headers, status) in [
        (&[("authorization", bearer.as_str())][..], 403),
        (&[("umbel-admin", "1")], 401),
        (&[("umbel-admin", "1"), ("authorization", "Bearer 0123456789abcdeX")], 401),
    ] {
        let answer = admin.request("POST", "/drain", headers, b"").await;
        assert_eq!(answer.status, status, "{}", answer.problem());
    }
    assert_eq!(admin.request("PUT", "/drain", &[], b"").await.status, 405);
    assert_eq!(stage(node).await["stage"], "serving");
    let headers = [("umbel-admin", "1"), ("authorization", bearer.as_str())];
    assert_eq!(admin.request("POST", "/drain", &headers, b"").await.status, 202);
    assert_eq!(session.json().await["op"], "moving");
    session.closed_with(1012).await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn to_ask_twice_changes_nothing_and_to_hurry_is_a_word_of_its_own() {
    let mut world = leaving(600, 600).await;
    let node = world.node(0);
    let mut session = node.json().await;
    let ask = async |path: &str| {
        let mut admin = HttpClient::connect(node.admin()).await;
        admin.request("POST", path, &[("umbel-admin", "1")], b"").await.status
    };
    assert_eq!(ask("/drain?now").await, 400);
    assert_eq!(stage(node).await["stage"], "serving");
    assert_eq!(ask("/drain").await, 202);
    stage_becomes(node, "announced").await;
    // A hook before the signal, or a client that tries again.
    assert_eq!(ask("/drain").await, 202);
    node.signal("TERM");
    node.logs("Asked by the admin listener").await;
    assert_eq!(stage(node).await["stage"], "announced");
    assert_eq!(ask("/drain?hurry").await, 202);
    assert_eq!(session.json().await["op"], "moving");
    session.closed_with(1012).await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn without_a_token_only_the_machine_itself_may_ask() {
    let mut world = World::new().start().await;
    let node = world.node(0);
    let mut admin = HttpClient::connect(node.admin()).await;
    let rebound = b"POST /drain HTTP/1.1\r\nhost: rebound.example\r\numbel-admin: 1\r\n\r\n";
    admin.send(rebound).await;
    assert_eq!(admin.answer().await.status, 403);
    let answer = admin.request("POST", "/drain", &[("umbel-admin", "1")], b"").await;
    assert_eq!(answer.status, 202);
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn a_session_that_has_lasted_long_enough_is_moved() {
    // Four seconds, less up to a fifth.
    let world = World::new().environment("UMBEL_NODE__SESSION_HOURS", "0.001").start().await;
    let node = world.node(0);
    let mut json = node.json().await;
    let mut sse = node.sse("/topics/a").await;
    assert_eq!(json.json().await["op"], "moving");
    json.closed_with(1012).await;
    assert_eq!(sse.event().await.name, "umbel.moving");
    assert!(sse.ends().await);
    node.metric_becomes("umbel_sessions_closed_total{reason=\"lifetime\"}", 2.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"tables\"}", 0.0).await;
}

/// Connects, asks for something and reads the answer, again and again until nobody listens any
/// more, which the kernel must say. An error says that a connection was let in and then broken off.
async fn ask_until_refused(
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        // A SYN that is dropped is sent again after a second; nobody listens then.
        let stream = umbel_e2e::within("a word", TcpStream::connect(address)).await;
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => return Err(format!("neither let in nor refused: {error}")),
        };
        let fault = |error: std::io::Error| format!("let in and then: {error}");
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .map_err(fault)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(fault)?;
        if !answer.starts_with(b"HTTP/1.1 200 OK") {
            return Err(format!("let in and then: {:?}", String::from_utf8_lossy(&answer)));
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_let_in_while_the_listeners_close_is_answered() {
    for _ in 0..3 {
        let node = leaving_node(0, 30).environment("UMBEL_NODE__HEARTBEAT_SECONDS", "3600");
        let mut world = node.start().await;
        let address = world.node(0).http();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..64 {
            clients.spawn(ask_until_refused(address, stop.clone(), asked.clone()));
        }
        eventually("many requests", || async {
            (asked.load(Ordering::Relaxed) > 500).then_some(())
        })
        .await;
        // One session keeps the process: whoever asks is refused while it is there.
        let held = world.node(0).subscribe("a").await;
        world.node(0).signal("TERM");
        while let Some(outcome) = clients.join_next().await {
            outcome.unwrap().unwrap();
        }
        assert_eq!(stage(world.node(0)).await["sessions"], 1.0);
        stop.store(true, Ordering::Relaxed);
        drop(held);
        assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten thousand sessions over half a minute"]
async fn ten_thousand_sessions_are_moved_at_a_constant_pace() {
    const SESSIONS: usize = 10_000;
    const OVER: usize = 30;
    // No ping comes between.
    let node = leaving_node(0, 30).environment("UMBEL_NODE__HEARTBEAT_SECONDS", "3600");
    let mut world = node.start().await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(world.node(0).subscribe("a").await);
    }
    world.node(0).signal("TERM");
    let mut moves = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for session in sessions {
        let mut stream = session.into_stream();
        moves.spawn(async move {
            let mut close = [0; 4];
            let read = stream.read_exact(&mut close);
            tokio::time::timeout(Duration::from_mins(1), read).await.unwrap().unwrap();
            assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1012));
            begun.elapsed()
        });
    }
    let times = moves.join_all().await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    let first = *times.iter().min().unwrap();
    let mut in_second = vec![0; OVER + 2];
    for time in times {
        in_second[usize::try_from(time.saturating_sub(first).as_secs()).unwrap()] += 1;
    }
    let fullest = *in_second.iter().max().unwrap();
    eprintln!("fullest second {fullest}, mean {}, all {in_second:?}", SESSIONS / OVER);
    assert!(fullest * OVER * 10 <= SESSIONS * 13, "at most 1.3 of the mean");
}
