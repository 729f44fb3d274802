//! The node's memory stays within its budget, whatever clients do: first nobody is let in any more,
//! then logs are shortened, then those furthest behind go. Those who read notice nothing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use umbel_e2e::{MemoryGroup, Node, WebSocketClient, World, eventually};

const MIB: u64 = 1 << 20;

/// A node with a budget, in a control group that holds it to that.
struct Bed {
    world: World,
    group: Option<MemoryGroup>,
    memory: u64,
    /// The most that was seen.
    most: u64,
}

impl Bed {
    async fn new(mib: u64, policy: &str) -> Self {
        let rules = format!(
            "[node]\nmemory_mib = {mib}\n[limits]\nsessions = 0\nbehind_bytes = 4194304\n\
             [[topics]]\nmatch = \"**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\non_slow = \"{policy}\"\n"
        );
        let world = World::new().workers(2).settings(&rules).start().await;
        let memory = mib * MIB;
        let group = MemoryGroup::new(memory);
        match &group {
            Some(group) => group.take(world.node(0).pid()),
            None => eprintln!(
                "NOT HELD TO ITS BUDGET, SOCKETS NOT COUNTED: no control group may be made here"
            ),
        }
        Self { world, group, memory, most: 0 }
    }

    fn node(&self) -> &Node {
        self.world.node(0)
    }

    /// What the node and its sockets take; what it had before it was in the group included.
    fn look(&mut self) -> (u64, u64) {
        let (rss, sockets) = (rss(self.node().pid()), sockets(self.group.as_ref()));
        let all = rss + sockets;
        self.most = self.most.max(all);
        assert!(all < self.memory, "{} MiB of {} MiB", all / MIB, self.memory / MIB);
        (rss, sockets)
    }
}

fn rss(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// What the node's sockets take. Without a group only both ends of all connections of the machine could
/// be counted, which says nothing of one of them.
fn sockets(group: Option<&MemoryGroup>) -> u64 {
    group.map_or(0, MemoryGroup::sockets)
}

/// Sessions that read all, and check that nothing is missing.
fn readers(clients: Vec<WebSocketClient>, messages: u64) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for mut client in clients {
        readers.spawn(async move {
            for number in 0..messages {
                let text = client.text().await;
                assert!(text.starts_with(&format!("{number} ")), "not {number}: {text:.20}");
            }
        });
    }
    readers
}

/// Stalled clients of a topic while messages pour in.
async fn stalled(policy: &str, count: usize, mib: u64, seconds: u64, bytes_per_second: usize) {
    let mut bed = Bed::new(mib, policy).await;
    let mut healthy = Vec::new();
    for _ in 0..20 {
        healthy.push(bed.node().subscribe("flood").await);
    }
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..count {
        // None may be let in any more by then.
        match WebSocketClient::try_open_narrow(bed.node().http(), "/topics/flood").await {
            Some(client) => held.push(client),
            None => refused += 1,
        }
    }
    let payload = "x".repeat(50_000);
    let per_second = bytes_per_second / payload.len();
    let messages = per_second as u64 * seconds;
    let readers = readers(healthy, messages);
    let mut publisher = bed.node().client().await;
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
    let begun = Instant::now();
    let mut looked = (0, 0);
    for number in 0..messages {
        pace.tick().await;
        let body = format!("{number} {payload}");
        let answer = publisher.post("/topics/flood", "text/plain", body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if number % 10 == 0 {
            let now = bed.look();
            looked = (looked.0.max(now.0), looked.1.max(now.1));
        }
    }
    let took = begun.elapsed().as_secs_f64();
    readers.join_all().await;
    let metrics = bed.node().metrics().await;
    let slow: f64 = metrics.value(&format!("umbel_slow_consumers_total{{policy=\"{policy}\"}}"));
    let shed: f64 = metrics.value("umbel_sessions_closed_total{reason=\"memory\"}");
    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = (messages * payload.len() as u64) as f64 / took / 1e6;
    eprintln!(
        "{policy}: {} stalled ({refused} refused), {rate:.1} MB/s, RSS {} MiB, sockets {} MiB ({} KiB each), together {} of {mib} MiB; met {slow}, cut off {shed}",
        held.len(),
        looked.0 / MIB,
        looked.1 / MIB,
        looked.1 / 1024 / count as u64,
        bed.most / MIB,
    );
    assert!(slow > 0.0, "those stalled meet their topic's policy");
    drop(held);
    bed.node().metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
    for by in ["sockets", "control", "input"] {
        bed.node().metric_becomes(&format!("umbel_held_bytes{{by=\"{by}\"}}"), 0.0).await;
    }
    eventually("the logs' end", || async {
        (bed.node().metrics().await.value("umbel_log_bytes") < 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_stalled_clients_stay_within_a_small_budget() {
    for policy in ["disconnect", "drop", "latest"] {
        stalled(policy, 100, 128, 2, 5_000_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "five thousand clients and 10 MB a second, for each policy"]
async fn five_thousand_stalled_clients_stay_within_the_budget() {
    for policy in ["disconnect", "drop", "latest"] {
        stalled(policy, 5000, 512, 10, 10_000_000).await;
    }
}

/// Clients of a topic that read nothing, as far as they are let in.
async fn stalled_clients(node: &Node, topic: &str, count: usize) -> Vec<WebSocketClient> {
    let path = format!("/topics/{topic}");
    let mut held = Vec::new();
    for _ in 0..count {
        held.extend(WebSocketClient::try_open_narrow(node.http(), &path).await);
    }
    held
}

async fn publish(node: &Node, topic: &str, messages: u64, bytes: usize) {
    let payload = "x".repeat(bytes);
    let mut publisher = node.client().await;
    for number in 0..messages {
        let body = format!("{number} {payload}");
        let path = format!("/topics/{topic}");
        let answer = publisher.post(&path, "text/plain", body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_of_memory_nobody_is_let_in_and_those_who_take_nothing_go() {
    let mut bed = Bed::new(128, "latest").await;
    let healthy = bed.node().subscribe("flood").await;
    let held = stalled_clients(bed.node(), "flood", 2000).await;
    assert_eq!(held.len(), 2000, "there is room yet");
    let readers = readers(vec![healthy], 40);
    publish(bed.node(), "flood", 40, 50_000).await;
    bed.node().metric_exceeds("umbel_sessions_closed_total{reason=\"memory\"}", 100.0).await;
    bed.look();
    let mut client = bed.node().client().await;
    let refused = client.get("/topics/other?strict=1").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "the node is short of memory"));
    let mut client = bed.node().client().await;
    let stream = client.get("/topics/other").await;
    assert!(stream.text().ends_with(": the node is short of memory\n\n"), "{}", stream.text());
    readers.join_all().await;
    bed.node().metric_exceeds("umbel_limited_total{limit=\"memory\"}", 101.0).await;
    drop(held);
    bed.node().metric_becomes("umbel_held_bytes{by=\"sockets\"}", 0.0).await;
    eventually("a place", || async {
        let mut client = bed.node().client().await;
        client.send(b"GET /topics/other?strict=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        (client.head().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_of_memory_logs_are_shortened() {
    const TOPICS: usize = 30;
    let mut bed = Bed::new(128, "drop").await;
    let healthy = bed.node().subscribe("t.0").await;
    let readers = readers(vec![healthy], 60);
    let mut held = Vec::new();
    for topic in 0..TOPICS {
        held.extend(stalled_clients(bed.node(), &format!("t.{topic}"), 1).await);
    }
    for topic in 0..TOPICS {
        // 3 MB, less than the 4 MiB that one may be behind.
        publish(bed.node(), &format!("t.{topic}"), 60, 50_000).await;
        bed.look();
    }
    let quarter = 32.0 * 1024.0 * 1024.0;
    eventually("shorter logs", || async {
        let metrics = bed.node().metrics().await;
        let is_short = metrics.value("umbel_log_bytes") < quarter;
        let allowed = metrics.value("umbel_allowed_behind_bytes{worker=\"0\"}");
        (is_short && allowed < 4_194_304.0).then_some(())
    })
    .await;
    bed.node().metric_exceeds("umbel_gaps_total{reason=\"slow\"}", 0.0).await;
    readers.join_all().await;
    drop(held);
    for worker in 0..2 {
        let series = format!("umbel_allowed_behind_bytes{{worker=\"{worker}\"}}");
        bed.node().metric_becomes(&series, 4_194_304.0).await;
    }
}

#[tokio::test]
async fn bodies_and_unfinished_frames_have_a_share_each() {
    let mut bed = Bed::new(64, "disconnect").await;
    // An eighth of what is left, per worker: with these it is used up on both.
    let body = vec![b'x'; 60_000];
    let head = b"POST /publish HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    let mut slow = Vec::new();
    let refused = loop {
        let mut client = bed.node().client().await;
        client.send(head).await;
        for _ in 0..16 {
            if client.try_send(&body).await.is_err() {
                break;
            }
        }
        if let Some(answer) = client.answer_if_any().await {
            break answer;
        }
        slow.push(client);
        assert!(slow.len() < 100, "one must be refused");
        bed.look();
    };
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "the node is short of memory for bodies")
    );
    assert!(slow.len() >= 2, "there is room for some");
    drop(slow);
    bed.node().metric_becomes("umbel_held_bytes{by=\"bodies\"}", 0.0).await;
    assert_eq!(bed.node().client().await.post("/topics/a", "text/plain", b"x").await.status, 200);
    let frame = umbel_e2e::masked_frame(true, 0x1, &vec![b' '; 1_000_000]);
    let mut sessions = Vec::new();
    loop {
        let mut session = bed.node().json().await;
        let _ = session.try_send_raw(&frame[..frame.len() - 1]).await;
        sessions.push(session);
        let closed = bed.node().metrics().await.value("umbel_limited_total{limit=\"memory\"}");
        if closed > 1.0 {
            break;
        }
        assert!(sessions.len() < 100, "one must be refused");
        bed.look();
    }
    bed.node().metric_exceeds("umbel_sessions_closed_total{reason=\"overloaded\"}", 0.0).await;
    drop(sessions);
    bed.node().metric_becomes("umbel_held_bytes{by=\"input\"}", 0.0).await;
}
