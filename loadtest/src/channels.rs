//! Where messages are on Redis: the server, and the channels of topics on it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::os::address::resolve;

/// What stands before a topic's name in its channel's, unless it is said otherwise.
pub const PREFIX: &str = "umbel:";
/// Where Redis listens unless it is said otherwise.
const PORT: u16 = 6379;

/// A Redis server and the prefix of the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels {
    /// The server.
    pub address: SocketAddr,
    /// What stands before a topic's name.
    pub prefix: String,
}

impl Channels {
    /// `url` is `redis://HOST[:PORT][/]`. A database isn't chosen, since publishing knows none.
    pub fn new(url: &str, prefix: &str) -> Result<Self> {
        let rest = url.strip_prefix("redis://");
        let rest = rest.with_context(|| format!("URL {url} doesn't begin with redis://"))?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        ensure!(
            !host.is_empty() && !host.contains(['/', '@', '?']),
            "URL {url} isn't redis://HOST:PORT alone"
        );
        Ok(Self { address: resolve(host, PORT)?, prefix: prefix.to_owned() })
    }

    /// The channel of `topic`.
    pub fn of(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The server as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis at {}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_server_and_nothing_more() {
        for (url, port) in [("redis://127.0.0.1:7000", 7000), ("redis://127.0.0.1/", 6379)] {
            let channels = Channels::new(url, PREFIX).unwrap();
            assert_eq!(channels.address.port(), port);
            assert_eq!(channels.of("bench.0"), "umbel:bench.0");
        }
        for url in ["127.0.0.1:1", "rediss://127.0.0.1", "redis://", "redis://127.0.0.1/1"] {
            let error = Channels::new(url, PREFIX).unwrap_err().to_string();
            assert!(error.contains(url), "{error}");
        }
    }
}
