//! Connections that subscribe to many topics each, while the time is taken; and proof that they are subscribed.

mod tongue;

use anyhow::{Context, Result, bail, ensure};

use super::ledger::{Integrity, Track};
use super::publisher::Publisher;
use super::target::Feed;
use super::{BUFFER, Counts, LOOK_UP, Manner, PUBLISHER, Patience, clock};
use crate::interrupt;
use crate::os::poller::{Poller, Ready};
use crate::os::stream::Stream;
use crate::wire::payload::Template;
use crate::wire::publish_line::MAX_LINES;
use tongue::{Said, Tongue};

/// Where the connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// To a node, in its JSON dialect.
    Node,
    /// To Redis itself, for what it takes alone.
    Redis,
}

/// All connections, the publisher and the loop that serves them.
pub struct Members {
    poller: Poller,
    buffer: Box<[u8]>,
    all: Vec<Member>,
    publisher: Publisher,
    ledger: Ledger,
    tongue: Tongue,
    manner: Manner,
}

/// One connection.
#[derive(Debug)]
struct Member {
    stream: Stream,
    opened: bool,
}

/// What was heard of each topic.
#[derive(Debug)]
struct Ledger {
    template: Template,
    topics: Vec<Topic>,
    /// Connections that take commands, and topics that are subscribed.
    ready: usize,
    subscribed: usize,
    sums: Integrity,
}

#[derive(Debug, Default)]
struct Topic {
    subscribed: bool,
    track: Track,
}

impl Members {
    /// Connects the publisher; there are no other connections yet.
    pub fn new(manner: &Manner, at: At) -> Result<Self> {
        let (target, template) = (&manner.target, manner.template()?);
        let tongue = match (at, &target.publish) {
            (At::Node, _) => Tongue::json(target),
            (At::Redis, Feed::Redis(channels) | Feed::RedisHistory(channels)) => {
                Tongue::Redis(channels.clone())
            }
            (At::Redis, Feed::Http(_)) => bail!("{} isn't Redis", target.publish),
        };
        let mut publisher = Publisher::connect(&target.publish, template.clone(), manner.patience)?;
        let poller = Poller::new()?;
        publisher.register(&poller, PUBLISHER)?;
        Ok(Self {
            poller,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            all: Vec::new(),
            publisher,
            ledger: Ledger::new(template),
            tongue,
            manner: manner.clone(),
        })
    }

    /// Opens `count` connections more.
    pub fn open(&mut self, count: usize) -> Result<()> {
        let (goal, address) = (self.all.len() + count, self.address());
        while self.all.len() < goal {
            let stream = Stream::connect(address, self.manner.patience);
            let mut stream = stream.with_context(|| format!("can't connect to {address}"))?;
            stream.register(&self.poller, self.all.len() as u64)?;
            let opening = self.tongue.opening();
            self.ledger.ready += usize::from(opening.is_none());
            let opened = opening.is_none();
            stream.unsent().extend(opening.unwrap_or_default());
            stream.flush(&self.poller)?;
            self.all.push(Member { stream, opened });
        }
        self.wait_until("connections are open", |it| (it.ledger.ready, goal))
    }

    /// Has the newest `members` subscribe to `topics` new topics, spread evenly, and waits for all confirmations.
    pub fn subscribe(&mut self, members: usize, topics: usize) -> Result<()> {
        let goal = self.ledger.extend(topics);
        let new: Vec<usize> = (goal - topics..goal).collect();
        let newest = self.all.len() - members;
        for (member, share) in
            self.all[newest..].iter_mut().zip(new.chunks(topics.div_ceil(members)))
        {
            self.tongue.write_subscribe(member.stream.unsent(), share);
            member.stream.flush(&self.poller)?;
        }
        self.wait_until("topics are subscribed", |it| (it.ledger.subscribed, goal))
    }

    /// Publishes a message to each topic; waits for those that come.
    pub fn prove(&mut self) -> Result<Integrity> {
        let topics: Vec<usize> = (0..self.ledger.topics.len()).collect();
        for some in topics.chunks(MAX_LINES) {
            let now = clock::nanos();
            for topic in some {
                self.publisher.add(*topic, now);
            }
            self.publisher.post(&self.poller)?;
            self.wait_until("publish requests are answered", |it| {
                (usize::from(!it.publisher.waiting()), 1)
            })?;
        }
        let mut patience = Patience::new(self.manner.patience);
        while self.integrity().lost > 0 && !patience.is_over(self.ledger.sums.received) {
            self.turn()?;
        }
        Ok(self.integrity())
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            received: self.ledger.sums.received,
            messages: self.publisher.messages(),
            posts: self.publisher.posts(),
        }
    }

    fn integrity(&self) -> Integrity {
        self.ledger.integrity(|topic| self.publisher.published(topic))
    }

    fn address(&self) -> std::net::SocketAddr {
        match &self.tongue {
            Tongue::Json { .. } => self.manner.target.subscribe.address,
            Tongue::Redis(channels) => channels.address,
        }
    }
}

impl Members {
    /// Serves the sockets until `progress`, which is of how many, is complete.
    fn wait_until(&mut self, what: &str, progress: impl Fn(&Self) -> (usize, usize)) -> Result<()> {
        let mut patience = Patience::new(self.manner.patience);
        loop {
            let (done, goal) = progress(self);
            if done >= goal {
                return Ok(());
            }
            let limit = self.manner.patience;
            ensure!(
                !patience.is_over(done as u64),
                "{done} of {goal} {what}, and no other for {limit:?}"
            );
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<()> {
        interrupt::check()?;
        for index in 0..self.poller.wait(Some(LOOK_UP))? {
            let ready = self.poller.ready(index);
            if ready.token == PUBLISHER {
                self.publisher.serve(ready, &self.poller)?;
            } else {
                self.serve(ready).with_context(|| format!("connection {}", ready.token))?;
            }
        }
        Ok(())
    }

    fn serve(&mut self, ready: Ready) -> Result<()> {
        let Member { stream, opened } = &mut self.all[usize::try_from(ready.token)?];
        if ready.writable() {
            stream.flush(&self.poller)?;
        }
        if ready.readable() {
            let (tongue, ledger) = (&self.tongue, &mut self.ledger);
            stream.receive(&mut self.buffer, |bytes| {
                let mut taken = 0;
                if !*opened {
                    let Some(head) = tongue.take_answer(bytes)? else {
                        return Ok(0);
                    };
                    (*opened, taken) = (true, head);
                }
                Ok::<_, anyhow::Error>(
                    taken + tongue.take(&bytes[taken..], |said| ledger.hear(said))?,
                )
            })?;
        }
        Ok(())
    }
}

impl Ledger {
    fn new(template: Template) -> Self {
        Self { template, topics: Vec::new(), ready: 0, subscribed: 0, sums: Integrity::default() }
    }

    /// `count` topics more; says how many there are now.
    fn extend(&mut self, count: usize) -> usize {
        let goal = self.topics.len() + count;
        self.topics.resize_with(goal, Topic::default);
        goal
    }

    fn hear(&mut self, said: Said<'_>) -> Result<()> {
        match said {
            Said::Ready => self.ready += 1,
            Said::Subscribed(name) => {
                let topic = self.topic(name)?;
                ensure!(!topic.subscribed, "topic {name} was confirmed twice");
                topic.subscribed = true;
                self.subscribed += 1;
            }
            Said::Message { topic, payload } => match self.template.sequence(payload) {
                Ok(sequence) => {
                    let receipt = self.topic(topic)?.track.receive(sequence);
                    self.sums.count(receipt);
                }
                Err(_) => self.sums.garbled += 1,
            },
        }
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<&mut Topic> {
        let number = name.strip_prefix("bench.").and_then(|number| number.parse::<usize>().ok());
        let topic = number.and_then(|number| self.topics.get_mut(number));
        topic.with_context(|| format!("nobody subscribed to topic {name}"))
    }

    fn integrity(&self, published: impl Fn(usize) -> u64) -> Integrity {
        let mut sums = self.sums;
        for (number, topic) in self.topics.iter().enumerate() {
            sums.expected += published(number);
            sums.lost += topic.track.lost(published(number));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_confirmed_once_and_its_messages_are_counted() {
        let mut ledger = Ledger::new(Template::new(64).unwrap());
        let mut payload = Vec::new();
        Template::new(64).unwrap().write(&mut payload, 0, 0);
        assert_eq!(ledger.extend(2), 2);
        ledger.hear(Said::Subscribed("bench.1")).unwrap();
        ledger.hear(Said::Message { topic: "bench.1", payload: &payload }).unwrap();
        ledger.hear(Said::Message { topic: "bench.1", payload: &payload }).unwrap();
        ledger.hear(Said::Message { topic: "bench.1", payload: b"x" }).unwrap();
        let found = ledger.integrity(|_| 1);
        assert_eq!((found.expected, found.received, found.lost), (2, 1, 1));
        assert_eq!((found.doubled, found.garbled, ledger.subscribed), (1, 1, 1));
        assert!(
            ledger.hear(Said::Subscribed("bench.1")).unwrap_err().to_string().contains("twice")
        );
        assert!(
            ledger.hear(Said::Subscribed("bench.2")).unwrap_err().to_string().contains("nobody")
        );
    }
}
