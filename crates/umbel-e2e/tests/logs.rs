//! What a node logs: in which form, how much at most, and how that is changed while it runs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use serde_json::{Value, json};
use umbel_e2e::{Answer, HttpClient, Node, Redis, World, eventually, within};

const OURS: (&str, &str) = ("umbel-admin", "1");

/// Sets the filter, as the node's operator.
async fn set(node: &Node, query: &str, body: &str) -> Answer {
    let mut admin = HttpClient::connect(node.admin()).await;
    admin.request("POST", &format!("/log{query}"), &[OURS], body.as_bytes()).await
}

async fn in_force(node: &Node) -> Value {
    HttpClient::connect(node.admin()).await.get("/log").await.json()
}

/// All that was logged, each line parsed.
fn lines(node: &Node) -> Vec<Value> {
    let parse = |line: String| {
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    node.log_lines().into_iter().map(parse).collect()
}

/// The lines with this message, of which there are some.
async fn said(node: &Node, message: &str) -> Vec<Value> {
    node.logs(message).await;
    lines(node).into_iter().filter(|line| line["message"] == message).collect()
}

/// Opens a session and closes it, which is a line at `debug`.
async fn come_and_go(node: &Node) {
    node.subscribe("a").await.close().await;
}

#[tokio::test]
async fn lines_are_json_and_say_when_where_and_who() {
    let redis = Redis::start(&[]).await;
    let world = World::new()
        .broker(&redis.url())
        .workers(2)
        .environment("UMBEL_NODE__NAME", "edge-7")
        .environment("RUST_LOG", "debug")
        .start()
        .await;
    let node = world.node(0);
    come_and_go(node).await;
    let closed = said(node, "Session closes").await;
    let worker = closed[0]["worker"].as_u64().unwrap();
    assert_eq!(closed[0]["thread"], format!("worker-{worker}"));
    assert_eq!(closed[0]["target"], "umbel::worker::flush");
    assert_eq!(closed[0]["session"].as_str().unwrap().len(), 16);
    let connected = said(node, "Redis is connected").await;
    assert_eq!((&connected[0]["thread"], &connected[0]["worker"]), (&json!("redis"), &Value::Null));
    for line in lines(node) {
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        assert_eq!(line["node"], "edge-7", "{line}");
        for name in ["level", "target", "message", "thread"] {
            assert!(line[name].is_string(), "{line}");
        }
        if line["level"] == "WARN" {
            assert!(line["error"].is_string() || line["fault"].is_string(), "{line}");
        }
    }
}

#[tokio::test]
async fn a_warning_tells_its_cause() {
    let redis = Redis::absent(&[]).await;
    let world = World::new().broker(&redis.url()).start_unready().await;
    let warned = said(world.node(0), "Redis can't be used").await;
    assert!(warned[0]["fault"].as_str().unwrap().contains("refused"), "{}", warned[0]);
    assert_eq!(warned[0]["url"], redis.url());
}

#[tokio::test]
async fn people_get_lines_without_json() {
    let world = World::new()
        .environment("UMBEL_LOG__FORMAT", "human")
        .environment("UMBEL_NODE__NAME", "edge-7")
        .environment("RUST_LOG", "")
        .environment("UMBEL_LOG__FILTER", "umbel=debug")
        .start()
        .await;
    let node = world.node(0);
    come_and_go(node).await;
    node.logs("Session closes").await;
    let lines = node.log_lines();
    let closes = lines.iter().find(|line| line.contains("Session closes")).unwrap();
    let (_, rest) = closes.split_once(' ').unwrap();
    assert!(rest.starts_with("DEBUG umbel::worker::flush: Session closes session="), "{closes}");
    assert!(rest.ends_with(" node=edge-7 thread=worker-0 worker=0"), "{closes}");
}

#[tokio::test]
async fn levels_change_while_the_node_runs() {
    let world = World::new().start().await;
    let node = world.node(0);
    assert_eq!(in_force(node).await, json!({"filter": "info,h2=error", "then": null}));
    come_and_go(node).await;
    let answer = set(node, "", "info, umbel::worker=debug\n").await;
    let expected = json!({"filter": "info,umbel::worker=debug,h2=error", "then": null});
    assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    assert_eq!(in_force(node).await, expected);
    let set_by = said(node, "Log filter set by the admin listener").await;
    assert_eq!(set_by[0]["filter"], expected["filter"]);
    assert!(!node.log_lines().iter().any(|line| line.contains("Session closes")));
    come_and_go(node).await;
    assert_eq!(said(node, "Session closes").await.len(), 1);
    // Nothing at all, and then again: lines know their worker whatever was off meanwhile.
    assert_eq!(set(node, "?filter=off", "").await.status, 200);
    come_and_go(node).await;
    node.metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
    assert_eq!(set(node, "?filter=umbel%3Ddebug", "").await.status, 200);
    come_and_go(node).await;
    eventually("another line", || async { (node.logs("Session closes").await == 2).then_some(()) })
        .await;
    let closed = said(node, "Session closes").await;
    assert!(closed.iter().all(|line| line["worker"] == 0), "{closed:?}");
    node.metric_exceeds("umbel_log_events_total{level=\"debug\"}", 1.0).await;
}

#[tokio::test]
async fn for_some_minutes_the_old_filter_is_kept() {
    let world = World::new().start().await;
    let node = world.node(0);
    let answer = set(node, "?minutes=5", "debug").await.json();
    assert_eq!(
        (&answer["filter"], &answer["then"]["filter"]),
        (&json!("debug,h2=error"), &json!("info,h2=error"))
    );
    let left = answer["then"]["in_seconds"].as_u64().unwrap();
    assert!((290..=300).contains(&left), "{answer}");
    // Again within these minutes: what comes back is what was to stay.
    let answer = set(node, "?minutes=7", "trace,h2=off").await.json();
    assert_eq!(answer["then"]["filter"], "info,h2=error");
    assert_eq!(set(node, "", "warn").await.json()["then"], Value::Null);
}

#[tokio::test]
async fn strangers_and_wrong_filters_change_nothing() {
    let world = World::new().settings("[admin]\ntoken = \"0123456789abcdef\"\n").start().await;
    let node = world.node(0);
    let mut admin = HttpClient::connect(node.admin()).await;
    let shown = ("authorization", "Bearer 0123456789abcdef");
    for (headers, status) in [
        (&[][..], 403),
        (&[OURS], 401),
        (&[shown], 403),
        (&[OURS, ("authorization", "Bearer x")], 401),
    ] {
        let answer = admin.request("POST", "/log", headers, b"debug").await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let long = "info,".repeat(1000);
    for (query, body, problem) in [
        (
            "",
            "info,umbel=loud",
            "the filter `umbel=loud`: `loud` is not a level: off, error, warn, info, debug or trace",
        ),
        (
            "",
            "inof",
            "the filter `inof`: is not a level (off, error, warn, info, debug or trace), and of a target it says none",
        ),
        ("", "", "the filter names no level, such as `info` or `umbel::session=debug`"),
        ("", &long, "the filter is 5000 bytes, at most 4096 are allowed"),
        ("?filter=info", "debug", "a filter is in both the query and the body"),
        (
            "?filter=%FF%FF=debug",
            "",
            "the filter `\u{fffd}\u{fffd}=debug`: invalid filter directive",
        ),
        ("?minutes=0", "debug", "`minutes` must be a whole number from 1 to 10080"),
        ("?minutes=soon", "debug", "`minutes` must be a whole number from 1 to 10080"),
        ("?level=debug", "", "/log takes nothing but ?filter and ?minutes"),
    ] {
        let path = format!("/log{query}");
        let answer = admin.request("POST", &path, &[OURS, shown], body.as_bytes()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, problem));
    }
    let answer = admin.request("POST", "/log", &[OURS, shown], b"\xff").await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "body is not UTF-8"));
    let answer = admin.request("PUT", "/log", &[OURS, shown], b"debug").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
    assert_eq!(in_force(node).await["filter"], "info,h2=error");
    let mut admin = HttpClient::connect(node.admin()).await;
    let answer = admin.request("POST", "/log", &[OURS, shown], &[b'x'; 10_000]).await;
    assert_eq!(answer.status, 413);
    assert_eq!(in_force(node).await["filter"], "info,h2=error");
}

#[tokio::test]
async fn a_flood_of_warnings_is_bounded_and_the_rest_counted() {
    const FLOOD: u64 = 5000;
    let redis = Redis::start(&[]).await;
    let mut world = World::new().broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut session = node.subscribe("a").await;
    let malformed = [&b"PUBLISH"[..], b"umbel:a", b"\xffU\x01"].map(<[u8]>::to_vec).to_vec();
    redis.client().await.pipeline(&vec![malformed; usize::try_from(FLOOD).unwrap()]).await;
    node.metric_becomes("umbel_broker_messages_total{form=\"malformed\"}", 5000.0).await;
    let metrics = node.metrics().await;
    let suppressed = metrics.value("umbel_log_events_suppressed_total");
    assert!(suppressed > 4900.0, "{suppressed}");
    node.publish("a", "still here").await;
    assert_eq!(session.text().await, "still here");
    // What is owed is told at the end at the latest.
    node.signal("TERM");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    let notices = said(world.node(0), "More lines like this one were suppressed").await;
    let text = "A malformed message came from Redis and is dropped";
    let logged = said(world.node(0), text).await.len() as u64;
    assert!((1..100).contains(&logged), "{logged}");
    let told: u64 = notices.iter().map(|line| line["suppressed"].as_u64().unwrap()).sum();
    assert_eq!(told + logged, FLOOD);
    assert_eq!((&notices[0]["like"], &notices[0]["level"]), (&json!(text), &json!("WARN")));
    assert_eq!(notices[0]["target"], "umbel_broker::redis::intake");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut world = World::new().deaf_logs().environment("RUST_LOG", "info,h2=trace").start().await;
    let node = world.node(0);
    let mut session = node.subscribe("a").await;
    let mut client = node.http2().await;
    // The pipe and the buffer before it hold about a megabyte.
    within("the loss of lines", async {
        while node.metrics().await.value("umbel_log_events_dropped_total") == 0.0 {
            for _ in 0..50 {
                client.get("/").await;
            }
        }
    })
    .await;
    node.publish("a", "still here").await;
    assert_eq!(session.text().await, "still here");
    session.close().await;
    node.signal("TERM");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}
