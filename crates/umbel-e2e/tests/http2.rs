//! HTTP/2 by prior knowledge: what HTTP/1 does, over streams of one connection.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use std::fmt::Write as _;

use serde_json::json;
use umbel_e2e::{Http2Client, Http2Stream, Node, RawFrame, RawHttp2, World};

const SSE_OPEN: &str = "umbel_sessions_open{transport=\"sse\"}";

/// Publishes `<topic> 0`, `<topic> 1` and so on to each of the topics, a hundred in one request.
async fn publish_many(client: &mut Http2Client, topics: &[&str], count: usize) {
    let numbers: Vec<_> = (0..count).collect();
    for some in numbers.chunks(100) {
        let mut lines = String::new();
        for number in some {
            for topic in topics {
                writeln!(lines, "{}", json!({"topic": topic, "text": format!("{topic} {number}")}))
                    .unwrap();
            }
        }
        let answer = client.post("/publish", "application/x-ndjson", lines.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

async fn gets_all_in_order(stream: &mut Http2Stream, topic: &str, count: usize) {
    for number in 0..count {
        assert_eq!(stream.data().await, format!("{topic} {number}"));
    }
}

#[tokio::test]
async fn publishing_over_http2_reaches_every_dialect() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut http2 = node.http2().await;
    let mut stream = http2.sse("/topics/news").await;
    let mut http1 = node.sse("/topics/news").await;
    let mut plain = node.subscribe("news").await;
    let answer = http2.post("/topics/news", "text/plain", b"one").await;
    assert_eq!(answer.json(), json!({"topic": "news", "id": null, "receivers": 1}));
    let answer = http2
        .post(
            "/publish",
            "application/json",
            br#"[{"topic":"news","text":"two"},{"topic":"a b","text":"x"}]"#,
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()[0], json!({"topic": "news", "id": null}));
    assert_eq!(answer.json()[1]["status"], 400);
    for expected in ["one", "two"] {
        assert_eq!(stream.data().await, expected);
        assert_eq!(http1.data().await, expected);
        assert_eq!(plain.text().await, expected);
    }
    let requests = "umbel_publish_requests_total{status=\"200\"}";
    node.metric_becomes(requests, 2.0).await;
}

#[tokio::test]
async fn a_stream_over_http2_is_an_sse_session_like_any_other() {
    let world = World::new().settings("[node]\nheartbeat_seconds = 1").start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut stream = client.sse("/topics/news").await;
    assert_eq!(stream.head.header("cache-control"), Some("no-store, no-transform"));
    assert_eq!(stream.head.header("umbel-session").map(str::len), Some(16));
    // RFC 9113 section 8.2.2.
    assert_eq!(stream.head.header("connection"), None);
    assert!((1000..5000).contains(&stream.retry_millis().unwrap()));
    node.metric_becomes(SSE_OPEN, 1.0).await;
    publish_many(&mut client, &["news"], 5000).await;
    gets_all_in_order(&mut stream, "news", 5000).await;
    node.metric_becomes("umbel_deliveries_total", 5000.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"streams\"}", 0.0).await;
    node.metric_becomes("umbel_log_bytes", 0.0).await;
    let metrics = node.metrics().await;
    assert!(metrics.value("umbel_delivery_seconds_count{transport=\"sse\",rule=\"**\"}") > 0.0);
    assert!(metrics.value("umbel_sent_bytes_total") > 5000.0 * 16.0);
    // A silent stream has heartbeats.
    stream.comments(3).await;
    let session = stream.head.header("umbel-session").unwrap().to_owned();
    let headers = [("umbel-origin", session.as_str()), ("umbel-event", "typed")];
    client.request("POST", "/topics/news", &headers, b"its own").await;
    client.request("POST", "/topics/news", &headers[1..], b"for all").await;
    let event = stream.event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("typed", "for all"));
}

#[tokio::test]
async fn several_topics_come_over_one_stream_each_in_order() {
    let world = World::new().start().await;
    let mut client = world.node(0).http2().await;
    let mut stream = client.sse("/topics/a,b?topic=c").await;
    publish_many(&mut client, &["a", "b", "c"], 1000).await;
    let mut next = [0; 3];
    for _ in 0..3000 {
        let data = stream.data().await;
        let (topic, number) = data.split_once(' ').unwrap();
        let next = &mut next[usize::from(topic.as_bytes()[0] - b'a')];
        assert_eq!(number, next.to_string(), "of {topic}");
        *next += 1;
    }
    assert_eq!(next, [1000; 3]);
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut streams = Vec::new();
    for number in 0..100 {
        streams.push((client.sse(&format!("/topics/own.{number},all")).await, number));
    }
    node.metric_becomes(SSE_OPEN, 100.0).await;
    publish_many(&mut client, &["all"], 300).await;
    for (stream, number) in &mut streams {
        let topic = format!("own.{number}");
        let answer = client.post(&format!("/topics/{topic}"), "text/plain", b"for you").await;
        assert_eq!(answer.status, 200);
        gets_all_in_order(stream, "all", 300).await;
        assert_eq!(stream.data().await, "for you");
    }
    assert_eq!(node.metrics().await.value("umbel_connections_open"), 1.0);
}

/// A message may be longer than a piece, a window and what hyper holds.
#[tokio::test]
async fn long_messages_come_whole() {
    let world = World::new().start().await;
    let mut client = world.node(0).http2().await;
    let mut stream = client.sse("/topics/long").await;
    for number in 0..20 {
        let message = format!("{number}{}", "x".repeat(65_000 + number));
        let answer = client.post("/topics/long", "text/plain", message.as_bytes()).await;
        assert_eq!(answer.status, 200);
        assert!(stream.data().await == message, "message {number} is another");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_is_gone_at_once_and_its_neighbour_stays() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut goes = client.sse("/topics/news").await;
    let mut stays = client.sse("/topics/news").await;
    node.metric_becomes(SSE_OPEN, 2.0).await;
    goes.reset();
    node.metric_becomes(SSE_OPEN, 1.0).await;
    node.metric_becomes("umbel_subscriptions", 1.0).await;
    node.metric_becomes("umbel_sessions_closed_total{reason=\"lost\"}", 1.0).await;
    node.publish("news", "for the other").await;
    assert_eq!(stays.data().await, "for the other");
    // A stream that isn't read is reset just as well.
    let mut stuck = client.sse("/topics/flood").await;
    flood(node, "flood", 20).await;
    stuck.reset();
    node.metric_becomes(SSE_OPEN, 1.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"streams\"}", 0.0).await;
}

/// Publishes messages of 10 000 bytes.
async fn flood(node: &Node, topic: &str, count: usize) {
    let mut publisher = node.client().await;
    for _ in 0..count {
        let path = format!("/topics/{topic}");
        let answer = publisher.post(&path, "text/plain", ".".repeat(10_000).as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_ends_all_its_sessions() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(client.sse("/topics/news").await);
    }
    node.metric_becomes(SSE_OPEN, 10.0).await;
    drop(client);
    node.metric_becomes(SSE_OPEN, 0.0).await;
    node.metric_becomes("umbel_topics", 0.0).await;
    node.metric_becomes("umbel_connections_open", 0.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"connections\"}", 0.0).await;
}

#[tokio::test]
async fn the_node_s_end_is_told_with_the_streams_ends_and_goaway() {
    let mut world = World::new().start().await;
    let mut client = world.node(0).http2().await;
    let mut first = client.sse("/topics/news").await;
    let mut second = client.sse("/topics/other").await;
    let mut raw = RawHttp2::connect(world.node(0).http()).await;
    raw.send(RawHttp2::PREFACE).await;
    raw.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
    raw.send(&RawFrame::get(1, "/topics/news", &[])).await;
    raw.frame_of(RawFrame::DATA).await.unwrap();
    world.node(0).signal("INT");
    assert_eq!(first.ends().await, None);
    assert_eq!(second.ends().await, None);
    client.ended().await.unwrap();
    let goaway = raw.frame_of(RawFrame::GOAWAY).await.expect("it is told");
    assert_eq!(goaway.error_code(), u32::from(h2::Reason::NO_ERROR));
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn plain_requests_are_answered_as_over_http1() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.http2().await;
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("http://localhost/topics/news"), "{}", page.text());
    let head = client.request("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(page.body.len().to_string().as_str()));
    for (method, path, status) in
        [("GET", "/nowhere", 404), ("PUT", "/publish", 405), ("GET", "/topics/a..b", 400)]
    {
        let answer = client.request(method, path, &[], b"").await;
        assert_eq!(answer.status, status, "{}", answer.text());
        answer.problem();
    }
}
