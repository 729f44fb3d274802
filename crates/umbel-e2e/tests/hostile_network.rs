//! Connections that come in masses, come to nothing or break without a word: they are given up in
//! time, and nobody else notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use umbel_e2e::{
    Bystander, Http2Client, HttpClient, Namespace, Node, RawHttp2, SseClient, WebSocketClient,
    World, raise_descriptor_limit, request, within,
};

/// What may be left of a connection: nothing, half a head, half a preface.
const BEGINNINGS: [&[u8]; 4] =
    [b"", b"GET /topics/a HTTP/1.1\r\nhost: x\r\nupgra", b"\r\n", RawHttp2::PREFACE.split_at(10).0];

#[tokio::test]
async fn handshakes_that_never_come_are_given_up_and_told() {
    raise_descriptor_limit();
    let world = World::new().settings("[limits]\nheader_seconds = 4").start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut silent = Vec::new();
    for number in 0..3000 {
        let mut client = node.client().await;
        client.send(BEGINNINGS[number % BEGINNINGS.len()]).await;
        silent.push(client);
    }
    node.metric_exceeds("umbel_connections_open", 2000.0).await;
    // Whoever comes now is let in all the same.
    let mut late = node.subscribe("late").await;
    node.publish("late", "let in").await;
    assert_eq!(late.text().await, "let in");
    late.close().await;
    let mut told = JoinSet::new();
    for mut client in silent {
        told.spawn(async move {
            let answer = client.answer().await;
            assert_eq!(answer.status, 408);
            assert_eq!(answer.problem(), "the request's head took too long");
            assert!(client.ends().await);
        });
    }
    told.join_all().await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// A connection from one of many addresses, so that there are ports for all.
async fn connect_from(number: u32, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let [_, second, third, fourth] = (number % 1000).to_be_bytes();
    socket.bind((Ipv4Addr::new(127, 1 + second, 1 + third, 1 + fourth % 250), 0).into()).unwrap();
    let stream = within("the connection", socket.connect(address)).await.unwrap();
    // Closing resets it, so that no port has to wait.
    stream.set_zero_linger().unwrap();
    stream
}

/// Connects, says and hears as much as a client of this kind does, and is gone.
async fn visit(number: u32, address: SocketAddr) {
    let mut client = HttpClient::over(connect_from(number, address).await);
    match number % 5 {
        0 => {}
        1 => client.send(b"GET /topics/a HTTP/1.1\r\nhost: x\r\nupgra").await,
        2 => assert_eq!(client.get("/").await.status, 200),
        3 => drop(WebSocketClient::over(client, "/topics/visitors").await),
        _ => drop(SseClient::over(client, "/topics/visitors", &[]).await),
    }
}

/// So many clients come and go, some dozens at a time.
async fn visits(node: &Node, count: u32) {
    let before = node.metrics().await.value("umbel_connections_accepted_total");
    let mut visitors = JoinSet::new();
    for first in 0..50 {
        let address = node.http();
        visitors.spawn(async move {
            for number in (first..count).step_by(50) {
                visit(number, address).await;
            }
        });
    }
    visitors.join_all().await;
    // The bystander has no further connection, so these are the visitors'. Of those who go at once
    // the kernel may have dropped one in ten thousand before it was let in.
    let accepted = before + f64::from(count) - f64::from(count / 10_000) - 1.0;
    node.metric_exceeds("umbel_connections_accepted_total", accepted - 0.5).await;
}

#[tokio::test]
async fn five_thousand_come_and_go() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    visits(node, 5000).await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: make test-long"]
async fn a_hundred_thousand_come_and_go() {
    let world = World::new().workers(2).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    visits(node, 100_000).await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Longer than any deadline for bodies.
const BODY_DEADLINE: Duration = Duration::from_secs(30 + 10);

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_given_up_and_told() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut slow = JoinSet::new();
    for (begun, byte) in [
        ("content-length: 60000\r\n\r\n", b'x'),
        ("transfer-encoding: chunked\r\n\r\n10000\r\n", b'x'),
        // A size that never ends, an extension, a trailer.
        ("transfer-encoding: chunked\r\n\r\n", b'0'),
        ("transfer-encoding: chunked\r\n\r\n5;", b'x'),
        ("transfer-encoding: chunked\r\n\r\n0\r\nx: ", b'x'),
    ] {
        for path in ["/topics/slow", "/publish"] {
            let (address, begun) =
                (node.http(), format!("POST {path} HTTP/1.1\r\nhost: x\r\n{begun}"));
            slow.spawn(async move {
                let mut client = HttpClient::connect(address).await;
                client.send(begun.as_bytes()).await;
                client.trickle(byte, Duration::from_millis(100)).await;
                let answer = client.answer().await;
                assert_eq!(answer.status, 408, "{begun:?}");
                assert_eq!(answer.problem(), "the body took more than 30 s");
                assert!(client.ends().await);
            });
        }
    }
    slow.join_all().await;
    node.metric_becomes("umbel_publish_requests_total{status=\"408\"}", 10.0).await;
    bystander.noticed_nothing().await;
    node.is_left_empty_within(BODY_DEADLINE).await;
}

/// A frame has as long as a body: a session that began one and fell silent would hold it for ever.
#[tokio::test]
async fn a_frame_that_is_never_finished_is_given_up_and_told() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let whole = umbel_e2e::masked_frame(true, 0x1, &[b'x'; 1000]);
    let mut silent = node.subscribe("doomed").await;
    silent.send_raw(&whole[..500]).await;
    // One that goes on frame by frame, and so is never done, is no such session.
    let mut busy = node.subscribe("busy").await;
    busy.send_raw(&whole[..500]).await;
    let closed = "umbel_sessions_closed_total{reason=\"protocol\"}";
    let goes_on = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            busy.send_raw(&whole[500..]).await;
            busy.send_raw(&whole[..500]).await;
            assert_eq!(busy.message().await.text().len(), 1000);
        }
    };
    tokio::select! {
        () = node.metric_becomes_within(BODY_DEADLINE, closed, 1.0) => {}
        () = goes_on => unreachable!("it never ends"),
    }
    assert_eq!(silent.closed_with(1002).await, "a frame took more than 30 s");
    busy.send_raw(&whole[500..]).await;
    assert_eq!(busy.message().await.text().len(), 1000);
    drop(busy);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Anyone may do anything, and sessions are asked for a sign of life each second.
const FOR_ALL: &str = "[node]\nheartbeat_seconds = 1\n[limits]\nheader_seconds = 2\n\
    [[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"drop\"\n";

/// A host that can vanish, unless this machine can't have one. Then the test says so and is over.
fn host() -> Option<Namespace> {
    let host = Namespace::new();
    if let Err(why) = &host {
        // Past the capture of a test's output, which nobody sees of one that succeeds.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: a host that vanishes takes root and iproute2: {why}").unwrap();
    }
    host.ok()
}

/// How long it takes until the kernel gives up a peer that acknowledges nothing (30 s), or one from
/// which nothing comes (30 s until it asks, and 30 s of silence then).
const GIVEN_UP: Duration = Duration::from_secs(90);

const LOST: &str = "umbel_sessions_closed_total{reason=\"lost\"}";

/// Publishes to a session that doesn't read until it is blocked.
async fn block(node: &Node, topic: &str) {
    let mut publisher = node.client().await;
    let dropped = "umbel_slow_consumers_total{policy=\"drop\"}";
    while node.metrics().await.value(dropped) < 1.0 {
        for _ in 0..100 {
            let path = format!("/topics/{topic}");
            let answer = publisher.post(&path, "text/plain", &[b'.'; 10_000]).await;
            assert_eq!(answer.status, 200);
        }
    }
}

#[tokio::test]
async fn sessions_of_a_host_that_vanished_end_within_half_a_minute() {
    let Some(host) = host() else { return };
    let world = World::new().listen(host.here()).settings(FOR_ALL).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let connect = async || HttpClient::over(host.connect(node.http()).await);
    let mut plain = WebSocketClient::over(connect().await, "/topics/doomed").await;
    let mut json = WebSocketClient::over(connect().await, "/ws").await;
    assert_eq!(json.json().await["op"], "welcome");
    json.hold("doomed").await;
    let mut sse = SseClient::over(connect().await, "/topics/doomed", &[]).await;
    let settings = h2::client::Builder::new();
    let mut http2 = Http2Client::over(host.connect(node.http()).await, &settings).await;
    let mut stream = http2.sse("/topics/doomed").await;
    let stuck = WebSocketClient::over(connect().await, "/topics/flood").await;
    block(node, "flood").await;
    let mut half_head = connect().await;
    half_head.send(b"GET /topics/doomed HTTP/1.1\r\n").await;
    let mut half_body = connect().await;
    half_body.send(&request("POST", "/topics/doomed", &[("content-length", "9")], b"")).await;
    node.publish("doomed", "all is well").await;
    assert_eq!(plain.text().await, "all is well");
    assert_eq!(json.json().await["text"], "all is well");
    assert_eq!(sse.data().await, "all is well");
    assert_eq!(stream.data().await, "all is well");
    assert_eq!(node.metrics().await.value(LOST), 0.0);
    host.vanish();
    node.metric_becomes_within(GIVEN_UP, LOST, 5.0).await;
    bystander.noticed_nothing().await;
    node.is_left_empty_within(GIVEN_UP).await;
    drop((plain, json, sse, stream, stuck, half_head, half_body));
}

/// Nothing is ever sent to these, so only the kernel can find out.
#[tokio::test]
#[ignore = "takes a minute: make test-long"]
async fn streams_without_window_end_when_their_host_has_vanished() {
    let Some(host) = host() else { return };
    let world = World::new().listen(host.here()).settings(FOR_ALL).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(0);
    let mut http2 = Http2Client::over(host.connect(node.http()).await, &settings).await;
    let (answer, request) = http2.begin("GET", "/topics/doomed", &[], true).await;
    assert_eq!(within("the answer", answer).await.unwrap().status(), 200);
    host.vanish();
    node.metric_becomes_within(GIVEN_UP, LOST, 1.0).await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
    drop((http2, request));
}
