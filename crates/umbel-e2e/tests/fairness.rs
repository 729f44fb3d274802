//! How much of a flood a worker takes before somebody else has their turn. Counted, not timed: the
//! numbers are the same on every machine, but for what sockets hold.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use umbel_e2e::{Node, RawFrame, RawHttp2, World, eventually, masked_frame, request};

/// How many messages are sent beside a flood: what the sockets hold is little against as many
/// turns.
const MESSAGES: usize = 50;

/// A client that sends the same bytes for as long as it lives, and reads whatever comes back.
struct Flood {
    sent: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Flood {
    fn of(stream: TcpStream, bytes: Vec<u8>) -> Self {
        let (reader, writer) = stream.into_split();
        let (sent, received) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(send(writer, bytes, Arc::clone(&sent)));
        tasks.spawn(receive(reader, Arc::clone(&received)));
        Self { sent, received, _tasks: tasks }
    }

    /// Checks that no more than `most` times so many bytes are taken from it for each message of
    /// somebody else.
    async fn sends_at_most(&self, most: usize, bytes: usize, node: &Node) {
        at_most(most, bytes, &self.sent, node).await;
    }

    /// The same for the bytes that it is answered.
    async fn receives_at_most(&self, most: usize, bytes: usize, node: &Node) {
        at_most(most, bytes, &self.received, node).await;
    }
}

async fn send(mut writer: OwnedWriteHalf, bytes: Vec<u8>, count: Arc<AtomicUsize>) {
    loop {
        for piece in bytes.chunks(16 * 1024) {
            if writer.write_all(piece).await.is_err() {
                return;
            }
            count.fetch_add(piece.len(), Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }
}

async fn receive(mut reader: OwnedReadHalf, count: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(bytes @ 1..) = reader.read(&mut buffer).await {
        count.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Sends messages in a session beside a flood that is counted, each once the one before came back.
async fn at_most(most: usize, bytes: usize, count: &AtomicUsize, node: &Node) {
    let mut session = node.subscribe("bystander").await;
    let has_begun = || async { (count.load(Ordering::Relaxed) > 1 << 20).then_some(()) };
    eventually("the flood", has_begun).await;
    let before = count.load(Ordering::Relaxed);
    for number in 1..=MESSAGES {
        session.send_text(&number.to_string()).await;
        assert_eq!(session.text().await, number.to_string());
        let taken = (count.load(Ordering::Relaxed) - before) / bytes;
        let limit = most * MESSAGES;
        assert!(taken <= limit, "{taken} beside {number} messages, {most} for each are enough");
    }
}

const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_floods_leaves_others_their_turn() {
    let world = World::new().start().await;
    let node = world.node(0);
    for (opcode, payload) in
        [(PONG, &[b'p'; 125][..]), (PING, &[b'p'; 125]), (PONG, b""), (PING, b"")]
    {
        let session = node.subscribe("flood").await;
        let frame = masked_frame(true, opcode, payload);
        let flood = Flood::of(session.into_stream(), frame.repeat(10_000));
        flood.sends_at_most(60_000, frame.len(), node).await;
    }
    node.is_left_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_many_commands_leaves_others_their_turn() {
    let world = World::new().start().await;
    let node = world.node(0);
    let subscribe = "{\"op\":\"subscribe\",\"topic\":\"flood\"}\n";
    let unsubscribe = "{\"op\":\"unsubscribe\",\"topic\":\"flood\"}\n";
    let both = format!("{subscribe}{unsubscribe}");
    // With the length of a reply, framing included, on average.
    for (commands, reply) in [(both.as_str(), 37), ("{\"op\":\"ping\"}\n", 15)] {
        let session = node.json().await;
        let text = commands.repeat((1 << 20) / commands.len());
        let flood = Flood::of(session.into_stream(), masked_frame(true, TEXT, text.as_bytes()));
        flood.receives_at_most(8192, reply, node).await;
    }
    node.is_left_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_a_row_leave_others_their_turn() {
    let world = World::new().start().await;
    let node = world.node(0);
    let client = node.client().await;
    let requests = request("GET", "/nothing", &[], b"").repeat(1000);
    let flood = Flood::of(client.into_stream(), requests);
    // An answer is about 250 bytes long.
    flood.receives_at_most(500, 250, node).await;
    drop(flood);
    node.is_left_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_http2_that_floods_leaves_others_their_turn() {
    let world = World::new().start().await;
    let node = world.node(0);
    let client = RawHttp2::open(node.http()).await;
    let ping = RawFrame::bytes(RawFrame::PING, 0, 0, b"12345678");
    let flood = Flood::of(client.into_stream(), ping.repeat(1000));
    flood.receives_at_most(60_000, ping.len(), node).await;
    drop(flood);
    node.is_left_empty().await;
}
