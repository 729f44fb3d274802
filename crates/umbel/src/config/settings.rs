//! The settings and the table of their names.

use std::net::{Ipv4Addr, SocketAddr};

use umbel_broker::RedisUrl;

use super::effective::Provenance;
use super::origins::Origins;
use super::topic_rules::TopicRules;
use super::value::Value;
use crate::route::Routes;

/// Everything that can be set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the node listens.
    pub listen: Listen,
    /// What carries the messages.
    pub broker: BrokerSettings,
    /// The node as a whole.
    pub node: NodeSettings,
    /// What one client may use.
    pub limits: Limits,
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
    /// Of which pages scripts may read the answers for clients and publishers.
    pub origins: Origins,
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
    /// What history may take in the node's memory, in bytes.
    pub history_bytes: usize,
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

/// The node as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSettings {
    /// Event loops, each on a thread of its own; 0: one per core.
    pub workers: usize,
    /// After how many silent seconds a session gets a ping or comment.
    pub heartbeat_seconds: u32,
}

/// What one client may use. A limit that is set to 0 holds the highest value here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
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

/// Stands for "none" where a limit is set to 0. Frame lengths must stay within 32 bits.
const UNLIMITED_BYTES: usize = 1 << 30;

/// One scalar setting.
pub(super) struct Setting {
    pub(super) path: &'static str,
    /// The default as TOML.
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
    pub(super) apply: fn(&mut Settings, &Value<'_>) -> Result<(), String>,
}

/// All scalar settings, in the order of the reference.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "listen.http",
        default: "\"127.0.0.1:8080\"",
        meaning: "for clients and publishers; flag --listen",
        apply: |settings, value| value.address().map(|set| settings.listen.http = set),
    },
    Setting {
        path: "listen.admin",
        default: "\"127.0.0.1:9464\"",
        meaning: "for operators: /metrics, /livez, /readyz; flag --admin",
        apply: |settings, value| value.address().map(|set| settings.listen.admin = set),
    },
    Setting {
        path: "listen.origins",
        default: "[]",
        meaning: "pages whose scripts may read answers (CORS), such as [\"https://app.example.org\"], or \"*\" for all without credentials; a variable has them between commas",
        apply: |settings, value| {
            let texts = value.texts("a list of origins, or \"*\"")?;
            Origins::read(&texts).map(|set| settings.listen.origins = set)
        },
    },
    Setting {
        path: "broker.url",
        default: "\"memory:\"",
        meaning: "what carries messages: memory: is within one node, redis://[user:password@]host:port or unix:///path between nodes; flag --broker",
        apply: |settings, value| broker_url(value).map(|set| settings.broker.url = set),
    },
    Setting {
        path: "broker.prefix",
        default: "\"umbel:\"",
        meaning: "what all channels and keys in Redis begin with; PUBLISH umbel:news reaches the topic news",
        apply: |settings, value| prefix(value).map(|set| settings.broker.prefix = set),
    },
    Setting {
        path: "broker.linger_seconds",
        default: "2",
        meaning: "how long a topic stays subscribed at Redis after its last session left: longer than a page takes to load",
        apply: |settings, value| {
            seconds(value, 0..=3600).map(|set| settings.broker.linger_seconds = set)
        },
    },
    Setting {
        path: "broker.check_seconds",
        default: "10",
        meaning: "how often a node asks Redis where quiet topics with history stand, and repairs what it missed",
        apply: |settings, value| {
            seconds(value, 1..=3600).map(|set| settings.broker.check_seconds = set)
        },
    },
    Setting {
        path: "broker.history_mib",
        default: "64",
        meaning: "MiB of memory for history: with memory: all that is kept, with Redis recent messages that need not be read again",
        apply: |settings, value| {
            let mib = value.count(&(1..=1_048_576))?;
            let mib = usize::try_from(mib).expect("the range fits");
            settings.broker.history_bytes = mib << 20;
            Ok(())
        },
    },
    Setting {
        path: "broker.wait_replicas",
        default: "0",
        meaning: "how many replicas must have a message with history before its publisher is told so: with fewer after 1 s it is told that the outcome is unknown; 0: none",
        apply: |settings, value| {
            let replicas = value.count(&(0..=100))?;
            settings.broker.wait_replicas = u32::try_from(replicas).expect("the range fits");
            Ok(())
        },
    },
    Setting {
        path: "broker.ready_without",
        default: "false",
        meaning: "whether /readyz says ready while Redis can't be used: sessions stay either way, but get no messages",
        apply: |settings, value| value.boolean().map(|set| settings.broker.ready_without = set),
    },
    Setting {
        path: "node.workers",
        default: "0",
        meaning: "event loops, each on a thread of its own; 0: one per core; flag --workers",
        apply: |settings, value| count(value, 128).map(|set| settings.node.workers = set),
    },
    Setting {
        path: "node.heartbeat_seconds",
        default: "25",
        meaning: "a session to which nothing was written for so long gets a ping (SSE: a comment)",
        apply: |settings, value| {
            seconds(value, 1..=3600).map(|set| settings.node.heartbeat_seconds = set)
        },
    },
    Setting {
        path: "limits.topics_per_session",
        default: "1000",
        meaning: "topics that a session of the JSON dialect may hold; 0: no limit",
        apply: |settings, value| {
            limit(value, usize::MAX).map(|set| settings.limits.topics_per_session = set)
        },
    },
    Setting {
        path: "limits.topics_per_stream",
        default: "100",
        meaning: "topics in one URL (of those with history 146 at most); 0: no limit",
        apply: |settings, value| {
            limit(value, usize::MAX).map(|set| settings.limits.topics_per_stream = set)
        },
    },
    Setting {
        path: "limits.payload_bytes",
        default: "65536",
        meaning: "bytes of one message; 0: no limit",
        apply: |settings, value| {
            limit(value, UNLIMITED_BYTES).map(|set| settings.limits.payload_bytes = set)
        },
    },
    Setting {
        path: "limits.body_bytes",
        default: "1048576",
        meaning: "bytes of one request body, and of one frame of the JSON dialect; 0: no limit",
        apply: |settings, value| {
            limit(value, UNLIMITED_BYTES).map(|set| settings.limits.body_bytes = set)
        },
    },
    Setting {
        path: "limits.header_seconds",
        default: "10",
        meaning: "until the head of a connection's first request must be complete",
        apply: |settings, value| {
            seconds(value, 1..=3600).map(|set| settings.limits.header_seconds = set)
        },
    },
    Setting {
        path: "limits.behind_bytes",
        default: "1048576",
        meaning: "how far behind a subscription, or a session in all, may be before on_slow applies; 0: no limit",
        apply: |settings, value| {
            limit(value, UNLIMITED_BYTES).map(|set| settings.limits.behind_bytes = set)
        },
    },
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Listen {
                http: (Ipv4Addr::LOCALHOST, 8080).into(),
                admin: (Ipv4Addr::LOCALHOST, 9464).into(),
                origins: Origins::default(),
            },
            broker: BrokerSettings {
                url: BrokerUrl::Memory,
                prefix: "umbel:".to_owned(),
                linger_seconds: 2,
                check_seconds: 10,
                history_bytes: 64 << 20,
                wait_replicas: 0,
                ready_without: false,
            },
            node: NodeSettings { workers: 0, heartbeat_seconds: 25 },
            limits: Limits {
                topics_per_session: 1000,
                topics_per_stream: 100,
                payload_bytes: 65_536,
                body_bytes: 1_048_576,
                header_seconds: 10,
                behind_bytes: 1_048_576,
            },
            topics: TopicRules::default(),
            provenance: Provenance::default(),
            routes: Routes::default(),
        }
    }
}

fn broker_url(value: &Value<'_>) -> Result<BrokerUrl, String> {
    let wanted = "memory:, redis://host:port or unix:///path";
    match value.text(wanted)? {
        "memory:" => Ok(BrokerUrl::Memory),
        // The text may hold a password, so it isn't repeated.
        text => match RedisUrl::parse(text) {
            Ok(url) => Ok(BrokerUrl::Redis(url)),
            Err(error) => Err(format!("is not {wanted}: {error}")),
        },
    }
}

/// Braces would be hash tags of a Redis Cluster, and patterns and blanks make a mess of tools.
fn prefix(value: &Value<'_>) -> Result<String, String> {
    let wanted = "1 to 64 bytes of A-Z a-z 0-9 . _ - : /";
    let text = value.text(wanted)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("\"{text}\" is not {wanted}"))
}

fn count(value: &Value<'_>, max: u64) -> Result<usize, String> {
    let count = value.count(&(0..=max))?;
    Ok(usize::try_from(count).expect("counts are bounded far below the address space"))
}

fn limit(value: &Value<'_>, unlimited: usize) -> Result<usize, String> {
    match count(value, UNLIMITED_BYTES as u64)? {
        0 => Ok(unlimited),
        limit => Ok(limit),
    }
}

fn seconds(value: &Value<'_>, range: std::ops::RangeInclusive<u64>) -> Result<u32, String> {
    let seconds = value.count(&range)?;
    Ok(u32::try_from(seconds).expect("ranges of seconds fit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_s_defaults_are_the_defaults() {
        let mut settings = Settings::default();
        for setting in SETTINGS {
            let default = toml::de::DeValue::parse(setting.default).unwrap();
            (setting.apply)(&mut settings, &Value::of(default.get_ref())).unwrap();
            assert_eq!(settings, Settings::default(), "{}", setting.path);
        }
    }
}
