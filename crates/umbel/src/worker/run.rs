//! The life of a worker's thread.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use umbel_broker::{Broker, Mailbox, WorkerId};

use super::{Worker, WorkerMetrics, accept, fan_out, ticks};
use crate::admission::Admission;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::Settings;
use crate::drain::{STOP_DEADLINE, Stage, Stages};
use crate::session::CloseReason;
use crate::trace::Tracer;

/// What a worker is made of: everything that may pass from one thread to another.
pub(crate) struct Seed {
    pub(crate) id: WorkerId,
    pub(crate) listener: StdListener,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// What the node is about to do. If it is dropped, the worker stops.
    pub(crate) stages: Stages,
}

/// Runs a worker on this thread until it is told to stop, or told to leave and its sessions are
/// gone.
pub(crate) fn run(seed: Seed) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = TcpListener::from_std(seed.listener.try_clone()?)?;
        let metronome = ticks::metronome()?;
        let worker = Worker::new(&seed);
        // The other descriptor of the same socket must not keep it open.
        drop(seed.listener);
        tokio::select! {
            () = worker.tasks.count_turns() => unreachable!("counts until it is dropped"),
            () = fan_out::fan_out(&worker) => unreachable!("fans out until it is dropped"),
            error = ticks::tick(&worker, metronome) => return Err(error),
            () = serve_and_leave(&worker, listener, seed.stages) => {}
        }
        tokio::select! {
            () = worker.tasks.count_turns() => unreachable!("counts until it is dropped"),
            () = worker.stop() => {}
        }
        Ok(())
    })
}

/// Takes connections, until the node leaves; then moves its sessions away, until it stops or all
/// are gone.
async fn serve_and_leave(worker: &Rc<Worker>, listener: TcpListener, stages: Stages) {
    let reaches = async |stage: Stage| {
        // An error says that whoever could stop us is gone.
        let _ = stages.clone().wait_for(|now| *now >= stage).await;
    };
    tokio::select! {
        () = accept::accept(worker, &listener) => unreachable!("accepts until it is dropped"),
        () = reaches(Stage::Moving) => {}
    }
    let leaves = async {
        accept::close(worker, listener).await;
        worker.admission.close();
        worker.end_http2();
        let over = Duration::from_secs(worker.drain_seconds.into());
        worker.leave(over, stages.clone()).await;
    };
    tokio::select! {
        () = leaves => {}
        () = reaches(Stage::Stopping) => {}
    }
}

impl Worker {
    /// Asks HTTP/2 clients to go on elsewhere. Their streams go on.
    fn end_http2(&self) {
        for (_, connection) in self.connections.borrow().iter() {
            connection.retire();
        }
    }

    /// Closes what is open and waits a little for it to end. The listener is closed already.
    async fn stop(&self) {
        let open: Vec<_> = self.hub.borrow().sessions().collect();
        for (count, session) in open.into_iter().enumerate() {
            if count % CLOSES_PER_TURN == CLOSES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let mut hub = self.hub.borrow_mut();
            if hub.get(session).is_some() {
                self.close(&mut hub, session, CloseReason::Shutdown, "the node stops");
            }
        }
        let answers = async {
            for (_, connection) in self.connections.borrow().iter() {
                connection.finish();
            }
            while self.connections.borrow().iter().any(|(_, connection)| connection.is_used()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Answers under way are written to their ends, who has asked nothing is let go.
        let _ = tokio::time::timeout(ANSWER_DEADLINE, answers).await;
        for (_, connection) in self.connections.borrow().iter() {
            connection.expire();
        }
        let rest = STOP_DEADLINE.saturating_sub(ANSWER_DEADLINE);
        if tokio::time::timeout(rest, self.tasks.all_ended()).await.is_err() {
            let (sessions, seconds) = (self.hub.borrow().session_count(), STOP_DEADLINE.as_secs());
            tracing::warn!(sessions, seconds, "Some clients did not leave in time");
        }
        self.leave_loose();
        self.export();
        // Who has ended isn't stuck.
        self.metrics.last_tick_micros.set(u64::MAX);
    }
}

/// How many sessions are closed before others get their turn.
const CLOSES_PER_TURN: usize = 256;

/// How long answers that are under way when the worker stops may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
