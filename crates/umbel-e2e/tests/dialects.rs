//! The three dialects: what each subscriber gets, byte for byte.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use serde_json::json;
use umbel_e2e::{Opcode, World};

#[tokio::test]
async fn one_message_reaches_every_dialect() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut plain = node.subscribe("news").await;
    let mut sse = node.sse("/topics/news").await;
    let mut json = node.json().await;
    json.hold("news").await;
    node.publish("news", "hello").await;
    assert_eq!(plain.text().await, "hello");
    assert_eq!(sse.data().await, "hello");
    let message = json.json().await;
    let time = message["time"].as_u64().unwrap();
    assert!(time > 1_700_000_000_000, "{time} is not milliseconds of our days");
    assert_eq!(message, json!({"op": "message", "topic": "news", "time": time, "text": "hello"}));
}

#[tokio::test]
async fn kinds_keep_their_bytes_in_every_dialect() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut publisher = node.client().await;
    let mut plain = node.subscribe("t").await;
    let mut sse = node.sse("/topics/t").await;
    let mut json = node.json().await;
    json.hold("t").await;
    for (content_type, body, opcode, data, event, json_fields) in [
        ("text/plain", &b"a\nb"[..], Opcode::Text, "a\nb", "message", json!({"text": "a\nb"})),
        (
            "text/plain",
            b"{\"a\":1}",
            Opcode::Text,
            "{\"a\":1}",
            "message",
            json!({"text": "{\"a\":1}"}),
        ),
        (
            "application/json",
            b"{\"a\": 1.0}",
            Opcode::Text,
            "{\"a\": 1.0}",
            "message",
            json!({"data": {"a": 1.0}}),
        ),
        (
            "application/octet-stream",
            b"\xff\0",
            Opcode::Binary,
            r#"{"base64":"/wA="}"#,
            "umbel.base64",
            json!({"base64": "/wA="}),
        ),
        (
            "application/octet-stream",
            b"abc",
            Opcode::Binary,
            r#"{"base64":"YWJj"}"#,
            "umbel.base64",
            json!({"base64": "YWJj"}),
        ),
        // What curl says unless told otherwise: the kind is found.
        (
            "application/x-www-form-urlencoded",
            b"[1]",
            Opcode::Text,
            "[1]",
            "message",
            json!({"data": [1]}),
        ),
        (
            "application/x-www-form-urlencoded",
            b"42",
            Opcode::Text,
            "42",
            "message",
            json!({"text": "42"}),
        ),
        (
            "application/x-www-form-urlencoded",
            b"\xfe",
            Opcode::Binary,
            r#"{"base64":"/g=="}"#,
            "umbel.base64",
            json!({"base64": "/g=="}),
        ),
    ] {
        let answer = publisher.post("/topics/t", content_type, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let frame = plain.message().await;
        assert_eq!((frame.opcode, &frame.payload[..]), (opcode, body));
        let got = sse.event().await;
        assert_eq!((got.name.as_str(), got.data.as_str()), (event, data));
        let mut message = json.json().await;
        for (field, value) in json_fields.as_object().unwrap() {
            assert_eq!(&message[field], value);
            message.as_object_mut().unwrap().remove(field);
        }
        let time = message["time"].clone();
        assert_eq!(message, json!({"op": "message", "topic": "t", "time": time}));
    }
}

#[tokio::test]
async fn an_empty_binary_frame_stays_binary() {
    let world = World::new().start().await;
    let mut sender = world.node(0).subscribe("t").await;
    let mut other = world.node(0).subscribe("t").await;
    sender.send_binary(b"").await;
    sender.send_text("").await;
    for client in [&mut sender, &mut other] {
        let frame = client.message().await;
        assert_eq!((frame.opcode, frame.payload.len()), (Opcode::Binary, 0));
        let frame = client.message().await;
        assert_eq!((frame.opcode, frame.payload.len()), (Opcode::Text, 0));
    }
}

#[tokio::test]
async fn event_names_travel_where_the_dialect_has_them() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut sse = node.sse("/topics/t").await;
    let mut json = node.json().await;
    json.hold("t").await;
    let mut publisher = node.client().await;
    for (headers, name) in [
        (&[("umbel-event", "typed")][..], "typed"),
        (&[("umbel-event", "gr\u{fc}n: 1")], "gr\u{fc}n: 1"),
    ] {
        publisher.request("POST", "/topics/t", headers, b"x").await;
        let event = sse.event().await;
        assert_eq!((event.name.as_str(), event.data.as_str()), (name, "x"));
        assert_eq!(json.json().await["event"], name);
    }
    let headers = [("umbel-event", "bytes"), ("content-type", "application/octet-stream")];
    publisher.request("POST", "/topics/t", &headers, b"\xff").await;
    let event = sse.event().await;
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("umbel.base64", r#"{"event":"bytes","base64":"/w=="}"#)
    );
}

#[tokio::test]
async fn several_topics_come_over_one_stream() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut sse = node.sse("/topics/a,feeds%2Fnews?topic=c").await;
    let mut plain = node.subscribe("a,feeds%2Fnews?topic=c&topic=a").await;
    for (topic, text) in [("a", "1"), ("feeds%2Fnews", "2"), ("c", "3"), ("d", "no"), ("a", "4")] {
        node.publish(topic, text).await;
    }
    for text in ["1", "2", "3", "4"] {
        assert_eq!(sse.data().await, text);
        assert_eq!(plain.text().await, text);
    }
}

#[tokio::test]
async fn a_json_session_takes_up_and_gives_up_topics() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut session = node.json().await;
    let reply = session
        .command(&json!({"id": 1, "op": "subscribe", "topics": [{"topic": "a"}, {"topic": "b"}]}))
        .await;
    assert_eq!(reply, json!({"id": 1, "op": "subscribed", "topic": "a"}));
    assert_eq!(session.json().await, json!({"id": 1, "op": "subscribed", "topic": "b"}));
    node.publish("b", "1").await;
    assert_eq!(session.json().await["text"], "1");
    let reply = session.command(&json!({"id": "x", "op": "unsubscribe", "topic": "b"})).await;
    assert_eq!(reply, json!({"id": "x", "op": "unsubscribed", "topic": "b"}));
    node.publish("b", "2").await;
    node.publish("a", "3").await;
    assert_eq!(session.json().await["text"], "3", "nothing of a topic follows `unsubscribed`");
    assert_eq!(session.command(&json!({"op": "ping"})).await, json!({"op": "pong"}));
    node.metric_becomes("umbel_subscriptions", 1.0).await;
}

#[tokio::test]
async fn commands_may_be_pipelined_from_the_first_byte_and_share_frames() {
    let world = World::new().start().await;
    let mut client = world.node(0).client().await;
    let mut bytes = b"GET /ws HTTP/1.1\r\nhost: x\r\n".to_vec();
    for (name, value) in umbel_e2e::HANDSHAKE {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let commands = "{\"id\":1,\"op\":\"subscribe\",\"topic\":\"a\"}\n{\"id\":2,\"op\":\"publish\",\"topic\":\"a\",\"data\":[1,\n2]}";
    let first = commands.replace(",\n2", ",2");
    bytes.extend_from_slice(&umbel_e2e::masked_frame(true, 0x1, first.as_bytes()));
    bytes.extend_from_slice(&umbel_e2e::masked_frame(true, 0x1, b"{\"id\":3,\"op\":\"ping\"}"));
    client.send(&bytes).await;
    let mut session = umbel_e2e::WebSocketClient::after_request(client).await;
    assert_eq!(session.json().await["op"], "welcome");
    assert_eq!(session.json().await, json!({"id": 1, "op": "subscribed", "topic": "a"}));
    assert_eq!(session.json().await, json!({"id": 2, "op": "published", "message_id": null}));
    assert_eq!(session.json().await, json!({"id": 3, "op": "pong"}));
    assert_eq!(session.json().await["data"], json!([1, 2]));
}

#[tokio::test]
async fn a_session_that_wants_no_echo_gets_none_and_others_do() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut other = node.subscribe("chat").await;
    let mut quiet = node.json().await;
    quiet.hold("chat").await;
    for (text, echo) in [("1", false), ("2", true), ("3", false)] {
        let reply = quiet
            .command(&json!({"op": "publish", "topic": "chat", "text": text, "echo": echo}))
            .await;
        assert_eq!(reply["op"], "published");
        if echo {
            assert_eq!(quiet.json().await["text"], text);
        }
    }
    node.publish("chat", "4").await;
    assert_eq!(quiet.json().await["text"], "4");
    for text in ["1", "2", "3", "4"] {
        assert_eq!(other.text().await, text);
    }
    node.metric_becomes("umbel_deliveries_skipped_total{reason=\"own\"}", 2.0).await;
}

#[tokio::test]
async fn the_plain_dialect_echoes_unless_told_and_http_can_name_the_origin() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut loud = node.subscribe("t").await;
    let mut quiet = node.subscribe("t?echo=false").await;
    quiet.send_text("from quiet").await;
    assert_eq!(loud.text().await, "from quiet");
    loud.send_text("from loud").await;
    assert_eq!(loud.text().await, "from loud");
    assert_eq!(quiet.text().await, "from loud", "its own did not come");
    let session = loud.session();
    node.client()
        .await
        .request("POST", "/topics/t", &[("umbel-origin", &session)], b"by post")
        .await;
    node.publish("t", "last").await;
    assert_eq!(quiet.text().await, "by post");
    assert_eq!(quiet.text().await, "last");
    assert_eq!(loud.text().await, "last");
}

#[tokio::test]
async fn subprotocols_are_confirmed_only_if_they_are_ours() {
    let world = World::new().start().await;
    let address = world.node(0).http();
    for (path, offered, confirmed) in [
        ("/ws", "umbel.v1.json", Some("umbel.v1.json")),
        ("/ws", "graphql-ws, umbel.v1.json", Some("umbel.v1.json")),
        ("/ws", "umbel.v1.plain", None),
        ("/topics/a", "umbel.v1.plain", Some("umbel.v1.plain")),
        ("/topics/a", "chat", None),
    ] {
        let client = umbel_e2e::WebSocketClient::open_with(
            address,
            path,
            &[("sec-websocket-protocol", offered)],
        )
        .await;
        assert_eq!(client.head.header("sec-websocket-protocol"), confirmed);
    }
}

#[tokio::test]
async fn sse_streams_are_headed_so_that_proxies_leave_them_alone() {
    let world = World::new().start().await;
    let streams = [
        world.node(0).sse("/topics/a").await,
        world.node(0).sse("/topics/a").await,
        world.node(0).sse("/topics/a").await,
    ];
    for stream in &streams {
        assert_eq!(stream.head.header("cache-control"), Some("no-store, no-transform"));
        assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
        assert_eq!(stream.head.header("connection"), Some("close"));
        assert_eq!(stream.head.header("content-length"), None);
        assert_eq!(stream.head.header("transfer-encoding"), None);
        assert!((1000..5000).contains(&stream.retry_millis().unwrap()));
    }
    assert!(
        streams.iter().any(|s| s.retry_millis() != streams[0].retry_millis()),
        "each session is told another time"
    );
}

#[tokio::test]
async fn a_stream_may_follow_other_requests_on_its_connection() {
    let world = World::new().start().await;
    let mut client = world.node(0).client().await;
    // All at once: two publishes, then the stream. Their answers must come before its head.
    let publish = "POST /topics/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    let subscribe = "GET /topics/a HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    client.send(format!("{publish}{publish}{subscribe}").as_bytes()).await;
    for _ in 0..2 {
        assert_eq!(client.answer().await.status, 200);
    }
    let mut sse = umbel_e2e::SseClient::after_request(client).await;
    world.node(0).publish("a", "2").await;
    assert_eq!(sse.data().await, "2");
}

#[tokio::test]
async fn two_workers_serve_one_topic_in_one_order() {
    let world = World::new().workers(2).start().await;
    let node = world.node(0);
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(node.subscribe("t").await);
    }
    let senders = 4;
    for round in 0..10 {
        for (at, client) in clients.iter_mut().enumerate().take(senders) {
            client.send_text(&format!("{at}:{round}")).await;
        }
    }
    let mut orders = Vec::new();
    for client in &mut clients {
        let mut order = Vec::new();
        for _ in 0..10 * senders {
            order.push(client.text().await);
        }
        orders.push(order);
    }
    for order in &orders {
        assert_eq!(order, &orders[0]);
    }
}

#[tokio::test]
async fn silent_sessions_get_heartbeats() {
    let world = World::new().settings("[node]\nheartbeat_seconds = 1").start().await;
    let node = world.node(0);
    let mut sse = node.sse("/topics/a").await;
    let mut socket = node.subscribe("a").await;
    let ping = socket.next().await.unwrap();
    assert_eq!((ping.opcode, ping.payload.len()), (Opcode::Ping, 0));
    socket.send_frame(true, Opcode::Pong, b"").await;
    sse.comments(3).await;
    assert!(node.metrics().await.value("umbel_heartbeats_total") >= 3.0);
}
