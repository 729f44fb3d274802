//! HTTP/2 clients that don't read, break the protocol or want too much: each meets its limit, and
//! nobody else notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use umbel_e2e::{Http2Client, Http2Stream, HttpClient, Node, RawFrame, RawHttp2, World};

const SETTINGS: &str = "[limits]\nbehind_bytes = 100000\npayload_bytes = 20000\nheader_seconds = 1\n\
    [[topics]]\nmatch = \"cut\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"disconnect\"\n\
    [[topics]]\nmatch = \"drop\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"drop\"\n\
    [[topics]]\nmatch = \"value\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"latest\"\n\
    [[topics]]\nmatch = \"read.*\"\nsubscribe = \"anyone\"\n";

const SSE_OPEN: &str = "umbel_sessions_open{transport=\"sse\"}";

fn slow(policy: &str) -> String {
    format!("umbel_slow_consumers_total{{policy=\"{policy}\"}}")
}

/// A message of 10 000 bytes that begins with its number.
fn message(number: u64) -> String {
    format!("{number:08}{}", ".".repeat(9_992))
}

fn number(text: &str) -> u64 {
    text[..8].parse().unwrap()
}

/// One that doesn't read, one beside it on the same connection, one elsewhere.
struct Audience {
    client: Http2Client,
    stuck: Http2Stream,
    beside: Http2Stream,
    elsewhere: Http2Stream,
    _elsewhere_client: Http2Client,
}

impl Audience {
    async fn of(node: &Node, topic: &str) -> Self {
        let (mut client, mut elsewhere_client) = (node.http2().await, node.http2().await);
        let path = format!("/topics/{topic}");
        Self {
            stuck: client.sse(&path).await,
            beside: client.sse(&path).await,
            elsewhere: elsewhere_client.sse(&path).await,
            client,
            _elsewhere_client: elsewhere_client,
        }
    }

    /// Publishes numbered messages until the policy was met a few times over, while the neighbours
    /// read everything and memory stays bounded. Gives how many there were.
    async fn publish_until_slow(&mut self, node: &Node, topic: &str, policy: &str) -> u64 {
        let mut publisher = node.client().await;
        for at in 0..200 {
            let path = format!("/topics/{topic}");
            let answer = publisher.post(&path, "text/plain", message(at).as_bytes()).await;
            assert_eq!(answer.status, 200);
            assert_eq!(number(&self.beside.data().await), at, "beside");
            assert_eq!(number(&self.elsewhere.data().await), at, "elsewhere");
            if at % 20 == 19 {
                let metrics = node.metrics().await;
                let held = metrics.value("umbel_held_bytes{by=\"streams\"}");
                assert!(held <= 3.0 * 65_536.0, "{held} bytes were taken from the logs");
                let logs = metrics.value("umbel_log_bytes");
                assert!(logs < 1_000_000.0, "{logs} bytes are in the logs");
            }
        }
        node.metric_exceeds(&slow(policy), 0.0).await;
        200
    }
}

#[tokio::test]
async fn under_disconnect_a_stream_without_window_is_reset() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut audience = Audience::of(node, "cut").await;
    audience.publish_until_slow(node, "cut", "disconnect").await;
    node.metric_becomes(&slow("disconnect"), 1.0).await;
    node.metric_becomes("umbel_sessions_closed_total{reason=\"slow\"}", 1.0).await;
    // It has some seconds to take the rest in, and doesn't.
    node.metric_becomes(SSE_OPEN, 2.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"streams\"}", 0.0).await;
    node.metric_becomes("umbel_log_bytes", 0.0).await;
    assert_eq!(audience.stuck.ends().await, Some(Reason::CANCEL));
    let answer = audience.client.post("/topics/cut", "text/plain", message(200).as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(number(&audience.beside.data().await), 200);
}

#[tokio::test]
async fn under_disconnect_who_reads_again_gets_the_rest_of_a_message_and_the_end() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut stuck = client.sse("/topics/cut").await;
    let mut publisher = node.client().await;
    for at in 0..30 {
        publisher.post("/topics/cut", "text/plain", message(at).as_bytes()).await;
    }
    node.metric_becomes(&slow("disconnect"), 1.0).await;
    assert_eq!(stuck.ends().await, None, "END_STREAM");
    assert!(stuck.waiting() >= 6, "as many as the window of 64 KiB takes");
    for at in 0..stuck.waiting() as u64 {
        assert_eq!(number(&stuck.data().await), at);
    }
    node.metric_becomes(SSE_OPEN, 0.0).await;
}

#[tokio::test]
async fn under_drop_a_stream_without_window_loses_the_oldest_and_is_told_once() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut audience = Audience::of(node, "drop").await;
    let count = audience.publish_until_slow(node, "drop", "drop").await;
    let (mut next, mut gaps) = (0, 0);
    while next < count {
        let event = audience.stuck.event().await;
        if event.name == "umbel.gap" {
            assert_eq!(event.data, "{\"topic\":\"drop\",\"reason\":\"slow\"}");
            gaps += 1;
            continue;
        }
        let got = number(&event.data);
        assert!(got == next || (got > next && gaps > 0), "{got} instead of {next} without a gap");
        next = got + 1;
    }
    assert_eq!(gaps, 1);
}

#[tokio::test]
async fn under_latest_a_stream_without_window_gets_the_newest_value() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut audience = Audience::of(node, "value").await;
    let count = audience.publish_until_slow(node, "value", "latest").await;
    let mut last = None;
    while last != Some(count - 1) {
        let got = number(&audience.stuck.data().await);
        assert!(last.is_none_or(|last| got > last));
        last = Some(got);
    }
}

/// Neither a first byte nor one more is taken: the greeting waits for window too.
#[tokio::test]
async fn a_client_without_any_window_holds_one_piece() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let mut client = Http2Client::connect_with(node.http(), &builder).await;
    let (answer, _request) = client.begin("GET", "/topics/cut", &[], true).await;
    assert_eq!(answer.await.unwrap().status(), 200);
    node.metric_becomes(SSE_OPEN, 1.0).await;
    let mut publisher = node.client().await;
    for at in 0..30 {
        publisher.post("/topics/cut", "text/plain", message(at).as_bytes()).await;
    }
    node.metric_becomes(&slow("disconnect"), 1.0).await;
    node.metric_exceeds("umbel_held_bytes{by=\"streams\"}", 10.0).await;
    let held = node.metrics().await.value("umbel_held_bytes{by=\"streams\"}");
    assert!(held <= 16_384.0, "{held} bytes were taken from the logs");
    node.metric_becomes(SSE_OPEN, 0.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"streams\"}", 0.0).await;
}

#[tokio::test]
async fn a_stream_holds_64_kib_at_most_however_much_is_due() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut stuck = client.sse("/topics/much").await;
    let line = format!("{{\"topic\":\"much\",\"text\":\"{}\"}}\n", message(0));
    let body = line.repeat(90);
    let answer = client.post("/publish", "application/x-ndjson", body.as_bytes()).await;
    assert_eq!(answer.status, 200);
    let streams = "umbel_held_bytes{by=\"streams\"}";
    node.metric_exceeds(streams, 16_384.0).await;
    let held = node.metrics().await.value(streams);
    assert!(held <= 65_536.0, "{held} bytes were taken from the logs");
    for _ in 0..90 {
        assert_eq!(number(&stuck.data().await), 0);
    }
    node.metric_becomes(streams, 0.0).await;
}

#[tokio::test]
async fn the_preface_may_come_in_pieces() {
    let world = World::new().start().await;
    for len in [1, 3, 7, 16, 23] {
        let mut client = RawHttp2::connect(world.node(0).http()).await;
        for piece in RawHttp2::PREFACE.chunks(len) {
            client.send(piece).await;
            // Nothing tells that the node has read it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
        client.send(&RawFrame::get(1, "/", &[])).await;
        let head = client.frame_of(RawFrame::HEADERS).await.unwrap();
        // `:status: 200` (RFC 7541 appendix A).
        assert_eq!((head.stream, head.payload[0]), (1, 0x88), "pieces of {len}");
    }
}

#[tokio::test]
async fn garbage_behind_the_preface_ends_the_connection_with_goaway() {
    let world = World::new().start().await;
    let mut client = RawHttp2::connect(world.node(0).http()).await;
    client.send(RawHttp2::PREFACE).await;
    client.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let goaway = client.frame_of(RawFrame::GOAWAY).await.expect("the client is told");
    assert_ne!(goaway.error_code(), 0);
    assert_eq!(client.frame().await, None);
    world.node(0).metric_becomes("umbel_connections_open", 0.0).await;
}

#[tokio::test]
async fn what_only_begins_like_a_preface_is_a_bad_request() {
    let world = World::new().start().await;
    let mut client = HttpClient::connect(world.node(0).http()).await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nXX").await;
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn a_connection_without_a_request_is_ended() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    // Half a preface, a whole one, and a client that says no more than it must.
    for bytes in [&RawHttp2::PREFACE[..10], RawHttp2::PREFACE] {
        let mut client = RawHttp2::connect(node.http()).await;
        client.send(bytes).await;
        while client.frame().await.is_some() {}
    }
    let mut client = node.http2().await;
    client.ended().await.unwrap();
    node.metric_becomes("umbel_connections_open", 0.0).await;
}

#[tokio::test]
#[ignore = "minutes: make test-long"]
async fn a_connection_without_streams_is_ended_and_one_with_a_silent_stream_is_not() {
    let world = World::new().settings("[node]\nheartbeat_seconds = 3600").start().await;
    let node = world.node(0);
    let (mut idle, mut silent) = (node.http2().await, node.http2().await);
    assert_eq!(idle.get("/").await.status, 200);
    let mut stream = silent.sse("/topics/news").await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    idle.ended().await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    node.publish("news", "still here").await;
    assert_eq!(stream.data().await, "still here");
}

#[tokio::test]
async fn websockets_are_refused_over_http2() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let answer = client.get("/ws").await;
    assert_eq!(answer.status, 505);
    assert_eq!(answer.problem(), "/ws is a WebSocket over HTTP/1.1");
    assert_eq!(client.allowed(), (256, false), "SETTINGS_ENABLE_CONNECT_PROTOCOL stays off");
    // Headers of an upgrade make a request malformed (RFC 9113 section 8.2.2).
    let mut raw = RawHttp2::connect(node.http()).await;
    raw.send(RawHttp2::PREFACE).await;
    raw.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    raw.send(&RawFrame::get(1, "/topics/a", &headers)).await;
    let reset = raw.frame_of(RawFrame::RESET).await.unwrap();
    assert_eq!((reset.stream, reset.error_code()), (1, u32::from(Reason::PROTOCOL_ERROR)));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_goes_on() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut stream = client.sse("/topics/cut").await;
    for length in [20_001, 1 << 20] {
        let answer = client.post("/topics/cut", "text/plain", &vec![b'x'; length]).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert_eq!(answer.problem(), "body is longer than 20000 bytes");
        assert_eq!(answer.header("connection"), None);
    }
    let answer = client.post("/topics/cut", "text/plain", &vec![b'x'; 20_000]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(stream.data().await.len(), 20_000);
    node.metric_becomes("umbel_held_bytes{by=\"bodies\"}", 0.0).await;
}

/// Nothing then resets the stream behind the answer, which some clients take for its failure.
#[tokio::test]
async fn a_request_that_is_refused_is_read_to_its_end() {
    let world = World::new().settings(SETTINGS).start().await;
    let mut client = world.node(0).http2().await;
    let (answer, mut body) = client.begin("POST", "/topics/closed", &[], false).await;
    body.send_data("one half ".into(), false).unwrap();
    // This one was read behind the first, which would have its answer too.
    assert_eq!(client.get("/").await.status, 200);
    let mut answer = std::pin::pin!(answer);
    let early = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context)));
    assert!(early.await.is_pending());
    body.send_data("and the other".into(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 403);
}

#[tokio::test]
async fn what_isn_t_allowed_is_refused() {
    let world = World::new().settings(SETTINGS).start().await;
    let mut client = world.node(0).http2().await;
    let answer = client.get("/topics/closed").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "subscribing to `closed` is not allowed")
    );
    let answer = client.post("/topics/read.a", "text/plain", b"x").await;
    assert_eq!(answer.status, 403);
    let long = "x".repeat(17_000);
    let answer = client.request("GET", "/", &[("long", &long)], b"").await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_hurts_nobody() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut other = node.http2().await;
    let mut neighbour = other.sse("/topics/news").await;
    let mut attacker = RawHttp2::connect(node.http()).await;
    attacker.send(RawHttp2::PREFACE).await;
    attacker.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
    let cancel = u32::from(Reason::CANCEL).to_be_bytes();
    let mut attack = Vec::new();
    for stream in (1..20_000).step_by(2) {
        attack.extend(RawFrame::get(stream, "/topics/news", &[]));
        attack.extend(RawFrame::bytes(RawFrame::RESET, 0, stream, &cancel));
    }
    attacker.send(&attack).await;
    let goaway = attacker.frame_of(RawFrame::GOAWAY).await.unwrap();
    assert_eq!(goaway.error_code(), u32::from(Reason::ENHANCE_YOUR_CALM));
    while attacker.frame().await.is_some() {}
    node.metric_becomes("umbel_connections_open", 1.0).await;
    node.metric_becomes(SSE_OPEN, 1.0).await;
    node.publish("news", "still here").await;
    assert_eq!(neighbour.data().await, "still here");
}
