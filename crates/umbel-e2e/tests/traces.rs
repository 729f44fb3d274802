//! A message's way as spans: from the publisher's own over the broker to each worker that fans it out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use umbel_e2e::{
    Answer, Answers, Collector, Node, Redis, SeenSpan, World, WorldBuilder, eventually,
};

const PARENT: &str = "00f067aa0ba902b7";

const HISTORY: &str = "[[topics]]\nmatch = \"kept.*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nhistory = { messages = 100, seconds = 300 }\n[[topics]]\nmatch = \"closed.*\"\nsubscribe = \"anyone\"\n[[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n";

/// A trace of its own for each publish.
fn trace(number: u32) -> String {
    format!("4bf92f3577b34da6a3ce929d{number:08x}")
}

fn traceparent(number: u32, flags: &str) -> String {
    format!("00-{}-{PARENT}-{flags}", trace(number))
}

fn tracing(name: &str, collector: &Collector) -> WorldBuilder {
    World::new()
        .settings(HISTORY)
        .environment("UMBEL_NODE__NAME", name)
        .environment("UMBEL_TRACES__ENDPOINT", &collector.url())
}

async fn publish(node: &Node, topic: &str, headers: &[(&str, &str)]) -> Answer {
    node.client().await.request("POST", &format!("/topics/{topic}"), headers, b"x").await
}

fn only<'s>(spans: &'s [SeenSpan], name: &str) -> &'s SeenSpan {
    let mut named = spans.iter().filter(|span| span.text("name") == name);
    let span = named.next().unwrap_or_else(|| panic!("no {name} in {spans:?}"));
    assert!(named.next().is_none(), "{name} twice in {spans:?}");
    span
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[tokio::test]
async fn a_message_s_way_over_two_nodes_is_one_trace() {
    let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
    let from = tracing("from", &collector).broker(&redis.url()).start().await;
    let to = tracing("to", &collector).broker(&redis.url()).start().await;
    for (number, topic, key) in [
        (1, "live.1", None),
        (2, "kept.1", None),
        (3, "live.2", Some("k")),
        (4, "kept.2", Some("k")),
    ] {
        let mut one = to.node(0).subscribe(topic).await;
        let mut other = to.node(0).sse(&format!("/topics/{topic}")).await;
        let (began, parent) = (now(), traceparent(number, "01"));
        let mut headers = vec![("traceparent", &*parent)];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let answer = publish(from.node(0), topic, &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!((one.text().await.as_str(), other.data().await.as_str()), ("x", "x"));
        let spans = collector.spans_of(&trace(number), 3).await;
        assert_eq!(spans.len(), 3, "{spans:?}");
        let published = only(&spans, "publish");
        assert_eq!((published.node.as_str(), &published.json["kind"]), ("from", &json!(2)));
        assert_eq!(published.text("parentSpanId"), PARENT);
        assert_eq!(published.json["status"], json!({"code": 1}));
        assert_eq!(published.attribute("umbel.receivers"), Some("1"));
        let received = only(&spans, "receive");
        assert_eq!((received.node.as_str(), &received.json["kind"]), ("to", &json!(5)));
        assert_eq!(received.text("parentSpanId"), published.text("spanId"));
        let fanned_out = only(&spans, "fan_out");
        assert_eq!((fanned_out.node.as_str(), &fanned_out.json["kind"]), ("to", &json!(1)));
        assert_eq!(fanned_out.text("parentSpanId"), received.text("spanId"));
        assert_eq!(fanned_out.attribute("umbel.worker"), Some("0"));
        assert_eq!(fanned_out.attribute("umbel.subscriptions"), Some("2"));
        for span in &spans {
            assert_eq!(span.attribute("messaging.system"), Some("umbel"));
            assert_eq!(span.attribute("messaging.destination.name"), Some(topic));
            let (start, end) = (span.nanos("startTimeUnixNano"), span.nanos("endTimeUnixNano"));
            // Publishing times have microseconds.
            assert!(began <= start + 1000 && start <= end && end <= now(), "{span:?}");
        }
        let start = |span: &SeenSpan| span.nanos("startTimeUnixNano");
        assert!(start(published) <= start(received) + 1000, "{spans:?}");
        assert!(start(received) <= start(fanned_out), "{spans:?}");
    }
    to.node(0).metric_becomes("umbel_spans_exported_total", 8.0).await;
    assert!(from.node(0).metrics().await.value("umbel_spans_dropped_total") < 1.0);
}

#[tokio::test]
async fn each_worker_tells_of_its_fan_out() {
    let collector = Collector::start(Answers::Ok).await;
    let redis = Redis::start(&[]).await;
    let world = tracing("n", &collector).broker(&redis.url()).workers(2).start().await;
    let node = world.node(0);
    // The kernel spreads connections over the workers as it likes.
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(node.subscribe("a").await);
    }
    publish(node, "a", &[("traceparent", &traceparent(1, "01"))]).await;
    let spans = collector.spans_of(&trace(1), 4).await;
    let received = only(&spans, "receive");
    let mut subscriptions = 0;
    for fanned_out in spans.iter().filter(|span| span.text("name") == "fan_out") {
        assert_eq!(fanned_out.text("parentSpanId"), received.text("spanId"));
        let count = fanned_out.attribute("umbel.subscriptions").unwrap();
        subscriptions += count.parse::<usize>().unwrap();
    }
    assert_eq!((spans.len(), subscriptions), (4, 40));
}

#[tokio::test]
async fn what_is_not_sampled_or_can_not_be_read_is_not_recorded() {
    let collector = Collector::start(Answers::Ok).await;
    let world = tracing("n", &collector).start().await;
    let node = world.node(0);
    let mut session = node.subscribe("a").await;
    let (first, second) = (traceparent(1, "01"), traceparent(2, "01"));
    for headers in [
        &[][..],
        &[("traceparent", &*traceparent(3, "00"))],
        &[("traceparent", "")],
        &[("traceparent", &*format!("{first}-more"))],
        &[("traceparent", &*first.to_uppercase())],
        &[("traceparent", &*format!("ff{}", &first[2..]))],
        &[("traceparent", &*first), ("traceparent", &*second)],
    ] {
        assert_eq!(publish(node, "a", headers).await.status, 200);
    }
    let last = traceparent(4, "01");
    publish(node, "a", &[("traceparent", &last)]).await;
    collector.spans_of(&trace(4), 2).await;
    assert_eq!(collector.spans().len(), 2, "{:?}", collector.spans());
    for _ in 0..8 {
        assert_eq!(session.text().await, "x");
    }
}

#[tokio::test]
async fn what_nobody_may_publish_makes_no_span() {
    let collector = Collector::start(Answers::Ok).await;
    let world = tracing("n", &collector).environment("UMBEL_TRACES__SAMPLE", "1").start().await;
    let node = world.node(0);
    let forbidden = traceparent(1, "01");
    let answer = publish(node, "closed.1", &[("traceparent", &forbidden)]).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    let lines = json!({"topic": "closed.1", "text": "x", "traceparent": forbidden}).to_string();
    let answer = node.client().await.post("/publish", "application/json", lines.as_bytes()).await;
    assert!(answer.text().contains("403"), "{}", answer.text());
    let mut session = node.json().await;
    let command = json!({"id": 1, "op": "publish", "topic": "closed.1", "text": "x", "traceparent": forbidden});
    assert_eq!(session.command(&command).await["code"], "forbidden");
    // Spans are exported in the order of their ends.
    publish(node, "a", &[("traceparent", &traceparent(2, "01"))]).await;
    collector.spans_of(&trace(2), 1).await;
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
}

/// A user of Redis that may not load functions, where an older node has left its library.
#[tokio::test]
async fn with_an_older_library_that_it_may_not_replace_a_node_keeps_history_untraced() {
    let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
    let older = include_str!("../../umbel-broker/src/redis/library.lua")
        .replace("local VERSION = 4\n", "local VERSION = 2\n")
        .replace("elseif name == 'trace' then trace = value\n", "")
        .replace("redis.register_function{ function_name = 'umbel_stands', callback = stands, flags = { 'no-writes' } }", "");
    assert!(older.contains("local VERSION = 2") && !older.contains("name == 'trace'"));
    assert!(!older.contains("umbel_stands', callback"));
    let mut admin = redis.client().await;
    assert_eq!(admin.command(&["FUNCTION", "LOAD", &older]).await, "umbel");
    let rules = "ACL SETUSER edge on >pass ~umbel:* ~{umbel:* &umbel:* +@all -function";
    assert_eq!(admin.command(&rules.split(' ').collect::<Vec<_>>()).await, "OK");
    let url = redis.url().replace("redis://", "redis://edge:pass@");
    let world = tracing("n", &collector).broker(&url).start().await;
    let mut session = world.node(0).subscribe("kept.1").await;
    let answer = publish(world.node(0), "kept.1", &[("traceparent", &traceparent(1, "01"))]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(session.text().await, "x");
    world.node(0).logs("Redis has an older library").await;
    collector.spans_of(&trace(1), 1).await;
}

#[tokio::test]
async fn a_node_may_begin_traces_by_itself() {
    let collector = Collector::start(Answers::Ok).await;
    let world = tracing("n", &collector).environment("UMBEL_TRACES__SAMPLE", "1").start().await;
    let node = world.node(0);
    publish(node, "a", &[("traceparent", &traceparent(1, "00"))]).await;
    publish(node, "a", &[("traceparent", "nonsense")]).await;
    let mut plain = node.subscribe("b").await;
    plain.send_text("x").await;
    let published = eventually("the spans", || async {
        let spans = collector.spans();
        let published = spans.into_iter().filter(|span| span.text("name") == "publish");
        Some(published.collect::<Vec<_>>()).filter(|published| published.len() == 2)
    })
    .await;
    let topic = |span: &SeenSpan| span.attribute("messaging.destination.name").unwrap().to_owned();
    assert_eq!(published.iter().map(topic).collect::<Vec<_>>(), ["a", "b"]);
    for span in &published {
        assert_eq!(span.text("parentSpanId"), "");
        assert_ne!(span.text("traceId"), trace(1));
    }
}

#[tokio::test]
async fn sessions_and_lists_of_messages_name_their_traces_too() {
    let collector = Collector::start(Answers::Ok).await;
    let world = tracing("n", &collector).start().await;
    let node = world.node(0);
    let mut session = node.json().await;
    let command = json!({"id": 1, "op": "publish", "topic": "a", "text": "x", "traceparent": traceparent(1, "01")});
    assert_eq!(session.command(&command).await["op"], "published");
    let body = json!([
        {"topic": "a", "text": "x"},
        {"topic": "b", "text": "x", "traceparent": traceparent(3, "01")},
        {"topic": "c", "text": "x", "traceparent": traceparent(4, "00")},
        {"topic": "d", "text": "x", "traceparent": "nonsense"},
    ]);
    let headers = [("traceparent", &*traceparent(2, "01")), ("content-type", "application/json")];
    let answer = node
        .client()
        .await
        .request("POST", "/publish", &headers, body.to_string().as_bytes())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let topics = async |number, count| {
        let spans = collector.spans_of(&trace(number), count).await;
        let topic =
            |span: &SeenSpan| span.attribute("messaging.destination.name").unwrap().to_owned();
        spans.iter().map(topic).collect::<Vec<_>>()
    };
    assert_eq!(topics(1, 1).await, ["a"]);
    assert_eq!(topics(2, 2).await, ["a", "d"]);
    assert_eq!(topics(3, 1).await, ["b"]);
    assert_eq!(collector.spans().len(), 4);
}

#[tokio::test]
async fn backends_that_publish_at_redis_may_name_their_trace() {
    let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
    let world = tracing("n", &collector).broker(&redis.url()).start().await;
    let mut session = world.node(0).subscribe("kept.1").await;
    let call = ["FCALL", "umbel_publish", "1", "umbel:kept.1", "x", "trace"];
    let refused = redis.client().await.command(&[&call[..], &["nonsense"]].concat()).await;
    assert!(refused.contains("trace must be a traceparent of 55 bytes"), "{refused}");
    redis.command(&[&call[..], &[&traceparent(1, "01")]].concat()).await;
    assert_eq!(session.text().await, "x");
    let spans = collector.spans_of(&trace(1), 2).await;
    assert_eq!(only(&spans, "receive").text("parentSpanId"), PARENT);
}

#[tokio::test]
async fn who_repeats_a_message_in_another_span_repeats_it() {
    for broker in [true, false] {
        let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
        let world = tracing("n", &collector);
        let world = if broker { world.broker(&redis.url()) } else { world };
        let world = world.start().await;
        let mut ids = Vec::new();
        for number in 1..=2 {
            let parent = traceparent(number, "01");
            let headers = [("idempotency-key", "k"), ("traceparent", &*parent)];
            let answer = publish(world.node(0), "kept.1", &headers).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            ids.push(answer.json()["id"].clone());
        }
        assert_eq!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn a_failure_is_told_with_its_trace() {
    let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
    let world = tracing("n", &collector)
        .broker(&redis.url())
        .environment("RUST_LOG", "debug")
        .start()
        .await;
    let node = world.node(0);
    redis.command(&["SET", "umbel:kept.1", "a string"]).await;
    let answer = publish(node, "kept.1", &[("traceparent", &traceparent(1, "01"))]).await;
    assert_eq!(answer.status, 502);
    let spans = collector.spans_of(&trace(1), 1).await;
    let status = &only(&spans, "publish").json["status"];
    assert_eq!(status["code"], 2);
    assert!(status["message"].as_str().unwrap().contains("WRONGTYPE"), "{status}");
    for message in ["Redis doesn't take a message", "Message not published"] {
        node.logs(message).await;
        let lines = node.log_lines();
        let line = lines.iter().find(|line| line.contains(message)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], trace(1), "{line}");
    }
    // So is one before the broker.
    let (parent, long) = (traceparent(2, "01"), "e".repeat(200));
    let headers = [("traceparent", &*parent), ("umbel-event", &*long)];
    assert_eq!(publish(node, "kept.1", &headers).await.status, 400);
    let spans = collector.spans_of(&trace(2), 1).await;
    assert_eq!(only(&spans, "publish").json["status"]["code"], 2);
}

#[tokio::test]
async fn unless_it_is_told_where_to_a_node_exports_nothing() {
    let (redis, collector) = (Redis::start(&[]).await, Collector::start(Answers::Ok).await);
    let off = World::new().settings(HISTORY).broker(&redis.url()).start().await;
    let on = tracing("on", &collector).broker(&redis.url()).start().await;
    let (mut here, mut there) = (off.node(0).subscribe("a").await, on.node(0).subscribe("a").await);
    // One that isn't asked takes no part, and what others record does it no harm.
    publish(off.node(0), "a", &[("traceparent", &traceparent(1, "01"))]).await;
    publish(on.node(0), "a", &[("traceparent", &traceparent(2, "01"))]).await;
    for _ in 0..2 {
        assert_eq!((here.text().await.as_str(), there.text().await.as_str()), ("x", "x"));
    }
    let spans = collector.spans_of(&trace(2), 3).await;
    assert_eq!(collector.spans().len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.node == "on"));
    let threads = |node: &Node| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned()
        };
        tasks.map(name).collect::<Vec<_>>()
    };
    assert!(threads(on.node(0)).contains(&"traces".to_owned()));
    assert!(!threads(off.node(0)).contains(&"traces".to_owned()));
}

#[tokio::test]
async fn what_was_recorded_last_is_exported_at_the_end() {
    let collector = Collector::start(Answers::After(Duration::from_millis(1500))).await;
    let mut world = tracing("n", &collector).start().await;
    publish(world.node(0), "a", &[("traceparent", &traceparent(1, "01"))]).await;
    world.node(0).signal("TERM");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_the_spans_again() {
    let collector = Collector::start(Answers::BusyFor(1)).await;
    let world = tracing("n", &collector).start().await;
    publish(world.node(0), "a", &[("traceparent", &traceparent(1, "01"))]).await;
    collector.spans_of(&trace(1), 1).await;
    assert_eq!(collector.requests(), 2);
    let node = world.node(0);
    node.metric_becomes("umbel_spans_exported_total", 1.0).await;
    node.metric_becomes("umbel_spans_dropped_total", 0.0).await;
}

/// Publishes more than the queue of spans holds, each recorded if the node samples all.
async fn pour(node: &Node) {
    let message = json!({"topic": "a", "text": "x"});
    let body = Value::Array(vec![message; 1000]).to_string();
    for number in 1..=6 {
        let parent = traceparent(number, "01");
        let headers = [("traceparent", &*parent), ("content-type", "application/json")];
        let answer =
            node.client().await.request("POST", "/publish", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_harms_nobody() {
    let collector = Collector::start(Answers::Never).await;
    let world = tracing("n", &collector).environment("UMBEL_TRACES__SAMPLE", "1");
    let mut world = world.start().await;
    let node = world.node(0);
    let mut session = node.subscribe("a").await;
    pour(node).await;
    for _ in 0..6000 {
        assert_eq!(session.text().await, "x");
    }
    // What the queue doesn't hold is dropped at once.
    node.metric_exceeds("umbel_spans_dropped_total", 6000.0).await;
    eventually("a request", || async { (collector.requests() > 0).then_some(()) }).await;
    node.signal("TERM");
    assert_eq!(world.node_mut(0).exit_code_before(Duration::from_secs(15)).await, Some(0));
}

#[tokio::test]
async fn a_collector_that_is_not_there_harms_nobody() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut world = World::new()
        .environment("UMBEL_TRACES__ENDPOINT", &format!("http://{nobody}"))
        .environment("UMBEL_TRACES__SAMPLE", "1")
        .start()
        .await;
    let node = world.node(0);
    pour(node).await;
    node.logs("Spans can't be exported").await;
    node.metric_exceeds("umbel_spans_dropped_total", 1000.0).await;
    let before = node.log_lines();
    let told = before.iter().filter(|line| line.contains("Spans can't be exported"));
    for line in told.clone() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["fault"].as_str().unwrap().contains("refused"), "{line}");
    }
    assert_eq!(told.count(), 1);
    node.signal("TERM");
    assert_eq!(world.node_mut(0).exit_code_before(Duration::from_secs(15)).await, Some(0));
}
