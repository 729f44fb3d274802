//! Each limit: what whoever meets it is told, that it is counted, and that others go on.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::net::SocketAddr;

use serde_json::json;
use umbel_e2e::{
    Answer, HANDSHAKE, HttpClient, Node, SseClient, WebSocketClient, World, WorldBuilder,
};

/// A world whose node has these limits.
fn limits(lines: &str) -> WorldBuilder {
    World::new().settings(&format!("[limits]\n{lines}\n"))
}

async fn counted(node: &Node, limit: &str, times: f64) {
    node.metric_becomes(&format!("umbel_limited_total{{limit=\"{limit}\"}}"), times).await;
}

/// The answer to an upgrade without `Origin`: not from a page.
async fn upgrade(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&HANDSHAKE, headers].concat();
    node.client().await.request("GET", path, &headers, b"").await
}

const PAGE: (&str, &str) = ("origin", "http://localhost:3000");

async fn page_socket(node: &Node, path: &str, headers: &[(&str, &str)]) -> WebSocketClient {
    WebSocketClient::open_with(node.http(), path, &[&[PAGE], headers].concat()).await
}

/// The whole stream of an `EventSource` that is asked to come back: how soon, and why.
async fn passing_refusal(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> (u64, String) {
    let headers = [&[("accept", "text/event-stream")], headers].concat();
    let answer = HttpClient::connect(address).await.request("GET", path, &headers, b"").await;
    assert_eq!(answer.status, 200, "a browser would never come back");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    let (retry, comment) = text.strip_suffix("\n\n").unwrap().split_once("\n\n").unwrap();
    let retry = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
    (retry, comment.strip_prefix(": ").unwrap().to_owned())
}

const FULL: &str = "the node has as many sessions as it may";

#[tokio::test]
async fn beyond_the_node_s_sessions_each_client_is_told_as_it_understands() {
    let world = limits("sessions = 2").workers(2).start().await;
    let node = world.node(0);
    let mut first = node.subscribe("a").await;
    let second = node.sse("/topics/a").await;
    let (retry, reason) = passing_refusal(node.http(), "/topics/a", &[]).await;
    assert!((5_000..15_000).contains(&retry), "{retry}");
    assert_eq!(reason, FULL);
    for path in ["/topics/a?strict=1", "/topics/a?strict=1&after=0"] {
        let accept = [("accept", "text/event-stream")];
        let answer = node.client().await.request("GET", path, &accept, b"").await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, FULL));
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((5..=15).contains(&after), "{after}");
    }
    for path in ["/topics/a", "/ws"] {
        let answer = upgrade(node, path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, FULL));
        assert_eq!(page_socket(node, path, &[]).await.closed_with(1013).await, FULL);
    }
    let mut http2 = node.http2().await;
    let answer = http2.get("/topics/a").await;
    assert_eq!((answer.status, answer.text().contains(FULL)), (200, true));
    counted(node, "sessions", 8.0).await;
    // Those inside notice nothing, publishing goes on, and a place that is left is free.
    node.publish("a", "x").await;
    assert_eq!(first.text().await, "x");
    drop(second);
    node.metric_becomes("umbel_sessions_open{transport=\"sse\"}", 0.0).await;
    assert_eq!(node.sse("/topics/a").await.head.status, 200);
}

#[tokio::test]
async fn a_page_s_own_subprotocol_is_confirmed_also_if_it_can_t_stay() {
    let world = limits("sessions = 1").start().await;
    let node = world.node(0);
    let _first = node.subscribe("a").await;
    // Without it a browser would fail the connection and hide the code.
    for (path, ours) in [("/topics/a", "umbel.v1.plain"), ("/ws", "umbel.v1.json")] {
        let answer = upgrade(node, path, &[PAGE, ("sec-websocket-protocol", ours)]).await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some(ours)));
    }
}

const MANY: &str = "this address has as many sessions as it may";

#[tokio::test]
async fn an_address_is_known_by_the_word_of_trusted_proxies_alone() {
    let world = World::new()
        .settings(
            "[limits]\nsessions_per_address = 1\n[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        )
        .start()
        .await;
    let node = world.node(0);
    let from = |said| [("x-forwarded-for", said)];
    let mut held = Vec::new();
    for said in ["192.0.2.1", "192.0.2.2", "203.0.113.9, 192.0.2.3", "2001:db8:0:1::1"] {
        held.push(SseClient::open_with(node.http(), "/topics/a", &from(said)).await);
    }
    for said in ["192.0.2.1", "198.51.100.1, 192.0.2.3", "2001:db8:0:1:ffff::2", "192.0.2.2:99"] {
        let (_, reason) = passing_refusal(node.http(), "/topics/a", &from(said)).await;
        assert_eq!(reason, MANY, "{said}");
        let answer = upgrade(node, "/ws", &from(said)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (429, MANY));
        let mut page = page_socket(node, "/ws", &from(said)).await;
        assert_eq!(page.closed_with(4429).await, MANY);
    }
    counted(node, "sessions_per_address", 12.0).await;
}

#[tokio::test]
async fn whoever_isn_t_trusted_is_counted_by_its_own_address() {
    let world = limits("sessions_per_address = 2").start().await;
    let node = world.node(0);
    let from = |said| [("x-forwarded-for", said)];
    let first = SseClient::open_with(node.http(), "/topics/a", &from("192.0.2.1")).await;
    let _second = SseClient::open_with(node.http(), "/topics/a", &from("192.0.2.2")).await;
    passing_refusal(node.http(), "/topics/a", &from("192.0.2.3")).await;
    drop(first);
    node.metric_becomes("umbel_sessions_open{transport=\"sse\"}", 1.0).await;
    SseClient::open_with(node.http(), "/topics/a", &from("192.0.2.3")).await;
}

/// The header of the PROXY protocol for a client of IPv4.
fn proxy_header(source: [u8; 4]) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let fixed = [0x21, 0x11, 0, 12];
    [signature, &fixed[..], &source, &[127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90]].concat()
}

async fn by_proxy(node: &Node, first: &[u8]) -> HttpClient {
    let mut client = node.client().await;
    client.send(first).await;
    client
}

#[tokio::test]
async fn the_proxy_protocol_says_whom_a_connection_is_from() {
    let world = World::new()
        .settings("[limits]\nsessions_per_address = 1\n[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\n")
        .start()
        .await;
    let node = world.node(0);
    let sse = b"GET /topics/a HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    let mut client = by_proxy(node, &[&proxy_header([192, 0, 2, 1])[..], sse].concat()).await;
    assert_eq!(client.head().await.status, 200);
    // In pieces, and with what a client says of itself.
    let mut other = by_proxy(node, &proxy_header([192, 0, 2, 2])[..7]).await;
    other.send(&proxy_header([192, 0, 2, 2])[7..]).await;
    let lying = b"GET /topics/a HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
    other.send(lying).await;
    assert_eq!(other.head().await.header("content-length"), None, "it is a stream");
    let mut again = by_proxy(node, &[&proxy_header([192, 0, 2, 1])[..], sse].concat()).await;
    assert!(again.answer().await.text().ends_with(&format!(": {MANY}\n\n")));
    // HTTP/2 behind it.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let first = [&proxy_header([192, 0, 2, 3])[..], preface, &settings].concat();
    let _http2 = by_proxy(node, &first).await;
    // The balancer's own question has no client.
    let local =
        [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
    assert_eq!(by_proxy(node, &local).await.answer().await.status, 200);
    // And without a header nobody knows.
    for first in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"]
    {
        let mut bare = by_proxy(node, first).await;
        let answer = bare.answer().await;
        assert_eq!(answer.status, 400);
        assert!(answer.problem().contains("PROXY protocol, version 2"));
        assert!(bare.ends().await);
    }
    counted(node, "proxy_header", 2.0).await;
}

#[tokio::test]
async fn a_header_of_the_proxy_protocol_is_no_request_where_none_is_expected() {
    for settings in ["", "[listen]\ntrusted_proxies = [\"192.0.2.0/24\"]\nproxy_protocol = true\n"]
    {
        let world = World::new().settings(settings).start().await;
        let first =
            [&proxy_header([192, 0, 2, 1])[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
        let mut client = by_proxy(world.node(0), &first).await;
        assert_eq!(client.answer().await.status, 400);
        assert!(client.ends().await);
    }
}

#[tokio::test]
async fn waiting_polls_are_sessions_too() {
    let rules = "[[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nhistory = { messages = 9, seconds = 60 }\n";
    let world = World::new().settings(&format!("[limits]\nsessions = 1\n{rules}")).start().await;
    let node = world.node(0);
    let mut waiting = node.client().await;
    waiting.send(b"GET /topics/a?after=0&wait=60 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    node.metric_becomes("umbel_polls_waiting", 1.0).await;
    let answer = node.client().await.get("/topics/a?after=0&wait=60").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, FULL));
    assert_eq!(node.client().await.get("/topics/a?after=0").await.status, 200, "it doesn't wait");
    node.publish("a", "x").await;
    assert_eq!(waiting.answer().await.json()["messages"][0]["text"], "x");
    node.metric_becomes("umbel_polls_waiting", 0.0).await;
    node.subscribe("a").await;
}

#[tokio::test]
async fn a_session_publishes_so_many_a_second_and_twice_as_many_at_once() {
    let world = limits("publishes_per_second = 5").start().await;
    let node = world.node(0);
    let mut listener = node.subscribe("a").await;
    let mut session = node.json().await;
    let publish = json!({"op": "publish", "topic": "a", "text": "x"});
    let all = vec![publish.to_string(); 12].join("\n");
    session.send_text(&all).await;
    let mut outcomes = Vec::new();
    for _ in 0..12 {
        let reply = session.json().await;
        outcomes.push(reply["code"].as_str().unwrap_or("published").to_owned());
    }
    assert!(outcomes[..10].iter().all(|outcome| outcome == "published"), "{outcomes:?}");
    assert_eq!(outcomes[11], "rate_limited", "{outcomes:?}");
    // Another session has its own rate, and this one may again after a while.
    let session = tokio::sync::Mutex::new(session);
    let mut other = node.json().await;
    assert_eq!(other.command(&publish).await["op"], "published");
    umbel_e2e::eventually("a place in the rate", || async {
        let mut session = session.lock().await;
        (session.command(&publish).await["op"] == "published").then_some(())
    })
    .await;
    let received = outcomes.iter().filter(|outcome| *outcome == "published").count() + 2;
    for _ in 0..received {
        assert_eq!(listener.text().await, "x");
    }
}

#[tokio::test]
async fn a_plain_session_that_publishes_too_fast_is_closed() {
    let world = limits("publishes_per_second = 5").start().await;
    let node = world.node(0);
    let mut session = node.subscribe("a").await;
    for _ in 0..20 {
        session.send_text("x").await;
    }
    assert_eq!(
        session.closed_with(4429).await,
        "a session may publish 5 messages in a second, twice as many at once"
    );
    counted(node, "publishes", 1.0).await;
}

#[tokio::test]
async fn what_is_too_long_or_too_much_is_counted_too() {
    let world =
        limits("payload_bytes = 100\nbody_bytes = 1000\ntopics_per_session = 2\ntopics_per_stream = 2\nheader_seconds = 1")
            .start()
            .await;
    let node = world.node(0);
    let long = "x".repeat(101);
    let answer = node.client().await.post("/topics/a", "text/plain", long.as_bytes()).await;
    assert_eq!(answer.status, 413);
    let mut plain = node.subscribe("a").await;
    plain.send_text(&long).await;
    plain.closed_with(1009).await;
    let mut session = node.json().await;
    let reply = session.command(&json!({"op": "publish", "topic": "a", "text": long})).await;
    assert_eq!(reply["code"], "too_large");
    counted(node, "size", 3.0).await;
    session.hold("a").await;
    session.hold("b").await;
    let reply = session.command(&json!({"op": "subscribe", "topic": "c"})).await;
    assert_eq!(reply["code"], "limit");
    assert_eq!(node.client().await.get("/topics/a,b,c").await.status, 400);
    counted(node, "topics", 2.0).await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n\r\n", "y".repeat(20_000));
    let mut client = node.client().await;
    let _ = client.try_send(head.as_bytes()).await;
    assert_eq!(client.answer().await.status, 431);
    counted(node, "head", 1.0).await;
    let mut slow = node.client().await;
    slow.send(b"GET / HT").await;
    assert_eq!(slow.answer().await.status, 408);
    counted(node, "header_time", 1.0).await;
}

#[tokio::test]
async fn pages_of_other_origins_are_told_and_counted() {
    let world =
        World::new().settings("[listen]\norigins = [\"http://localhost:3000\"]\n").start().await;
    let node = world.node(0);
    let foreign = [("origin", "https://evil.example")];
    let text = "the origin `https://evil.example` is not among listen.origins";
    for path in ["/topics/a", "/ws"] {
        let mut socket = WebSocketClient::open_with(node.http(), path, &foreign).await;
        assert_eq!(socket.closed_with(4403).await, text);
    }
    let mut listener = page_socket(node, "/topics/a", &[]).await;
    let answer = node.client().await.request("POST", "/topics/a", &foreign, b"x").await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, text));
    let own = format!("http://{}", "localhost");
    let answer =
        node.client().await.request("POST", "/topics/a", &[("origin", &own)], b"own").await;
    assert_eq!(answer.status, 200, "the node's own page may");
    assert_eq!(listener.text().await, "own", "and nothing else was published");
    counted(node, "origin", 3.0).await;
}

#[tokio::test]
async fn no_request_without_a_body_changes_anything() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut listener = node.subscribe("a").await;
    for method in ["GET", "OPTIONS"] {
        for path in ["/publish?topic=a&data=x", "/topics/a?publish=x", "/publish"] {
            let headers = [("accept", "application/json")];
            let answer = node.client().await.request(method, path, &headers, b"").await;
            assert_ne!(answer.status, 200, "{method} {path}");
        }
        let mut admin = HttpClient::connect(node.admin()).await;
        let answer = admin.request(method, "/drain", &[("umbel-admin", "1")], b"").await;
        assert!(answer.status != 202, "{method}");
    }
    assert_eq!(node.readiness().await.0, 200);
    node.publish("a", "the first").await;
    assert_eq!(listener.text().await, "the first");
}
