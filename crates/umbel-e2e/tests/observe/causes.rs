//! What goes wrong, and which alerts tell of it.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use umbel_e2e::{DEADLINE, Fault, Node, RedisClient, SseClient, WebSocketClient, eventually};

use crate::bed::Bed;
use crate::clients::post;

/// Many clients come to one node at once, and leave again.
pub(crate) async fn a_storm_of_reconnects(bed: &mut Bed) {
    let mut sessions = JoinSet::new();
    for _ in 0..150 {
        let door = bed.node().http();
        sessions.spawn(async move { WebSocketClient::open(door, "/topics/live.quiet").await });
    }
    let sessions = sessions.join_all().await;
    bed.fire(&["UmbelReconnectStorm", "UmbelSessionsUneven"]).await;
    drop(sessions);
}

/// Clients that don't read, under each policy.
pub(crate) async fn slow_consumers(bed: &mut Bed) {
    bed.moves("Slow consumers");
    let mut stuck = Vec::new();
    for topic in ["live.2", "drop.2", "value.2"] {
        for _ in 0..25 {
            stuck.push(bed.node().subscribe_without_reading(topic).await);
        }
    }
    let body = "x".repeat(20_000);
    let until = Instant::now() + DEADLINE;
    let alerts = ["UmbelSlowConsumerSurge", "UmbelDeliveriesMissing"];
    let mut fired = Box::pin(bed.fire(&alerts));
    loop {
        assert!(Instant::now() < until, "{alerts:?} didn't fire");
        for topic in ["live.2", "drop.2", "value.2"] {
            assert_eq!(post(bed.node().http(), topic, None, &body).await, Some(200));
        }
        if timeout(Duration::from_millis(20), &mut fired).await.is_ok() {
            return;
        }
    }
}

/// Others write to Redis what no node would.
pub(crate) async fn strange_entries(bed: &mut Bed) {
    let mut redis = bed.redis.client().await;
    let channel = b"umbel:feed.1";
    redis.command_bytes(&[b"PUBLISH", channel, b"live alone"]).await;
    redis.command_bytes(&[b"PUBLISH", b"umbel:live.1", &envelope(&[(9, b"")])[..4]]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let later = (now.as_micros() + 10_000_000).to_string();
    let ahead = envelope(&[(3, later.as_bytes()), (5, b"t")]);
    redis.command_bytes(&[b"PUBLISH", b"umbel:live.1", &ahead]).await;
    // Again what was there already, and what is behind a hole.
    publish_ahead(&mut redis, 0).await;
    publish_ahead(&mut redis, 7).await;
    // An entry that is no message, and a key that is no stream.
    let node = bed.node();
    assert_eq!(post(node.http(), "feed.odd", None, "even").await, Some(200));
    let entry = redis.command(&["XRANGE", "umbel:feed.odd", "-", "+"]).await;
    let epoch = entry.lines().skip_while(|line| *line != "e").nth(1).unwrap();
    redis.command(&["XADD", "umbel:feed.odd", "2-9999999999999", "e", epoch, "m", "odd"]).await;
    assert_eq!(post(node.http(), "feed.odd", None, "even").await, Some(200));
    redis.command(&["SET", "umbel:feed.string", "value"]).await;
    let _odd = SseClient::open(node.http(), "/topics/feed.odd?after=latest:5").await;
    let _string = SseClient::open(node.http(), "/topics/feed.string?after=latest:5").await;
    for metric in [
        "umbel_broker_messages_without_id_total",
        "umbel_broker_duplicates_total",
        "umbel_broker_malformed_entries_total",
        "umbel_broker_refused_reads_total",
        "umbel_broker_messages_total{form=\"malformed\"}",
        "umbel_published_in_future_total",
    ] {
        node.metric_exceeds(metric, 0.0).await;
    }
}

/// Publishes with history, and then a message that says it comes so many behind that one.
async fn publish_ahead(redis: &mut RedisClient, by: u64) {
    let id = redis
        .command(&["FCALL", "umbel_publish", "1", "umbel:feed.1", "x", "messages", "20"])
        .await;
    let (epoch, offset) = id.lines().next().unwrap().split_once('-').unwrap();
    let offset = (offset.parse::<u64>().unwrap() + by).to_string();
    let ahead = envelope(&[(1, epoch.as_bytes()), (2, offset.as_bytes()), (5, b"t")]);
    redis.command_bytes(&[b"PUBLISH", b"umbel:feed.1", &ahead]).await;
}

/// The header of a message, with the payload `x`.
fn envelope(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0xff, b'U', 1];
    for (tag, value) in fields {
        bytes.extend([*tag, u8::try_from(value.len()).unwrap()]);
        bytes.extend_from_slice(value);
    }
    bytes.extend([0, b'x']);
    bytes
}

/// Clients come back with places that history doesn't know any more, and a few with those it does.
pub(crate) async fn returns(bed: &mut Bed) {
    let door = bed.node().http();
    let known = SseClient::open(door, "/topics/feed.1?after=latest:1").await;
    let known = known.last_event_id().to_owned();
    for _ in 0..25 {
        let path = "/topics/feed.1?after=00000000deadbeef-1";
        drop(SseClient::open(door, path).await);
        drop(SseClient::open_with(door, "/topics/feed.1", &[("last-event-id", &known)]).await);
    }
    bed.fire(&["UmbelResumesFail"]).await;
}

/// More sessions, more that is held, and more descriptors than a small node may have.
pub(crate) async fn no_room(bed: &mut Bed) {
    let node = bed.small.node(0);
    let mut stuck = Vec::new();
    while let Some(client) = WebSocketClient::try_open_narrow(node.http(), "/topics/flood").await {
        stuck.push(client);
    }
    bed.fire(&["UmbelSessionsNearLimit", "UmbelSessionsRefused"]).await;
    let body = "x".repeat(60_000);
    eventually("a memory near its budget", || async {
        // Short of memory it may refuse this.
        for _ in 0..5 {
            post(node.http(), "flood", None, &body).await;
        }
        let shortened = "umbel_allowed_behind_bytes{cluster=\"small\"} < 1048576";
        let is_seen = !bed.prometheus.query(shortened).await.unwrap().is_empty();
        (is_seen && bed.has_fired("UmbelMemoryNearBudget")).then_some(())
    })
    .await;
    drop(stuck);
    let mut idle = idle_connections(node, 20).await;
    let open = node.metrics().await.value("umbel_descriptors_open");
    let before = limit_descriptors(node, Some(open + 3.0));
    eventually("an alert of descriptors", || async {
        // Those of the clients that have just left are closed one after the other. Some must be left, so that
        // the server that scrapes may connect anew.
        let open = node.metrics().await.value("umbel_descriptors_open");
        limit_descriptors(node, Some(open + 3.0));
        bed.has_fired("UmbelDescriptorsNearLimit").then_some(())
    })
    .await;
    // Nobody is accepted any more.
    idle.extend(idle_connections(node, 10).await);
    eventually("connections that aren't accepted", || async {
        let failed = "umbel_accept_errors_total{cluster=\"small\"} > 0";
        (!bed.prometheus.query(failed).await.ok()?.is_empty()).then_some(())
    })
    .await;
    limit_descriptors(node, before);
}

async fn idle_connections(node: &Node, count: usize) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(node.http()).await.unwrap());
    }
    idle
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small counts"
)]
fn limit_descriptors(node: &Node, soft: Option<f64>) -> Option<f64> {
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap());
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: soft.map(|soft| soft as u64), maximum };
    prlimit(pid, Resource::Nofile, limit).unwrap().current.map(|current| current as f64)
}

/// A process that stands still for a moment.
pub(crate) async fn a_stalled_loop(bed: &mut Bed) {
    bed.node().signal("STOP");
    sleep(Duration::from_millis(1200)).await;
    bed.node().signal("CONT");
    bed.fire(&["UmbelEventLoopStalled"]).await;
}

/// A listener that accepts nobody, in the nodes' network namespace.
pub(crate) async fn an_accept_queue(bed: &mut Bed) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let door: SocketAddr = listener.local_addr().unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..6 {
        waiting.spawn(TcpStream::connect(door));
    }
    bed.fire(&["UmbelAcceptQueueOverflows"]).await;
}

/// Redis' answers reach the second node late.
pub(crate) async fn a_slow_line(bed: &mut Bed) {
    bed.line.set(Fault::DelayAnswers(Duration::from_millis(600)));
    let mut redis = bed.redis.client().await;
    // Whether something is missing takes as long to find out.
    publish_ahead(&mut redis, 7).await;
    bed.fire(&[
        "UmbelCanaryLate",
        "UmbelClockSkewed",
        "UmbelLatencyBudgetBurnsFast",
        "UmbelLatencyBudgetBurnsSlowly",
    ])
    .await;
    bed.line.set(Fault::None);
}

/// Redis' answers don't reach it at all; then the line breaks again and again.
pub(crate) async fn a_broken_line(bed: &mut Bed) {
    let node = bed.other();
    node.wait_until_ready().await;
    bed.moves("Own messages lost");
    bed.moves("Redis, failures by cause");
    bed.moves("Gaps told");
    let node = bed.other();
    let mut tries = 0;
    while !bed.has_fired("UmbelCanaryLost")
        || node.metrics().await.value("umbel_broker_publish_retries_total") == 0.0
    {
        tries += 1;
        assert!(tries <= 5, "nothing was lost or sent again");
        bed.line.set(Fault::SwallowAnswers);
        // Its fate is unknown until the link is back, so it is sent again.
        let key = tries.to_string();
        let keyed = post(node.http(), "feed.1", Some(&key), "by a key");
        let mend = async {
            node.becomes_unready().await;
            // Not before others have been refused.
            bed.fire(&["UmbelBrokerLinkDown", "UmbelPublishingFails"]).await;
            bed.line.set(Fault::None);
        };
        tokio::join!(keyed, mend);
        node.wait_until_ready().await;
    }
    for _ in 0..5 {
        bed.line.cut_once().await;
        node.becomes_unready().await;
        node.wait_until_ready().await;
    }
    bed.fire(&["UmbelBrokerLinkUnsteady", "UmbelGapsTold"]).await;
}

/// Redis is gone for a moment, and comes back without what it had.
pub(crate) async fn no_redis(bed: &mut Bed) {
    bed.redis.kill();
    bed.node().becomes_unready().await;
    bed.redis.start_again().await;
    bed.node().wait_until_ready().await;
    bed.other().wait_until_ready().await;
}

/// The second node leaves while clients don't take their close in, is away, and then begins anew too often.
pub(crate) async fn leaving(bed: &mut Bed) {
    bed.moves("Leaving nodes");
    let mut stuck = Vec::new();
    for _ in 0..5 {
        stuck.push(bed.other().subscribe_without_reading("value.2").await);
    }
    let body = "x".repeat(60_000);
    for _ in 0..30 {
        post(bed.other().http(), "value.2", None, &body).await;
    }
    bed.other().signal("TERM");
    bed.fire(&["UmbelDrainStuck", "UmbelNodeDown"]).await;
    drop(stuck);
    let node = bed.second.node_mut(0);
    assert_eq!(node.exit_code().await, Some(0));
    node.start_again().await;
    for _ in 0..3 {
        bed.prometheus.gives("sum(up) == 3").await;
        bed.second.node_mut(0).restart().await;
    }
    bed.fire(&["UmbelNodeRestarting"]).await;
}

/// The only node of its cluster ends.
pub(crate) async fn nobody_left(bed: &mut Bed) {
    bed.small.node(0).signal("KILL");
    bed.fire(&["UmbelFleetDown"]).await;
}
