//! A broker that sentinels watch: the node goes to the server that they call the master, and after them
//! when that changes, with nothing lost that was confirmed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use umbel_e2e::{
    Node, Program, Publisher, Record, Redis, Watched, Watcher, Way, World, eventually,
};

const SETTINGS: &str = "\
[broker]
check_seconds = 1
wait_replicas = REPLICAS

[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 10000, seconds = 300 }
";

const TOPIC: &str = "feed.1";

/// Two nodes on watched servers, watchers of a topic at each, and what is published to it.
struct Bed {
    world: World,
    redis: Watched,
    /// How many must have a message before it is confirmed.
    replicas: usize,
    watchers: Vec<Watcher>,
    record: Arc<Record>,
}

impl Bed {
    /// A message is confirmed when all replicas have it, since Sentinel may promote any.
    async fn new(replicas: usize) -> Self {
        let redis = Watched::start(replicas, &[], None).await;
        let url = redis.url("", "");
        let settings = SETTINGS.replace("REPLICAS", &replicas.to_string());
        let world = World::new().nodes(2).settings(&settings).broker(&url).start().await;
        let mut watchers = Vec::new();
        for (node, way) in [(0, Way::Sse), (0, Way::Json), (1, Way::Sse), (1, Way::Json)] {
            watchers.push(Watcher::start(&[world.node(node).http()], TOPIC, way).await);
        }
        Self { world, redis, replicas, watchers, record: Arc::default() }
    }

    async fn publishes(&self, count: usize) -> Publisher {
        let node = self.world.node(0).http();
        let publisher = Publisher::start(node, &[TOPIC], "a", 300, vec![self.record.clone()]);
        let wanted = self.record.len() + count;
        eventually("messages", || async { (self.record.len() >= wanted).then_some(()) }).await;
        publisher
    }

    /// Goes on publishing after a failover to the server at this port, until everyone has the last message and all before it.
    /// Says where the master is by then.
    async fn goes_on(&self, publisher: Publisher, master: u16) -> u16 {
        let spare = self.redis.another_replica(master).await;
        let master = self.redis.has_replicas(master, self.replicas, &spare).await;
        let wanted = self.record.len() + 100;
        eventually("messages after the failover", || async {
            (self.record.len() >= wanted).then_some(())
        })
        .await;
        publisher.stop().await;
        for node in self.world.nodes() {
            node.wait_until_ready().await;
        }
        let id = confirmed(self.world.node(0), "end").await;
        self.record.add(&id, "end");
        for watcher in &self.watchers {
            watcher.has("end").await;
            watcher.check(&self.record);
        }
        self.nothing_confirmed_is_lost().await;
        master
    }

    async fn nothing_confirmed_is_lost(&self) {
        let mut held = HashMap::new();
        let mut after = "0".to_owned();
        loop {
            let path = format!("/topics/{TOPIC}?after={after}&limit=1000");
            let answer = self.world.node(1).client().await.request("GET", &path, &[], b"").await;
            let answer = answer.json();
            let messages = answer["messages"].as_array().unwrap();
            if messages.is_empty() {
                break;
            }
            held.extend(messages.iter().map(|m| (m["message_id"].clone(), m["text"].clone())));
            answer["cursor"].as_str().unwrap().clone_into(&mut after);
        }
        for (id, text) in self.record.texts() {
            assert_eq!(held.get(&json!(id.to_string())), Some(&json!(text)), "confirmed and lost");
        }
    }
}

/// Publishes, again if need be, until it is confirmed; the message's id.
async fn confirmed(node: &Node, text: &str) -> String {
    let headers = [("content-type", "text/plain"), ("idempotency-key", text)];
    eventually("a message to be confirmed", || async {
        let mut client = node.client().await;
        let answer = client.request("POST", "/topics/feed.1", &headers, text.as_bytes()).await;
        (answer.status == 200).then(|| answer.json()["id"].as_str().unwrap().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_master_that_dies_is_replaced_and_nothing_confirmed_is_lost() {
    let mut bed = Bed::new(1).await;
    let publisher = bed.publishes(100).await;
    let port = bed.redis.servers[0].port();
    bed.redis.servers[0].kill();
    bed.world.node(0).becomes_unready().await;
    let new = bed.redis.failed_over_from(port).await.port();
    bed.goes_on(publisher, new).await;
}

#[tokio::test]
async fn a_planned_failover_is_followed_though_a_sentinel_sleeps() {
    let bed = Bed::new(1).await;
    let publisher = bed.publishes(100).await;
    let port = bed.redis.servers[0].port();
    // It still takes connections.
    let sleeper = &bed.redis.sentinels[0];
    sleeper.signal("STOP");
    assert_eq!(
        bed.redis.sentinels[1].command(None, &["SENTINEL", "FAILOVER", "mymaster"]).await,
        "OK"
    );
    let new = eventually("the failover", || async {
        let named = bed.redis.sentinels[1].master().await.parse().unwrap();
        (named != port).then_some(named)
    })
    .await;
    bed.goes_on(publisher, new).await;
    sleeper.signal("CONT");
}

/// As when the old master is cut off from all but some nodes: its connections stand, its probes come back.
#[tokio::test]
async fn a_node_leaves_a_server_that_is_no_master_any_more_though_it_still_answers() {
    let bed = Bed::new(2).await;
    let publisher = bed.publishes(100).await;
    let old = &bed.redis.servers[0];
    // To those who come anew it doesn't speak any more: the sentinels, whose connections are cut.
    let mut insider = old.client().await;
    insider.command(&["CONFIG", "SET", "requirepass", "unknown", "save", ""]).await;
    for line in insider.command(&["CLIENT", "LIST"]).await.lines() {
        let is_sentinel = line.contains("name=sentinel-");
        let id = line.split(' ').find_map(|field| field.strip_prefix("id="));
        if let (true, Some(id)) = (is_sentinel, id) {
            insider.command(&["CLIENT", "KILL", "ID", id]).await;
        }
    }
    let new = bed.redis.failed_over_from(old.port()).await.port();
    bed.world.node(0).logs("Sentinel made").await;
    let master = bed.goes_on(publisher, new).await;
    let master = bed.redis.servers.iter().find(|server| server.port() == master).unwrap();
    assert!(master.channels().await.contains(&format!("umbel:{TOPIC}")));
    // Sentinels may have failed over once more.
    bed.world.node(0).metric_exceeds("umbel_broker_failures_total{cause=\"moved\"}", 0.5).await;
}

#[tokio::test]
async fn sentinels_and_servers_have_passwords_of_their_own() {
    let server = ["--requirepass", "sesame", "--masterauth", "sesame"];
    let redis = Watched::start(1, &server, Some("open")).await;
    let url = redis.url(":sesame@", "?sentinel_password=open");
    let world = World::new().broker(&url).start().await;
    let mut session = world.node(0).subscribe("news").await;
    world.node(0).publish("news", "hello").await;
    assert_eq!(session.text().await, "hello");
    let output = Program::run(&["publish", "news", "again", "--url", &url], b"").await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(session.text().await, "again");
    keeps_secrets(world.node(0)).await;

    for (url, said) in [
        (redis.url(":sesame@", ""), "NOAUTH"),
        (redis.url(":sesame@", "?sentinel_password=wrong"), "check user and password"),
        (redis.url(":wrong@", "?sentinel_password=open"), "WRONGPASS"),
        (redis.url("", "?sentinel_password=open").replace("/mymaster", "/other"), "No such master"),
    ] {
        let world = World::new().broker(&url).start_unready().await;
        says(world.node(0), said).await;
        keeps_secrets(world.node(0)).await;
    }
}

/// None of the passwords is in what the node says.
async fn keeps_secrets(node: &Node) {
    let said = node.log_lines().join("\n") + &node.readiness().await.1;
    for secret in ["sesame", "open", "wrong"] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// They know nothing of earlier failovers then.
#[tokio::test]
async fn sentinels_that_were_set_up_anew_are_followed() {
    let (redis, other) = (Watched::start(1, &[], None).await, Redis::start(&[]).await);
    let port = redis.servers[0].port();
    assert_eq!(redis.sentinels[0].command(None, &["SENTINEL", "FAILOVER", "mymaster"]).await, "OK");
    redis.failed_over_from(port).await;
    let world = World::new().broker(&redis.url("", "")).start().await;
    let mut session = world.node(0).subscribe("news").await;
    let port = other.port().to_string();
    for sentinel in &redis.sentinels {
        sentinel.command(None, &["SENTINEL", "REMOVE", "mymaster"]).await;
        let anew = ["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &port, "2"];
        assert_eq!(sentinel.command(None, &anew).await, "OK");
    }
    world.node(0).logs("Sentinel made").await;
    other.channels_become(&["umbel:news"]).await;
    world.node(0).wait_until_ready().await;
    world.node(0).publish("news", "hello").await;
    assert_eq!(session.text().await, "hello");
}

/// Sentinels that take connections and say nothing are no better than such that aren't there.
#[tokio::test]
async fn silent_sentinels_are_named_too() {
    let redis = Watched::start(1, &[], None).await;
    for sentinel in &redis.sentinels {
        sentinel.signal("STOP");
    }
    let world = World::new().broker(&redis.url("", "")).start_unready().await;
    says(world.node(0), "no answer within 1 s").await;
}

#[tokio::test]
async fn sentinels_that_are_not_there_are_named() {
    let (gone, also) = (Redis::absent(&[]).await, Redis::absent(&[]).await);
    let (one, two) = (gone.port(), also.port());
    let url = format!("redis+sentinel://127.0.0.1:{one},127.0.0.1:{two}/mymaster");
    let world = World::new().broker(&url).start_unready().await;
    says(world.node(0), &format!("127.0.0.1:{one}: ")).await;
    says(world.node(0), &format!("127.0.0.1:{two}: ")).await;
    let output = Program::run(&["publish", "news", "x", "--url", &url], b"").await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("no sentinel names a master mymaster"), "{}", output.stderr);
}

/// Waits until readiness gives this as its reason.
async fn says(node: &Node, text: &str) {
    eventually(text, || async {
        let (status, said) = node.readiness().await;
        (status == 503 && said.contains(text)).then_some(())
    })
    .await;
}
