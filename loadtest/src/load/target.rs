//! What is loaded: where sessions subscribe and where messages are published.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};

use crate::channels::Channels;
use crate::os::address::resolve;
use crate::wire::subscribe::Dialect;

const TOPIC: &str = "{topic}";
const DEFAULT_SUBSCRIBE: &str = "/topics/{topic}";
const DEFAULT_PUBLISH: &str = "/publish";
/// Where the JSON dialect is, unless the URL names another path.
const DEFAULT_JSON: &str = "/ws";
const HTTP_PORT: u16 = 80;

/// A server's subscribe URL and publish URL, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How sessions speak.
    pub dialect: Dialect,
    /// Where sessions connect.
    pub subscribe: Place,
    /// Where messages are published.
    pub publish: Feed,
}

/// Where messages are published, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Posted.
    Http(Place),
    /// Published on Redis, from which the server has them.
    Redis(Channels),
    /// Published there by the node's function, which gives them a place in their topic's history.
    RedisHistory(Channels),
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
    /// `/publish` on the same host, and may be `redis://…` with channels that begin with `prefix`.
    pub fn new(url: &str, publish: Option<&str>, prefix: &str) -> Result<Self> {
        let (dialect, rest) = match url.split_once("://") {
            Some(("ws", rest)) => (Dialect::WebSocket, rest),
            Some(("http", rest)) => (Dialect::Sse, rest),
            _ => bail!("URL {url} begins neither with ws:// (WebSocket) nor with http:// (SSE)"),
        };
        let subscribe = Place::new(rest, DEFAULT_SUBSCRIBE)?;
        let publish = match publish {
            None => Feed::Http(Place { path: DEFAULT_PUBLISH.to_owned(), ..subscribe.clone() }),
            Some(url) => Feed::new(url, prefix)?,
        };
        Ok(Self { dialect, subscribe, publish })
    }

    /// A server at the default paths, which takes its messages by HTTP.
    pub fn of_server(address: SocketAddr, dialect: Dialect) -> Self {
        let place =
            |path: &str| Place { address, host: address.to_string(), path: path.to_owned() };
        let publish = Feed::Http(place(DEFAULT_PUBLISH));
        let path = if dialect == Dialect::Json { DEFAULT_JSON } else { DEFAULT_SUBSCRIBE };
        Self { dialect, subscribe: place(path), publish }
    }

    /// The same server in the JSON dialect. A path for topics isn't one for it.
    #[must_use]
    pub fn in_json(mut self) -> Self {
        self.dialect = Dialect::Json;
        if self.subscribe.path.contains(TOPIC) {
            DEFAULT_JSON.clone_into(&mut self.subscribe.path);
        }
        self
    }

    /// The same server, which takes its messages from Redis.
    #[must_use]
    pub fn fed_by(self, channels: Channels) -> Self {
        Self { publish: Feed::Redis(channels), ..self }
    }

    /// The same server, whose messages get a place in history where they are published; by POST the server itself gives
    /// them one.
    #[must_use]
    pub fn with_history(self) -> Self {
        let publish = match self.publish {
            Feed::Redis(channels) => Feed::RedisHistory(channels),
            other => other,
        };
        Self { publish, ..self }
    }

    /// Whether sessions can subscribe to different topics.
    pub fn check_topics(&self, topics: usize) -> Result<()> {
        let path = &self.subscribe.path;
        ensure!(
            topics <= 1 || path.contains(TOPIC) || self.dialect == Dialect::Json,
            "the scenario needs {topics} topics, but the path {path} has no {TOPIC}"
        );
        Ok(())
    }

    /// Where sessions subscribe to `topic`.
    pub fn path_of(&self, topic: &str) -> String {
        self.subscribe.path.replace(TOPIC, topic)
    }
}

impl Feed {
    fn new(url: &str, prefix: &str) -> Result<Self> {
        match url.split_once("://") {
            Some(("http", rest)) => Ok(Self::Http(Place::new(rest, DEFAULT_PUBLISH)?)),
            Some(("redis", _)) => Ok(Self::Redis(Channels::new(url, prefix)?)),
            _ => bail!("publish URL {url} begins neither with http:// nor with redis://"),
        }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Http(place) => place.address,
            Self::Redis(channels) | Self::RedisHistory(channels) => channels.address,
        }
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(place) => write!(f, "{}", place.address),
            Self::Redis(channels) | Self::RedisHistory(channels) => write!(f, "{channels}"),
        }
    }
}

impl Place {
    fn new(rest: &str, default_path: &str) -> Result<Self> {
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let path = if path.len() <= 1 { default_path } else { path };
        Ok(Self {
            address: resolve(host, HTTP_PORT)?,
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// What the names of all topics begin with.
const TOPIC_PREFIX: &str = "bench.";

/// Name of topic `number`.
pub fn topic_name(number: usize) -> String {
    format!("{TOPIC_PREFIX}{number}")
}

/// Number of the topic of that name, if it is one of ours.
pub fn topic_number(name: &str) -> Option<usize> {
    name.strip_prefix(TOPIC_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::PREFIX;

    fn target(url: &str, publish: Option<&str>) -> Result<Target> {
        Target::new(url, publish, PREFIX)
    }

    #[test]
    fn scheme_chooses_the_dialect_and_paths_have_defaults() {
        let address = "127.0.0.1:8080".parse().unwrap();
        let websocket = target("ws://127.0.0.1:8080", None).unwrap();
        assert_eq!(websocket, Target::of_server(address, Dialect::WebSocket));
        assert_eq!(target("http://127.0.0.1:8080/", None).unwrap().dialect, Dialect::Sse);
        assert_eq!(websocket.path_of("bench.7"), "/topics/bench.7");
    }

    #[test]
    fn any_path_and_another_publish_url_are_taken() {
        let other = target("ws://127.0.0.1:1/a?t={topic}", Some("http://127.0.0.1:2/b")).unwrap();
        assert_eq!(other.path_of("x"), "/a?t=x");
        let Feed::Http(place) = &other.publish else { panic!("{other:?}") };
        assert_eq!((place.address.port(), place.path.as_str()), (2, "/b"));
        assert!(other.check_topics(10).is_ok());
        let fixed = target("ws://127.0.0.1/a", None).unwrap();
        assert_eq!(fixed.subscribe.address.port(), 80);
        assert!(fixed.check_topics(1).is_ok());
        assert!(fixed.check_topics(2).unwrap_err().to_string().contains("/a has no {topic}"));
    }

    #[test]
    fn messages_may_be_published_on_redis() {
        let fed = Target::new("ws://127.0.0.1:1", Some("redis://127.0.0.1:2/"), "x:").unwrap();
        let channels = Channels { address: "127.0.0.1:2".parse().unwrap(), prefix: "x:".into() };
        assert_eq!(fed.publish.to_string(), "Redis at 127.0.0.1:2");
        let same = Target::of_server("127.0.0.1:1".parse().unwrap(), Dialect::WebSocket);
        assert_eq!(fed, same.clone().fed_by(channels.clone()));
        assert_eq!(fed.with_history().publish, Feed::RedisHistory(channels));
        assert_eq!(same.clone().with_history(), same, "who posts has no say in it");
    }

    #[test]
    fn the_json_dialect_has_a_path_of_its_own() {
        let json = target("ws://127.0.0.1:1", None).unwrap().in_json();
        assert_eq!((json.dialect, json.subscribe.path.as_str()), (Dialect::Json, "/ws"));
        assert!(json.check_topics(2).is_ok());
        assert_eq!(json, Target::of_server("127.0.0.1:1".parse().unwrap(), Dialect::Json));
        let other = target("ws://127.0.0.1/other", None).unwrap().in_json();
        assert_eq!(other.subscribe.path, "/other");
    }

    #[test]
    fn a_topic_is_known_by_its_name() {
        for number in [0, 7, 123_456] {
            assert_eq!(topic_number(&topic_name(number)), Some(number));
        }
        for name in ["", "bench.", "bench.x", "news.1"] {
            assert_eq!(topic_number(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_url_is_named() {
        for url in ["wss://127.0.0.1", "127.0.0.1:80"] {
            assert!(target(url, None).unwrap_err().to_string().contains(url));
        }
        assert!(target("ws://127.0.0.1", Some("ftp://x")).is_err());
    }
}
