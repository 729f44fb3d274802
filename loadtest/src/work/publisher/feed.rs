//! Where messages are published, and how.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::post::{Post, ScriptPost};
use super::raw::Raw;
use super::redis::Commands;
use super::session::Session;
use super::way::{Keys, Way};
use crate::channels::Channels;
use crate::wire::payload::Template;
use crate::wire::publish_line;
use crate::work::file::By;
use crate::work::orders::Place;
use crate::work::script::{Script, ScriptPublish};

const DEFAULT_POST: &str = "/publish";
const DEFAULT_SESSION: &str = "/ws";

/// Where messages are published, and how.
#[derive(Debug, Clone)]
pub struct Feed {
    /// The way.
    pub by: By,
    /// The server that takes requests, sessions and a script's words.
    pub place: Option<Place>,
    /// The Redis that takes commands.
    pub redis: Option<Channels>,
    /// The script, for that way.
    pub script: Option<Script>,
    /// Each message has a key by which a node, or its function at Redis, knows it again, so that a repeat is no double.
    /// It costs them memory and time for each message: for runs in which something fails, not for those that measure
    /// cost. `PUBLISH` and scripts have none.
    pub keyed: bool,
}

/// What a feed comes to.
pub(super) struct Resolved {
    /// For people.
    pub(super) place: String,
    pub(super) address: SocketAddr,
    pub(super) way: Box<dyn Way>,
    /// Repeats are recognised.
    pub(super) keyed: bool,
}

impl Feed {
    /// The way for payloads of `template`'s size, `batch` in a request.
    pub(super) fn resolve(&self, template: &Template, batch: usize) -> Result<Resolved> {
        let (size, keys) = (template.size(), self.keyed.then(Keys::new));
        match self.by {
            By::Post => {
                let most = publish_line::MAX_LINES;
                ensure!(batch <= most, "a POST has {batch} messages, at most {most} are allowed");
                let place = self.place()?;
                let path = or_default(&place.path, DEFAULT_POST);
                Ok(at(place, Post::umbel(&place.host, path, keys), self.keyed))
            }
            By::Session => {
                let place = self.place()?;
                let path = or_default(&place.path, DEFAULT_SESSION);
                Ok(at(place, Session::new(&place.host, path, keys), self.keyed))
            }
            By::Redis => {
                let channels = self.channels()?;
                Ok(at_redis(channels, Commands::plain(channels.clone(), size), false))
            }
            By::History => {
                let channels = self.channels()?;
                let way = Commands::placed(channels.clone(), size, keys);
                Ok(at_redis(channels, way, self.keyed))
            }
            By::Script => self.resolve_script(size),
        }
    }

    fn resolve_script(&self, size: usize) -> Result<Resolved> {
        let script = self.script.as_ref().context("publishing by script needs a script")?;
        match script.publishing().context("the script doesn't say how messages are published")? {
            ScriptPublish::Post { path, headers, body, lines } => {
                let post = ScriptPost { path, headers, body, lines: *lines };
                let place = self.place()?;
                Ok(at(place, Post::scripted(&place.host, &post, size), false))
            }
            ScriptPublish::Tcp { message, open, expect } => {
                Ok(at(self.place()?, Raw::new(open, message, expect, size), false))
            }
            ScriptPublish::Redis { prefix } => {
                let channels = Channels { prefix: prefix.clone(), ..self.channels()?.clone() };
                Ok(at_redis(&channels, Commands::plain(channels.clone(), size), false))
            }
        }
    }

    fn place(&self) -> Result<&Place> {
        self.place.as_ref().context("publishing this way needs a server's address")
    }

    fn channels(&self) -> Result<&Channels> {
        self.redis.as_ref().context("publishing this way needs a Redis")
    }
}

fn at(place: &Place, way: impl Way + 'static, keyed: bool) -> Resolved {
    let (name, address) = (place.host.clone(), place.address);
    Resolved { place: name, address, way: Box::new(way), keyed }
}

fn at_redis(channels: &Channels, way: Commands, keyed: bool) -> Resolved {
    let (name, address) = (channels.to_string(), channels.address);
    Resolved { place: name, address, way: Box::new(way), keyed }
}

fn or_default<'a>(path: &'a str, default: &'a str) -> &'a str {
    if path.is_empty() { default } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(by: By, script: Option<&str>, batch: usize) -> String {
        let script = script.map(|text| Script::parse(text).unwrap());
        let feed = Feed { by, place: None, redis: None, script, keyed: true };
        let template = Template::new(64).unwrap();
        feed.resolve(&template, batch).err().unwrap().to_string()
    }

    #[test]
    fn what_a_way_needs_is_named_when_it_is_missing() {
        for (by, script, needed) in [
            (By::Post, None, "a server's address"),
            (By::Session, None, "a server's address"),
            (By::Redis, None, "needs a Redis"),
            (By::History, None, "needs a Redis"),
            (By::Script, None, "needs a script"),
            (By::Script, Some("path = '/'"), "doesn't say how messages are published"),
            (By::Script, Some("path = '/'\n[publish]\nredis = 'x:'"), "needs a Redis"),
            (By::Script, Some("path = '/'\n[publish]\ntcp = '{payload}'"), "a server's address"),
        ] {
            let error = error(by, script, 1);
            assert!(error.contains(needed), "{by:?}: {error}");
        }
        assert!(error(By::Post, None, 1001).contains("at most 1000 are allowed"));
    }
}
