//! While all is well.

use std::net::SocketAddr;

use tokio::net::TcpSocket;
use umbel_e2e::{
    Backend, Front, HttpClient, Node, Product, Redis, SseClient, WebSocketClient, World,
};

use super::{TOPICS, post, session};

pub(super) async fn messages_pass_both_ways_at_once(product: Product) {
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(2).settings(TOPICS).broker(&redis.url()).start().await;
    let proxy = Front::before(product, world.nodes()).await;
    let front = proxy.address();
    // A slash of a topic's name stays what it is, and so does a host's port.
    let mut stream = session(front, "a%2Fb").await;
    let mut socket = WebSocketClient::open(front, "/topics/a%2Fb").await;
    let mut json = WebSocketClient::open(front, "/ws").await;
    assert_eq!(json.json().await["op"], "welcome");
    json.hold("a/b").await;
    // A message at a time: nothing waits for more to come.
    for text in ["one", "two"] {
        assert_eq!(post(front, "/topics/a%2Fb", &[], text).await.status, 200);
        assert_eq!(stream.data().await, text);
        assert_eq!(socket.text().await, text);
        assert_eq!(json.json().await["text"], text);
    }
    socket.send_text("said").await;
    assert_eq!(socket.text().await, "said");
    assert_eq!(stream.data().await, "said");
    assert_eq!(json.json().await["text"], "said");

    // Bodies as large as nodes take them, and their own word on larger ones.
    let line = format!("{{\"topic\":\"large\",\"text\":\"{}\"}}\n", "x".repeat(65_000));
    let body = line.repeat(16);
    let mut client = HttpClient::connect(front).await;
    let answer = client.post("/publish", "application/x-ndjson", body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = "x".repeat(1_200_000);
    let mut client = HttpClient::connect(front).await;
    let answer = client.post("/topics/large", "text/plain", body.as_bytes()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.problem().starts_with("body is longer than"), "{}", answer.text());

    // Whoever goes away is gone at the node, before the next heartbeat would show it.
    drop((stream, socket, json));
    for node in world.nodes() {
        for transport in ["sse", "websocket"] {
            let series = format!("umbel_sessions_open{{transport=\"{transport}\"}}");
            node.metric_becomes(&series, 0.0).await;
        }
    }
}

pub(super) async fn silence_between_heartbeats_ends_no_session_and_a_silent_node_does(
    product: Product,
) {
    // The same settings at another scale: of 25 s and 90 s come 1 s and 4 s.
    let world = World::new().settings(TOPICS).environment("UMBEL_NODE__HEARTBEAT_SECONDS", "1");
    let world = world.start().await;
    let node = world.node(0);
    let proxy = Front::start(product, &[Backend::from(node)], &[("90s", "4s")]);
    proxy.passes().await;
    let mut stream = session(proxy.address(), "news").await;
    let mut socket = WebSocketClient::open(proxy.address(), "/topics/news").await;
    // The first comment opens the stream, each other is a heartbeat.
    stream.comments(7).await;
    node.publish("news", "still there").await;
    assert_eq!(stream.data().await, "still there");
    assert_eq!(socket.text().await, "still there");
    // An EventSource wouldn't notice.
    node.signal("STOP");
    assert!(stream.ends().await, "the stream ends without a word");
    while socket.next().await.is_some() {}
    node.signal("CONT");
}

/// A connection from an address of its own.
async fn from(source: [u8; 4], front: SocketAddr) -> HttpClient {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    HttpClient::over(socket.connect(front).await.unwrap())
}

pub(super) async fn nodes_know_whom_a_session_is_from_and_their_refusals_pass(product: Product) {
    const SETTINGS: &str = "[limits]\nsessions_per_address = 1\n\
        [listen]\ntrusted_proxies = [\"127.0.0.1\"]\norigins = [\"https://app.example.org\"]\n";
    let world = World::new().settings(SETTINGS).start().await;
    let node: &Node = world.node(0);
    let proxy = Front::before(product, world.nodes()).await;
    let front = proxy.address();
    let path = "/topics/a";
    let first = SseClient::over(from([127, 0, 0, 5], front).await, path, &[]).await;
    assert!(first.head.header("umbel-session").is_some());
    let other = SseClient::over(from([127, 0, 0, 6], front).await, path, &[]).await;
    assert!(other.head.header("umbel-session").is_some());

    // The same address again, whatever it says of itself.
    let headers = [("x-forwarded-for", "192.0.2.1"), ("origin", "https://app.example.org")];
    let mut refused = SseClient::over(from([127, 0, 0, 5], front).await, path, &headers).await;
    assert!(refused.head.header("umbel-session").is_none());
    assert_eq!(refused.head.header("cache-control"), Some("no-store, no-transform"));
    let allowed = refused.head.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://app.example.org"));
    assert!(refused.ends().await);
    let retry = refused.retry_millis().unwrap();
    assert!((5_000..15_000).contains(&retry), "a node's own time, not the proxy's: {retry}");
    let accept = [("accept", "text/event-stream")];
    let mut client = from([127, 0, 0, 5], front).await;
    let answer = client.request("GET", "/topics/a?strict=1", &accept, b"").await;
    assert_eq!(answer.status, 429);
    assert!(answer.problem().contains("this address has as many sessions as it may"));
    let answer = from([127, 0, 0, 7], front).await.get("/nowhere").await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "there is nothing at /nowhere"));
    let series = "umbel_limited_total{limit=\"sessions_per_address\"}";
    node.metric_becomes(series, 2.0).await;
}

/// For proxies that can: a line that stands in the file as a comment.
#[tokio::test]
async fn haproxy_says_whom_a_session_is_from_by_the_proxy_protocol_too() {
    const SETTINGS: &str = "[limits]\nsessions_per_address = 1\n\
        [listen]\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\n";
    let world = World::new().settings(SETTINGS).start().await;
    let on = ("# default-server send-proxy-v2", "default-server send-proxy-v2");
    let proxy = Front::start(Product::HaProxy, &[Backend::from(world.node(0))], &[on]);
    proxy.passes().await;
    let mut streams = Vec::new();
    for (source, is_let_in) in
        [([127, 0, 0, 5], true), ([127, 0, 0, 6], true), ([127, 0, 0, 5], false)]
    {
        let client = from(source, proxy.address()).await;
        let stream = SseClient::over(client, "/topics/a", &[]).await;
        assert_eq!(stream.head.header("umbel-session").is_some(), is_let_in, "{source:?}");
        streams.push(stream);
    }
}
