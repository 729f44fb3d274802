//! Publishes a run's messages over one connection, one batch at a time, so that topics keep their order.
//!
//! A refusal or a lost connection doesn't end it: what wasn't confirmed is sent again after a pause, over a new
//! connection if need be, until everything is confirmed or the patience is over. With keys a server that knows its
//! messages by them has each once; without, what may have been published twice is counted as doubtful.

mod backoff;
mod batch;
mod fault;
mod feed;
mod post;
mod raw;
mod redis;
mod session;
mod tally;
mod text;
mod way;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::os::poller::{Poller, Ready};
use crate::os::stream::Stream;
use crate::wire::payload::Template;
use backoff::Backoff;
use batch::{Batch, Message};
use fault::Fault;
pub use feed::Feed;
pub use tally::PublishFigures;
use tally::Tally;
use way::Way;

/// Longest answer that can be received.
const BUFFER: usize = 256 * 1024;
/// Time that a connection has to come about; the thread waits for it.
const CONNECT: Duration = Duration::from_secs(1);
/// Most messages that wait: while a server is away those that are due are kept.
const MAX_WAITING: usize = 4_000_000;

/// Publishes; see the module.
pub struct Publisher {
    /// Where to, for people.
    place: String,
    address: SocketAddr,
    way: Box<dyn Way>,
    /// Repeats are recognised.
    keyed: bool,
    template: Template,
    batch_size: usize,
    patience: Duration,
    link: Option<Stream>,
    token: u64,
    buffer: Box<[u8]>,
    /// What is to be replied to what was just read.
    reply: Vec<u8>,
    /// Added and not sent yet.
    waiting: VecDeque<Message>,
    batch: Batch,
    /// The batch was sent.
    under_way: bool,
    backoff: Backoff,
    /// Messages added, by topic.
    published: Vec<u64>,
    tally: Tally,
}

impl Publisher {
    /// Connects to where `feed` takes messages, `batch` of them at most in a request. A server that isn't there is an
    /// error here; later it is waited for as long as the `patience`, in which something must be confirmed.
    pub fn connect(
        feed: &Feed,
        template: Template,
        batch: usize,
        patience: Duration,
    ) -> Result<Self> {
        ensure!(batch > 0, "a publish request must have a message");
        let feed::Resolved { place, address, way, keyed } = feed.resolve(&template, batch)?;
        let link = Stream::connect(address, CONNECT)
            .with_context(|| format!("publisher can't connect to {place}"))?;
        let mut publisher = Self {
            place,
            address,
            way,
            keyed,
            template,
            batch_size: batch,
            patience,
            link: Some(link),
            token: 0,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            reply: Vec::new(),
            waiting: VecDeque::new(),
            batch: Batch::default(),
            under_way: false,
            backoff: Backoff::default(),
            published: Vec::new(),
            tally: Tally::new(),
        };
        publisher.greet();
        Ok(publisher)
    }

    /// Has `poller` tell of its connection, and of those that come after it, under `token`.
    pub fn register(&mut self, poller: &Poller, token: u64) -> Result<()> {
        self.token = token;
        if let Some(link) = &mut self.link {
            link.register(poller, token)?;
            link.flush(poller)?;
        }
        Ok(())
    }

    /// Adds the next message of `topic`, which was due at `due_nanos`; it waits until [`pump`](Self::pump) sends it.
    pub fn add(&mut self, topic: usize, due_nanos: u64) {
        self.tally.add(self.outstanding() == 0);
        if self.published.len() <= topic {
            self.published.resize(topic + 1, 0);
        }
        let sequence = self.published[topic];
        self.published[topic] += 1;
        self.waiting.push_back(Message { topic, sequence, due: due_nanos });
    }

    /// Messages that were added and aren't confirmed yet.
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + self.batch.outstanding()
    }

    /// Messages that were added, by topic number.
    pub fn published(&self) -> &[u64] {
        &self.published
    }

    /// What it came to so far.
    pub fn figures(&self) -> PublishFigures {
        self.tally.figures
    }

    /// The window begins: times are noted only of messages that are due from `now` on, in nanoseconds.
    pub fn begin_window(&mut self, now: u64) {
        self.tally.begin_window(now);
    }

    /// It ends: messages that were due before `now` have their times though they are confirmed later.
    pub fn end_window(&mut self, now: u64) {
        self.tally.end_window(now);
    }

    /// Times from when messages were due until they were confirmed, in nanoseconds, since the last call.
    pub fn take_times(&mut self) -> Histogram<u64> {
        self.tally.take_times()
    }

    /// In what time [`pump`](Self::pump) has something to do even if nothing happens on the connection; `None`: not
    /// before something is added.
    pub fn wakes_in(&self) -> Option<Duration> {
        if self.outstanding() == 0 {
            return None;
        }
        let now = Instant::now();
        let limit = self.tally.patience_left(self.patience, now);
        let busy = self.under_way || (self.link.is_some() && !self.way.is_open());
        Some(if busy { limit } else { limit.min(self.backoff.left(now)) })
    }
}

impl Publisher {
    /// Sends the next batch if none is under way, or one that failed again if its pause is over; connects anew if need
    /// be. To be called after messages were added and when [`wakes_in`](Self::wakes_in) is over. An error ends the run:
    /// the server will never take what it was sent, or nothing was confirmed for as long as the patience.
    pub fn pump(&mut self, poller: &Poller) -> Result<()> {
        self.check_patience()?;
        if self.under_way || self.outstanding() == 0 || !self.backoff.left(Instant::now()).is_zero()
        {
            return Ok(());
        }
        let sent = self.send_batch(poller);
        self.end_of(sent)
    }

    /// Goes on after an event of its connection, as far as that may be, and pumps.
    pub fn serve(&mut self, ready: Ready, poller: &Poller) -> Result<()> {
        let served = self.flush_and_read(ready, poller);
        self.tally.take_from(&mut self.batch, self.keyed);
        self.end_of(served)?;
        self.pump(poller)
    }

    fn check_patience(&self) -> Result<()> {
        let waiting = self.waiting.len();
        ensure!(
            waiting <= MAX_WAITING,
            "{waiting} messages wait to be published to {}",
            self.place
        );
        let left = self.tally.patience_left(self.patience, Instant::now());
        if self.outstanding() == 0 || !left.is_zero() {
            return Ok(());
        }
        let heard = self.way.last_words().map(|words| format!("; it said last {words}"));
        bail!(
            "{} confirmed no message for {:.1} s; last failure: {}{}",
            self.place,
            self.patience.as_secs_f64(),
            self.tally.last_failure(),
            heard.unwrap_or_default()
        )
    }

    fn send_batch(&mut self, poller: &Poller) -> Result<(), Fault> {
        if self.link.is_none() {
            let mut link = Stream::connect(self.address, CONNECT)?;
            link.register(poller, self.token)?;
            self.link = Some(link);
            self.greet();
        }
        let link = self.link.as_mut().expect("connected just now, unless it was");
        if self.way.is_open() {
            if self.batch.is_empty() {
                let messages = self.waiting.len().min(self.batch_size);
                self.waiting.drain(..messages).for_each(|message| self.batch.push(message));
            }
            let (messages, template) = (self.batch.messages(), &mut self.template);
            self.tally.figures.requests += self.way.write(messages, template, link.unsent());
            self.under_way = true;
        }
        link.flush(poller)?;
        self.settle();
        Ok(())
    }

    fn greet(&mut self) {
        self.reply.clear();
        if let Some(link) = &mut self.link {
            self.way.greet(link.unsent());
        }
    }

    fn flush_and_read(&mut self, ready: Ready, poller: &Poller) -> Result<(), Fault> {
        let Some(link) = &mut self.link else {
            // The event is of a connection that was given up meanwhile.
            return Ok(());
        };
        // Reading first: a server that refuses a request may close before it has read it.
        if ready.readable() {
            let (way, batch, reply) = (&mut self.way, &mut self.batch, &mut self.reply);
            link.receive(&mut self.buffer, |bytes| way.hear(bytes, batch, reply))?;
            link.unsent().append(reply);
        }
        link.flush(poller)?;
        self.settle();
        if ready.ended() || self.way.is_over() {
            return Err(Fault::lost("it closed the connection"));
        }
        Ok(())
    }

    /// Ends the batch if all of it is answered.
    fn settle(&mut self) {
        let written = self.link.as_mut().is_some_and(|link| link.unsent().is_empty());
        if self.under_way && self.way.is_unanswered() && written {
            self.batch.confirm_all();
        }
        self.tally.take_from(&mut self.batch, self.keyed);
        if self.under_way && self.batch.unanswered() == 0 {
            self.under_way = false;
            match self.batch.settle() {
                None => self.backoff.reset(),
                Some(reason) => self.failed(reason),
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.tally.fail(reason);
        self.backoff.grow(Instant::now());
    }

    /// What a fault leads to.
    fn end_of(&mut self, done: Result<(), Fault>) -> Result<()> {
        match done {
            Ok(()) => Ok(()),
            Err(Fault::Final(reason)) => {
                bail!("{} doesn't take what is published: {reason}", self.place)
            }
            Err(Fault::Lost(reason)) => {
                self.lost(reason);
                Ok(())
            }
        }
    }

    /// The connection is of no use any more. If nothing was under way, that is no failure.
    fn lost(&mut self, reason: String) {
        let was_idle = self.link.take().is_some() && self.way.is_open() && !self.under_way;
        if self.under_way {
            self.batch.lose(&reason);
            self.settle();
        } else if !was_idle {
            self.failed(reason);
        }
    }
}
