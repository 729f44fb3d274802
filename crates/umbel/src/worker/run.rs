//! The life of a worker's thread.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::LocalSet;
use umbel_broker::{Broker, Mailbox, WorkerId};

use super::{Worker, WorkerMetrics, accept, fan_out, ticks};
use crate::clock::Clock;
use crate::config::Settings;
use crate::session::CloseReason;

/// What a worker is made of: everything that may pass from one thread to another.
pub(crate) struct Seed {
    pub(crate) id: WorkerId,
    pub(crate) listener: StdListener,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Turns true, or is dropped, when the worker shall stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// How long sessions have to take their close frames in when the process stops.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Runs a worker on this thread until it is told to stop and its sessions are gone.
pub(crate) fn run(seed: Seed) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = TcpListener::from_std(seed.listener.try_clone()?)?;
        let worker = Worker::new(&seed);
        let mut stop = seed.stop;
        drop(seed.listener);
        tokio::select! {
            () = accept::accept(&worker, listener) => unreachable!("accepts until it is dropped"),
            () = fan_out::fan_out(&worker) => unreachable!("fans out until it is dropped"),
            () = ticks::tick(&worker) => unreachable!("ticks until it is dropped"),
            // An error says that whoever could stop us is gone.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        worker.stop().await;
        Ok(())
    })
}

impl Worker {
    /// Closes what is open and waits a little for it to end. The listener is closed already.
    async fn stop(&self) {
        {
            let mut hub = self.hub.borrow_mut();
            let open: Vec<_> = hub.sessions().collect();
            for session in open {
                self.close(&mut hub, session, CloseReason::Shutdown, "the node stops");
            }
        }
        for (_, connection) in self.connections.borrow().iter() {
            connection.expire();
        }
        if tokio::time::timeout(STOP_DEADLINE, self.tasks.all_ended()).await.is_err() {
            tracing::warn!(worker = self.id.index(), "Some clients did not leave in time");
        }
        self.export();
    }
}
