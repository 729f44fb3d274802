//! Topics with history when Redis fails, in every way that it does: nothing is lost or doubled
//! within what history holds, and what it can't give is told.
//!
//! Each case has publishers that keep a record of what they were told was published, and watchers
//! that come back by themselves and check every message's place.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use umbel_e2e::{Fault, Node, Proxy, Publisher, Record, Redis, Watcher, Way, World, eventually};

const SETTINGS: &str = "\
[broker]
check_seconds = 1

[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 10000, seconds = 300 }
";

/// A node behind a line to a Redis, two watchers of a topic, and what is published to it.
struct Bed {
    world: World,
    proxy: Proxy,
    redis: Redis,
    watchers: Vec<Watcher>,
    record: Arc<Record>,
}

const TOPIC: &str = "feed.1";

impl Bed {
    async fn new(redis: Redis, nodes: usize) -> Self {
        let proxy = Proxy::before(redis.port()).await;
        let broker = format!("redis://{}", proxy.address());
        let world = World::new().nodes(nodes).settings(SETTINGS).broker(&broker).start().await;
        let mut watchers = Vec::new();
        for (number, way) in (0..nodes).flat_map(|node| [(node, Way::Sse), (node, Way::Json)]) {
            watchers.push(Watcher::start(&[world.node(number).http()], TOPIC, way).await);
        }
        Self { world, proxy, redis, watchers, record: Arc::default() }
    }

    fn node(&self) -> &Node {
        self.world.node(0)
    }

    fn publisher(&self, name: &str, per_second: u32) -> Publisher {
        let records = vec![self.record.clone()];
        Publisher::start(self.node().http(), &[TOPIC], name, per_second, records)
    }

    /// Publishes a last message and checks that everyone has it and all before it.
    async fn end(&self) {
        for number in 0..self.world_nodes() {
            self.world.node(number).wait_until_ready().await;
        }
        // The node may be about to find out that its link is gone: a key makes trying again harmless.
        let headers = [("content-type", "text/plain"), ("idempotency-key", "end")];
        let id = eventually("the end to be published", || async {
            let mut client = self.node().client().await;
            let answer = client.request("POST", "/topics/feed.1", &headers, b"end").await;
            (answer.status == 200).then(|| answer.json()["id"].as_str().unwrap().to_owned())
        });
        self.record.add(&id.await, "end");
        for watcher in &self.watchers {
            watcher.has("end").await;
            let got = watcher.check(&self.record);
            assert!(got > 1, "it got more than the end");
        }
    }

    fn world_nodes(&self) -> usize {
        self.watchers.len() / 2
    }

    /// The reasons of the gaps that were told, the same for every watcher. Where a server went back,
    /// a node may tell it once more when it hears of the new epoch.
    fn gaps(&self) -> Vec<String> {
        let gaps_of = |watcher: &Watcher| {
            let mut gaps = watcher.gaps();
            gaps.dedup_by(|next, last| next == last && next == "rewound");
            gaps
        };
        let gaps = gaps_of(&self.watchers[0]);
        for watcher in &self.watchers {
            assert_eq!(gaps_of(watcher), gaps);
        }
        gaps
    }
}

const NO_GAPS: [&str; 0] = [];

/// Publishes as a program does that speaks to Redis only. Returns the message's id.
async fn publish_directly(redis: &mut umbel_e2e::RedisClient, text: &str) -> String {
    let command = ["FCALL", "umbel_publish", "1", "umbel:feed.1", text, "messages", "10000"];
    redis.command(&command).await.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_cut_link_costs_nothing() {
    let bed = Bed::new(Redis::start(&[]).await, 2).await;
    let publisher = bed.publisher("a", 1000);
    for _ in 0..6 {
        sleep(Duration::from_millis(300)).await;
        bed.proxy.cut_once().await;
        bed.node().wait_until_ready().await;
    }
    publisher.stop().await;
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
    bed.node().metric_becomes("umbel_broker_topics_behind", 0.0).await;
}

/// Whoever publishes to Redis itself goes on while a node's link is down: the node gets it all
/// afterwards.
#[tokio::test]
async fn what_was_published_while_the_link_was_down_comes_when_it_is_back() {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    bed.node().publish(TOPIC, "first").await;
    for watcher in &bed.watchers {
        watcher.has("first").await;
    }
    bed.proxy.set(Fault::Cut);
    bed.node().becomes_unready().await;
    let mut client = bed.redis.client().await;
    for number in 0..500 {
        let text = format!("direct{number}");
        bed.record.add(&publish_directly(&mut client, &text).await, &text);
    }
    bed.proxy.set(Fault::None);
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
    bed.node().metric_becomes("umbel_broker_repaired_total", 500.0).await;
    bed.node().metric_becomes("umbel_broker_topics_behind", 0.0).await;
}

#[tokio::test]
async fn a_line_that_swallows_or_delays_costs_nothing() {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    let publisher = bed.publisher("a", 300);
    for fault in
        [Fault::SwallowRequests, Fault::SwallowAnswers, Fault::Delay(Duration::from_millis(200))]
    {
        bed.proxy.set(fault);
        if matches!(fault, Fault::Delay(_)) {
            sleep(Duration::from_secs(1)).await;
        } else {
            bed.node().becomes_unready().await;
        }
        bed.proxy.set(Fault::None);
        bed.node().wait_until_ready().await;
        sleep(Duration::from_millis(300)).await;
    }
    publisher.stop().await;
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
}

#[tokio::test]
async fn a_server_that_stands_still_costs_nothing() {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    let publisher = bed.publisher("a", 300);
    sleep(Duration::from_millis(300)).await;
    bed.redis.signal("STOP");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bed.node().readiness().await.0, 503);
    bed.redis.signal("CONT");
    bed.node().wait_until_ready().await;
    sleep(Duration::from_millis(300)).await;
    publisher.stop().await;
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
}

#[tokio::test]
async fn a_server_that_ends_with_all_its_data_begins_anew_and_says_so() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut bed = Bed::new(Redis::start(&durable).await, 1).await;
    let publisher = bed.publisher("a", 300);
    sleep(Duration::from_millis(500)).await;
    bed.redis.kill();
    bed.node().becomes_unready().await;
    bed.redis.start_again().await;
    bed.node().wait_until_ready().await;
    sleep(Duration::from_millis(300)).await;
    publisher.stop().await;
    bed.end().await;
    // Nobody knows whether it had more before it ended.
    assert_eq!(bed.gaps(), ["rewound"]);
    let got = bed.watchers[0].check(&bed.record);
    assert!(got >= bed.record.len(), "it hadn't: {got} of {} came", bed.record.len());
}

#[tokio::test]
async fn a_server_that_ends_without_its_data_is_told() {
    let mut bed = Bed::new(Redis::start(&[]).await, 1).await;
    let publisher = bed.publisher("a", 300);
    sleep(Duration::from_millis(500)).await;
    bed.redis.kill();
    bed.node().becomes_unready().await;
    bed.redis.start_again().await;
    bed.node().wait_until_ready().await;
    sleep(Duration::from_millis(300)).await;
    publisher.stop().await;
    bed.end().await;
    assert_eq!(bed.gaps(), ["unknown_epoch"]);
    // A client that was away meanwhile is told, too.
    let mut late = bed.node().json().await;
    let before = bed.watchers[0].seen();
    let umbel_e2e::Seen::Message(first, _) = &before[0] else {
        panic!("{:?}", before[0]);
    };
    let subscribe = json!({"op": "subscribe", "topic": TOPIC, "after": first.to_string()});
    assert_eq!(late.command(&subscribe).await["recovered"], false);
    assert_eq!(late.json().await["reason"], "unknown_epoch");
}

/// Even of a topic that had no message yet: its place says which server it is of.
#[tokio::test]
async fn what_a_fresh_topic_lost_is_told() {
    let mut bed = Bed::new(Redis::start(&[]).await, 1).await;
    let mut memory = World::new().settings(SETTINGS).start().await;
    let mut ids = Vec::new();
    for node in [bed.node(), memory.node(0)] {
        let stream = node.sse("/topics/fresh").await;
        ids.push(stream.last_event_id().to_owned());
        drop(stream);
        node.publish("fresh", "lost").await;
    }
    bed.redis.kill();
    bed.node().becomes_unready().await;
    bed.redis.start_again().await;
    bed.node().wait_until_ready().await;
    memory.node_mut(0).restart().await;
    for (node, id) in [bed.node(), memory.node(0)].into_iter().zip(&ids) {
        let headers = [("last-event-id", id.as_str())];
        let mut back =
            umbel_e2e::SseClient::open_with(node.http(), "/topics/fresh", &headers).await;
        assert_eq!(back.gap("fresh").await, "unknown_epoch");
        node.publish("fresh", "next").await;
        assert_eq!(back.data().await, "next");
    }
}

/// The file is a second old: the ids that were given since are given again, for other messages.
#[tokio::test]
async fn a_server_that_comes_back_from_an_old_file_is_told() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let mut bed = Bed::new(Redis::start(&arguments).await, 1).await;
    let publisher = bed.publisher("a", 300);
    sleep(Duration::from_millis(700)).await;
    let directory = bed.redis.directory().join("appendonlydir");
    let kept = bed.redis.directory().join("kept");
    copy(&directory, &kept);
    sleep(Duration::from_secs(1)).await;
    bed.redis.kill();
    bed.node().becomes_unready().await;
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&kept, &directory).unwrap();
    bed.redis.start_again().await;
    bed.node().wait_until_ready().await;
    sleep(Duration::from_millis(500)).await;
    publisher.stop().await;
    bed.end().await;
    let gaps = bed.gaps();
    assert!(gaps.iter().all(|reason| reason == "rewound") && !gaps.is_empty(), "{gaps:?}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A replica that follows a master over a line.
async fn replica_of(master: &Redis) -> (Proxy, Redis) {
    let line = Proxy::before(master.port()).await;
    let port = line.address().port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]).await;
    eventually("the replica's link", || async {
        let said = replica.command(&["INFO", "replication"]).await;
        said.contains("master_link_status:up").then_some(())
    })
    .await;
    (line, replica)
}

/// A replica that lacks the last 500 messages becomes the master.
#[tokio::test]
async fn a_replica_that_lags_and_is_promoted_is_told() {
    let bed = Bed::new(Redis::start(&[]).await, 2).await;
    let (replica_line, replica) = replica_of(&bed.redis).await;
    let publisher = bed.publisher("a", 1000);
    sleep(Duration::from_millis(500)).await;
    replica_line.set(Fault::SwallowAnswers);
    let lag_from = bed.record.len();
    eventually("a lag of 500 messages", || async {
        (bed.record.len() >= lag_from + 500).then_some(())
    })
    .await;
    assert_eq!(replica.command(&["REPLICAOF", "NO", "ONE"]).await, "OK");
    bed.proxy.lead_to(replica.port());
    bed.proxy.cut_once().await;
    for number in 0..2 {
        bed.world.node(number).wait_until_ready().await;
    }
    sleep(Duration::from_millis(500)).await;
    publisher.stop().await;
    bed.end().await;
    // A server's first replica gives it another id, which the empty topic couldn't tell from a loss.
    let gaps = bed.gaps();
    assert!(gaps.contains(&"rewound".to_owned()), "{gaps:?}");
    let got = bed.watchers[0].check(&bed.record);
    assert!(got < bed.record.len() + 600, "{got} of {}", bed.record.len());
}

/// A node that waits for a replica's word, and the lines to the master and between the two.
struct Replicated {
    world: World,
    line: Proxy,
    replica_line: Proxy,
    master: Redis,
    replica: Redis,
}

impl Replicated {
    async fn new() -> Self {
        let master = Redis::start(&[]).await;
        let (replica_line, replica) = replica_of(&master).await;
        let line = Proxy::before(master.port()).await;
        let settings = SETTINGS.replace("[broker]", "[broker]\nwait_replicas = 1");
        let broker = format!("redis://{}", line.address());
        let world = World::new().settings(&settings).broker(&broker).start().await;
        Self { world, line, replica_line, master, replica }
    }
}

/// What was confirmed is on the replica, so that a failover to it loses nothing of it.
#[tokio::test]
async fn what_a_replica_confirmed_outlives_the_master() {
    let Replicated { world, line, replica_line, mut master, replica } = Replicated::new().await;
    let record = Arc::<Record>::default();
    let node = world.node(0);
    let publisher = Publisher::start(node.http(), &[TOPIC], "a", 1000, vec![record.clone()]);
    eventually("300 messages", || async { (record.len() >= 300).then_some(()) }).await;
    // From now on the master gets what the replica doesn't.
    replica_line.set(Fault::SwallowAnswers);
    sleep(Duration::from_millis(300)).await;
    master.kill();
    publisher.stop().await;
    assert_eq!(replica.command(&["REPLICAOF", "NO", "ONE"]).await, "OK");
    line.lead_to(replica.port());
    line.cut_once().await;
    node.wait_until_ready().await;
    let path = "/topics/feed.1?after=0&limit=1000";
    let answer = node.client().await.request("GET", path, &[], b"").await.json();
    let messages = answer["messages"].as_array().unwrap();
    let held: HashMap<_, _> =
        messages.iter().map(|message| (message["message_id"].clone(), &message["text"])).collect();
    for (id, text) in record.texts() {
        assert_eq!(held.get(&json!(id.to_string())), Some(&&json!(text)), "confirmed and lost");
    }
}

/// Without the replica's word nobody knows; a retry with the same key settles it.
#[tokio::test]
async fn what_no_replica_confirmed_is_unknown() {
    let Replicated { world, line, master, replica, .. } = &Replicated::new().await;
    let publish = async |key: &str| {
        let headers = [("content-type", "text/plain"), ("idempotency-key", key)];
        let mut client = world.node(0).client().await;
        client.request("POST", "/topics/feed.1", &headers, key.as_bytes()).await
    };
    assert_eq!(publish("first").await.status, 200);
    replica.signal("STOP");
    let unknown = publish("second").await;
    assert_eq!(unknown.status, 504, "{}", unknown.text());
    assert!(unknown.text().contains("wait_replicas"), "{}", unknown.text());
    // It is published all the same, and to say so again is still for the replica, whichever
    // connection it was written by.
    line.cut_once().await;
    world.node(0).becomes_unready().await;
    world.node(0).wait_until_ready().await;
    assert_eq!(publish("second").await.status, 504);
    // So it is for a client of Redis of its own.
    for connection in ["the first", "another"] {
        let mut client = master.client().await;
        let call = ["FCALL", "umbel_publish", "2", "umbel:feed.1", "{umbel:feed.1}:once:x", "z"];
        let id = client.command(&call).await;
        assert!(id.lines().next().unwrap().ends_with("-3"), "{connection}: {id}");
        assert_eq!(client.command(&["WAIT", "1", "100"]).await, "0", "{connection}");
    }
    replica.signal("CONT");
    let settled = publish("second").await;
    assert_eq!(settled.status, 200, "{}", settled.text());
    assert!(settled.json()["id"].as_str().unwrap().ends_with("-2"), "{}", settled.text());
}

/// `CLIENT KILL` for the connection that carries messages, again and again.
async fn killed_subscribe_connections(rounds: u32) {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    let publisher = bed.publisher("a", 500);
    let mut admin = bed.redis.client().await;
    for _ in 0..rounds {
        sleep(Duration::from_millis(200)).await;
        admin.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    }
    publisher.stop().await;
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
}

#[tokio::test]
async fn killed_subscribe_connections_cost_nothing() {
    killed_subscribe_connections(15).await;
}

#[tokio::test]
#[ignore = "takes half a minute"]
async fn subscribe_connections_killed_for_half_a_minute_cost_nothing() {
    killed_subscribe_connections(150).await;
}

/// A node that stands still is cut by Redis' output limit.
#[tokio::test]
async fn a_node_that_is_cut_for_being_slow_repairs_what_it_missed() {
    let limit = ["--client-output-buffer-limit", "pubsub 256kb 0 0"];
    let bed = Bed::new(Redis::start(&limit).await, 1).await;
    bed.node().publish(TOPIC, "first").await;
    for watcher in &bed.watchers {
        watcher.has("first").await;
    }
    bed.node().signal("STOP");
    let mut client = bed.redis.client().await;
    // More than the buffers of both kernels' sides hold.
    let filler = "x".repeat(20_000);
    for number in 0..1500 {
        let text = format!("{number}{filler}");
        bed.record.add(&publish_directly(&mut client, &text).await, &text);
    }
    let clients = bed.redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
    assert_eq!(clients, "", "it was cut");
    bed.node().signal("CONT");
    // The watchers may be too slow for all of it, and come back.
    bed.node().metric_becomes("umbel_broker_connects_total", 2.0).await;
    bed.end().await;
    assert_eq!(bed.gaps(), NO_GAPS);
}

/// Watchers hop from node to node while messages flow.
async fn hopping(watchers: usize, messages: usize, hops: Duration) -> usize {
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(3).settings(SETTINGS).broker(&redis.url()).start().await;
    let nodes: Vec<_> = (0..3).map(|number| world.node(number).http()).collect();
    let record = Arc::new(Record::default());
    let mut all = Vec::new();
    for number in 0..watchers {
        let mut nodes = nodes.clone();
        nodes.rotate_left(number % 3);
        let way = if number % 2 == 0 { Way::Sse } else { Way::Json };
        all.push(Watcher::start(&nodes, TOPIC, way).await);
    }
    let publishers: Vec<_> = (0..2)
        .map(|at| {
            let name = format!("p{at}-");
            Publisher::start(nodes[at], &[TOPIC], &name, 1000, vec![record.clone()])
        })
        .collect();
    let mut next = 0;
    while record.len() < messages {
        sleep(hops).await;
        all[next % watchers].hop();
        next += 1;
    }
    for publisher in publishers {
        publisher.stop().await;
    }
    let answer = world.node(2).client().await.post("/topics/feed.1", "text/plain", b"end").await;
    record.add(answer.json()["id"].as_str().unwrap(), "end");
    let mut deliveries = 0;
    for watcher in &all {
        watcher.has("end").await;
        deliveries += watcher.check(&record);
        assert_eq!(watcher.gaps(), NO_GAPS);
    }
    let connects: u64 = all.iter().map(Watcher::connects).sum();
    assert!(connects > watchers as u64, "some hopped");
    println!("{deliveries} deliveries, {connects} connects, nothing lost, doubled or reordered");
    deliveries
}

#[tokio::test]
async fn clients_that_hop_between_nodes_lose_nothing() {
    assert!(hopping(12, 4000, Duration::from_millis(10)).await > 12 * 4000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a million deliveries take a minute"]
async fn clients_that_hop_between_nodes_lose_nothing_of_a_million() {
    assert!(hopping(60, 17_000, Duration::from_millis(5)).await >= 1_000_000);
}

/// Publishers at two nodes: the same order for everyone.
#[tokio::test]
async fn two_publishers_at_two_nodes_have_one_order() {
    let bed = Bed::new(Redis::start(&[]).await, 2).await;
    let publishers: Vec<_> = (0..2)
        .map(|at| {
            let node = bed.world.node(at).http();
            let name = format!("p{at}-");
            Publisher::start(node, &[TOPIC], &name, 500, vec![bed.record.clone()])
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    for publisher in publishers {
        publisher.stop().await;
    }
    bed.end().await;
    let order = bed.watchers[0].seen();
    assert!(order.len() > 1000, "{}", order.len());
    for watcher in &bed.watchers {
        assert_eq!(watcher.seen(), order);
    }
    // And each publisher's own are in its order.
    for name in ["p0-", "p1-"] {
        let own = order.iter().filter_map(|seen| match seen {
            umbel_e2e::Seen::Message(_, text) => text.strip_prefix(name)?.parse::<u64>().ok(),
            umbel_e2e::Seen::Gap(..) => None,
        });
        assert!(own.is_sorted(), "{name}");
    }
}

/// A retry with the same key, whoever takes it and whatever became of the first answer.
#[tokio::test]
async fn a_key_makes_a_retry_harmless_by_another_node_and_a_broken_line() {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    let other = World::new().settings(SETTINGS).broker(&bed.redis.url()).start().await;
    let headers = [("content-type", "text/plain"), ("idempotency-key", "order 17")];
    let publish = async |node: &Node, text: &str| {
        let mut client = node.client().await;
        client.request("POST", "/topics/feed.1", &headers, text.as_bytes()).await
    };
    // Redis gets it and its answer vanishes; the node asks again when the line is back.
    bed.proxy.set(Fault::SwallowAnswers);
    let (first, retried) = tokio::join!(publish(bed.node(), "once"), async {
        eventually("the message in Redis", || async {
            (bed.redis.command(&["XLEN", "umbel:feed.1"]).await == "1").then_some(())
        })
        .await;
        let retried = publish(other.node(0), "once").await;
        bed.node().becomes_unready().await;
        bed.proxy.set(Fault::None);
        retried
    });
    assert_eq!((first.status, retried.status), (200, 200), "{}", first.text());
    assert_eq!(first.json()["id"], retried.json()["id"]);
    bed.node().metric_exceeds("umbel_broker_publish_retries_total", 0.0).await;
    bed.node().wait_until_ready().await;
    assert_eq!(publish(bed.node(), "another").await.status, 422);
    bed.record.add(first.json()["id"].as_str().unwrap(), "once");
    bed.end().await;
    assert_eq!(bed.watchers[0].seen().len(), 2);
    assert_eq!(bed.gaps(), NO_GAPS);
}

/// Many come back at once, to a node that has nothing of the topic yet.
#[tokio::test]
async fn a_storm_of_returns_costs_redis_one_read_per_topic_and_node() {
    const SESSIONS: usize = 200;
    const MISSED: u64 = 100;
    let redis = Redis::start(&[]).await;
    let mut client = redis.client().await;
    let mut ids = Vec::new();
    let world = World::new().workers(2).nodes(2).settings(SETTINGS).broker(&redis.url());
    let world = world.start().await;
    for number in 0..MISSED + 5 {
        ids.push(publish_directly(&mut client, &number.to_string()).await);
    }
    assert_eq!(client.command(&["CONFIG", "RESETSTAT"]).await, "OK");
    let mut returns = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let http = world.node(number % 2).http();
        // Not all of them were cut at the same place.
        let (place, ids) = (number % 5, ids.clone());
        returns.spawn(async move {
            let headers = [("last-event-id", ids[place].as_str())];
            let mut stream =
                umbel_e2e::SseClient::open_with(http, "/topics/feed.1", &headers).await;
            for id in &ids[place + 1..] {
                assert_eq!(stream.event().await.id, *id);
            }
            stream
        });
    }
    let streams = returns.join_all().await;
    assert_eq!(streams.len(), SESSIONS);
    let mut follows = 0.0;
    for number in 0..2 {
        let metrics = world.node(number).metrics().await;
        let reads = |kind| metrics.value(&format!("umbel_broker_reads_total{{kind=\"{kind}\"}}"));
        assert_eq!((reads("whole"), reads("page")), (1.0, 0.0), "of node {number}");
        follows += reads("follow") + reads("compare");
    }
    let stats = client.command(&["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls="));
    let calls: f64 = calls.unwrap().split(',').next().unwrap().parse().unwrap();
    // To see where the topic stands at first, and once a second.
    assert!(calls <= follows + 2.0 && follows < 60.0, "{calls} calls, {follows} to follow");
}

/// What they missed is far more than the node keeps, so it is read in pages, which they share.
#[tokio::test]
async fn a_storm_of_returns_from_far_behind_is_served_by_pages() {
    const SESSIONS: usize = 60;
    const MESSAGES: usize = 1500;
    let redis = Redis::start(&[]).await;
    let settings = SETTINGS.replace("[broker]", "[broker]\nhistory_mib = 1");
    let world = World::new().settings(&settings).broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut client = redis.client().await;
    let filler = "x".repeat(2000);
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        ids.push(publish_directly(&mut client, &format!("{number}{filler}")).await);
    }
    let mut returns = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let (http, ids) = (node.http(), ids.clone());
        returns.spawn(async move {
            let (first, rest) = ids[number % 7..].split_first().unwrap();
            let mut got = Vec::new();
            if number % 2 == 0 {
                let headers = [("last-event-id", first.as_str())];
                let mut stream =
                    umbel_e2e::SseClient::open_with(http, "/topics/feed.1", &headers).await;
                while got.len() < rest.len() {
                    got.push(stream.event().await.id);
                }
            } else {
                let mut session = umbel_e2e::WebSocketClient::open(http, "/ws").await;
                session.json().await;
                let subscribe = json!({"op": "subscribe", "topic": TOPIC, "after": first});
                assert_eq!(session.command(&subscribe).await["recovered"], true);
                while got.len() < rest.len() {
                    let message = session.json().await;
                    got.push(message["message_id"].as_str().unwrap().to_owned());
                }
            }
            assert_eq!(got, rest, "of session {number}");
        });
    }
    returns.join_all().await;
    let metrics = node.metrics().await;
    let reads = metrics.value("umbel_broker_reads_total{kind=\"page\"}");
    // Some 3 MB in pages of 64 KiB, each read a few times: not once for each session.
    assert!((40.0..600.0).contains(&reads), "{reads}");
    assert!(metrics.value("umbel_history_bytes") <= f64::from(1 << 20));
}

/// The history is trimmed while a client reads it: what it can't be given is told.
#[tokio::test]
async fn what_is_trimmed_while_a_client_resumes_is_told() {
    let settings = "\
[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 50, seconds = 300 }
";
    let redis = Redis::start(&[]).await;
    let world = World::new().settings(settings).broker(&redis.url()).start().await;
    let node = world.node(0);
    let record = Arc::new(Record::default());
    let away = Watcher::start(&[node.http()], TOPIC, Way::Json).await;
    let stays = Watcher::start(&[node.http()], TOPIC, Way::Sse).await;
    let publisher = Publisher::start(node.http(), &[TOPIC], "a", 2000, vec![record.clone()]);
    let mut hops = 0;
    while record.len() < 6000 {
        sleep(Duration::from_millis(20)).await;
        away.hop();
        hops += 1;
    }
    publisher.stop().await;
    let answer = node.client().await.post("/topics/feed.1", "text/plain", b"end").await;
    record.add(answer.json()["id"].as_str().unwrap(), "end");
    for watcher in [&away, &stays] {
        watcher.has("end").await;
        watcher.check(&record);
    }
    assert_eq!(stays.gaps(), NO_GAPS);
    let gaps = away.gaps();
    assert!(hops > 10 && gaps.iter().all(|reason| reason == "too_old"), "{gaps:?}");
}

/// Keys that were evicted or deleted: the topic begins anew, with a word.
#[tokio::test]
async fn a_topic_whose_key_is_gone_goes_on_with_a_word() {
    let bed = Bed::new(Redis::start(&[]).await, 1).await;
    bed.node().publish(TOPIC, "before").await;
    for watcher in &bed.watchers {
        watcher.has("before").await;
    }
    assert_eq!(bed.redis.command(&["DEL", "umbel:feed.1"]).await, "1");
    // The next check finds out, before anything is published.
    for watcher in &bed.watchers {
        eventually("the gap", || async { (watcher.gaps() == ["unknown_epoch"]).then_some(()) })
            .await;
    }
    bed.node().publish(TOPIC, "after").await;
    bed.end().await;
    let gaps = bed.gaps();
    assert_eq!(gaps, ["unknown_epoch"]);
    // Evicted between two checks, and published again at once.
    bed.redis.command(&["DEL", "umbel:feed.1"]).await;
    let answer = bed.node().client().await.post("/topics/feed.1", "text/plain", b"again").await;
    bed.record.add(answer.json()["id"].as_str().unwrap(), "again");
    for watcher in &bed.watchers {
        watcher.has("again").await;
        watcher.check(&bed.record);
    }
    assert_eq!(bed.gaps(), ["unknown_epoch", "unknown_epoch"]);
}

/// Many topics, a link that is gone for two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_thousand_topics_are_repaired_after_two_seconds() {
    const TOPICS: usize = 1000;
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::before(redis.port()).await;
    let broker = format!("redis://{}", proxy.address());
    let far = World::new().settings(SETTINGS).broker(&redis.url()).start().await;
    let cut = World::new().settings(SETTINGS).broker(&broker).start().await;
    let names: Vec<_> = (0..TOPICS).map(|number| format!("many.{number}")).collect();
    let mut session = cut.node(0).json().await;
    let topics: Vec<_> = names.iter().map(|name| json!({"topic": name})).collect();
    session.send_text(&json!({"op": "subscribe", "topics": topics}).to_string()).await;
    for _ in 0..TOPICS {
        assert_eq!(session.json().await["op"], "subscribed");
    }
    let records: Vec<_> = names.iter().map(|_| Arc::new(Record::default())).collect();
    let borrowed: Vec<_> = names.iter().map(String::as_str).collect();
    let publisher = Publisher::start(far.node(0).http(), &borrowed, "", 2000, records.clone());
    let (reached, at) = tokio::sync::watch::channel(0);
    let mut session_task = tokio::task::JoinSet::new();
    session_task.spawn(async move {
        let mut last = std::collections::HashMap::<String, u64>::new();
        loop {
            let message = session.json().await;
            assert_eq!(message["op"], "message", "{message}");
            let id = message["message_id"].as_str().unwrap();
            let offset: u64 = id.split_once('-').unwrap().1.parse().unwrap();
            let before = last.insert(message["topic"].to_string(), offset).unwrap_or(0);
            assert_eq!(offset, before + 1, "{message}");
            reached.send_modify(|count| *count += 1);
        }
    });
    sleep(Duration::from_secs(3)).await;
    proxy.set(Fault::Cut);
    sleep(Duration::from_secs(2)).await;
    let back = tokio::time::Instant::now();
    proxy.set(Fault::None);
    cut.node(0).wait_until_ready().await;
    let ready_after = back.elapsed();
    eventually("the end of the repair", || async {
        let metrics = cut.node(0).metrics().await;
        let behind = metrics.value("umbel_broker_topics_behind");
        (behind < 0.5 && metrics.value("umbel_broker_repaired_total") > 2000.0).then_some(())
    })
    .await;
    println!("ready {ready_after:?} and repaired {:?} after the line was back", back.elapsed());
    publisher.stop().await;
    // A message that was published without an answer may be there, too.
    let acknowledged: usize = records.iter().map(|record| record.len()).sum();
    eventually("all of it", || async { (*at.borrow() >= acknowledged).then_some(()) }).await;
    assert!(session_task.try_join_next().is_none(), "nothing was out of place");
}

/// Of hundreds of quiet topics a few calls say where they stand; only what was missed is read. A message gets into a
/// history without being published as nothing else does it: by a copy of another topic's.
#[tokio::test]
async fn quiet_topics_are_compared_many_at_once_and_only_what_missed_something_is_read() {
    const TOPICS: usize = 300;
    let redis = Redis::start(&[]).await;
    let world = World::new().settings(SETTINGS).broker(&redis.url()).start().await;
    let mut session = world.node(0).json().await;
    let names = (0..TOPICS).map(|number| json!({"topic": format!("quiet.{number}")}));
    let topics: Vec<_> = names.collect();
    session.send_text(&json!({"op": "subscribe", "topics": topics}).to_string()).await;
    for _ in 0..TOPICS {
        assert_eq!(session.json().await["op"], "subscribed");
    }
    let mut client = redis.client().await;
    let published = [("quiet.7", "heard"), ("other", "first"), ("other", "second")];
    for (topic, text) in published {
        let key = format!("umbel:{topic}");
        client.command(&["FCALL", "umbel_publish", "1", &key, text]).await;
    }
    assert_eq!(session.json().await["text"], "heard");
    let reads = async |kind| {
        let metrics = world.node(0).metrics().await;
        metrics.value(&format!("umbel_broker_reads_total{{kind=\"{kind}\"}}"))
    };
    // Three calls for all.
    let rounds_pass = async |rounds: f64| {
        let before = reads("compare").await;
        eventually("rounds of comparisons", || async {
            (reads("compare").await >= before + 3.0 * rounds).then_some(())
        })
        .await;
    };
    rounds_pass(2.0).await;
    let (compared, followed) = (reads("compare").await, reads("follow").await);
    rounds_pass(2.0).await;
    let calls = reads("compare").await - compared;
    assert!((6.0..=12.0).contains(&calls), "{calls} calls in two rounds, or a little more");
    assert!(reads("follow").await < followed + 0.5, "nobody missed anything");

    client.command(&["COPY", "umbel:other", "umbel:quiet.33"]).await;
    client.command(&["XADD", "umbel:quiet.44", "5-5", "by", "hand"]).await;
    client.command(&["SET", "umbel:quiet.55", "a string"]).await;
    for expected in ["first", "second"] {
        let message = session.json().await;
        assert_eq!((&message["topic"], &message["text"]), (&json!("quiet.33"), &json!(expected)));
    }
    rounds_pass(2.0).await;
    let read = reads("follow").await - followed;
    // What was missed, and each time the two of which only a read can tell.
    assert!((3.0..=15.0).contains(&read), "{read} reads");
    client.command(&["FCALL", "umbel_publish", "1", "umbel:quiet.299", "last"]).await;
    let message = session.json().await;
    assert_eq!(message["text"], "last", "nothing else came of it: {message}");
}
