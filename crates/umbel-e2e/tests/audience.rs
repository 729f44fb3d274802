//! A large audience: every healthy session gets everything once and in order, beside slow
//! consumers of each policy.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use umbel_e2e::{DEADLINE, Node, SseClient, WebSocketClient, World};

const RULES: &str = "[limits]\nbehind_bytes = 200000\n\
    [[topics]]\nmatch = \"cut.*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"disconnect\"\n\
    [[topics]]\nmatch = \"drop.*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"drop\"\n\
    [[topics]]\nmatch = \"value.*\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"latest\"\n";

const TOPICS: usize = 20;
const SESSIONS: usize = 200;

/// How many messages of each topic are published between two looks at whether all have come, so
/// that healthy sessions stay healthy on a slow machine too.
const BURST: u64 = 25;

fn topic(index: usize) -> String {
    let policy = ["cut", "drop", "value"][index % 3];
    format!("{policy}.{index}")
}

fn all_topics() -> Vec<String> {
    (0..TOPICS).map(topic).collect()
}

/// Counts what all sessions together have received.
#[derive(Default)]
struct Progress {
    received: AtomicU64,
    advanced: Notify,
}

impl Progress {
    fn add(&self, count: u64) {
        self.received.fetch_add(count, Ordering::Relaxed);
        self.advanced.notify_one();
    }

    async fn reaches(&self, count: u64) {
        while self.received.load(Ordering::Relaxed) < count {
            let advanced = tokio::time::timeout(DEADLINE, self.advanced.notified()).await;
            assert!(
                advanced.is_ok(),
                "{} of {count} deliveries, then nothing",
                self.received.load(Ordering::Relaxed)
            );
        }
    }
}

/// Checks the order of one session's messages.
struct Sequence {
    next: [u64; TOPICS],
    unreported: u64,
    progress: Arc<Progress>,
}

impl Sequence {
    fn new(progress: &Arc<Progress>) -> Self {
        Self { next: [0; TOPICS], unreported: 0, progress: progress.clone() }
    }

    /// Takes `<topic index>:<number>…`; true once everything has come.
    fn take(&mut self, text: &str, messages: u64) -> bool {
        let mut parts = text.split(':');
        let topic: usize = parts.next().unwrap().parse().unwrap();
        let number: u64 = parts.next().unwrap().parse().unwrap();
        assert_eq!(number, self.next[topic], "topic {topic} is out of order");
        self.next[topic] += 1;
        self.unreported += 1;
        let done = self.next.iter().all(|next| *next == messages);
        if self.unreported == BURST || done {
            self.progress.add(std::mem::take(&mut self.unreported));
        }
        done
    }
}

async fn read_plain(mut client: WebSocketClient, mut sequence: Sequence, messages: u64) {
    while !sequence.take(&client.text().await, messages) {}
}

async fn read_json(mut client: WebSocketClient, mut sequence: Sequence, messages: u64) {
    loop {
        let message = client.json().await;
        assert_eq!(message["op"], "message", "{message}");
        if sequence.take(message["text"].as_str().unwrap(), messages) {
            return;
        }
    }
}

async fn read_sse(mut client: SseClient, mut sequence: Sequence, messages: u64) {
    while !sequence.take(&client.data().await, messages) {}
}

/// Sessions that never read, on every policy. Kept open until the end.
async fn stall(node: &Node) -> Vec<WebSocketClient> {
    let mut stalled = Vec::new();
    for index in 0..6 {
        stalled.push(node.subscribe_without_reading(&topic(index)).await);
    }
    let mut all = node.json().await;
    let topics: Vec<_> = all_topics().iter().map(|topic| json!({ "topic": topic })).collect();
    all.send_text(&json!({"op": "subscribe", "topics": topics}).to_string()).await;
    stalled.push(all);
    stalled
}

async fn audience(workers: usize, messages: u64) {
    let world = World::new().workers(workers).settings(RULES).start().await;
    let node = world.node(0);
    let stalled = stall(node).await;
    let progress = Arc::new(Progress::default());
    let mut sessions = JoinSet::new();
    let path = all_topics().join(",");
    for index in 0..SESSIONS {
        let sequence = Sequence::new(&progress);
        match index % 4 {
            0 => drop(sessions.spawn(read_sse(
                node.sse(&format!("/topics/{path}")).await,
                sequence,
                messages,
            ))),
            1 => {
                let mut session = node.json().await;
                for topic in all_topics() {
                    session.hold(&topic).await;
                }
                sessions.spawn(read_json(session, sequence, messages));
            }
            _ => drop(sessions.spawn(read_plain(node.subscribe(&path).await, sequence, messages))),
        }
    }
    publish_all(node, messages, &progress).await;
    while let Some(ended) = sessions.join_next().await {
        ended.unwrap();
    }
    let total = (SESSIONS * TOPICS) as u64 * messages;
    assert_eq!(progress.received.load(Ordering::Relaxed), total);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let total = total as f64;
    node.metric_exceeds("umbel_deliveries_total", total - 1.0).await;
    if messages >= 500 {
        for policy in ["disconnect", "drop", "latest"] {
            let series = format!("umbel_slow_consumers_total{{policy=\"{policy}\"}}");
            node.metric_exceeds(&series, 0.0).await;
        }
    }
    drop(stalled);
    node.metric_becomes("umbel_log_bytes", 0.0).await;
}

/// Publishes in bursts, each to all topics, some in one body, some one by one.
async fn publish_all(node: &Node, messages: u64, progress: &Progress) {
    let mut publisher = node.client().await;
    let padding = ".".repeat(100);
    for start in (0..messages).step_by(BURST.try_into().unwrap()) {
        for index in 0..TOPICS {
            let line = |number: u64| {
                format!(
                    "{{\"topic\":\"{}\",\"text\":\"{index}:{number}:{padding}\"}}\n",
                    topic(index)
                )
            };
            let body = (start..start + BURST).map(line).collect::<Vec<_>>().concat();
            let answer = publisher.post("/publish", "application/x-ndjson", body.as_bytes()).await;
            assert_eq!(answer.status, 200);
        }
        progress.reaches((SESSIONS * TOPICS) as u64 * (start + BURST)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_gets_everything_in_order_beside_slow_ones() {
    audience(2, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten million deliveries take a minute or more: make test-long"]
async fn ten_million_deliveries_arrive_once_and_in_order() {
    audience(1, 2500).await;
}
