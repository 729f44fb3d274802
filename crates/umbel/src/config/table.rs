//! The table of scalar settings: names, defaults, meanings, and how each is read.

use umbel_broker::RedisUrl;

use super::networks::Networks;
use super::origins::Origins;
use super::settings::{AdminToken, BrokerUrl, Settings};
use super::value::Value;
use crate::log::{LogFilter, LogFormat};
use crate::trace::Endpoint;

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

/// The one whose value isn't shown.
pub(super) const SECRET: &str = "admin.token";

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
        meaning: "pages that may open WebSockets, publish, and have their scripts read answers (CORS), such as [\"https://app.example.org\"], or \"*\" for all without credentials; absent: all may open WebSockets and publish, none of another origin may read; a variable has them between commas",
        apply: |settings, value| {
            let texts = value.texts("a list of origins, or \"*\"")?;
            Origins::read(&texts).map(|set| settings.listen.origins = set)
        },
    },
    Setting {
        path: "listen.trusted_proxies",
        default: "[]",
        meaning: "networks of the proxies that are believed when they say whom a request is from (X-Forwarded-For, PROXY protocol), such as [\"10.0.0.0/8\", \"::1\"]",
        apply: |settings, value| {
            let texts = value.texts("a list of networks")?;
            Networks::read(&texts).map(|set| settings.listen.trusted_proxies = set)
        },
    },
    Setting {
        path: "listen.proxy_protocol",
        default: "false",
        meaning: "whether each connection of a trusted proxy begins with a header of the PROXY protocol, version 2; one without it is then ended",
        apply: |settings, value| value.boolean().map(|set| settings.listen.proxy_protocol = set),
    },
    Setting {
        path: "broker.url",
        default: "\"memory:\"",
        meaning: "what carries messages: memory: is within one node; between nodes redis://[user:password@]host:port, unix:///path, or redis+sentinel://[user:password@]host:port,…/master?sentinel_user=…&sentinel_password=…, where hosts are sentinels and user and password the server's; flag --broker",
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
        default: "0",
        meaning: "MiB of memory for history: with memory: all that is kept, with Redis recent messages that need not be read again; at most an eighth of the node's; 0: 64, or that eighth if it is less",
        apply: |settings, value| mib(value).map(|set| settings.broker.history_bytes = set),
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
        path: "node.name",
        default: "\"\"",
        meaning: "what the node is called in its log; absent: what the machine is called",
        apply: |settings, value| node_name(value).map(|set| settings.node_name = set),
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
        meaning: "a session to which nothing was written for so long, or up to a quarter less, gets a ping (SSE: a comment)",
        apply: |settings, value| {
            seconds(value, 1..=3600).map(|set| settings.node.heartbeat_seconds = set)
        },
    },
    Setting {
        path: "node.canary",
        default: "true",
        meaning: "whether the node sends itself a message each second, through the broker to its workers, to see how long that takes (umbel_canary_seconds)",
        apply: |settings, value| value.boolean().map(|set| settings.node.canary = set),
    },
    Setting {
        path: "node.memory_mib",
        default: "0",
        meaning: "MiB that the node and its sockets may take, at least 64: beyond it sessions are refused, logs are shortened, and those furthest behind go; 0: the limit of its control group, else three quarters of the machine's",
        apply: |settings, value| match mib(value)? {
            Some(bytes) if bytes < MIN_MEMORY_BYTES => Err("is less than 64".to_owned()),
            bytes => {
                settings.node.memory_bytes = bytes;
                Ok(())
            }
        },
    },
    Setting {
        path: "node.session_hours",
        default: "0",
        meaning: "the longest that a session lasts before it is moved, so that load evens out over new nodes; each gets a fifth less at most; 0: no limit",
        apply: |settings, value| hours(value).map(|set| settings.node.session_seconds = set),
    },
    Setting {
        path: "limits.sessions",
        default: "100000",
        meaning: "sessions of the node, and requests that wait for messages; 0: no limit but that of descriptors",
        apply: |settings, value| limit(value, usize::MAX).map(|set| settings.limits.sessions = set),
    },
    Setting {
        path: "limits.sessions_per_address",
        default: "0",
        meaning: "the same of one address, or of one /64 of IPv6; 0: no limit",
        apply: |settings, value| {
            limit(value, usize::MAX).map(|set| settings.limits.sessions_per_address = set)
        },
    },
    Setting {
        path: "limits.accepts_per_second",
        default: "5000",
        meaning: "connections that the node accepts in a second, the rest wait in the kernel's queue; 0: no limit",
        apply: |settings, value| {
            rate(value, MAX_ACCEPTS).map(|set| settings.limits.accepts_per_second = set)
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
        path: "limits.publishes_per_second",
        default: "100",
        meaning: "messages that one session publishes in a second, twice as many at once; 0: no limit",
        apply: |settings, value| {
            rate(value, MAX_PUBLISHES).map(|set| settings.limits.publishes_per_second = set)
        },
    },
    Setting {
        path: "limits.socket_bytes",
        default: "131072",
        meaning: "bytes of memory that the kernel holds for one connection until its client has them, at least 16384; 0: as many as it likes",
        apply: |settings, value| match count(value, UNLIMITED_BYTES as u64)? {
            bytes @ 1..16_384 => Err(format!("{bytes} is less than 16384")),
            bytes => {
                settings.limits.socket_bytes = bytes;
                Ok(())
            }
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
    Setting {
        path: "drain.pause_seconds",
        default: "5",
        meaning: "after SIGTERM: how long the node goes on as before while its readiness is down, so that load balancers take note",
        apply: |settings, value| {
            seconds(value, 0..=3600).map(|set| settings.drain.pause_seconds = set)
        },
    },
    Setting {
        path: "drain.drain_seconds",
        default: "30",
        meaning: "then: over how long its sessions are moved away at a constant pace, after the listeners were closed",
        apply: |settings, value| {
            seconds(value, 0..=3600).map(|set| settings.drain.drain_seconds = set)
        },
    },
    Setting {
        path: "drain.deadline_seconds",
        default: "50",
        meaning: "when the process ends after SIGTERM whatever is left: below the grace period of whoever stops it, and at least 10 more than pause and drain",
        apply: |settings, value| {
            seconds(value, 10..=10_800).map(|set| settings.drain.deadline_seconds = set)
        },
    },
    Setting {
        path: "log.filter",
        default: "\"info\"",
        meaning: "what is logged: a level (off, error, warn, info, debug, trace), and others by module, such as \"info,umbel::session=debug\"; the variable RUST_LOG wins; POST /log at listen.admin changes it",
        apply: |settings, value| {
            let text = value.text("levels between commas")?;
            LogFilter::parse(text).map(|set| settings.log.filter = set)
        },
    },
    Setting {
        path: "log.format",
        default: "\"auto\"",
        meaning: "of the lines at the standard error: \"human\", \"json\", or \"auto\": the first on a terminal, else the second",
        apply: |settings, value| value.word(LOG_FORMATS).map(|set| settings.log.format = set),
    },
    Setting {
        path: "traces.endpoint",
        default: "\"\"",
        meaning: "the collector that gets spans of publishing, receiving and fanning out, by OTLP over HTTP in JSON, such as \"http://127.0.0.1:4318/v1/traces\"; absent: none are recorded",
        apply: |settings, value| match value.text("the URL of a collector")? {
            "" => {
                settings.traces.endpoint = None;
                Ok(())
            }
            url => Endpoint::parse(url).map(|set| settings.traces.endpoint = Some(set)),
        },
    },
    Setting {
        path: "traces.sample",
        default: "0",
        meaning: "which part of what is published without a traceparent is recorded, from 0 to 1; with one its flag says",
        apply: |settings, value| parts(value).map(|set| settings.traces.sample_ppm = set),
    },
    Setting {
        path: "admin.token",
        default: "\"\"",
        meaning: "what requests to listen.admin that change something must show (Authorization: Bearer); absent: only those from the node's own machine may",
        apply: |settings, value| admin_token(value).map(|set| settings.admin_token = set),
    },
];

const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];

/// With less there is no room for anything beside the program itself.
const MIN_MEMORY_BYTES: usize = 64 << 20;

/// Accepts and publishes are spaced in microseconds and milliseconds.
const MAX_ACCEPTS: u64 = 1_000_000;
const MAX_PUBLISHES: u64 = 1_000_000;

fn broker_url(value: &Value<'_>) -> Result<BrokerUrl, String> {
    let wanted = "memory:, redis://host:port, redis+sentinel://host,…/master or unix:///path";
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

/// A secret as it can stand in a header.
fn admin_token(value: &Value<'_>) -> Result<Option<AdminToken>, String> {
    let wanted = "16 to 256 printable characters of ASCII without blanks";
    let text = value.text(wanted)?;
    match text.len() {
        0 => Ok(None),
        // The text is a secret, so it isn't repeated.
        16..=256 if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(AdminToken::new(text)))
        }
        _ => Err(format!("is not {wanted}")),
    }
}

/// A name as machines have, which logs and tools take as one word.
fn node_name(value: &Value<'_>) -> Result<Option<String>, String> {
    let wanted = "up to 255 printable characters of ASCII without blanks";
    let text = value.text(wanted)?;
    match text.len() {
        0 => Ok(None),
        1..=255 if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(text.to_owned())),
        _ => Err(format!("\"{text}\" is not {wanted}")),
    }
}

/// Mebibytes, in bytes; `None` for 0.
fn mib(value: &Value<'_>) -> Result<Option<usize>, String> {
    let mib = value.count(&(0..=1_048_576))?;
    let mib = usize::try_from(mib).expect("the range fits");
    Ok((mib > 0).then_some(mib << 20))
}

/// Hours, in seconds; `None` for 0.
fn hours(value: &Value<'_>) -> Result<Option<u32>, String> {
    const MAX_HOURS: f64 = 8760.0;
    let hours = value.number(0.0..=MAX_HOURS)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a year has fewer seconds than 32 bits hold"
    )]
    let seconds = (hours * 3600.0).ceil() as u32;
    Ok((seconds > 0).then_some(seconds))
}

/// A part of all, in millionths.
fn parts(value: &Value<'_>) -> Result<u32, String> {
    let part = value.number(0.0..=1.0)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a million at most"
    )]
    let millionths = (part * 1e6).round() as u32;
    Ok(millionths)
}

/// So many in a second; 0 is as many as there are.
fn rate(value: &Value<'_>, max: u64) -> Result<u32, String> {
    match value.count(&(0..=max))? {
        0 => Ok(u32::MAX),
        rate => Ok(u32::try_from(rate).expect("the range fits")),
    }
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
