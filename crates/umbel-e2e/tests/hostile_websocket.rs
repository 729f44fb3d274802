//! WebSocket clients that send what nobody can use: each meets its limit, and nobody else notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use umbel_e2e::{
    Bystander, Node, Opcode, Poured, WebSocketClient, World, converse, masked_frame, pour,
};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const INPUT: &str = "umbel_held_bytes{by=\"input\"}";
const CONTROL: &str = "umbel_held_bytes{by=\"control\"}";

/// What one session may have the node hold: replies up to 64 KiB, and one read's worth of more.
const REPLIES_BOUND: f64 = 200_000.0;

/// The head of a frame that claims so many bytes.
fn claim(opcode: u8, length: u64) -> Vec<u8> {
    [&[0x80 | opcode, 0x80 | 0x7f][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// The bytes of a server's short frame.
fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x80 | opcode, u8::try_from(payload.len()).unwrap()], payload].concat()
}

/// Opens a session and, when it was closed for breaking the protocol, checks how.
async fn is_closed_after(node: &Node, path: &str, bytes: &[u8], code: u16, reason: &str) {
    let mut client = WebSocketClient::open(node.http(), path).await;
    // The node may close before all is written.
    let _ = client.try_send_raw(bytes).await;
    assert_eq!(client.closed_with(code).await, reason);
}

#[tokio::test]
async fn lengths_are_believed_as_far_as_bytes_have_come() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let too_big = "a message is longer than this node takes";
    for length in [65_537, 1 << 20, 1 << 31, 1 << 32, 1 << 62, u64::MAX] {
        is_closed_after(node, "/topics/bomb", &claim(BINARY, length), 1009, too_big).await;
    }
    // As long as may be, of which one byte comes.
    let mut claimants = Vec::new();
    for _ in 0..100 {
        let mut plain = node.subscribe("bomb").await;
        plain.send_raw(&[&claim(BINARY, 65_536)[..], b"x"].concat()).await;
        let mut json = node.json().await;
        json.send_raw(&[&claim(TEXT, 1 << 20)[..], b"x"].concat()).await;
        claimants.push((plain, json));
    }
    node.metric_becomes(INPUT, 200.0 * 15.0).await;
    drop(claimants);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_held_up_to_the_limit() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut endless = Vec::new();
    for _ in 0..20 {
        let mut client = node.subscribe("endless").await;
        client.send_frame(false, Opcode::Binary, &[7; 1000]).await;
        for _ in 0..64 {
            client.send_frame(false, Opcode::Continuation, &[7; 1000]).await;
        }
        endless.push(client);
    }
    node.metric_becomes(INPUT, 20.0 * 65_000.0).await;
    for client in &mut endless[10..] {
        client.send_frame(false, Opcode::Continuation, &[7; 1000]).await;
        assert_eq!(client.closed_with(1009).await, "a message is longer than this node takes");
    }
    // What is left may yet become a message.
    let ended = &mut endless[0];
    ended.send_frame(true, Opcode::Continuation, b"").await;
    assert_eq!(ended.message().await.payload, vec![7; 65_000]);
    drop(endless);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn fragments_without_number_make_one_message() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    // Empty ones.
    let mut client = node.subscribe("fragments").await;
    client.send_frame(false, Opcode::Text, b"").await;
    let empty = masked_frame(false, CONTINUATION, b"");
    assert_eq!(pour(client.stream(), &empty.repeat(1000), 200).await, Poured::All);
    client.send_frame(true, Opcode::Continuation, b"all").await;
    assert_eq!(client.text().await, "all");
    // One for each byte.
    client.send_frame(false, Opcode::Text, b"").await;
    let crumb = masked_frame(false, CONTINUATION, b"x");
    assert_eq!(pour(client.stream(), &crumb.repeat(1000), 65).await, Poured::All);
    client.send_frame(true, Opcode::Continuation, b"").await;
    assert_eq!(client.text().await, "x".repeat(65_000));
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_million_fragments_make_one_command() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = node.json().await;
    client.send_frame(false, Opcode::Text, b"{\"op\":\"ping\"}").await;
    let crumb = masked_frame(false, CONTINUATION, b" ");
    assert_eq!(pour(client.stream(), &crumb.repeat(1000), 1000).await, Poured::All);
    client.send_frame(true, Opcode::Continuation, b"").await;
    assert_eq!(client.json().await, json!({"op": "pong"}));
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn pings_are_answered_as_long_as_the_answers_are_read() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    for (payload, count) in [(&b""[..], 100_000), (&[b'p'; 125], 20_000)] {
        let mut client = node.subscribe("pings").await;
        let pings = masked_frame(true, PING, payload).repeat(count);
        let pong = server_frame(PONG, payload);
        let answers = converse(client.stream_mut(), &pings, pong.len() * count).await;
        assert!(answers == pong.repeat(count), "every ping has its pong");
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Pours the same bytes into a session that doesn't read until the node takes no more, and checks
/// what is held meanwhile. Others are served.
async fn is_not_read_from(node: &Node, client: WebSocketClient, bytes: &[u8]) {
    let poured = pour(client.stream(), &bytes.repeat(1000), 100_000).await;
    assert!(matches!(poured, Poured::Stopped(_)), "{poured:?}");
    let metrics = node.metrics().await;
    let held = metrics.value(INPUT) + metrics.value(CONTROL);
    assert!(held < REPLIES_BOUND, "{held} bytes are held for one session");
}

#[tokio::test]
async fn whoever_does_not_read_the_answers_is_not_read_from() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let subscribe = "{\"op\":\"subscribe\",\"topic\":\"flood\"}";
    let unsubscribe = "{\"op\":\"unsubscribe\",\"topic\":\"flood\"}";
    let both = format!("{subscribe}\n{unsubscribe}\n");
    let client = WebSocketClient::open_narrow(node.http(), "/topics/pings").await;
    is_not_read_from(node, client, &masked_frame(true, PING, &[b'p'; 125])).await;
    for commands in [both.as_str(), "{\"op\":\"ping\"}", "{}", &both.repeat(1000)] {
        let client = WebSocketClient::open_narrow(node.http(), "/ws").await;
        is_not_read_from(node, client, &masked_frame(true, TEXT, commands.as_bytes())).await;
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn pongs_that_nobody_asked_for_are_passed_over() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = node.subscribe("pongs").await;
    for payload in [&b""[..], &[b'p'; 125]] {
        let pong = masked_frame(true, PONG, payload);
        assert_eq!(pour(client.stream(), &pong.repeat(1000), 100).await, Poured::All);
    }
    client.send_frame(true, Opcode::Ping, b"still there").await;
    assert_eq!(client.next().await.unwrap().payload, b"still there");
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// The replies to so many pairs of commands, as text.
async fn replies(client: &mut WebSocketClient, pairs: usize) {
    for _ in 0..pairs {
        for op in ["subscribed", "unsubscribed"] {
            assert_eq!(client.json().await, json!({"op": op, "topic": "flood"}));
        }
    }
}

#[tokio::test]
async fn topics_may_be_taken_up_and_left_at_any_rate() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let subscribe = "{\"op\":\"subscribe\",\"topic\":\"flood\"}";
    let unsubscribe = "{\"op\":\"unsubscribe\",\"topic\":\"flood\"}";
    // As many as fit into one frame.
    let mut client = node.json().await;
    client.send_text(&format!("{subscribe}\n{unsubscribe}\n").repeat(13_000)).await;
    replies(&mut client, 13_000).await;
    // In a frame each.
    for _ in 0..10 {
        let pair = [subscribe, unsubscribe].map(|op| masked_frame(true, TEXT, op.as_bytes()));
        client.send_raw(&pair.concat().repeat(1000)).await;
        replies(&mut client, 1000).await;
    }
    node.metric_becomes("umbel_topics", 1.0).await;
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn more_topics_than_a_session_may_have_are_refused_however_they_are_named() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = node.json().await;
    let many: Vec<_> =
        (0..20_000).map(|number| json!({"topic": format!("many.{number}")})).collect();
    let one =
        |number: usize| json!({"op": "subscribe", "topic": format!("one.{number}")}).to_string();
    let some: Vec<_> = (0..1000).map(one).collect();
    let at_once = json!({"op": "subscribe", "topics": many}).to_string();
    client.send_text(&format!("{at_once}\n{}\n{at_once}", some.join("\n"))).await;
    let limit = |wanted: usize| {
        let message = format!("the session would hold {wanted} topics, at most 1000 are allowed");
        json!({"op": "error", "code": "limit", "message": message})
    };
    assert_eq!(client.json().await, limit(20_000));
    for number in 0..1000 {
        let topic = format!("one.{number}");
        assert_eq!(client.json().await, json!({"op": "subscribed", "topic": topic}));
    }
    assert_eq!(client.json().await, limit(21_000));
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// What a million topics cost and leave is measured in `memory.rs`.
#[tokio::test]
async fn ten_thousand_topics_are_taken_up_and_left() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut sessions = JoinSet::new();
    for session in 0..100 {
        let mut client = node.json().await;
        sessions.spawn(async move {
            let names = (0..100).map(|topic| format!("session.{session}.topic.{topic}"));
            let names: Vec<_> = names.collect();
            let topics: Vec<_> = names.iter().map(|name| json!({"topic": name})).collect();
            client.send_text(&json!({"op": "subscribe", "topics": topics}).to_string()).await;
            for name in &names {
                assert_eq!(client.json().await, json!({"op": "subscribed", "topic": name}));
            }
            client
        });
    }
    let mut clients = sessions.join_all().await;
    node.metric_becomes("umbel_topics", 10_001.0).await;
    let mut left = clients.split_off(50);
    for client in &mut left {
        client.send_frame(true, Opcode::Close, b"").await;
        assert_eq!(client.next().await.unwrap().opcode, Opcode::Close);
    }
    node.metric_becomes("umbel_topics", 5_001.0).await;
    drop(clients);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// A client that closes badly is gone in time: it goes on sending and answers no close frame.
#[tokio::test]
async fn a_session_that_is_closed_ends_however_much_is_sent() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut closed = Vec::new();
    for bytes in [b"\x81\x00".to_vec(), claim(BINARY, 1 << 40), masked_frame(true, 0x3, b"")] {
        let mut client = node.subscribe("closed").await;
        client.send_raw(&bytes).await;
        closed.push(client);
    }
    let mut sending = JoinSet::new();
    for mut client in closed {
        sending.spawn(async move {
            let ping = masked_frame(true, PING, &[b'p'; 100]);
            while client.try_send_raw(&ping).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(client.next().await.unwrap().opcode, Opcode::Close);
        });
    }
    sending.join_all().await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}
