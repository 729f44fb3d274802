//! The settings, checked.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use umbel_broker::RedisUrl;

use super::effective::Provenance;
use super::networks::Networks;
use super::origins::Origins;
use super::topic_rules::TopicRules;
use crate::log::{LogFilter, LogFormat};
use crate::route::Routes;
use crate::trace::Endpoint;

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the node listens.
    pub listen: Listen,
    /// What carries the messages.
    pub broker: BrokerSettings,
    /// The node as a whole.
    pub node: NodeSettings,
    /// What clients may use.
    pub limits: Limits,
    /// How the node leaves.
    pub drain: DrainSettings,
    /// What the node is called in its log; `None`: what the machine is called.
    pub node_name: Option<String>,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Which traces are recorded, and where they go.
    pub traces: TracesSettings,
    /// What operators must show before they may change anything; `None`: where they come from.
    pub admin_token: Option<AdminToken>,
    /// Who may do what on which topics.
    pub topics: TopicRules,
    /// Where each of these was set.
    pub provenance: Provenance,
    /// The application's own URLs.
    pub routes: Routes,
}

/// Where the node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// For clients and publishers.
    pub http: SocketAddr,
    /// For operators: metrics and health.
    pub admin: SocketAddr,
    /// Which pages may open WebSockets, have their scripts read answers and publish.
    pub origins: Origins,
    /// The load balancers and proxies that are believed when they say whom a connection is from.
    pub trusted_proxies: Networks,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// What carries the messages, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Which one.
    pub url: BrokerUrl,
    /// What all channels and keys in Redis begin with.
    pub prefix: String,
    /// How long a topic stays subscribed at Redis after its last session left.
    pub linger_seconds: u32,
    /// How often the positions of quiet topics are compared with Redis'.
    pub check_seconds: u32,
    /// What history may take in the node's memory, in bytes; `None`: by the node's memory.
    pub history_bytes: Option<usize>,
    /// How many replicas must have a message with history before its publisher is told so.
    pub wait_replicas: u32,
    /// Whether the node counts as ready also while the broker can't be used.
    pub ready_without: bool,
}

/// What carries the messages between publishers and nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    /// The embedded broker of a single node.
    Memory,
    /// A Redis server.
    Redis(RedisUrl),
}

impl BrokerUrl {
    /// The URL, with passwords replaced.
    pub fn masked(&self) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::Redis(url) => url.masked(),
        }
    }
}

/// The node as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSettings {
    /// What the process and its sockets may take, in bytes; `None`: what the machine gives.
    pub memory_bytes: Option<usize>,
    /// The longest that a session lasts, in seconds; `None`: as long as it wants.
    pub session_seconds: Option<u32>,
    /// Event loops, each on a thread of its own; 0: one per core.
    pub workers: usize,
    /// After how many silent seconds a session gets a ping or comment.
    pub heartbeat_seconds: u32,
    /// Whether the node sends itself a message each second, to see how long that takes.
    pub canary: bool,
}

/// What clients may use. A limit that is set to 0 holds the highest value here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of the node.
    pub sessions: usize,
    /// Sessions of one address, or of one /64 of IPv6.
    pub sessions_per_address: usize,
    /// Connections that the node accepts in a second.
    pub accepts_per_second: u32,
    /// Messages that one session publishes in a second; twice as many at once.
    pub publishes_per_second: u32,
    /// Bytes that the kernel holds for one connection until its client has them; 0: as many as it
    /// likes.
    pub socket_bytes: usize,
    /// Topics that one session may hold (JSON dialect).
    pub topics_per_session: usize,
    /// Topics in one URL (plain, SSE).
    pub topics_per_stream: usize,
    /// Bytes of one message's payload.
    pub payload_bytes: usize,
    /// Bytes of one request body or one frame of the JSON dialect.
    pub body_bytes: usize,
    /// Seconds until a request's head must be complete.
    pub header_seconds: u32,
    /// Bytes that a subscription, and a session in all, may be behind.
    pub behind_bytes: usize,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// Which lines.
    pub filter: LogFilter,
    /// Their form.
    pub format: LogFormat,
}

/// Which traces are recorded, and where they go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TracesSettings {
    /// The collector; `None`: nothing is recorded.
    pub endpoint: Option<Endpoint>,
    /// How many in a million publishes are recorded that don't say whether they are.
    pub sample_ppm: u32,
}

/// How the node leaves when it is asked to end, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long it goes on as before, but for its readiness.
    pub pause_seconds: u32,
    /// Over how long sessions are moved away.
    pub drain_seconds: u32,
    /// When the process ends, whatever is left, counted from the signal.
    pub deadline_seconds: u32,
}

impl DrainSettings {
    /// What it takes besides: to close the listeners (2 s), and for the last sessions to take their
    /// goodbye in (5 s), or to be cut off (3 s).
    pub(super) const GOODBYE_SECONDS: u32 = 10;

    /// After how long all sessions should have been moved.
    pub fn planned(self) -> Duration {
        Duration::from_secs(u64::from(self.pause_seconds) + u64::from(self.drain_seconds))
    }
}

/// A secret that operators show; it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(Box<str>);

impl AdminToken {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether this is the token. Takes the same time however much of it is right.
    pub fn is(&self, shown: &[u8]) -> bool {
        let known = self.0.as_bytes();
        let differing = known.iter().zip(shown).fold(0, |differing, (a, b)| differing | (a ^ b));
        known.len() == shown.len() && differing == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Listen {
                http: (Ipv4Addr::LOCALHOST, 8080).into(),
                admin: (Ipv4Addr::LOCALHOST, 9464).into(),
                origins: Origins::default(),
                trusted_proxies: Networks::default(),
                proxy_protocol: false,
            },
            broker: BrokerSettings {
                url: BrokerUrl::Memory,
                prefix: "umbel:".to_owned(),
                linger_seconds: 2,
                check_seconds: 10,
                history_bytes: None,
                wait_replicas: 0,
                ready_without: false,
            },
            node: NodeSettings {
                memory_bytes: None,
                session_seconds: None,
                workers: 0,
                heartbeat_seconds: 25,
                canary: true,
            },
            limits: Limits {
                sessions: 100_000,
                sessions_per_address: usize::MAX,
                accepts_per_second: 5000,
                publishes_per_second: 100,
                socket_bytes: 131_072,
                topics_per_session: 1000,
                topics_per_stream: 100,
                payload_bytes: 65_536,
                body_bytes: 1_048_576,
                header_seconds: 10,
                behind_bytes: 1_048_576,
            },
            drain: DrainSettings { pause_seconds: 5, drain_seconds: 30, deadline_seconds: 50 },
            node_name: None,
            log: LogSettings::default(),
            traces: TracesSettings::default(),
            admin_token: None,
            topics: TopicRules::default(),
            provenance: Provenance::default(),
            routes: Routes::default(),
        }
    }
}
