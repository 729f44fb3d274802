//! What is loaded: where sessions subscribe and where messages are published.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail, ensure};

use crate::wire::subscribe::Dialect;

const TOPIC: &str = "{topic}";
const DEFAULT_SUBSCRIBE: &str = "/topics/{topic}";
const DEFAULT_PUBLISH: &str = "/publish";

/// A server's subscribe URL and publish URL, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How sessions speak.
    pub dialect: Dialect,
    /// Where sessions connect.
    pub subscribe: Place,
    /// Where messages are posted.
    pub publish: Place,
}

/// A resolved URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The first address of the host.
    pub address: SocketAddr,
    /// Host and port as given, for the header.
    pub host: String,
    /// Path and query; in a subscribe URL `{topic}` stands for the topic's name.
    pub path: String,
}

impl Target {
    /// `url` is `ws://…` or `http://…`; without a path it is `/topics/{topic}`. `publish` is by default
    /// `/publish` on the same host.
    pub fn new(url: &str, publish: Option<&str>) -> Result<Self> {
        let (dialect, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (Dialect::WebSocket, rest),
            Some(("http", rest)) => (Dialect::Sse, rest),
            _ => bail!("URL {url} begins neither with ws:// (WebSocket) nor with http:// (SSE)"),
        };
        let subscribe = Place::new(rest, DEFAULT_SUBSCRIBE)?;
        let publish = match publish {
            None => Place { path: DEFAULT_PUBLISH.to_owned(), ..subscribe.clone() },
            Some(url) => {
                let rest = url.strip_prefix("http://");
                Place::new(
                    rest.with_context(|| format!("publish URL {url} doesn't begin with http://"))?,
                    DEFAULT_PUBLISH,
                )?
            }
        };
        Ok(Self { dialect, subscribe, publish })
    }

    /// The same server, spoken to in another dialect, at the default paths.
    pub fn of_server(address: SocketAddr, dialect: Dialect) -> Self {
        let place =
            |path: &str| Place { address, host: address.to_string(), path: path.to_owned() };
        Self { dialect, subscribe: place(DEFAULT_SUBSCRIBE), publish: place(DEFAULT_PUBLISH) }
    }

    /// Whether sessions can subscribe to different topics.
    pub fn check_topics(&self, topics: usize) -> Result<()> {
        let path = &self.subscribe.path;
        ensure!(
            topics <= 1 || path.contains(TOPIC),
            "the scenario needs {topics} topics, but the path {path} has no {TOPIC}"
        );
        Ok(())
    }

    /// Where sessions subscribe to `topic`.
    pub fn path_of(&self, topic: &str) -> String {
        self.subscribe.path.replace(TOPIC, topic)
    }
}

impl Place {
    fn new(rest: &str, default_path: &str) -> Result<Self> {
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let path = if path.len() <= 1 { default_path } else { path };
        Ok(Self { address: resolve(host)?, host: host.to_owned(), path: path.to_owned() })
    }
}

/// The first address of `host`, port 80 by default; IPv4 first, because its loopback has many addresses.
fn resolve(host: &str) -> Result<SocketAddr> {
    let with_port = host.to_socket_addrs().or_else(|_| format!("{host}:80").to_socket_addrs());
    let mut addresses: Vec<_> =
        with_port.with_context(|| format!("host {host} can't be resolved"))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().with_context(|| format!("host {host} has no address"))
}

/// Name of topic `number`.
pub fn topic_name(number: usize) -> String {
    format!("bench.{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_chooses_the_dialect_and_paths_have_defaults() {
        let target = Target::new("ws://127.0.0.1:8080", None).unwrap();
        assert_eq!(
            target,
            Target::of_server("127.0.0.1:8080".parse().unwrap(), Dialect::WebSocket)
        );
        assert_eq!(Target::new("http://127.0.0.1:8080/", None).unwrap().dialect, Dialect::Sse);
        assert_eq!(target.path_of("bench.7"), "/topics/bench.7");
    }

    #[test]
    fn any_path_and_another_publish_url_are_taken() {
        let target =
            Target::new("ws://127.0.0.1:1/a?t={topic}", Some("http://127.0.0.1:2/b")).unwrap();
        assert_eq!(target.path_of("x"), "/a?t=x");
        assert_eq!((target.publish.address.port(), target.publish.path.as_str()), (2, "/b"));
        assert!(target.check_topics(10).is_ok());
        let fixed = Target::new("ws://127.0.0.1/a", None).unwrap();
        assert_eq!(fixed.subscribe.address.port(), 80);
        assert!(fixed.check_topics(1).is_ok());
        assert!(fixed.check_topics(2).unwrap_err().to_string().contains("/a has no {topic}"));
    }

    #[test]
    fn what_is_no_url_is_named() {
        for url in ["wss://127.0.0.1", "127.0.0.1:80"] {
            assert!(Target::new(url, None).unwrap_err().to_string().contains(url));
        }
        assert!(Target::new("ws://127.0.0.1", Some("ftp://x")).is_err());
    }
}
