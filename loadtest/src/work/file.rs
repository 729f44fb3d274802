//! Scenario files: what a run does, in TOML. Times are in seconds; what is absent has the default named here.

use serde::{Deserialize, Serialize};

use super::shape::Shape;

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What it is for, in a sentence.
    pub about: String,
    /// What is started when the run is given a node's program and not a URL.
    #[serde(default)]
    pub servers: Servers,
    /// Who listens.
    pub sessions: Sessions,
    /// To what.
    #[serde(default)]
    pub topics: Topics,
    /// How messages are published; absent: none are.
    pub publish: Option<Publish>,
    /// When.
    #[serde(default)]
    pub pace: Pace,
    /// How long.
    #[serde(default)]
    pub window: Window,
    /// What fails meanwhile.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must come of it: a run that misses one of them fails.
    #[serde(default)]
    pub targets: Targets,
}

impl Workload {
    /// Whether receipts are waited for. Holders nap between looks then, so that the load costs less: when they read a
    /// message isn't when it came.
    pub fn is_closed_loop(&self) -> bool {
        self.publish.is_some() && matches!(self.pace, Pace::Closed { .. })
    }
}

/// Servers to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Servers {
    /// Nodes.
    pub nodes: usize,
    /// Whether they share a Redis; else each has its memory broker, and there may be only one.
    pub redis: bool,
    /// Settings of the nodes, as their own file has them.
    pub settings: String,
}

/// The sessions of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How many.
    pub count: usize,
    /// How they speak.
    #[serde(default)]
    pub transport: Transport,
    /// Processes that hold them; absent: as few as may hold so many descriptors.
    pub processes: Option<usize>,
    /// Sessions opened in a second at the beginning, at most.
    #[serde(default = "open_per_second")]
    pub open_per_second: f64,
    /// Sessions that a process opens at a time.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Whether who comes back names what it has seen last, and gets what it missed: with JSON, SSE and poll.
    #[serde(default)]
    pub resume: bool,
    /// Some read slowly.
    pub slow: Option<Slow>,
    /// Connections are cut, and come back.
    pub cut: Option<Cut>,
    /// Subscriptions are left and taken.
    pub churn: Option<Churn>,
    /// Many come back at once.
    pub storm: Option<Storm>,
}

/// How sessions speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Each message is one WebSocket frame.
    #[default]
    WebSocket,
    /// Umbel's JSON dialect over WebSocket.
    Json,
    /// An event stream.
    Sse,
    /// Umbel's long-poll: each answer's cursor is the next request's place.
    Poll,
    /// What the script given on the command line says, for other systems.
    Script,
}

/// Readers that take little: what isn't read waits at the server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// The part of the sessions that reads slowly, from 0 to 1.
    pub share: f64,
    /// What each of them reads in a second.
    pub bytes_per_second: u64,
}

/// Each session loses its network, again and again: its connection is silent, unread and open for the server until the
/// session is back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Mean time between a session's opening and its cut: evenly drawn from half of it to one and a half.
    pub every_seconds: f64,
    /// Time that it then is away.
    pub away_seconds: f64,
}

/// In the JSON dialect a session leaves a topic and takes another; with other transports it closes and another opens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How many do so in a second, all processes together.
    pub per_second: f64,
}

/// All but some sessions are closed at once, and come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// When, counted from the window's begin.
    pub at_seconds: f64,
    /// The first so many sessions stay: the times of their deliveries are what others notice of the storm.
    pub steady: usize,
}

/// The topics of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Who has which.
    pub shape: Shape,
    /// How many topics each session has: more than one with JSON only.
    pub per_session: usize,
}

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The way.
    #[serde(default)]
    pub by: By,
    /// Size of each message.
    #[serde(default = "payload_bytes")]
    pub payload_bytes: usize,
    /// Most messages in one request.
    #[serde(default = "batch")]
    pub batch: usize,
}

/// Ways to publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// HTTP POST, one JSON object per line.
    #[default]
    Post,
    /// Redis PUBLISH.
    Redis,
    /// FCALL of the node's function at Redis, which gives messages their place in history.
    History,
    /// A WebSocket session of the JSON dialect that publishes.
    Session,
    /// What the script given on the command line says.
    Script,
}

/// When messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Pace {
    /// At fixed times, whatever became of those before: times count from when a message was due, so that nothing is
    /// left out while something stalls.
    Open {
        /// Messages in a second, over all topics.
        per_second: f64,
    },
    /// When all sessions have all of those before.
    Closed {
        /// How many at once.
        at_hand: usize,
        /// The pause between such rounds.
        #[serde(default)]
        pause_seconds: f64,
    },
}

/// The time of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// Time before it: published as in it, but neither times nor cost are noted.
    pub warm_up_seconds: f64,
    /// Time that is noted.
    pub seconds: f64,
    /// Time without any progress after which the run gives up.
    pub patience_seconds: f64,
}

/// Something that fails, counted from the window's begin. Only servers that the run started can.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub what: What,
    /// When.
    pub at_seconds: f64,
    /// How long it is away.
    #[serde(default)]
    pub away_seconds: f64,
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The first node is asked to end (SIGTERM), drains, and is started anew on its port.
    RestartNode,
    /// The first node is killed (SIGKILL) and started anew.
    KillNode,
    /// Redis is killed and started anew, with what it had written down.
    RestartRedis,
    /// Redis stands still (SIGSTOP, SIGCONT).
    PauseRedis,
}

/// Bounds of a run's figures; absent ones aren't judged, but loss, doubles and order always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Received of expected, at least; absent: 1.
    pub delivery_ratio: Option<f64>,
    /// 99 of 100 deliveries, at most.
    pub delivery_p99_ms: Option<f64>,
    /// 99 of 100 messages at their last receiver, at most.
    pub last_receipt_p99_ms: Option<f64>,
    /// 99 of 100 missed messages after the return of their session, at most.
    pub replay_p99_ms: Option<f64>,
    /// Sessions that never came back, at most; absent: 0.
    pub never_returned: Option<u64>,
    /// Sessions that servers ended or that failed, at most; absent: 0, unless something fails or some read slowly.
    pub lost_sessions: Option<u64>,
    /// Servers' user memory per session, at most.
    pub pss_bytes_per_session: Option<f64>,
    /// Against the bare baseline's runs of the same work. `report` judges that: a run knows no other.
    #[serde(skip_serializing_if = "OfBaseline::is_empty")]
    pub of_baseline: OfBaseline,
}

/// Most that figures may be as ratios to those of the bare baseline, medians of alternating rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfBaseline {
    /// Servers' core time per delivery.
    pub us_per_delivery: Option<f64>,
    /// The same per connect.
    pub us_per_connect: Option<f64>,
    /// 99 of 100 messages at their last receiver.
    pub last_receipt_p99: Option<f64>,
}

impl OfBaseline {
    /// Whether nothing is aimed at.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn open_per_second() -> f64 {
    2000.0
}

fn concurrency() -> usize {
    128
}

fn payload_bytes() -> usize {
    128
}

fn batch() -> usize {
    1000
}

impl Default for Servers {
    fn default() -> Self {
        Self { nodes: 1, redis: false, settings: String::new() }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { shape: Shape::One, per_session: 1 }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::Closed { at_hand: 1, pause_seconds: 0.0 }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { warm_up_seconds: 1.0, seconds: 10.0, patience_seconds: 20.0 }
    }
}
