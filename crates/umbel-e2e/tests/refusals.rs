//! What clients do wrong on the way into a session or within one: each is told, and nobody else
//! notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use serde_json::json;
use umbel_e2e::{HANDSHAKE, WebSocketClient, World};

const RULES: &str = "[limits]\ntopics_per_session = 3\ntopics_per_stream = 2\npayload_bytes = 100\nbody_bytes = 1000\nheader_seconds = 1\n\
    [[topics]]\nmatch = \"open.*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
    [[topics]]\nmatch = \"read.*\"\nsubscribe = \"anyone\"\n";

#[tokio::test]
async fn a_subscription_that_can_t_be_is_refused_with_the_reason() {
    let world = World::new().settings(RULES).start().await;
    let node = world.node(0);
    let upgrade = |version, key| {
        vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", version),
            ("sec-websocket-key", key),
        ]
    };
    let key = HANDSHAKE[3].1;
    let sse = || vec![("accept", "text/event-stream")];
    for (path, headers, status, detail) in [
        ("/topics/a..b", sse(), 400, "topic name has an empty segment"),
        ("/topics", sse(), 400, "no topic is named: /topics/{topic} or ?topic="),
        ("/topics?topic=a%20b", sse(), 400, "topic name has ' ' at byte 1"),
        (
            "/topics/open.1,open.2?topic=open.3",
            sse(),
            400,
            "3 topics are named, at most 2 are allowed",
        ),
        ("/topics/closed", sse(), 403, "subscribing to `closed` is not allowed"),
        ("/topics/open.1,closed", sse(), 403, "subscribing to `closed` is not allowed"),
        ("/topics/open.1?echo=maybe", sse(), 400, "`echo` must be `true` or `false`"),
        (
            "/topics/open.1?after=0",
            sse(),
            400,
            "`after` needs a topic with history, and none of these has one",
        ),
        ("/topics/open.1?wait=5", vec![], 400, "no_history: topic `open.1` keeps no history"),
        ("/topics/open.1", vec![("accept", "application/json")], 400, "no_history: topic"),
        ("/topics/open.1?after=x", sse(), 400, "`after`: cursor is neither 0, a message id"),
        (
            "/topics/open.1?after=latest:1",
            upgrade("13", key),
            400,
            "`after` needs a topic with history",
        ),
        ("/topics/open.1?after=0", upgrade("13", key), 400, "`after`: plain frames carry no ids"),
        ("/topics/closed", upgrade("13", key), 403, "subscribing to `closed` is not allowed"),
        ("/topics/open.1", upgrade("8", key), 426, "Sec-WebSocket-Version must be 13"),
        ("/ws", upgrade("13", "short"), 400, "Sec-WebSocket-Key must be 16 bytes in base64"),
        ("/ws", vec![], 426, "/ws is a WebSocket"),
        ("/nowhere", upgrade("13", key), 404, "there is nothing at /nowhere"),
    ] {
        let answer = node.client().await.request("GET", path, &headers, b"").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.problem().starts_with(detail), "{path}: {}", answer.text());
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    assert_eq!(
        node.metrics().await.value("umbel_sessions_opened_total{transport=\"websocket\"}"),
        0.0
    );
}

#[tokio::test]
async fn a_page_is_let_in_to_be_told_with_a_close_code() {
    let world = World::new().settings(RULES).start().await;
    let origin = [("origin", "https://example.org")];
    let mut client =
        WebSocketClient::open_with(world.node(0).http(), "/topics/closed", &origin).await;
    assert_eq!(client.closed_with(4403).await, "subscribing to `closed` is not allowed");
    world.node(0).metric_becomes("umbel_sessions_closed_total{reason=\"forbidden\"}", 1.0).await;
}

#[tokio::test]
async fn a_json_session_is_told_what_it_asked_wrong_and_goes_on() {
    let world = World::new().settings(RULES).start().await;
    let mut session = world.node(0).json().await;
    session.hold("open.1").await;
    for (command, code, message) in [
        (json!({"id": 1, "op": "fly"}), "unknown_op", "unknown op `fly`"),
        (
            json!({"id": 1, "op": "subscribe", "topic": "open.1"}),
            "already_subscribed",
            "topic `open.1` is subscribed already",
        ),
        (
            json!({"id": 1, "op": "subscribe", "topic": "closed"}),
            "forbidden",
            "subscribing to `closed` is not allowed",
        ),
        (
            json!({"id": 1, "op": "subscribe", "topics": [{"topic": "open.2"}, {"topic": "closed"}]}),
            "forbidden",
            "subscribing to `closed` is not allowed",
        ),
        (
            json!({"id": 1, "op": "subscribe", "topics": [{"topic": "open.2"}, {"topic": "open.3"}, {"topic": "open.4"}]}),
            "limit",
            "the session would hold 4 topics, at most 3 are allowed",
        ),
        (
            json!({"id": 1, "op": "subscribe", "topic": "a..b"}),
            "bad_topic",
            "topic name has an empty segment at byte 2",
        ),
        (
            json!({"id": 1, "op": "subscribe", "topic": "open.2", "after": "0"}),
            "no_history",
            "topic `open.2` keeps no history",
        ),
        (
            json!({"id": 1, "op": "unsubscribe", "topic": "open.2"}),
            "not_subscribed",
            "topic `open.2` is not subscribed",
        ),
        (
            json!({"id": 1, "op": "publish", "topic": "read.1", "text": "x"}),
            "forbidden",
            "publishing to `read.1` is not allowed",
        ),
        (
            json!({"id": 1, "op": "publish", "topic": "open.1", "text": "x".repeat(101)}),
            "too_large",
            "payload is 101 bytes, at most 100 are allowed",
        ),
        (
            json!({"id": 1, "op": "publish", "topic": "open.1", "text": "x", "event": "a\nb"}),
            "bad_request",
            "event name has '\\n' at byte 1, CR, LF and NUL are not allowed",
        ),
        (
            json!({"id": 1, "op": "publish", "topic": "open.1", "text": "x", "event": "a\u{0}b"}),
            "bad_request",
            "event name has '\\x00' at byte 1, CR, LF and NUL are not allowed",
        ),
        (
            json!({"id": 1, "op": "publish", "topic": "open.1"}),
            "bad_request",
            "a payload is missing: one of `data`, `text`, `base64`",
        ),
    ] {
        let reply = session.command(&command).await;
        assert_eq!(
            reply,
            json!({"id": 1, "op": "error", "code": code, "message": message}),
            "{command}"
        );
    }
    world.node(0).publish("open.1", "still here").await;
    assert_eq!(session.json().await["text"], "still here");
    world.node(0).metric_becomes("umbel_subscriptions", 1.0).await;
}

#[tokio::test]
async fn frames_that_are_no_commands_close_the_session() {
    let world = World::new().settings(RULES).start().await;
    let node = world.node(0);
    let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
    for (frame, code) in [("nope", 4400), ("{\"op\":\"ping\"", 4400), (&deep, 4400)] {
        let mut session = node.json().await;
        session.send_text(frame).await;
        session.closed_with(code).await;
    }
    let mut session = node.json().await;
    session.send_binary(b"{\"op\":\"ping\"}").await;
    assert_eq!(session.closed_with(1003).await, "this dialect has text frames only");
    let mut session = node.json().await;
    session.send_text(&"x".repeat(1001)).await;
    session.closed_with(1009).await;
    node.metric_becomes("umbel_sessions_closed_total{reason=\"unparseable\"}", 3.0).await;
    node.metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
}

#[tokio::test]
async fn ten_thousand_levels_of_nesting_harm_nobody() {
    let world = World::new().start().await;
    let node = world.node(0);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut session = node.json().await;
    session.send_text(&format!("{{\"op\":\"publish\",\"topic\":\"a\",\"data\":{deep}}}")).await;
    let reply = session.json().await;
    assert_eq!(
        (reply["code"].as_str(), reply["message"].as_str()),
        (Some("bad_request"), Some("payload is nested deeper than 128 levels"))
    );
    session.send_text(&deep).await;
    session.closed_with(4400).await;
    let answer = node.client().await.post("/topics/a", "application/json", deep.as_bytes()).await;
    assert_eq!(
        (answer.status, answer.problem()),
        (400, "payload is nested deeper than 128 levels".to_owned())
    );
    let body = format!("{{\"topic\":\"a\",\"data\":{deep}}}");
    let answer = node.client().await.post("/publish", "application/json", body.as_bytes()).await;
    assert_eq!(answer.json()["error"], "payload is nested deeper than 128 levels");
}

#[tokio::test]
async fn a_plain_session_that_may_not_publish_is_told_with_a_code() {
    let world = World::new().settings(RULES).start().await;
    let node = world.node(0);
    for (path, code, reason) in [
        ("read.1", 4403, "publishing to `read.1` is not allowed"),
        ("open.1,open.2", 4403, "this URL takes no messages"),
    ] {
        let mut client = node.subscribe(path).await;
        client.send_text("x").await;
        assert_eq!(client.closed_with(code).await, reason);
    }
    let mut client = node.subscribe("open.1").await;
    client.send_text(&"x".repeat(101)).await;
    client.closed_with(1009).await;
}

#[tokio::test]
async fn a_topic_s_kind_holds_for_sessions_too() {
    let rules = "[[topics]]\nmatch = \"data\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nkind = \"json\"";
    let world = World::new().settings(rules).start().await;
    let node = world.node(0);
    let mut listener = node.json().await;
    listener.hold("data").await;
    let mut plain = node.subscribe("data").await;
    plain.send_text("{\"a\":1}").await;
    assert_eq!(listener.json().await["data"], json!({"a": 1}));
    assert_eq!(plain.text().await, "{\"a\":1}");
    plain.send_text("not json").await;
    assert!(
        plain.closed_with(1003).await.starts_with("`data` takes another kind: payload is not JSON")
    );
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let world = World::new().start().await;
    let mut client = world.node(0).client().await;
    let mut request = b"GET /topics/a HTTP/1.1\r\nhost: x\r\n".to_vec();
    for (name, value) in HANDSHAKE {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    for byte in request {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let mut socket = WebSocketClient::after_request(client).await;
    for byte in umbel_e2e::masked_frame(true, 0x1, b"slowly") {
        socket.send_raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.text().await, "slowly");
}

#[tokio::test]
async fn half_a_handshake_is_given_up_in_time_and_told() {
    let world = World::new().settings(RULES).start().await;
    let mut client = world.node(0).client().await;
    client.send(b"GET /topics/open.1 HTTP/1.1\r\nhost: x\r\nupgra").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.problem()),
        (408, "the request's head took too long".to_owned())
    );
    assert!(client.ends().await);
    world.node(0).metric_becomes("umbel_connections_open", 0.0).await;
    world.node(0).metric_becomes("umbel_held_bytes{by=\"connections\"}", 0.0).await;
}

#[tokio::test]
async fn a_head_beyond_all_measure_is_refused() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.client().await;
    let long =
        format!("GET /topics/a HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(70_000));
    // The node may stop reading before all of it is written.
    let _ = client.try_send(long.as_bytes()).await;
    assert_eq!(client.answer().await.status, 431);
    let many = (0..100).map(|n| format!("x-{n}: y\r\n")).collect::<Vec<_>>().concat();
    let mut client = node.client().await;
    client.send(format!("GET /topics/a HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_subscription_with_a_body_is_refused() {
    let world = World::new().start().await;
    let headers = [("accept", "text/event-stream")];
    let answer = world.node(0).client().await.request("GET", "/topics/a", &headers, b"body").await;
    assert_eq!(
        (answer.status, answer.problem()),
        (400, "a request to subscribe has no body".to_owned())
    );
}
