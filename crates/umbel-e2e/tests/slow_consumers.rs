//! Clients that don't read: each policy does what it says, and healthy neighbours miss nothing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use serde_json::json;
use umbel_e2e::{Node, WebSocketClient, World};

/// Small enough that a stalled session meets its policy soon, large enough for several messages.
const SETTINGS: &str = "[limits]\nbehind_bytes = 100000\n\
    [[topics]]\nmatch = \"cut\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"disconnect\"\n\
    [[topics]]\nmatch = \"drop\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"drop\"\n\
    [[topics]]\nmatch = \"value\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"latest\"\n";

/// A message of 10 000 bytes that begins with its number.
fn message(number: u64) -> String {
    format!("{number:08}{}", ".".repeat(9_992))
}

fn number(text: &str) -> u64 {
    text[..8].parse().unwrap()
}

/// Publishes numbered messages until a metric says that the policy was met, while a neighbour
/// reads everything. Gives how many there were.
async fn publish_until(
    node: &Node,
    topic: &str,
    series: &str,
    neighbour: &mut WebSocketClient,
) -> u64 {
    let mut publisher = node.client().await;
    for at in 0..10_000 {
        let answer =
            publisher.post(&format!("/topics/{topic}"), "text/plain", message(at).as_bytes()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(number(&neighbour.text().await), at, "the neighbour misses nothing");
        if at % 50 == 49 && node.metrics().await.value(series) > 0.0 {
            return at + 1;
        }
    }
    panic!("{series} stays 0");
}

#[tokio::test]
async fn under_disconnect_the_slow_one_is_closed_and_its_neighbour_misses_nothing() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut fast = node.subscribe("cut").await;
    let mut stuck = node.subscribe_without_reading("cut").await;
    publish_until(node, "cut", "umbel_slow_consumers_total{policy=\"disconnect\"}", &mut fast)
        .await;
    // What it did get is in order and whole; then it is told.
    let mut expected = 0;
    loop {
        let frame = stuck.next().await.unwrap();
        if frame.opcode == umbel_e2e::Opcode::Close {
            assert_eq!(frame.close(), (4408, "further behind than allowed"));
            break;
        }
        assert_eq!(number(frame.text()), expected);
        expected += 1;
    }
    node.metric_exceeds("umbel_deliveries_skipped_total{reason=\"ended\"}", 0.0).await;
    node.metric_becomes("umbel_log_bytes", 0.0).await;
    node.publish("cut", &message(7)).await;
    assert_eq!(number(&fast.text().await), 7);
}

#[tokio::test]
async fn under_drop_the_slow_one_loses_the_oldest_and_is_told_once() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut fast = node.subscribe("drop").await;
    let mut stuck = node.json().await;
    stuck.hold("drop").await;
    let count =
        publish_until(node, "drop", "umbel_slow_consumers_total{policy=\"drop\"}", &mut fast).await;
    let (mut next, mut gaps) = (0, 0);
    while next < count {
        let said = stuck.json().await;
        if said["op"] == "gap" {
            assert_eq!(said, json!({"op": "gap", "topic": "drop", "reason": "slow"}));
            gaps += 1;
            continue;
        }
        let got = number(said["text"].as_str().unwrap());
        assert!(got == next || (got > next && gaps > 0), "{got} instead of {next} without a gap");
        next = got + 1;
    }
    assert_eq!(gaps, 1, "it was told once before it read again");
    node.metric_exceeds("umbel_gaps_total{reason=\"slow\"}", 0.0).await;
    node.metric_exceeds("umbel_deliveries_skipped_total{reason=\"slow_drop\"}", 0.0).await;
}

#[tokio::test]
async fn under_latest_the_slow_one_gets_the_newest_value() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut fast = node.subscribe("value").await;
    let mut stuck = node.sse("/topics/value").await;
    let count =
        publish_until(node, "value", "umbel_slow_consumers_total{policy=\"latest\"}", &mut fast)
            .await;
    let mut last = None;
    while last != Some(count - 1) {
        let got = number(&stuck.data().await);
        assert!(last.is_none_or(|last| got > last));
        last = Some(got);
    }
    assert_eq!(node.metrics().await.value("umbel_gaps_total{reason=\"slow\"}"), 0.0);
}

#[tokio::test]
async fn a_plain_session_may_rather_be_closed_than_miss_a_message() {
    let world = World::new().settings(SETTINGS).start().await;
    let node = world.node(0);
    let mut fast = node.subscribe("drop").await;
    let mut strict = node.subscribe_without_reading("drop?gap=close").await;
    publish_until(node, "drop", "umbel_slow_consumers_total{policy=\"drop\"}", &mut fast).await;
    assert_eq!(strict.closed_with(4410).await, "messages were lost");
}

#[tokio::test]
async fn replies_that_are_not_read_stop_the_reading_of_requests() {
    let world = World::new().start().await;
    let node = world.node(0);
    let stuck = node.json().await.into_stream();
    let ping = umbel_e2e::masked_frame(
        true,
        0x1,
        b"{\"op\":\"ping\",\"id\":\"0123456789012345678901234567890123456789\"}",
    );
    let flood = ping.repeat(1000);
    // The node stops reading, so at some point nothing more can be written.
    let mut written = 0_usize;
    loop {
        let ready = tokio::time::timeout(std::time::Duration::from_secs(2), stuck.writable()).await;
        if ready.is_err() {
            break;
        }
        match stuck.try_write(&flood) {
            Ok(bytes) => written += bytes,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(written < 1 << 30, "the node takes any amount");
    }
    let metrics = node.metrics().await;
    let held = metrics.value("umbel_held_bytes{by=\"control\"}")
        + metrics.value("umbel_held_bytes{by=\"input\"}");
    assert!(held < 500_000.0, "{held} bytes are held for one session");
    node.publish("a", "others are served").await;
    drop(stuck);
    node.metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"control\"}", 0.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"input\"}", 0.0).await;
}

#[tokio::test]
async fn short_commands_with_long_replies_fill_no_memory() {
    let world = World::new().start().await;
    let node = world.node(0);
    // One frame of 300 000 commands; their replies are 70 bytes each.
    let mut stuck = node.json().await;
    stuck.send_text(&"{}\n".repeat(300_000)).await;
    node.metric_exceeds("umbel_held_bytes{by=\"control\"}", 60_000.0).await;
    let held = node.metrics().await.value("umbel_held_bytes{by=\"control\"}");
    assert!(held < 100_000.0, "{held} bytes of replies wait");
    for _ in 0..300_000 {
        assert_eq!(stuck.json().await["code"], "bad_request");
    }
    assert_eq!(stuck.command(&json!({"op": "ping"})).await, json!({"op": "pong"}));
}
