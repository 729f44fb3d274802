//! The life of a link: connect, prove, carry, fail, wait, again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, RedisResult};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, interval, sleep};

use super::beat::{Beat, TICK};
use super::connect::{Connections, connect};
use super::fault::{Fault, FaultKind};
use super::intake::Intake;
use super::interest::Interest;
use super::library::Library;
use super::metrics::BrokerMetrics;
use super::probe::{self, Probe};
use super::publisher::PublishQueue;
use super::reads::Reads;
use super::settings::RedisSettings;
use super::status::Status;
use super::url::RedisUrl;
use crate::{Mailbox, Parcel};

/// How many topics go into one SUBSCRIBE.
const TOPICS_PER_COMMAND: usize = 512;

/// How much is written ahead of what the server reads.
const OUTPUT_BYTES: usize = 256 * 1024;

/// The pauses between attempts to connect: the first, and the longest, which is what is lost at
/// most when the server is back.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How often a trouble that lasts is logged.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// A link to one Redis server.
#[derive(Debug)]
pub(super) struct Link {
    settings: RedisSettings,
    /// The node's name at Redis.
    name: String,
    interest: Arc<Interest>,
    status: Arc<Status>,
    queue: PublishQueue,
    reads: Reads,
    mailboxes: Arc<[Arc<Mailbox>]>,
    metrics: Arc<BrokerMetrics>,
    backoff: Duration,
    reminded: Option<Instant>,
}

/// What tokio calls a worker: an event loop on one thread has one.
const THE_ONLY_WORKER: usize = 0;

type ProbeReply = Pin<Box<dyn Future<Output = RedisResult<probe::Reply>> + Send>>;

impl Link {
    pub(super) fn new(
        settings: RedisSettings,
        interest: Arc<Interest>,
        status: Arc<Status>,
        queue: PublishQueue,
        mailboxes: Arc<[Arc<Mailbox>]>,
        metrics: Arc<BrokerMetrics>,
    ) -> Self {
        let name = format!("umbel-{:016x}", fastrand::u64(..));
        let (backoff, _) = BACKOFF;
        let reads = Reads::new(&settings, interest.clone(), mailboxes.clone(), metrics.clone());
        Self {
            reads,
            settings,
            name,
            interest,
            status,
            queue,
            mailboxes,
            metrics,
            backoff,
            reminded: None,
        }
    }

    /// Keeps the link up. Never returns.
    pub(super) async fn run(mut self) {
        loop {
            let fault = self.once().await;
            self.interest.lost();
            self.failed(&fault);
            let pause = self.next_pause();
            let trouble = self.trouble(&fault);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.queue.refuse(&trouble) => {}
                () = sweep(&self.interest) => {}
            }
        }
    }

    /// Connects and carries until something fails.
    async fn once(&mut self) -> Fault {
        let connected = tokio::select! {
            connected = ready(&self.settings.url, &self.name) => connected,
            () = self.queue.refuse("connecting to Redis") => unreachable!("refuses for ever"),
            () = sweep(&self.interest) => unreachable!("sweeps for ever"),
        };
        let (connections, library) = match connected {
            Ok(connected) => connected,
            Err(fault) => return fault,
        };
        self.metrics.connections.add(1);
        let carrying = Carrying::new(self);
        let (commands, master) = (connections.commands.clone(), connections.master.clone());
        let backoff = &mut self.backoff;
        tokio::select! {
            fault = carrying.carry(connections, || (*backoff, _) = BACKOFF) => fault,
            fault = self.queue.serve(commands.clone(), library.clone()) => fault,
            fault = self.reads.serve(commands, library) => fault,
            fault = self.settings.url.moved(master) => fault,
        }
    }

    fn failed(&mut self, fault: &Fault) {
        self.metrics.up.set(0.0);
        self.metrics.lose_canaries();
        self.metrics.failures.of(fault.kind).add(1);
        let news = self.status.set(Some(self.trouble(fault)));
        let now = Instant::now();
        if news || self.reminded.is_none_or(|at| now - at >= REMIND_EVERY) {
            self.reminded = Some(now);
            tracing::warn!(url = %self.settings.url, %fault, "Redis can't be used");
        }
    }

    fn trouble(&self, fault: &Fault) -> String {
        format!("Redis at {} can't be used: {fault}", self.settings.url)
    }

    /// Twice the last pause, up to the longest; a random part of it, so that nodes that lost their
    /// links together don't return together.
    fn next_pause(&mut self) -> Duration {
        let pause = self.backoff.mul_f64(fastrand::f64().midpoint(1.0));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        pause
    }
}

/// Connects, and finds out how history can be kept there.
async fn ready(url: &RedisUrl, name: &str) -> Result<(Connections, Library), Fault> {
    let mut connections = connect(url, name).await?;
    let library = Library::load(&mut connections.commands).await?;
    Ok((connections, library))
}

/// Looks for topics that were left, also while there is no link.
async fn sweep(interest: &Interest) {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        interest.sweep();
        interest.forget_removed();
    }
}

/// A link that is connected.
#[derive(Debug)]
struct Carrying {
    url: RedisUrl,
    prefix: String,
    interest: Arc<Interest>,
    status: Arc<Status>,
    metrics: Arc<BrokerMetrics>,
    intake: Intake,
    probe: Probe,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    /// The worker that has no room: until it has, nothing is read.
    full: Option<Arc<Mailbox>>,
    /// A trouble that messages pass nevertheless, as it was logged last.
    refusal: Option<FaultKind>,
    /// Where canaries go, if they are wanted.
    canary: Option<Arc<[Arc<Mailbox>]>>,
    /// From when the node's clock counts.
    started: std::time::Instant,
    /// When quiet topics were compared last.
    checked: Instant,
    check_every: Duration,
}

impl Carrying {
    fn new(link: &Link) -> Self {
        let RedisSettings {
            url, prefix, message_bytes, started, check_every, canary, witness, ..
        } = link.settings.clone();
        let channel = format!("{prefix}!probe:{}", link.name);
        let intake = Intake::new(
            prefix.clone(),
            channel.clone(),
            message_bytes,
            started,
            link.mailboxes.clone(),
            link.metrics.clone(),
            witness,
        );
        Self {
            url,
            prefix,
            interest: link.interest.clone(),
            status: link.status.clone(),
            metrics: link.metrics.clone(),
            intake,
            probe: Probe::new(channel),
            output: Vec::new(),
            written: 0,
            full: None,
            refusal: None,
            canary: canary.then(|| link.mailboxes.clone()),
            started,
            checked: Instant::now(),
            check_every,
        }
    }

    /// Reads, writes and probes until something fails. Calls `proven` at each echo.
    async fn carry(mut self, connections: Connections, mut proven: impl FnMut()) -> Fault {
        let Connections { mut reader, mut writer, commands, server, .. } = connections;
        self.interest.lock().begin();
        let mut subscribe = redis::cmd("SUBSCRIBE");
        self.output = subscribe.arg(self.probe.channel()).get_packed_command();
        let mut beat = Beat::start();
        let mut reply: Option<ProbeReply> = None;
        loop {
            self.put_changes();
            let waiting = self.full.clone();
            let step = tokio::select! {
                read = reader.read_buf(self.intake.buffer()), if waiting.is_none() => match read {
                    Ok(0) => Err(Fault::new(FaultKind::Lost, "Redis closed the connection")),
                    Ok(bytes) => self.took(bytes, &server, &mut proven),
                    Err(error) => Err(Fault::lost(&error)),
                },
                wrote = writer.write(&self.output[self.written..]), if self.has_output() => {
                    wrote.map(|bytes| self.wrote(bytes)).map_err(|error| Fault::lost(&error))
                }
                () = self.interest.changed() => {
                    if self.interest.lock().has_leaving() {
                        beat.hurry();
                    }
                    Ok(())
                }
                () = room(waiting.as_deref()), if waiting.is_some() => {
                    self.full = None;
                    self.probe.excuse(Instant::now());
                    Ok(())
                }
                now = beat.tick() => {
                    let looks_again = self.looks_again();
                    if beat.is_full_second(now)
                        && let Some(command) = self.probe.begin(now)
                    {
                        self.metrics.canaries_sent.add(self.canary.is_some().into());
                        reply = Some(ask(commands.clone(), command));
                    }
                    let ticked = self.ticked(now);
                    beat.rest(now, looks_again);
                    ticked
                }
                replied = poll_reply(&mut reply), if reply.is_some() => {
                    reply = None;
                    self.replied(replied)
                }
            };
            if let Err(fault) = step {
                return fault;
            }
        }
    }

    fn took(
        &mut self,
        bytes: usize,
        server: &ConnectionAddr,
        proven: &mut impl FnMut(),
    ) -> Result<(), Fault> {
        self.metrics.received_bytes.add(bytes as u64);
        let taken = self.intake.take(&self.interest)?;
        if let Some(payload) = taken.echo
            && let Some(sent) = self.probe.echoed(&payload)
        {
            self.metrics.probe_seconds.observe(micros(sent.elapsed()), 1);
            self.pass_canary_on(sent);
            self.metrics.up.set(1.0);
            proven();
            if self.status.set(None) {
                tracing::info!(url = %self.url, %server, "Redis is connected");
            }
        }
        if taken.full.is_some() {
            self.metrics.pauses.add(1);
        }
        self.full = taken.full;
        Ok(())
    }

    /// Has the workers see what became of a message of our own.
    fn pass_canary_on(&self, sent: Instant) {
        let Some(mailboxes) = &self.canary else {
            return;
        };
        self.metrics.canaries_returned.add(1);
        let published = micros(sent.into_std().saturating_duration_since(self.started));
        for mailbox in &**mailboxes {
            mailbox.push(Parcel::Canary(published));
        }
    }

    /// Whether there are deadlines that don't wait for the next probe.
    fn looks_again(&self) -> bool {
        self.full.is_some() || self.probe.is_under_way() || self.interest.lock().has_leaving()
    }

    fn ticked(&mut self, now: Instant) -> Result<(), Fault> {
        self.interest.sweep();
        self.interest.forget_removed();
        let runtime = Handle::current().metrics();
        self.metrics.busy_micros.set(micros(runtime.worker_total_busy_duration(THE_ONLY_WORKER)));
        self.metrics.topics.set_count(self.interest.lock().topic_count());
        let mut archive = self.interest.archive();
        self.metrics.behind.set_count(archive.behind_count());
        if now - self.checked >= self.check_every {
            self.checked = now;
            archive.check_quiet();
        }
        drop(archive);
        if self.full.is_some() {
            self.probe.excuse(now);
        }
        self.probe.check(now)
    }

    /// The probe's script has run.
    fn replied(&mut self, reply: RedisResult<probe::Reply>) -> Result<(), Fault> {
        let reply = reply?;
        self.metrics.clock_skew.set(self.probe.skew(&reply));
        let refusal = probe::refusal(&reply.0);
        if let Some(fault) = &refusal {
            if fault.kind == FaultKind::ReadOnly {
                return Err(fault.clone());
            }
            if self.refusal != Some(fault.kind) {
                tracing::warn!(%fault, "Redis takes no writes; messages pass");
            }
        }
        self.refusal = refusal.map(|fault| fault.kind);
        Ok(())
    }

    /// Turns changes of interest into commands, as far as there is room for more output.
    fn put_changes(&mut self) {
        while self.output.len() - self.written < OUTPUT_BYTES {
            let changes = {
                let mut table = self.interest.lock();
                if !table.has_changes() {
                    return;
                }
                table.take_changes(TOPICS_PER_COMMAND)
            };
            for (name, topics) in
                [("SUBSCRIBE", changes.subscribe), ("UNSUBSCRIBE", changes.unsubscribe)]
            {
                if topics.is_empty() {
                    continue;
                }
                let mut command = redis::cmd(name);
                for topic in &topics {
                    command.arg(format!("{}{topic}", self.prefix));
                }
                self.output.extend_from_slice(&command.get_packed_command());
            }
        }
    }

    fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.output.len() {
            self.output.clear();
            self.output.shrink_to(OUTPUT_BYTES);
            self.written = 0;
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn ask(mut commands: MultiplexedConnection, command: redis::Cmd) -> ProbeReply {
    Box::pin(async move { command.query_async(&mut commands).await })
}

async fn poll_reply(reply: &mut Option<ProbeReply>) -> RedisResult<probe::Reply> {
    match reply {
        Some(reply) => reply.await,
        None => std::future::pending().await,
    }
}

async fn room(mailbox: Option<&Mailbox>) {
    match mailbox {
        Some(mailbox) => mailbox.room().await,
        None => std::future::pending().await,
    }
}
