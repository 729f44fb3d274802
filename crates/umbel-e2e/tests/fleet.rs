//! Several nodes on one Redis server under load: order, completeness, interest, bounds.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use umbel_e2e::{DEADLINE, Node, Redis, RedisClient, SseClient, WebSocketClient, World};

const TOPICS: usize = 20;
const SESSIONS: usize = 200;
const NODES: usize = 3;

/// Who publishes: each numbers its own messages per topic.
const SOURCES: [&str; 3] = ["redis", "post", "session"];

/// How many messages of each topic and source are published before all sessions have them.
const BURST: u64 = 20;

fn topic(index: usize) -> String {
    format!("fleet.{index}")
}

fn all_topics() -> String {
    (0..TOPICS).map(topic).collect::<Vec<_>>().join(",")
}

/// What one session has seen of one topic.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
struct Seen {
    /// The next number of each source.
    next: [u64; SOURCES.len()],
    /// Depends on the order of all that came.
    order: u64,
}

/// Checks one session's messages.
struct Checker {
    topics: Vec<Seen>,
    left: u64,
    unreported: u64,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    received: AtomicU64,
    advanced: Notify,
}

impl Progress {
    async fn reaches(&self, count: u64) {
        while self.received.load(Ordering::Relaxed) < count {
            let advanced = tokio::time::timeout(DEADLINE, self.advanced.notified()).await;
            let received = self.received.load(Ordering::Relaxed);
            assert!(advanced.is_ok(), "{received} of {count} deliveries, then nothing");
        }
    }
}

impl Checker {
    fn new(messages: u64, progress: &Arc<Progress>) -> Self {
        let left = messages * (TOPICS * SOURCES.len()) as u64;
        let topics = vec![Seen::default(); TOPICS];
        Self { topics, left, unreported: 0, progress: progress.clone() }
    }

    /// Takes `<topic index>:<source index>:<number>:…`; true once everything has come.
    fn take(&mut self, text: &str) -> bool {
        let mut parts = text.split(':').map(str::parse::<u64>);
        let mut part = || parts.next().unwrap().unwrap();
        let (topic, source, number) = (part(), part(), part());
        let seen = &mut self.topics[usize::try_from(topic).unwrap()];
        let next = &mut seen.next[usize::try_from(source).unwrap()];
        assert_eq!(number, *next, "topic {topic}, source {source}");
        *next += 1;
        seen.order = (seen.order.rotate_left(7) ^ (number << 2 | source)).wrapping_mul(0x9e37_79b9);
        self.left -= 1;
        self.unreported += 1;
        if self.unreported == BURST || self.left == 0 {
            let count = std::mem::take(&mut self.unreported);
            self.progress.received.fetch_add(count, Ordering::Relaxed);
            self.progress.advanced.notify_one();
        }
        self.left == 0
    }
}

async fn read_plain(mut client: WebSocketClient, mut checker: Checker) -> Vec<Seen> {
    while !checker.take(&client.text().await) {}
    checker.topics
}

async fn read_json(mut client: WebSocketClient, mut checker: Checker) -> Vec<Seen> {
    loop {
        let message = client.json().await;
        assert_eq!(message["op"], "message", "{message}");
        if checker.take(message["text"].as_str().unwrap()) {
            return checker.topics;
        }
    }
}

async fn read_sse(mut client: SseClient, mut checker: Checker) -> Vec<Seen> {
    while !checker.take(&client.data().await) {}
    checker.topics
}

/// Three nodes, sessions of every dialect on all of 20 topics, messages from Redis, by POST and
/// from sessions at once.
async fn fleet(messages: u64) {
    let redis = Redis::start(&[]).await;
    let world = World::new()
        .nodes(NODES)
        .broker(&redis.url())
        .settings("[limits]\npublishes_per_second = 0\n")
        .start()
        .await;
    let progress = Arc::new(Progress::default());
    let mut sessions = JoinSet::new();
    for index in 0..SESSIONS {
        let node = world.node(index % NODES);
        let checker = Checker::new(messages, &progress);
        let path = all_topics();
        match index % 4 {
            0 => {
                drop(sessions.spawn(read_sse(node.sse(&format!("/topics/{path}")).await, checker)))
            }
            1 => {
                let mut session = node.json().await;
                for index in 0..TOPICS {
                    session.hold(&topic(index)).await;
                }
                sessions.spawn(read_json(session, checker));
            }
            _ => drop(sessions.spawn(read_plain(node.subscribe(&path).await, checker))),
        }
    }
    publish_all(&world, &redis, messages, &progress).await;
    let mut orders = Vec::new();
    while let Some(ended) = sessions.join_next().await {
        orders.push(ended.unwrap());
    }
    assert_eq!(orders.len(), SESSIONS);
    assert!(orders.iter().all(|order| *order == orders[0]), "all sessions saw one order");
    let total = (SESSIONS * TOPICS * SOURCES.len()) as u64 * messages;
    assert_eq!(progress.received.load(Ordering::Relaxed), total);
    for index in 0..NODES {
        world.node(index).metric_becomes("umbel_broker_gaps_total", 0.0).await;
    }
}

fn text(topic: usize, source: usize, number: u64) -> String {
    format!("{topic}:{source}:{number}:{}", ".".repeat(100))
}

async fn publish_all(world: &World, redis: &Redis, messages: u64, progress: &Progress) {
    let mut raw = redis.client().await;
    let mut http = world.node(1).client().await;
    let mut session = world.node(2).json().await;
    for start in (0..messages).step_by(BURST.try_into().unwrap()) {
        let numbers = start..start + BURST;
        let by_redis = publish_raw(&mut raw, numbers.clone());
        let by_post = async {
            for index in 0..TOPICS {
                let line = |number| json!({"topic": topic(index), "text": text(index, 1, number)});
                let lines = numbers.clone().map(|number| format!("{}\n", line(number)));
                let body = lines.collect::<String>();
                let answer = http.post("/publish", "application/x-ndjson", body.as_bytes()).await;
                assert_eq!(answer.status, 200);
                assert!(!answer.text().contains("error"), "{}", answer.text());
            }
        };
        let by_session = async {
            for index in 0..TOPICS {
                let command = |number| {
                    json!({"op": "publish", "topic": topic(index), "text": text(index, 2, number)})
                        .to_string()
                };
                let commands: Vec<_> = numbers.clone().map(command).collect();
                session.send_text(&commands.join("\n")).await;
                for _ in numbers.clone() {
                    assert_eq!(session.json().await["op"], "published");
                }
            }
        };
        tokio::join!(by_redis, by_post, by_session);
        progress.reaches((SESSIONS * TOPICS * SOURCES.len()) as u64 * (start + BURST)).await;
    }
}

async fn publish_raw(raw: &mut RedisClient, numbers: std::ops::Range<u64>) {
    let mut commands = Vec::new();
    for index in 0..TOPICS {
        for number in numbers.clone() {
            let channel = format!("umbel:{}", topic(index));
            let words = ["PUBLISH", &channel, &text(index, 0, number)];
            commands.push(words.map(|word| word.as_bytes().to_vec()).to_vec());
        }
    }
    raw.pipeline(&commands).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sessions_of_all_nodes_see_everything_in_one_order() {
    fleet(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten million deliveries take minutes: make test-long"]
async fn ten_million_deliveries_over_three_nodes_arrive_once_and_in_one_order() {
    fleet(840).await;
}

/// How many topics there are to churn.
const NAMES: usize = 1000;

/// What a session knows of the numbers of a topic that it holds.
enum Last {
    /// The last that came.
    Came(u64),
    /// None came yet; the last that was sent when the topic was subscribed.
    Sent(u64),
}

/// Sessions that take topics up and leave them as fast as they can, on a node of four workers; a
/// publisher numbers messages per topic. Between `subscribed` and `unsubscribed` no number may be
/// missing, and in the end Redis has exactly the topics that are held.
async fn churn(sessions: usize, seconds: u64, linger: &str) {
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..NAMES).map(|_| AtomicU64::new(0)).collect());
    let redis = Redis::start(&[]).await;
    let world = World::new()
        .workers(4)
        .broker(&redis.url())
        .environment("UMBEL_BROKER__LINGER_SECONDS", linger)
        .start()
        .await;
    let node = world.node(0);
    let stop = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..sessions {
        tasks.spawn(churner(node.json().await, sent.clone(), stop.clone(), changes.clone()));
    }
    let publisher = async {
        let mut raw = redis.client().await;
        for _ in 0..seconds * 50 {
            let commands: Vec<_> = (0..20)
                .map(|_| {
                    let name = fastrand::usize(..NAMES);
                    let number = sent[name].fetch_add(1, Ordering::SeqCst) + 1;
                    let words = ["PUBLISH", &format!("umbel:n{name}"), &number.to_string()];
                    words.map(|word| word.as_bytes().to_vec()).to_vec()
                })
                .collect();
            raw.pipeline(&commands).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    publisher.await;
    stop.store(true, Ordering::Relaxed);
    let mut held = HashSet::new();
    let mut open = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (client, topics) = ended.unwrap();
        open.push(client);
        for name in topics {
            held.insert(format!("umbel:n{name}"));
        }
    }
    println!("{} changes in {seconds} s", changes.load(Ordering::Relaxed));
    for word in ["subscribe", "unsubscribe"] {
        let stat = redis.command(&["INFO", "commandstats"]).await;
        println!(
            "{}",
            stat.lines().find(|l| l.contains(&format!("cmdstat_{word}:"))).unwrap_or("")
        );
    }
    let mut expected: Vec<_> = held.into_iter().collect();
    expected.sort();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    redis.channels_become(&expected).await;
    drop(open);
    redis.channels_become(&[]).await;
}

/// Subscribes and unsubscribes at random, many commands at a time; gives its session back with
/// what it holds in the end.
async fn churner(
    mut client: WebSocketClient,
    sent: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
) -> (WebSocketClient, Vec<usize>) {
    // Per held topic the last number that came, or that was sent when it was subscribed.
    let mut held: HashMap<usize, Last> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let mut commands = Vec::new();
        let mut asked = HashSet::new();
        for _ in 0..20 {
            let name = fastrand::usize(..NAMES);
            if !asked.insert(name) {
                continue;
            }
            let op = if held.contains_key(&name) { "unsubscribe" } else { "subscribe" };
            commands.push(json!({"op": op, "topic": format!("n{name}")}).to_string());
        }
        client.send_text(&commands.join("\n")).await;
        let mut left = commands.len();
        while left > 0 {
            let reply = client.json().await;
            let name: usize = reply["topic"].as_str().unwrap()[1..].parse().unwrap();
            match reply["op"].as_str().unwrap() {
                "subscribed" => {
                    held.insert(name, Last::Sent(sent[name].load(Ordering::SeqCst)));
                }
                "unsubscribed" => {
                    held.remove(&name);
                }
                "message" => {
                    let number: u64 = reply["text"].as_str().unwrap().parse().unwrap();
                    let last = held.get_mut(&name).expect("no message of a topic not held");
                    match *last {
                        Last::Came(last) => assert_eq!(number, last + 1, "topic {name}"),
                        // What was on its way when it was subscribed may come or not.
                        Last::Sent(sent) => assert!(number <= sent + 1, "topic {name}"),
                    }
                    *last = Last::Came(number);
                    continue;
                }
                other => panic!("{other}: {reply}"),
            }
            left -= 1;
            changes.fetch_add(1, Ordering::Relaxed);
        }
    }
    (client, held.into_keys().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_neither_loses_nor_leaks_a_subscription() {
    churn(20, 1, "2").await;
    churn(1, 2, "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute of churn: make test-long"]
async fn a_minute_of_churn_neither_loses_nor_leaks_a_subscription() {
    churn(200, 20, "2").await;
    churn(1, 20, "0").await;
    churn(20, 20, "0").await;
}

/// A worker that stands still while its node is fed: what waits for it stays bounded, and what
/// Redis had to drop is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "stops a thread by strace for ten seconds: make test-long"]
async fn a_worker_that_stands_still_keeps_what_waits_bounded() {
    let redis = Redis::start(&["--client-output-buffer-limit", "pubsub 4mb 2mb 2"]).await;
    let settings = "[limits]\nbehind_bytes = 100000000\n";
    let world = World::new().workers(2).settings(settings).broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut sessions = JoinSet::new();
    for _ in 0..20 {
        let mut client = node.json().await;
        client.hold("load").await;
        sessions.spawn(gaps_until_the_end(client));
    }
    let mut stopped = stop_worker(node, "worker-0");
    let payload = vec![b'x'; 4096];
    let mut raw = redis.client().await;
    let mut most = 0.0_f64;
    // 10 s of 8 MB/s.
    for _ in 0..100 {
        let command = [&b"PUBLISH"[..], b"umbel:load", &payload].map(<[u8]>::to_vec).to_vec();
        raw.pipeline(&vec![command; 200]).await;
        most = most.max(node.metrics().await.value("umbel_held_bytes{by=\"mailbox\"}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stopped.join_next().await.unwrap().unwrap();
    node.metric_exceeds("umbel_broker_intake_pauses_total", 0.0).await;
    node.metric_exceeds("umbel_broker_gaps_total", 0.0).await;
    println!("at most {most} bytes waited in mailboxes");
    assert!(most < 2.0 * f64::from(10 << 20), "{most} bytes waited");
    node.wait_until_ready().await;
    node.publish("load", "end").await;
    while let Some(gaps) = sessions.join_next().await {
        assert!(gaps.unwrap() > 0, "the loss was told");
    }
}

/// Reads until the message `end` and counts the gaps before it.
async fn gaps_until_the_end(mut client: WebSocketClient) -> u64 {
    let mut gaps = 0;
    loop {
        let message = client.json().await;
        match message["op"].as_str().unwrap() {
            "gap" => gaps += 1,
            _ if message["text"] == "end" => return gaps,
            _ => {}
        }
    }
}

/// Holds one thread of a node for ten seconds at its next wait for events.
fn stop_worker(node: &Node, name: &str) -> JoinSet<()> {
    let tasks = format!("/proc/{}/task", node.pid());
    let thread = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| task.unwrap())
        .find(|task| std::fs::read_to_string(task.path().join("comm")).unwrap().trim() == name);
    let thread = thread.unwrap().file_name().into_string().unwrap();
    let mut stopped = JoinSet::new();
    stopped.spawn(async move {
        let status = tokio::process::Command::new("timeout")
            .args(["12", "strace", "-qq", "-p", &thread, "-e", "trace=epoll_wait"])
            .args(["-e", "inject=epoll_wait:delay_enter=10000000:when=1", "-o", "/dev/null"])
            .status()
            .await
            .expect("strace is installed (Debian: apt-get install strace)");
        assert_eq!(status.code(), Some(124), "strace could not attach");
    });
    stopped
}
