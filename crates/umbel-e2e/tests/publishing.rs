//! Publishing over HTTP: forms, answers, refusals.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::too_many_lines, reason = "tables of rules are as long as they are")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use serde_json::json;
use umbel_e2e::World;

#[tokio::test]
async fn an_answer_says_whether_anybody_listens() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut client = node.client().await;
    let answer = client.post("/topics/a", "text/plain", b"1").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json(), json!({"topic": "a", "id": null, "receivers": 0}));
    let _subscriber = node.subscribe("a").await;
    let answer = client.post("/topics/a", "text/plain", b"2").await;
    assert_eq!(answer.json(), json!({"topic": "a", "id": null, "receivers": 1}));
}

#[tokio::test]
async fn objects_arrays_and_lines_are_answered_in_their_form() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut subscriber = node.subscribe("a,b").await;
    let mut client = node.client().await;
    let (one, two) = (r#"{"topic":"a","text":"1"}"#, r#"{"topic":"b","data":{"x":2}}"#);
    let answer = client.post("/publish", "application/json", one.as_bytes()).await;
    assert_eq!(answer.json(), json!({"topic": "a", "id": null}));
    let answer =
        client.post("/publish", "application/json", format!("[{one},{two}]").as_bytes()).await;
    assert_eq!(answer.json(), json!([{"topic": "a", "id": null}, {"topic": "b", "id": null}]));
    let answer =
        client.post("/publish", "application/x-ndjson", format!("{one}\n{two}\n").as_bytes()).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.text(), "{\"topic\":\"a\",\"id\":null}\n{\"topic\":\"b\",\"id\":null}\n");
    for text in ["1", "1", r#"{"x":2}"#, "1", r#"{"x":2}"#] {
        assert_eq!(subscriber.text().await, text);
    }
}

#[tokio::test]
async fn each_message_of_a_body_succeeds_or_fails_alone() {
    let settings = "[limits]\npayload_bytes = 10\n[[topics]]\nmatch = \"open\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n[[topics]]\nmatch = \"json\"\npublish = \"anyone\"\nkind = \"json\"";
    let world = World::new().settings(settings).start().await;
    let mut subscriber = world.node(0).subscribe("open").await;
    let mut client = world.node(0).client().await;
    let body = json!([
        {"topic": "open", "text": "1"},
        {"topic": "closed", "text": "2"},
        {"topic": "open", "text": "x".repeat(11)},
        {"topic": "o pen", "text": "3"},
        {"topic": "json", "text": "no"},
        {"topic": "open", "text": "4", "key": "k\n"},
        {"topic": "open", "text": "5"},
    ]);
    let answer = client.post("/publish", "application/json", body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    let results = answer.json();
    let statuses: Vec<_> =
        results.as_array().unwrap().iter().map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [None, Some(403), Some(413), Some(400), Some(400), Some(400), None]);
    assert_eq!(results[1]["error"], "publishing to `closed` is not allowed");
    assert_eq!(results[2]["error"], "payload is 11 bytes, at most 10 are allowed");
    assert_eq!(subscriber.text().await, "1");
    assert_eq!(subscriber.text().await, "5");
}

#[tokio::test]
async fn a_thousand_messages_fit_and_one_more_does_not() {
    let world = World::new().start().await;
    let mut subscriber = world.node(0).subscribe("a").await;
    let mut client = world.node(0).client().await;
    let lines = |count: usize| {
        (0..count)
            .map(|n| format!("{{\"topic\":\"a\",\"text\":\"{n}\"}}\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    let answer = client.post("/publish", "application/x-ndjson", lines(1001).as_bytes()).await;
    assert_eq!(
        (answer.status, answer.problem()),
        (413, "body holds more than 1000 messages".to_owned())
    );
    let mut client = world.node(0).client().await;
    let answer = client.post("/publish", "application/x-ndjson", lines(1000).as_bytes()).await;
    assert_eq!((answer.status, answer.text().lines().count()), (200, 1000));
    for n in 0..1000 {
        assert_eq!(subscriber.text().await, n.to_string());
    }
}

#[tokio::test]
async fn connections_are_kept_and_requests_may_be_pipelined() {
    let world = World::new().start().await;
    let mut subscriber = world.node(0).subscribe("a").await;
    let mut client = world.node(0).client().await;
    let mut bytes = Vec::new();
    for n in 0..50 {
        bytes.extend_from_slice(
            format!(
                "POST /topics/a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{n}",
                n.to_string().len()
            )
            .as_bytes(),
        );
    }
    client.send(&bytes).await;
    for n in 0..50 {
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(subscriber.text().await, n.to_string());
    }
    world.node(0).metric_becomes("umbel_connections_accepted_total", 2.0).await;
}

#[tokio::test]
async fn what_a_request_does_wrong_is_named() {
    let world = World::new().start().await;
    let node = world.node(0);
    for (method, path, headers, body, status, detail) in [
        (
            "POST",
            "/topics/a..b",
            &[][..],
            &b"x"[..],
            400,
            "topic name has an empty segment at byte 2",
        ),
        (
            "POST",
            "/topics/a,b",
            &[],
            b"x",
            400,
            "2 topics are named, a message is published to one",
        ),
        ("POST", "/topics/a/b", &[], b"x", 400, "a slash of a topic is written %2F in the path"),
        ("POST", "/topics/", &[], b"x", 400, "no topic is named"),
        ("POST", "/topics/a%252Fb", &[], b"x", 400, "topic name has '%' at byte 1"),
        ("POST", "/topics/%2e%2e", &[], b"x", 400, "topic name has an empty segment at byte 0"),
        (
            "POST",
            "/topics/a%zz",
            &[],
            b"x",
            400,
            "path has an incomplete percent-encoding at byte 1",
        ),
        ("POST", "/topics/caf%C3%A9", &[], b"x", 400, "topic name has '\\xc3' at byte 3"),
        (
            "POST",
            "/topics/a",
            &[("content-type", "application/json")],
            b"{",
            400,
            "payload is not JSON: EOF while parsing",
        ),
        (
            "POST",
            "/topics/a",
            &[("content-type", "text/plain")],
            b"ab\xff",
            400,
            "payload is not UTF-8 at byte 2",
        ),
        (
            "POST",
            "/topics/a",
            &[("content-type", "text/plain; charset=latin1")],
            b"x",
            415,
            "charset latin1 is not supported, send UTF-8",
        ),
        (
            "POST",
            "/topics/a",
            &[("umbel-event", "umbel.gap")],
            b"x",
            400,
            "Umbel-Event: event names that begin with `umbel.` are reserved",
        ),
        (
            "POST",
            "/topics/a",
            &[("umbel-origin", "me")],
            b"x",
            400,
            "Umbel-Origin: session id is not 16 hexadecimal digits",
        ),
        (
            "POST",
            "/topics/a",
            &[("idempotency-key", "")],
            b"x",
            400,
            "Idempotency-Key: idempotency key is 0 bytes, 1 to 255 are allowed",
        ),
        (
            "POST",
            "/publish",
            &[("idempotency-key", "k")],
            b"{}",
            400,
            "Idempotency-Key: a key belongs to one message, give each a `key`",
        ),
        ("POST", "/publish", &[], b"", 400, "body holds no message"),
        ("POST", "/publish", &[], b"{\"topic\":", 400, "body is not JSON: EOF while parsing"),
        (
            "POST",
            "/publish",
            &[("content-type", "application/x-ndjson")],
            b"{}\n{",
            400,
            "line 2: body is not JSON",
        ),
        ("PUT", "/topics/a", &[], b"x", 405, "this resource takes GET, POST"),
        ("GET", "/publish", &[], b"", 405, "this resource takes POST"),
        ("POST", "/nothing", &[], b"x", 404, "there is nothing at /nothing"),
    ] {
        let answer = node.client().await.request(method, path, headers, body).await;
        let got = answer.problem();
        assert_eq!(answer.status, status, "{method} {path}: {got}");
        assert!(got.starts_with(detail), "{method} {path}: {got}");
    }
    let answer = node.client().await.request("DELETE", "/topics/a", &[], b"").await;
    assert_eq!(answer.header("allow"), Some("GET, POST"));
    let metrics = node.metrics().await;
    assert_eq!(metrics.value("umbel_publish_requests_total{status=\"400\"}"), 17.0);
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_whatever_they_claim() {
    let world =
        World::new().settings("[limits]\npayload_bytes = 1000\nbody_bytes = 2000").start().await;
    let node = world.node(0);
    // Announced: refused before it is sent.
    let mut client = node.client().await;
    client.send(b"POST /topics/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.problem()),
        (413, "body is longer than 1000 bytes".to_owned())
    );
    assert!(client.ends().await);
    // Announced with a length beyond all measure.
    let mut client = node.client().await;
    client
        .send(b"POST /topics/a HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551000\r\n\r\n")
        .await;
    assert!(matches!(client.answer().await.status, 400 | 413));
    // Not announced: refused when it is reached, and the client gets to see it.
    let mut client = node.client().await;
    client.send(b"POST /publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..5 {
        client.send(&[b"200\r\n", &[b'x'; 512][..], b"\r\n"].concat()).await;
    }
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.problem()),
        (413, "body is longer than 2000 bytes".to_owned())
    );
    // Exactly the limit is fine.
    let answer = node.client().await.post("/topics/a", "text/plain", &[b'x'; 1000]).await;
    assert_eq!(answer.status, 200);
    node.metric_becomes("umbel_held_bytes{by=\"bodies\"}", 0.0).await;
}

#[tokio::test]
async fn the_first_page_has_lines_to_copy() {
    let world = World::new().start().await;
    let node = world.node(0);
    let answer = node.client().await.request("GET", "/", &[], b"").await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.text().contains("curl -N http://localhost/topics/news"));
    assert!(answer.text().contains("new WebSocket('ws://localhost/topics/news')"));
    let mut client = node.client().await;
    client.send(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
}
