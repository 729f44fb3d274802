//! A node: workers, broker and admin listener, from bound ports to the end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use umbel_broker::{Broker, Mailbox, MemoryBroker, RedisBroker, RedisSettings, WorkerId};

use crate::admin::{Admin, NodeState};
use crate::admission::Admission;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{BrokerUrl, Mistakes, Place, Settings};
pub use crate::drain::Asked;
use crate::drain::{Leaving, STOP_DEADLINE, Stage, Stages};
use crate::log::Log;
use crate::trace::{Tracer, Traces};
use crate::worker::{self, Seed, WorkerMetrics};
use crate::{listen, log, machine};

/// How much may wait for one worker, in bytes. Enough for what a second's worth of writes needs;
/// beyond it publishers wait.
const MAILBOX_BYTES: usize = 8 << 20;

/// A node whose ports are bound and which is not serving yet.
#[derive(Debug)]
pub struct Node {
    settings: Arc<Settings>,
    /// One per worker.
    listeners: Vec<TcpListener>,
    admin: TcpListener,
    http_address: SocketAddr,
    admin_address: SocketAddr,
    /// What the process and its sockets may take, in bytes.
    memory: usize,
    /// How many descriptors the process may have.
    descriptors: usize,
    /// What operators may do to the process's log, if it keeps one.
    log: Option<log::Desk>,
}

/// What all workers get.
struct Shared {
    broker: Arc<Broker>,
    /// One per worker.
    mailboxes: Vec<Arc<Mailbox>>,
    clock: Clock,
    admission: Arc<Admission>,
    budget: Arc<Budget>,
    stages: Stages,
    tracer: Option<Arc<Tracer>>,
}

/// How long workers may take to end: what they give their clients, and some.
const STUCK_DEADLINE: Duration = STOP_DEADLINE.saturating_add(Duration::from_millis(400));

/// What history gets if nothing is said, in bytes.
const HISTORY_BYTES: usize = 64 << 20;

impl Node {
    /// Binds the ports. Both are tried, so that both can be told.
    pub fn bind(settings: Settings, mistakes: &mut Mistakes) -> Option<Self> {
        let mut told = |name, address, error: io::Error| {
            mistakes.add(Place::Settings, cannot_listen(name, address, &error));
        };
        let count = worker_count(&settings);
        let socket_bytes = settings.limits.socket_bytes;
        let listeners = listen::bind_all(settings.listen.http, count, socket_bytes)
            .map_err(|error| told("listen.http", settings.listen.http, error));
        let admin = listen::bind_alone(settings.listen.admin)
            .map_err(|error| told("listen.admin", settings.listen.admin, error));
        let memory = settings.node.memory_bytes.unwrap_or_else(machine::memory);
        if let Some(history) = settings.broker.history_bytes.filter(|bytes| *bytes > memory / 8) {
            mistakes.add(
                Place::Settings,
                format!(
                    "broker.history_mib ({}) is more than an eighth of the node's memory ({} MiB)",
                    history >> 20,
                    memory >> 20
                ),
            );
        }
        let (listeners, admin) = (listeners.ok()?, admin.ok()?);
        Some(Self {
            http_address: listeners[0].local_addr().ok()?,
            admin_address: admin.local_addr().ok()?,
            memory,
            descriptors: machine::raise_descriptors(),
            settings: Arc::new(settings),
            listeners,
            admin,
            log: None,
        })
    }

    /// Has operators see what the process's log counts, and change what it says. Without one a node
    /// logs to whatever the program has that it is embedded in.
    #[must_use]
    pub fn with_log(mut self, log: &Log) -> Self {
        self.log = Some(log.desk());
        self
    }

    /// How it was configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where clients and publishers find it.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where operators find it.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What carries its messages, without what must not be shown.
    pub fn broker(&self) -> String {
        match &self.settings.broker.url {
            BrokerUrl::Memory => "memory:".to_owned(),
            BrokerUrl::Redis(url) => url.to_string(),
        }
    }

    /// How many workers it will have.
    pub fn worker_count(&self) -> usize {
        self.listeners.len()
    }

    /// Serves on this and further threads, until it was asked to end and has. `asked` gives what it
    /// is asked for, again and again, and must be cancel safe. An error says that a worker or the
    /// admin listener failed.
    pub fn run(self, asked: impl AsyncFnMut() -> Asked) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve(asked))
    }

    async fn serve(mut self, mut signalled: impl AsyncFnMut() -> Asked) -> io::Result<()> {
        // Only a worker closes its listener, and it must be the last that has it.
        let listeners = std::mem::take(&mut self.listeners);
        let clock = Clock::start();
        let metrics: Vec<_> = listeners.iter().map(|_| Arc::<WorkerMetrics>::default()).collect();
        let leaving = Leaving::new(self.settings.drain);
        let (ended, mut endings) = mpsc::channel(metrics.len());
        let mailboxes: Vec<_> =
            metrics.iter().map(|_| Arc::new(Mailbox::new(MAILBOX_BYTES))).collect();
        // Dropped last: then all have recorded what they had to.
        let recording = Traces::start(&self.settings)?;
        let tracer = recording.as_ref().map(Traces::tracer);
        let broker = Arc::new(self.start_broker(&mailboxes, clock, tracer.clone())?);
        let admission = Arc::new(Admission::new(&self.settings.limits, self.descriptors));
        self.tell_descriptors(&admission);
        let shared = Shared {
            broker: broker.clone(),
            mailboxes,
            clock,
            admission,
            budget: Arc::new(self.budget(metrics.len())),
            stages: leaving.stages(),
            tracer: tracer.clone(),
        };
        let state = NodeState {
            broker,
            admission: shared.admission.clone(),
            budget: shared.budget.clone(),
            stages: leaving.stages(),
            asked: leaving.asked(),
            planned: self.settings.drain.planned(),
        };
        let threads = self.start_workers(listeners, &metrics, &shared, &ended)?;
        // The workers hold the rest: once they are gone, so is the channel.
        drop(ended);
        let (ask, mut by_operator) = mpsc::channel(1);
        let admin = Admin::new(&self.settings, metrics, state, ask, clock);
        let admin = admin.with_log(self.log.take()).with_traces(tracer.as_deref());
        let mut admin = pin!(admin.serve(self.admin));
        let mut asked = async || {
            tokio::select! {
                asked = signalled() => asked,
                Some(asked) = by_operator.recv() => asked,
            }
        };
        let (first, outcome) = tokio::select! {
            asked = asked() => (asked, Ok(())),
            error = &mut admin => return Err(error),
            // A worker ends by itself only if it failed.
            Some(ending) = endings.recv() => (Asked::Stop, ending),
        };
        let mut outcome = outcome;
        let leaves = async {
            if first != Asked::Stop {
                leaving.leave(first, all_ended(&mut endings, &mut outcome), asked).await;
            }
            leaving.enter(Stage::Stopping);
            let ended = all_ended(&mut endings, &mut outcome);
            tokio::time::timeout(STUCK_DEADLINE, ended).await.is_ok()
        };
        let have_ended = tokio::select! {
            have_ended = leaves => have_ended,
            error = admin => return Err(error),
        };
        if !have_ended {
            return Err(io::Error::other("a worker is stuck"));
        }
        for thread in threads {
            // What it had to say it has said through the channel.
            let _ = thread.join();
        }
        outcome
    }

    /// Says so if descriptors and not the setting limit the sessions.
    fn tell_descriptors(&self, admission: &Admission) {
        let (wanted, possible) = (self.settings.limits.sessions, admission.max_sessions());
        if possible < wanted && wanted != usize::MAX {
            tracing::info!(
                descriptors = self.descriptors,
                sessions = possible,
                wanted,
                "Fewer sessions than limits.sessions, for want of descriptors"
            );
        }
    }

    fn budget(&self, workers: usize) -> Budget {
        let largest = self.settings.limits.body_bytes.max(self.settings.limits.payload_bytes);
        Budget::new(self.memory, self.history_bytes(), largest, workers)
    }

    /// What history may take in memory, in bytes.
    fn history_bytes(&self) -> usize {
        self.settings.broker.history_bytes.unwrap_or(HISTORY_BYTES.min(self.memory / 8))
    }

    fn start_broker(
        &self,
        mailboxes: &[Arc<Mailbox>],
        clock: Clock,
        tracer: Option<Arc<Tracer>>,
    ) -> io::Result<Broker> {
        let settings = &self.settings;
        let url = match &settings.broker.url {
            BrokerUrl::Memory => {
                let bytes = self.history_bytes();
                return Ok(Broker::Memory(MemoryBroker::new(mailboxes.iter().cloned(), bytes)));
            }
            BrokerUrl::Redis(url) => url.clone(),
        };
        let redis = RedisSettings {
            url,
            prefix: settings.broker.prefix.clone(),
            message_bytes: settings.limits.body_bytes.max(settings.limits.payload_bytes),
            linger: Duration::from_secs(settings.broker.linger_seconds.into()),
            check_every: Duration::from_secs(settings.broker.check_seconds.into()),
            history_bytes: self.history_bytes(),
            wait_replicas: settings.broker.wait_replicas,
            canary: settings.node.canary,
            started: clock.started(),
            witness: tracer.map(|tracer| tracer as _),
        };
        Ok(Broker::Redis(RedisBroker::start(redis, mailboxes.iter().cloned())?))
    }

    fn start_workers(
        &self,
        listeners: Vec<TcpListener>,
        metrics: &[Arc<WorkerMetrics>],
        shared: &Shared,
        ended: &mpsc::Sender<io::Result<()>>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let seed = Seed {
                id: WorkerId::new(index).expect("node.workers is at most 128"),
                listener,
                mailbox: shared.mailboxes[index].clone(),
                broker: shared.broker.clone(),
                settings: self.settings.clone(),
                clock: shared.clock,
                metrics: metrics[index].clone(),
                admission: shared.admission.clone(),
                budget: shared.budget.clone(),
                stages: shared.stages.clone(),
                tracer: shared.tracer.clone(),
            };
            threads.push(start_worker(seed, ended.clone())?);
        }
        Ok(threads)
    }
}

/// Waits until no worker is left, and keeps the first failure.
async fn all_ended(endings: &mut mpsc::Receiver<io::Result<()>>, outcome: &mut io::Result<()>) {
    while let Some(ending) = endings.recv().await {
        if outcome.is_ok() {
            *outcome = ending;
        }
    }
}

fn start_worker(seed: Seed, ended: mpsc::Sender<io::Result<()>>) -> io::Result<JoinHandle<()>> {
    let name = format!("worker-{}", seed.id.index());
    thread::Builder::new().name(name.clone()).spawn(move || {
        log::this_is_worker(seed.id.index());
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(seed)));
        let ending = run.unwrap_or_else(|_| Err(io::Error::other(format!("{name} panicked"))));
        // There is room for every worker's ending; if nobody listens, the node has failed already.
        let _ = ended.try_send(ending);
    })
}

fn worker_count(settings: &Settings) -> usize {
    match settings.node.workers {
        0 => thread::available_parallelism().map_or(1, usize::from).min(WorkerId::MAX + 1),
        count => count,
    }
}

fn cannot_listen(name: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{name}: {address} is taken by another program or another Umbel; choose another port"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{name}: {address} may not be listened on: {error}")
        }
        _ => format!("{name}: can't listen on {address}: {error}"),
    }
}
