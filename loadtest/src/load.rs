//! The load side: one thread, one epoll loop, all sessions and the publisher in it.
//!
//! It must cost less than the server it loads, or it would measure itself. So reads go through one buffer,
//! a session has a buffer of its own only while a message is cut, and the loop gathers: between two looks at
//! the sockets it sleeps for a moment, so that many have something to read at once. While it sleeps the server's
//! sends wake nobody, as they wouldn't if the subscribers were on other machines.

pub mod audience;
pub mod clock;
pub mod ledger;
pub mod members;
pub mod pacing;
pub mod publisher;
pub mod recording;
pub mod requests;
pub mod session;
pub mod target;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::interrupt;
use crate::os::poller::{Poller, timespec};
use crate::wire::message_id::MessageId;
use crate::wire::payload::{self, Template};
use audience::Audience;
use ledger::Integrity;
use publisher::Publisher;
use target::Target;

const PUBLISHER: u64 = u64::MAX;
/// Longest message that can be received.
pub(crate) const BUFFER: usize = 256 * 1024;
/// How long a wait for events lasts at most, so that interrupts and deadlines are seen.
const LOOK_UP: Duration = Duration::from_millis(50);
/// The sleep between two looks at the sockets; with the timer's slack it lasts about 0.1 ms, in which a
/// server sends some fifty batches. Without it each send may wake the load: measured at 0.3 of 2.4 µs.
const GATHER: Duration = Duration::from_micros(50);
/// With so many events in one look there is no need to gather.
const PLENTY: usize = 256;

/// Hears of each message once: doubled ones are left out.
pub trait Observer {
    /// `session` has received message `sequence` of its topic for the first time.
    fn received(&mut self, session: usize, sequence: u64, payload: &[u8]);
}

/// Hears nothing.
#[derive(Debug)]
pub struct Deaf;

impl Observer for Deaf {
    #[inline]
    fn received(&mut self, _session: usize, _sequence: u64, _payload: &[u8]) {}
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Waited {
    /// What was waited for has happened.
    Done,
    /// Nothing at all happened for as long as the load has patience.
    Stalled,
}

/// What a load has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages received by all sessions, doubles left out.
    pub received: u64,
    /// Messages published.
    pub messages: u64,
    /// Requests that they took.
    pub posts: u64,
}

/// How a load is made; the same for all scenarios.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Whom it loads.
    pub target: Target,
    /// Size of each message.
    pub payload_bytes: usize,
    /// Sessions that it opens at a time.
    pub concurrency: usize,
    /// How long it waits for anything to happen.
    pub patience: Duration,
}

impl Manner {
    /// What payloads look like.
    fn template(&self) -> Result<Template> {
        Template::new(self.payload_bytes).with_context(|| {
            let (bytes, least) = (self.payload_bytes, payload::MIN_BYTES);
            format!("payload is {bytes} bytes, at least {least} are needed for number and time")
        })
    }
}

/// Sessions, publisher and the loop that serves both.
pub struct Load {
    poller: Poller,
    buffer: Box<[u8]>,
    audience: Audience,
    publisher: Publisher,
    concurrency: usize,
    patience: Duration,
    gather: bool,
}

impl Load {
    /// Connects the publisher; there are no sessions yet.
    pub fn new(manner: &Manner) -> Result<Self> {
        let template = manner.template()?;
        let mut publisher =
            Publisher::connect(&manner.target.publish, template.clone(), manner.patience)?;
        let poller = Poller::new()?;
        publisher.register(&poller, PUBLISHER)?;
        Ok(Self {
            poller,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            audience: Audience::new(&manner.target, template),
            publisher,
            concurrency: manner.concurrency,
            patience: manner.patience,
            gather: true,
        })
    }

    /// Looks at the sockets as soon as one is readable: for times of receipt, not for cost.
    pub fn look_at_once(&mut self) {
        self.gather = false;
    }

    /// Adds the next message of `topic`, sent at `nanos`, to the next request; says its number.
    pub fn add(&mut self, topic: usize, nanos: u64) -> u64 {
        self.publisher.add(topic, nanos)
    }

    /// Posts the messages that were added.
    pub fn post(&mut self) -> Result<()> {
        self.publisher.post(&self.poller)
    }

    /// The publisher, for what it has counted.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            received: self.audience.received(),
            messages: self.publisher.messages(),
            posts: self.publisher.posts(),
        }
    }

    /// All that was received and lost so far.
    pub fn integrity(&self) -> Integrity {
        self.audience.integrity(|topic| self.publisher.published(topic))
    }
}

/// Where sessions go on that were away: behind a message that all of them have seen.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    /// Their topic.
    pub topic: usize,
    /// The message that they have seen last.
    pub seen: MessageId,
    /// Number of the first that they missed.
    pub first_missed: u64,
}

impl Load {
    /// Opens `sessions` more; session n subscribes to topic `topic_of(n)`, for all that is published from now on.
    pub fn open(&mut self, sessions: usize, topic_of: impl Fn(usize) -> usize) -> Result<()> {
        let begin = |session, publisher: &Publisher| {
            let topic = topic_of(session);
            (topic, publisher.published(topic))
        };
        self.open_all(sessions, begin, &mut Deaf)
    }

    /// Opens `sessions` more that come back and want all that they missed, which `observer` hears from the first on.
    pub fn open_again<O: Observer>(
        &mut self,
        sessions: usize,
        absence: Absence,
        observer: &mut O,
    ) -> Result<()> {
        self.audience.go_on_after(&absence.seen);
        self.open_all(sessions, |_, _| (absence.topic, absence.first_missed), observer)
    }

    /// Opens `sessions` more; `begin` says which topic session n subscribes to, and the number of its first message.
    fn open_all<O: Observer>(
        &mut self,
        sessions: usize,
        begin: impl Fn(usize, &Publisher) -> (usize, u64),
        observer: &mut O,
    ) -> Result<()> {
        let goal = self.audience.started() + sessions;
        let mut patience = Patience::new(self.patience);
        while self.audience.opened() < goal {
            self.start_some(goal, &begin)?;
            self.turn(LOOK_UP, observer)?;
            let (opened, limit) = (self.audience.opened(), self.patience);
            ensure!(
                !patience.is_over(opened as u64),
                "{opened} of {goal} sessions are open, and no other opened for {limit:?}"
            );
        }
        Ok(())
    }

    /// Starts sessions as long as fewer than allowed are being opened.
    fn start_some(
        &mut self,
        goal: usize,
        begin: impl Fn(usize, &Publisher) -> (usize, u64),
    ) -> Result<()> {
        let allowed = goal.min(self.audience.opened() + self.concurrency);
        while self.audience.started() < allowed {
            let (topic, first) = begin(self.audience.started(), &self.publisher);
            self.audience.start(topic, first, &self.poller)?;
        }
        Ok(())
    }

    /// Closes all sessions.
    pub fn close(&mut self) {
        self.audience.close(|topic| self.publisher.published(topic));
    }

    /// Serves the sockets until `done`.
    pub fn wait_until<O: Observer>(
        &mut self,
        observer: &mut O,
        done: impl Fn(&O, &Publisher) -> bool,
    ) -> Result<Waited> {
        let mut patience = Patience::new(self.patience);
        while !done(observer, &self.publisher) {
            self.turn(LOOK_UP, observer)?;
            if patience.is_over(self.progress()) {
                return Ok(Waited::Stalled);
            }
        }
        Ok(Waited::Done)
    }

    /// Serves the sockets until `until`.
    pub fn wait_for<O: Observer>(&mut self, until: Instant, observer: &mut O) -> Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left.min(LOOK_UP), observer)?;
        }
    }

    /// Waits for messages that others have overtaken; those that don't come are lost.
    pub fn settle(&mut self) -> Result<Integrity> {
        let mut patience = Patience::new(self.patience);
        while self.integrity().lost > 0 && !patience.is_over(self.progress()) {
            self.turn(LOOK_UP, &mut Deaf)?;
        }
        Ok(self.integrity())
    }

    /// A number that changes whenever something has come.
    fn progress(&self) -> u64 {
        self.audience.received() + self.publisher.posts()
    }

    /// One look at the sockets, after a wait of at most `timeout` for one that is readable.
    fn turn<O: Observer>(&mut self, timeout: Duration, observer: &mut O) -> Result<()> {
        interrupt::check()?;
        let events = self.poller.wait(Some(timeout))?;
        for index in 0..events {
            let ready = self.poller.ready(index);
            if ready.token == PUBLISHER {
                self.publisher.serve(ready, &self.poller)?;
            } else {
                self.audience.serve(ready, &self.poller, &mut self.buffer, observer)?;
            }
        }
        if self.gather {
            gather(events);
        }
        Ok(())
    }
}

/// Naps after a look that found so many `events`, so that the next finds more.
pub(crate) fn gather(events: usize) {
    if (1..PLENTY).contains(&events) {
        // Cut short by a signal, the nap has done its work too.
        let _ = rustix::thread::nanosleep(&timespec(GATHER));
    }
}

/// Notices when nothing happens for too long.
pub(crate) struct Patience {
    limit: Duration,
    progress: u64,
    since: Option<Instant>,
}

impl Patience {
    /// Nothing has happened yet.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, progress: 0, since: None }
    }

    /// Whether `progress` has stayed the same up to the limit.
    pub(crate) fn is_over(&mut self, progress: u64) -> bool {
        if self.progress != progress {
            self.progress = progress;
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() > self.limit
    }
}
