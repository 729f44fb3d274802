//! What a node exports about itself: named as Prometheus wants it, bounded, and moved by its cause.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "counts are exact")]

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use umbel_e2e::{HttpClient, Node, Redis, WebSocketClient, World};

/// Rules with one pattern each.
fn rules(patterns: impl Iterator<Item = String>) -> String {
    let rule = |pattern| {
        format!("[[topics]]\nmatch = \"{pattern}\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n")
    };
    patterns.map(rule).collect()
}

fn families(node_series: &BTreeSet<String>) -> BTreeSet<&str> {
    node_series.iter().map(|series| series.split('{').next().unwrap()).collect()
}

async fn series(node: &Node) -> BTreeSet<String> {
    node.metrics().await.series().map(str::to_owned).collect()
}

/// A message as another node would have published it so long ago; negative: ahead of time.
async fn publish_by_another_clock(redis: &Redis, topic: &str, age: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let time = (i64::try_from(now).unwrap() - age).to_string();
    let mut message = vec![0xff, b'U', 1, 3, u8::try_from(time.len()).unwrap()];
    message.extend_from_slice(time.as_bytes());
    message.extend_from_slice(b"\0old");
    let channel = format!("umbel:{topic}");
    redis.client().await.command_bytes(&[b"PUBLISH", channel.as_bytes(), &message]).await;
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let redis = Redis::start(&[]).await;
    let world = World::new().broker(&redis.url()).workers(2).start().await;
    let text = world.node(0).metrics_text().await;
    let (code, words) = umbel_e2e::promtool(&["check", "metrics"], text.as_bytes()).await;
    assert_eq!((code, words.as_str()), (0, ""));
    // It would have something to say.
    let wrong = "# TYPE umbel_things counter\numbel_things 1\n";
    let (code, words) = umbel_e2e::promtool(&["check", "metrics"], wrong.as_bytes()).await;
    assert!(code != 0 && words.contains("umbel_things"), "{code}: {words}");
}

#[tokio::test]
async fn the_reference_has_every_metric_and_no_other() {
    let redis = Redis::start(&[]).await;
    // Nobody is there: none is sent a trace either.
    let traces = ("UMBEL_TRACES__ENDPOINT", "http://127.0.0.1:9/v1/traces");
    let world = World::new().broker(&redis.url()).environment(traces.0, traces.1).start().await;
    let exported = series(world.node(0)).await;
    let page = include_str!("../../../deploy/metrics.md");
    let explained: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let base = |name: &'static str| move |end: &str| format!("{name}{end}");
    for family in &explained {
        let is_there = |name: &str| families(&exported).contains(name);
        assert!(is_there(family) || is_there(&format!("{family}_bucket")), "{family}");
    }
    let of_histograms: BTreeSet<String> =
        explained.iter().flat_map(|name| ["_bucket", "_sum", "_count"].map(base(name))).collect();
    for family in families(&exported) {
        assert!(explained.contains(family) || of_histograms.contains(family), "{family}");
    }
}

/// Whatever clients do, the series are those that were there from the start.
#[tokio::test]
async fn clients_make_no_series() {
    let redis = Redis::start(&[]).await;
    let settings = rules((0..23).map(|rule| format!("rule{rule}.**")));
    let world = World::new().broker(&redis.url()).workers(2).settings(&settings).start().await;
    let node = world.node(0);
    let before = series(node).await;
    let mut json = node.json().await;
    let mut client = node.client().await;
    for topic in 0..100 {
        json.hold(&format!("rule{}.topic{topic}", topic % 23)).await;
        client.post(&format!("/topics/rule{}.topic{topic}", topic % 23), "", b"x").await;
        json.json().await;
    }
    for (method, path, headers) in [
        ("GET", "/nowhere", &[][..]),
        ("PUT", "/topics/rule1.a", &[]),
        ("POST", "/topics/forbidden", &[]),
        ("POST", "/topics/rule1.a", &[("content-type", "application/json")]),
        ("GET", "/topics/rule1.a?after=0", &[("accept", "application/json")]),
        ("GET", "/topics/rule1.a?after=nonsense", &[]),
        ("BREW", "/publish", &[]),
    ] {
        HttpClient::connect(node.http()).await.request(method, path, headers, b"{").await;
    }
    let mut hostile = WebSocketClient::open(node.http(), "/ws").await;
    hostile.send_raw(&[0xff; 64]).await;
    hostile.closed_with(1002).await;
    node.metric_becomes("umbel_sessions_closed_total{reason=\"protocol\"}", 1.0).await;
    let after = series(node).await;
    assert_eq!(before.symmetric_difference(&after).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(after.len() < 2000, "{}", after.len());
    let text = node.metrics_text().await;
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(lines, after.len(), "no series is there twice");
    node.metric_becomes("umbel_deliveries_total", 100.0).await;
    let metrics = node.metrics().await;
    // The rules past the twentieth share one.
    let shared = metrics.value("umbel_deliveries_total{rule=\"other\"}");
    let own = metrics.value("umbel_deliveries_total{rule=\"rule7.**\"}");
    assert!(shared >= 12.0 && (4.0..=5.0).contains(&own), "{shared} {own}");
}

#[tokio::test]
async fn a_delivery_is_as_late_as_its_publisher_s_clock_says() {
    let redis = Redis::start(&[]).await;
    let settings = rules(["slow.*", "fast.*"].map(str::to_owned).into_iter());
    let world = World::new().broker(&redis.url()).settings(&settings).start().await;
    let node = world.node(0);
    let mut client = node.subscribe("slow.a").await;
    let mut sse = node.sse("/topics/fast.a").await;
    let mut both = node.sse("/topics/fast.a,slow.b").await;
    // A node counts its time from when it began.
    node.metric_exceeds("umbel_canaries_sent_total", 3.0).await;
    publish_by_another_clock(&redis, "slow.a", 2_000_000).await;
    publish_by_another_clock(&redis, "fast.a", -3_000_000).await;
    client.text().await;
    sse.data().await;
    both.data().await;
    let bucket = |transport: &str, rule: &str, le: &str| {
        format!(
            "umbel_delivery_seconds_bucket{{transport=\"{transport}\",rule=\"{rule}\",le=\"{le}\"}}"
        )
    };
    node.metric_becomes(&bucket("websocket", "slow.*", "5"), 1.0).await;
    node.metric_becomes(&bucket("websocket", "slow.*", "1"), 0.0).await;
    // Of two sessions, of which one has a cursor over several topics. What is ahead of this node's
    // clock counts as just published.
    node.metric_becomes(&bucket("sse", "fast.*", "0.5"), 2.0).await;
    node.metric_becomes("umbel_published_in_future_total", 1.0).await;
    node.metric_becomes(&bucket("sse", "slow.*", "+Inf"), 0.0).await;
    let skew = node.metrics().await.value("umbel_broker_clock_skew_seconds");
    assert!(skew != 0.0 && skew.abs() < 1.0, "one machine has one clock: {skew}");
}

#[tokio::test]
async fn the_canary_goes_all_the_way_each_second() {
    let redis = Redis::start(&[]).await;
    let with_redis = World::new().broker(&redis.url()).workers(2).start().await;
    let alone = World::new().workers(2).start().await;
    let without = World::new().environment("UMBEL_NODE__CANARY", "false").start().await;
    for world in [&with_redis, &alone] {
        let node = world.node(0);
        node.metric_exceeds("umbel_canaries_sent_total", 2.0).await;
        // Each goes to both workers.
        node.metric_exceeds("umbel_canary_seconds_count", 3.0).await;
        let metrics = node.metrics().await;
        assert_eq!(metrics.value("umbel_canaries_lost_total"), 0.0);
        assert!(metrics.value("umbel_canary_seconds_sum") > 0.0);
    }
    redis.signal("STOP");
    with_redis.node(0).becomes_unready().await;
    with_redis.node(0).metric_becomes("umbel_canaries_lost_total", 1.0).await;
    redis.signal("CONT");
    let silent = without.node(0).metrics().await;
    assert_eq!(silent.value("umbel_canaries_sent_total"), 0.0);
    assert_eq!(silent.value("umbel_canary_seconds_count"), 0.0);
}

#[tokio::test]
async fn a_handshake_is_measured_from_its_first_byte_on() {
    let world = World::new().settings(&rules(std::iter::once("a".to_owned()))).start().await;
    let node = world.node(0);
    let websocket = "umbel_handshake_seconds_count{transport=\"websocket\"}";
    let _session = node.subscribe("a").await;
    let mut slow = HttpClient::connect(node.http()).await;
    slow.send(b"GET /topics/a HTTP/1.1\r\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    slow.send(b"Host: x\r\n\r\n").await;
    slow.head().await;
    // A session that is let in to be told why it can't stay isn't one.
    let mut refused = WebSocketClient::open_with(
        node.http(),
        "/topics/forbidden",
        &[("origin", "http://x.example")],
    )
    .await;
    refused.closed_with(4403).await;
    node.metric_becomes(websocket, 1.0).await;
    node.metric_becomes("umbel_handshake_seconds_count{transport=\"sse\"}", 1.0).await;
    let bucket = "umbel_handshake_seconds_bucket{transport=\"sse\",le=\"0.25\"}";
    assert_eq!(node.metrics().await.value(bucket), 0.0);
}

#[tokio::test]
async fn where_a_returning_session_got_its_history_is_counted() {
    let redis = Redis::start(&[]).await;
    let mut settings = rules(std::iter::once("a.**".to_owned()));
    settings.push_str("history = { messages = 100, seconds = 300 }\n");
    let world = World::new().broker(&redis.url()).settings(&settings).start().await;
    let node = world.node(0);
    node.publish("a.1", "one").await;
    node.publish("a.1", "two").await;
    let from = |from: &str| format!("umbel_resume_reads_total{{from=\"{from}\"}}");
    // The node knows nothing of the topic yet.
    let mut first = node.sse("/topics/a.1?after=0").await;
    assert_eq!(first.data().await, "one");
    node.metric_becomes(&from("redis"), 1.0).await;
    node.metric_becomes(&from("ring"), 0.0).await;
    // While it holds it, another piece is read of what it has; who comes at once shares it.
    node.publish("a.1", "three").await;
    let mut second = node.sse("/topics/a.1?after=0").await;
    assert_eq!(second.data().await, "one");
    let mut third = node.sse("/topics/a.1?after=0").await;
    assert_eq!(third.data().await, "one");
    node.metric_becomes(&from("redis"), 1.0).await;
    let metrics = node.metrics().await;
    assert!(metrics.value(&from("ring")) >= 1.0);
    assert!(metrics.value("umbel_resume_reads_total") >= 3.0);
}

#[tokio::test]
async fn what_is_expected_is_delivered_skipped_or_pending() {
    let settings = "[limits]\nbehind_bytes = 4194304\n";
    let world = World::new().settings(settings).start().await;
    let node = world.node(0);
    let mut healthy = node.subscribe("a").await;
    let stalled = node.subscribe_without_reading("a").await;
    let payload = "x".repeat(60_000);
    for _ in 0..40 {
        node.publish("a", &payload).await;
        healthy.message().await;
    }
    node.metric_becomes("umbel_deliveries_expected_total", 80.0).await;
    node.metric_exceeds("umbel_deliveries_pending", 10.0).await;
    let metrics = node.metrics().await;
    let sum = metrics.value("umbel_deliveries_total")
        + metrics.value("umbel_deliveries_skipped_total")
        + metrics.value("umbel_deliveries_pending");
    assert_eq!(sum, 80.0);
    assert_eq!(metrics.value("umbel_fanned_out_total"), 40.0);
    drop(stalled);
    node.metric_becomes("umbel_deliveries_pending", 0.0).await;
    node.metric_exceeds("umbel_deliveries_skipped_total{reason=\"ended\"}", 10.0).await;
}

/// A publisher that doesn't wait for its answer is seen all the same.
#[tokio::test]
async fn publishers_that_give_up_are_counted() {
    let redis = Redis::start(&[]).await;
    let world = World::new().broker(&redis.url()).start().await;
    let node = world.node(0);
    node.publish("a", "one").await;
    node.metric_becomes("umbel_publish_requests_total{status=\"200\"}", 1.0).await;
    redis.signal("STOP");
    let mut hasty = node.client().await;
    hasty.send(b"POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").await;
    node.metric_becomes("umbel_publish_seconds_count", 1.0).await;
    // Its message is on its way to Redis, and it goes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(hasty);
    node.metric_becomes("umbel_publish_requests_total{status=\"gone\"}", 1.0).await;
    node.metric_becomes("umbel_publish_seconds_count", 2.0).await;
    redis.signal("CONT");
}

#[tokio::test]
async fn what_the_broker_owes_and_what_is_encoded_is_counted() {
    let redis = Redis::start(&[]).await;
    let world = World::new().broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut sse = node.sse("/topics/a").await;
    let mut plain = node.subscribe("a").await;
    node.client().await.post("/topics/a", "application/octet-stream", &[0xff, 0]).await;
    sse.event().await;
    plain.message().await;
    node.metric_becomes("umbel_base64_total", 1.0).await;
    node.metric_becomes("umbel_broker_receivers_total", 1.0).await;
    node.metric_becomes("umbel_unconfirmed_total", 0.0).await;
    redis.signal("STOP");
    let _late = node.sse("/topics/b").await;
    node.metric_becomes("umbel_unconfirmed_total", 1.0).await;
    redis.signal("CONT");
}
