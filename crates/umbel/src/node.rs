//! A node: workers, broker and admin listener, from bound ports to the end.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use umbel_broker::{Broker, Mailbox, MemoryBroker, RedisBroker, RedisSettings, WorkerId};

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{BrokerUrl, Mistakes, Place, Settings};
use crate::listen;
use crate::worker::{self, Seed, WorkerMetrics};

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
}

/// What all workers get.
struct Shared {
    broker: Arc<Broker>,
    /// One per worker.
    mailboxes: Vec<Arc<Mailbox>>,
    clock: Clock,
    stop: watch::Receiver<bool>,
}

impl Node {
    /// Binds the ports. Both are tried, so that both can be told.
    pub fn bind(settings: Settings, mistakes: &mut Mistakes) -> Option<Self> {
        let mut told = |name, address, error: io::Error| {
            mistakes.add(Place::Settings, cannot_listen(name, address, &error));
        };
        let count = worker_count(&settings);
        let listeners = listen::bind_all(settings.listen.http, count)
            .map_err(|error| told("listen.http", settings.listen.http, error));
        let admin = listen::bind_alone(settings.listen.admin)
            .map_err(|error| told("listen.admin", settings.listen.admin, error));
        let (listeners, admin) = (listeners.ok()?, admin.ok()?);
        Some(Self {
            http_address: listeners[0].local_addr().ok()?,
            admin_address: admin.local_addr().ok()?,
            settings: Arc::new(settings),
            listeners,
            admin,
        })
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

    /// Serves on this and further threads until `stop` is ready and the sessions are told. An
    /// error says that a worker or the admin listener failed.
    pub fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve(stop))
    }

    async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let clock = Clock::start();
        let metrics: Vec<_> =
            self.listeners.iter().map(|_| Arc::<WorkerMetrics>::default()).collect();
        let (stop_workers, stopping) = watch::channel(false);
        let (ended, mut endings) = mpsc::channel(metrics.len());
        let mailboxes: Vec<_> =
            metrics.iter().map(|_| Arc::new(Mailbox::new(MAILBOX_BYTES))).collect();
        let broker = Arc::new(self.start_broker(&mailboxes, clock)?);
        let shared = Shared { broker: broker.clone(), mailboxes, clock, stop: stopping };
        let threads = self.start_workers(&metrics, &shared, &ended)?;
        // The workers hold the rest: once they are gone, so is the channel.
        drop(ended);
        let ready_without = self.settings.broker.ready_without;
        let admin = Admin::new(metrics, broker, ready_without, clock);
        let mut admin = pin!(admin.serve(self.admin));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            error = &mut admin => return Err(error),
            Some(ending) = endings.recv() => ending,
        };
        // A worker that is gone already needs no stopping.
        let _ = stop_workers.send(true);
        let all_ended = async { while endings.recv().await.is_some() {} };
        tokio::select! {
            () = all_ended => {}
            _ = admin => {}
        }
        for thread in threads {
            // What it had to say it has said through the channel.
            let _ = thread.join();
        }
        outcome
    }

    fn start_broker(&self, mailboxes: &[Arc<Mailbox>], clock: Clock) -> io::Result<Broker> {
        let settings = &self.settings;
        let url = match &settings.broker.url {
            BrokerUrl::Memory => {
                let bytes = settings.broker.history_bytes;
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
            history_bytes: settings.broker.history_bytes,
            wait_replicas: settings.broker.wait_replicas,
            started: clock.started(),
        };
        Ok(Broker::Redis(RedisBroker::start(redis, mailboxes.iter().cloned())?))
    }

    fn start_workers(
        &self,
        metrics: &[Arc<WorkerMetrics>],
        shared: &Shared,
        ended: &mpsc::Sender<io::Result<()>>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let seed = Seed {
                id: WorkerId::new(index).expect("node.workers is at most 128"),
                listener: listener.try_clone()?,
                mailbox: shared.mailboxes[index].clone(),
                broker: shared.broker.clone(),
                settings: self.settings.clone(),
                clock: shared.clock,
                metrics: metrics[index].clone(),
                stop: shared.stop.clone(),
            };
            threads.push(start_worker(seed, ended.clone())?);
        }
        Ok(threads)
    }
}

fn start_worker(seed: Seed, ended: mpsc::Sender<io::Result<()>>) -> io::Result<JoinHandle<()>> {
    let name = format!("worker-{}", seed.id.index());
    thread::Builder::new().name(name.clone()).spawn(move || {
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
