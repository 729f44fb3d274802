//! Clients of HTTP/1.1 that are slow or want too much: each is told, and nobody else notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use tokio::task::JoinSet;
use umbel_e2e::{Bystander, HttpClient, Node, Poured, World, pour, request};

/// Heads have a second, and `kept` has history.
fn settings() -> String {
    format!(
        "[limits]\nheader_seconds = 1\n{}\
         [[topics]]\nmatch = \"kept\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
         history = {{ messages = 1000, seconds = 300 }}\n\
         [[topics]]\nmatch = \"open.**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n",
        Bystander::RULE
    )
}

/// Publishes so many messages of 10 000 bytes to `kept`.
async fn fill_history(node: &Node, count: usize) {
    let mut publisher = node.client().await;
    for _ in 0..count {
        let answer = publisher.post("/topics/kept", "text/plain", &[b'.'; 10_000]).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_given_up_in_time() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut slow = JoinSet::new();
    for (begun, byte) in [
        ("G", b'E'),
        ("GET /", b'a'),
        ("GET / HTTP/1.1\r\nhost: x\r\nx: ", b'y'),
        ("GET / HTTP/1.1\r\nhost: x\r\n", b'y'),
        ("", b'\n'),
        ("\r\n", b'\n'),
    ] {
        let address = node.http();
        slow.spawn(async move {
            let mut client = HttpClient::connect(address).await;
            client.send(begun.as_bytes()).await;
            client.trickle(byte, Duration::from_millis(20)).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 408, "{begun:?}");
            assert_eq!(answer.problem(), "the request's head took too long");
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(client.ends().await);
        });
    }
    slow.join_all().await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// As long as a connection may wait for its next request, and what the timers' grain adds: it is
/// looked at no more often than that.
const KEEP_ALIVE: Duration = Duration::from_secs(2 * 75 + 20);

#[tokio::test]
#[ignore = "takes a minute and a half: make test-long"]
async fn a_second_head_that_trickles_in_and_an_answer_that_nobody_reads_are_given_up() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    fill_history(node, 30).await;
    let mut slow = node.client().await;
    assert_eq!(slow.get("/").await.status, 200);
    let mut deaf = HttpClient::connect_narrow(node.http()).await;
    deaf.send(&request("GET", "/topics/kept?after=0&limit=1000", &[], b"")).await;
    slow.send(b"GET / HTTP/1.1\r\nx: ").await;
    let trickle = slow.trickle(b'y', Duration::from_millis(500));
    tokio::time::timeout(KEEP_ALIVE, trickle).await.unwrap();
    assert!(slow.ends().await);
    // The bystander's publisher and its HTTP/2 connection are left.
    node.metric_becomes_within(KEEP_ALIVE, "umbel_connections_open", 2.0).await;
    node.metric_becomes("umbel_held_bytes{by=\"bodies\"}", 0.0).await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
    drop(deaf);
}

/// Section 5.4 of RFC 9110 lets a server refuse what is too long; which of them it was is said by
/// the status.
#[tokio::test]
async fn heads_beyond_all_measure_are_refused() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
    let cookie = |count: usize| format!("cookie: {}\r\n", "a=b; ".repeat(count));
    for (what, bytes, status) in [
        ("as many header lines as may be", head(&"x: y\r\n".repeat(63)), 200),
        ("one more", head(&"x: y\r\n".repeat(64)), 431),
        ("ten thousand", head(&"x: y\r\n".repeat(10_000)), 431),
        ("a cookie of 15 000 bytes", head(&cookie(3000)), 200),
        ("a cookie of 20 000 bytes", head(&cookie(4000)), 431),
        ("60 cookies of 250 bytes", head(&cookie(50).repeat(60)), 200),
        ("a cookie of a megabyte", head(&cookie(200_000)), 431),
        ("a line that never ends", format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(1 << 20)), 431),
        ("a name that never ends", format!("GET / HTTP/1.1\r\n{}", "x".repeat(1 << 20)), 431),
        ("a target that never ends", format!("GET /{}", "a".repeat(1 << 20)), 431),
        ("a method that never ends", "A".repeat(1 << 20), 431),
        ("blank lines without end", "\r\n".repeat(1 << 19), 431),
    ] {
        let mut client = node.client().await;
        // The node may stop reading before all of it is written.
        let _ = client.try_send(bytes.as_bytes()).await;
        assert_eq!(client.answer().await.status, status, "{what}");
        if status != 200 {
            assert!(client.ends().await, "{what}");
        }
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn bodies_in_crumbs_are_read_or_refused() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listener = node.subscribe("open.crumbs").await;
    let head = "POST /topics/open.crumbs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let crumbs = "1\r\nx\r\n".repeat(60_000);
    let extension = format!("1;{}\r\nx\r\n", "y".repeat(1000));
    for (what, body, status) in [
        ("a chunk per byte", format!("{crumbs}0\r\n\r\n"), 200),
        ("a chunk per byte beyond the limit", crumbs.repeat(2), 413),
        ("more extensions than bytes", extension.repeat(100), 400),
        ("an extension that never ends", format!("1;{}", "y".repeat(1 << 20)), 400),
        ("trailers that never end", format!("0\r\n{}", "x: y\r\n".repeat(100_000)), 400),
        ("a trailer that never ends", format!("0\r\nx: {}", "y".repeat(1 << 20)), 400),
    ] {
        let mut client = node.client().await;
        let _ = client.try_send([head, &body].concat().as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 200 {
            assert_eq!(listener.text().await.len(), 60_000);
        } else {
            assert!(client.ends().await, "{what}");
        }
    }
    drop(listener);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// A name of three bytes for each number below 65 000.
fn short_name(number: usize) -> String {
    const DIGITS: &[u8; 40] = b"abcdefghijklmnopqrstuvwxyz0123456789-_:=";
    let digit = |place: u32| DIGITS[number / 40_usize.pow(place) % 40] as char;
    [digit(2), digit(1), digit(0)].iter().collect()
}

#[tokio::test]
async fn as_many_topics_as_a_head_can_name_are_refused() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let path: Vec<_> = (0..4000).map(short_name).collect();
    let query: Vec<_> = (0..1600).map(|number| format!("topic={}", short_name(number))).collect();
    for (target, count) in [
        (format!("/topics/{}", path.join(",")), 4000),
        (format!("/topics?{}", query.join("&")), 1600),
        (format!("/topics/{}?{}", path[..1500].join(","), query[..900].join("&")), 1500),
    ] {
        let mut client = node.client().await;
        for _ in 0..5 {
            let answer = client.get(&target).await;
            let detail = format!("{count} topics are named, at most 100 are allowed");
            assert_eq!((answer.status, answer.problem()), (400, detail));
        }
        let answer = client.post(&target, "text/plain", b"x").await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_long_answer_waits_for_whoever_reads_it() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    fill_history(node, 30).await;
    let poll = request("GET", "/topics/kept?after=0&limit=1000", &[], b"");
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = HttpClient::connect_narrow(node.http()).await;
        client.send(&poll).await;
        clients.push(client);
    }
    let replays = "umbel_held_bytes{by=\"replays\"}";
    node.metric_becomes("umbel_polls_total{outcome=\"something\"}", 50.0).await;
    node.metric_exceeds(replays, 1_000_000.0).await;
    let held = node.metrics().await.value(replays);
    assert!(held <= 50.0 * 300_000.0, "{held} bytes are held for 50 answers");
    for client in &mut clients[..5] {
        let answer = client.answer().await;
        let document = answer.json();
        let messages = document["messages"].as_array().unwrap();
        assert!(messages.len() >= 26, "{} messages", messages.len());
        assert!(messages.iter().all(|message| message["text"].as_str().unwrap().len() == 10_000));
    }
    drop(clients);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Requests behind one whose answer isn't read have to wait, so that answers don't pile up.
#[tokio::test]
async fn requests_are_not_read_while_answers_are_not() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    fill_history(node, 30).await;
    for path in ["/topics/kept?after=0&limit=1000", "/", "/nothing"] {
        let client = HttpClient::connect_narrow(node.http()).await;
        let requests = request("GET", path, &[], b"").repeat(1000);
        let poured = pour(client.stream(), &requests, 1000).await;
        assert!(matches!(poured, Poured::Stopped(_)), "{path}: {poured:?}");
        let held = node.metrics().await.value("umbel_held_bytes{by=\"bodies\"}");
        assert!(held <= 600_000.0, "{path}: {held} bytes are held");
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// An answer may be read a little at a time, as long as it gets on.
#[tokio::test]
async fn a_stream_may_be_read_a_little_at_a_time() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let client = HttpClient::connect_narrow(node.http()).await;
    let mut slow = umbel_e2e::SseClient::over(client, "/topics/open.stream", &[]).await;
    let mut publisher = node.client().await;
    for _ in 0..50 {
        let answer = publisher.post("/topics/open.stream", "text/plain", &[b'.'; 10_000]).await;
        assert_eq!(answer.status, 200);
    }
    for _ in 0..50 {
        assert_eq!(slow.data().await.len(), 10_000);
    }
    drop((slow, publisher));
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}
