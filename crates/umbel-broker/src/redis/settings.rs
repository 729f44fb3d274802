//! Where Redis is and how it is used.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::Witness;

/// The URL of one Redis server, without what must not be shown.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) info: ConnectionInfo,
}

/// How a node uses Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The server.
    pub url: RedisUrl,
    /// What all channels and keys begin with.
    pub prefix: String,
    /// The largest message that is taken from a channel, in bytes.
    pub message_bytes: usize,
    /// How long a topic stays subscribed after its last session left.
    pub linger: Duration,
    /// How often it is asked where quiet topics with history stand.
    pub check_every: Duration,
    /// How much history stays at hand, in bytes.
    pub history_bytes: usize,
    /// How many replicas must have a message with history before it counts as published; 0: none.
    pub wait_replicas: u32,
    /// Whether the probes go on to the workers as canaries.
    pub canary: bool,
    /// From when the node's own clock counts: what [`umbel_protocol::Delivery::received`] is
    /// measured from.
    pub started: Instant,
    /// Who is told of messages whose trace is recorded.
    pub witness: Option<Arc<dyn Witness>>,
}

/// Why a text isn't the URL of a Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrlError(String);

impl RedisUrl {
    /// Reads `redis://[user][:password@]host[:port][/database]` or
    /// `unix:///path?db=N&user=…&pass=…`.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        if !text.starts_with("redis://") && !text.starts_with("unix://") {
            return Err(RedisUrlError("begins with neither redis:// nor unix://".to_owned()));
        }
        let info = text
            .into_connection_info()
            .map_err(|error| RedisUrlError(error.detail().unwrap_or("malformed").to_owned()))?;
        match info.addr() {
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(Self { info }),
            _ => Err(RedisUrlError("names a kind of address that is not supported".to_owned())),
        }
    }

    /// The database. Channels know none, so that two applications on one server need a prefix each.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        let (own, theirs) = (self.info.redis_settings(), other.info.redis_settings());
        self.info.addr() == other.info.addr()
            && own.db() == theirs.db()
            && own.username() == theirs.username()
            && own.password() == theirs.password()
    }
}

impl Eq for RedisUrl {}

/// Address and database; never user or password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info.addr() {
            ConnectionAddr::Unix(path) => write!(f, "unix://{}", path.display())?,
            tcp => write!(f, "redis://{tcp}")?,
        }
        match self.database() {
            0 => Ok(()),
            database => write!(f, "/{database}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedisUrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://cache", "redis://cache:6379"),
            ("redis://me:secret@cache:1/2", "redis://cache:1/2"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "http://x", "redis://", "redis://x:99999", "redis://x/y", "rediss://x"] {
            assert!(RedisUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
