//! Nodes that are restarted one after another, or killed, behind load balancers and under load:
//! nobody loses a message, and nobody is overrun by those who come back.
//!
//! The large cases take minutes: `make rolling`. They need most of two cores. Where they don't get them
//! the nodes still lose nothing, but clients that are late come back together, which the pace forbids.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::sleep;
use umbel_e2e::{Clock, Counts, Crowd, HaProxy, Load, Node, Phase, Redis, World, eventually};

/// Each case keeps a machine of two cores busy, and some measure a pace.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const NODES: usize = 3;
const TOPICS: usize = 50;

const SETTINGS: &str = "\
[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 10000, seconds = 300 }
";

/// How large a case is.
#[derive(Debug, Clone, Copy)]
struct Size {
    clients: usize,
    /// Messages of each topic.
    per_second: u32,
    /// How long nothing happens but the load, before and between.
    quiet: Duration,
}

const SMALL: Size = Size { clients: 600, per_second: 2, quiet: Duration::from_secs(2) };
const LARGE: Size = Size { clients: 10_000, per_second: 2, quiet: Duration::from_secs(10) };

/// How nodes end: the settings of `[drain]`, all in seconds.
#[derive(Debug, Clone, Copy)]
struct Drain {
    pause: u64,
    moving: u64,
    deadline: u64,
}

impl Drain {
    /// For the environment, which is what a node's defaults in tests are overridden by.
    fn settings(self) -> [(&'static str, u64); 3] {
        [
            ("UMBEL_DRAIN__PAUSE_SECONDS", self.pause),
            ("UMBEL_DRAIN__DRAIN_SECONDS", self.moving),
            ("UMBEL_DRAIN__DEADLINE_SECONDS", self.deadline),
        ]
    }
}

/// Three nodes on one Redis behind two load balancers, for each has two descriptors per client; a
/// crowd and its publishers.
struct Bed {
    world: World,
    proxies: [HaProxy; 2],
    crowd: Crowd,
    load: Load,
    clock: Clock,
    size: Size,
    _redis: Redis,
}

/// What one restart was like.
#[derive(Debug)]
struct Restart {
    /// How many sessions the node had.
    held: usize,
    /// How long it took to end.
    took: Duration,
    /// How many clients tried to come back in the worst second, wherever that begins.
    worst_second: usize,
    /// The same in each second from the signal on.
    by_second: Vec<u64>,
}

impl Bed {
    async fn new(size: Size, drain: Option<Drain>) -> Self {
        let redis = Redis::start(&[]).await;
        let mut world = World::new().nodes(NODES).settings(SETTINGS).broker(&redis.url());
        for (name, value) in drain.into_iter().flat_map(Drain::settings) {
            world = world.environment(name, &value.to_string());
        }
        let world = world.start().await;
        let proxies = [HaProxy::before(world.nodes()).await, HaProxy::before(world.nodes()).await];
        let doors = proxies.each_ref().map(HaProxy::address);
        let clock = Clock::start();
        let crowd = Crowd::start(&doors, size.clients, TOPICS, clock).await;
        let load = Load::start(&doors, TOPICS, size.per_second, clock);
        let bed = Self { world, proxies, crowd, load, clock, size, _redis: redis };
        bed.settled().await;
        sleep(size.quiet).await;
        bed.crowd.enter(Phase::Restarts);
        bed
    }

    /// Waits until all is as it was in the beginning: each client has one session, each node gets
    /// new ones.
    async fn all_is_well(&mut self) {
        for proxy in &self.proxies {
            proxy.all_up().await;
        }
        self.crowd.all_in().await;
        self.settled().await;
    }

    /// Waits until the nodes have exactly a session for each client.
    async fn settled(&self) {
        eventually("the nodes to have a session for each client", || async {
            let mut all = 0;
            for node in self.world.nodes() {
                all += sessions(node).await;
            }
            (all == self.size.clients).then_some(())
        })
        .await;
    }

    async fn restart(&mut self, node: usize, drain: Drain) -> Restart {
        let held = sessions(self.world.node(node)).await;
        let (signalled, start) = (self.clock.micros(), Instant::now());
        self.world.node(node).signal("TERM");
        let deadline = Duration::from_secs(drain.deadline);
        let code = self.world.node_mut(node).exit_code_before(deadline).await;
        assert_eq!(code, Some(0), "of node {node}");
        let took = start.elapsed();
        self.world.node_mut(node).start_again().await;
        self.all_is_well().await;
        let worst_second = self.crowd.worst_second(signalled);
        let by_second = self.crowd.returns_by_second(signalled);
        Restart { held, took, worst_second, by_second }
    }

    /// A node is gone at once, and stays so until everyone is in again elsewhere.
    async fn kill(&mut self, node: usize) {
        let held = sessions(self.world.node(node)).await;
        let (ended, killed) = (ended(self.crowd.counts()), self.clock.micros());
        self.world.node(node).signal("KILL");
        assert_eq!(self.world.node_mut(node).exit_code().await, None, "a signal ended it");
        eventually("the clients of the node to notice", || async {
            (self::ended(self.crowd.counts()) >= ended + held as u64).then_some(())
        })
        .await;
        self.crowd.all_in().await;
        println!(
            "node {node} was killed with {held} sessions; returns by second: {:?}",
            self.crowd.returns_by_second(killed)
        );
        self.world.node_mut(node).start_again().await;
        self.all_is_well().await;
    }

    /// Waits until everyone has everything, prints what it was like, and gives what was counted.
    async fn end(mut self) -> Counts {
        sleep(self.size.quiet).await;
        let repeats = self.load.repeats();
        let last = self.load.stop().await;
        self.crowd.finish(&last).await;
        for phase in [Phase::Quiet, Phase::Restarts, Phase::Resumed] {
            println!("publish to deliver, {phase:?}: {:?}", self.crowd.latency(phase));
        }
        let counts = self.crowd.counts();
        let published: u32 = last.iter().sum();
        println!("{published} messages published, {repeats} sent again; {counts:?}");
        for proxy in &self.proxies {
            println!("{:?}\n{}", proxy.servers().await, proxy.log());
        }
        println!("{:#?}", self.crowd.samples());
        counts
    }
}

async fn sessions(node: &Node) -> usize {
    let metrics = node.metrics().await;
    let open =
        |transport| metrics.value(&format!("umbel_sessions_open{{transport=\"{transport}\"}}"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let all = (open("websocket") + open("sse")) as usize;
    all
}

/// How many sessions have ended.
fn ended(counts: Counts) -> u64 {
    counts.moved + counts.closed + counts.silent + counts.resets
}

fn check_nothing_is_lost(counts: Counts) {
    let Counts { lost, doubled, reordered, gaps, .. } = counts;
    assert_eq!((lost, doubled, reordered, gaps), (0, 0, 0, 0), "lost, doubled, reordered, gaps");
}

/// All nodes are restarted, one after another, as a deployment does it.
async fn roll(size: Size, drain: Drain) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut bed = Bed::new(size, Some(drain)).await;
    let mut restarts = Vec::new();
    for node in 0..NODES {
        restarts.push(bed.restart(node, drain).await);
    }
    let counts = bed.end().await;
    for Restart { held, took, worst_second, by_second } in &restarts {
        println!(
            "a node with {held} sessions ended in {took:.2?}; at most {worst_second} came back in a \
             second, in each: {by_second:?}"
        );
    }
    check_nothing_is_lost(counts);
    let Counts { resets, refused, silent, closed, .. } = counts;
    let others = (resets, refused, silent, closed);
    assert_eq!(others, (0, 0, 0, 0), "resets, refused, ended without a word, closed otherwise");
    let held: usize = restarts.iter().map(|restart| restart.held).sum();
    assert_eq!(counts.moved, held as u64, "each session was moved, and none twice: {counts:?}");
    for restart in &restarts {
        check_pace(restart, drain);
    }
}

/// Clients come back no faster than twice the pace that the settings ask for. The worst second is
/// that of all seconds of the clock and between, so it needs no allowance for where a second
/// begins; a pace that isn't a whole number counts as the next.
fn check_pace(restart: &Restart, drain: Drain) {
    let pace = restart.held.div_ceil(usize::try_from(drain.moving).unwrap());
    assert!(restart.worst_second <= 2 * pace, "{pace} a second were to come back: {restart:?}");
}

/// A node is killed, and then another.
async fn kill(size: Size) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut bed = Bed::new(size, None).await;
    for node in [0, 1] {
        bed.kill(node).await;
    }
    let counts = bed.end().await;
    check_nothing_is_lost(counts);
    // Kernels take connections for a process that is just being killed; the load balancer tries those
    // again elsewhere.
    assert_eq!(counts.refused, 0, "attempts that came to no session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    roll(SMALL, Drain { pause: 2, moving: 3, deadline: 15 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make rolling"]
async fn a_rolling_restart_under_ten_thousand_sessions_loses_nothing() {
    roll(LARGE, Drain { pause: 5, moving: 20, deadline: 40 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_loses_nothing() {
    kill(SMALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make rolling"]
async fn a_killed_node_under_ten_thousand_sessions_loses_nothing() {
    kill(LARGE).await;
}
