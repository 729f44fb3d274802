//! Publishes messages over one connection: by HTTP POST, or at Redis.

pub(crate) mod http;
mod redis;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::target::{Feed, topic_name};
use crate::os::poller::{Poller, Ready};
use crate::os::stream::Stream;
use crate::wire::message_id::MessageId;
use crate::wire::payload::Template;
use crate::wire::{publish_line, resp};
use http::Post;
use redis::Pipeline;

/// Longest answer that can be received.
const BUFFER: usize = 256 * 1024;

/// The publisher: at most one request is under way.
#[derive(Debug)]
pub struct Publisher {
    stream: Stream,
    buffer: Box<[u8]>,
    feed: Feed,
    protocol: Protocol,
    template: Template,
    topics: Vec<Topic>,
    published: u64,
    /// The messages of the next request, encoded.
    added: Vec<u8>,
    /// How many they are.
    count: usize,
    waiting: bool,
    posts: u64,
}

/// How messages are put into requests, and what answers one.
#[derive(Debug)]
enum Protocol {
    Http(Post),
    Redis(Pipeline),
}

#[derive(Debug)]
struct Topic {
    /// The topic's name, or the beginning of the command that publishes to its channel.
    head: String,
    published: u64,
}

impl Publisher {
    /// Connects to where `feed` takes messages.
    pub fn connect(feed: &Feed, template: Template, patience: Duration) -> Result<Self> {
        let stream = Stream::connect(feed.address(), patience);
        Ok(Self {
            stream: stream.with_context(|| format!("publisher can't connect to {feed}"))?,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            protocol: match feed {
                Feed::Http(place) => Protocol::Http(Post::new(place)),
                Feed::Redis(_) | Feed::RedisHistory(_) => Protocol::Redis(Pipeline::default()),
            },
            feed: feed.clone(),
            template,
            topics: Vec::new(),
            published: 0,
            added: Vec::new(),
            count: 0,
            waiting: false,
            posts: 0,
        })
    }

    /// Adds its connection to `poller`.
    pub fn register(&mut self, poller: &Poller, token: u64) -> Result<()> {
        Ok(self.stream.register(poller, token)?)
    }

    /// A request is under way.
    pub fn waiting(&self) -> bool {
        self.waiting
    }

    /// Requests that were answered.
    pub fn posts(&self) -> u64 {
        self.posts
    }

    /// Messages published to `topic` so far.
    pub fn published(&self, topic: usize) -> u64 {
        self.topics.get(topic).map_or(0, |topic| topic.published)
    }

    /// Messages published to all topics so far.
    pub fn messages(&self) -> u64 {
        self.published
    }

    /// The id of the last message of the last request that was answered, if it has one.
    pub fn last_id(&self) -> Option<MessageId> {
        match &self.protocol {
            Protocol::Http(post) => post.last_id,
            Protocol::Redis(pipeline) => pipeline.last_id,
        }
    }
}

impl Publisher {
    /// Adds the next message of `topic`, sent at `nanos`, to the next request; says its number.
    pub fn add(&mut self, topic: usize, nanos: u64) -> u64 {
        while self.topics.len() <= topic {
            let name = topic_name(self.topics.len());
            let head = match &self.feed {
                Feed::Http(_) => name,
                Feed::Redis(channels) => {
                    resp::publish_head(&channels.of(&name), self.template.size())
                }
                Feed::RedisHistory(channels) => {
                    resp::placed_head(&channels.of(&name), self.template.size())
                }
            };
            self.topics.push(Topic { head, published: 0 });
        }
        let Topic { head, published } = &mut self.topics[topic];
        let sequence = *published;
        let write = |out: &mut Vec<u8>| self.template.write(out, sequence, nanos);
        match self.protocol {
            Protocol::Http(_) => publish_line::write(&mut self.added, head, write),
            Protocol::Redis(_) => resp::write_publish(&mut self.added, head, write),
        }
        *published += 1;
        self.published += 1;
        self.count += 1;
        sequence
    }

    /// Publishes all messages that were added since the last request, in one write.
    pub fn post(&mut self, poller: &Poller) -> Result<()> {
        ensure!(!self.waiting, "a publish request is under way already");
        ensure!(
            (1..=publish_line::MAX_LINES).contains(&self.count),
            "a publish request has {} messages, at most {} are allowed",
            self.count,
            publish_line::MAX_LINES
        );
        self.waiting = true;
        let unsent = self.stream.unsent();
        match &mut self.protocol {
            Protocol::Http(post) => post.write(unsent, &mut self.added),
            Protocol::Redis(pipeline) => {
                unsent.append(&mut self.added);
                pipeline.expect(self.count);
            }
        }
        self.count = 0;
        Ok(self.stream.flush(poller)?)
    }

    /// Goes on after an event.
    pub fn serve(&mut self, ready: Ready, poller: &Poller) -> Result<()> {
        let served = self.flush_and_read(ready, poller);
        served.with_context(|| format!("publisher's connection to {}", self.feed))
    }

    fn flush_and_read(&mut self, ready: Ready, poller: &Poller) -> Result<()> {
        if ready.writable() {
            self.stream.flush(poller)?;
        }
        if ready.readable() {
            let (protocol, mut answered) = (&mut self.protocol, false);
            self.stream.receive(&mut self.buffer, |bytes| {
                let (taken, whole) = protocol.take_answer(bytes)?;
                answered |= whole;
                anyhow::Ok(taken)
            })?;
            if answered {
                self.waiting = false;
                self.posts += 1;
            }
        }
        Ok(())
    }
}

impl Protocol {
    /// Takes what has come of the answer off the front of `bytes`; says how much that is, and whether the answer is
    /// whole now.
    fn take_answer(&mut self, bytes: &[u8]) -> Result<(usize, bool)> {
        match self {
            Self::Http(post) => {
                let length = post.take_answer(bytes)?;
                Ok((length.unwrap_or(0), length.is_some()))
            }
            Self::Redis(pipeline) => pipeline.take_answers(bytes),
        }
    }
}
