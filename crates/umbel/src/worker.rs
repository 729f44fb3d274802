//! A worker: one thread with its own event loop, listener, sessions and topics.
//!
//! Workers share nothing on the way of a message. What reaches a worker from outside comes through
//! its listener, its mailbox and its stop signal; what leaves it goes to the broker and into
//! metric cells that only it writes.

mod accept;
mod catch_up;
mod fan_out;
mod flush;
mod labels;
mod leave;
mod memory;
mod metrics;
mod metronome;
mod pace;
mod peak;
mod pull;
mod run;
mod tasks;
mod ticks;

pub(crate) use labels::{Held, Limit, Polled, ReadFrom, Resumed, Source, Status};
pub(crate) use metrics::{WorkerMetrics, families};
pub(crate) use pull::Pulled;
pub(crate) use run::{Seed, run};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use umbel_broker::{Broker, Mailbox, WorkerId};
use umbel_hub::Hub;
use umbel_protocol::Topic;

use crate::admission::Admission;
use crate::authorise::Door;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Limits, Networks, Origins};
use crate::drain::{Stage, Stages};
use crate::http::Connection;
use crate::ledger::Ledger;
use crate::route::Routes;
use crate::session::incoming::FrameParser;
use crate::session::{Rate, Segments, Session, SessionRef};
use crate::trace::Tracer;
use crate::wheel::{Tick, Wheel};
use pace::Pace;
use peak::Peak;
use tasks::Tasks;

/// The state of a worker, shared by the tasks of its thread. No borrow is held across an await.
pub(crate) struct Worker {
    /// Itself, for tasks that outlive a call.
    me: Weak<Worker>,
    pub(crate) id: WorkerId,
    pub(crate) hub: RefCell<Hub<Session>>,
    pub(crate) wheel: RefCell<Wheel<Timer>>,
    pub(crate) tasks: Tasks,
    /// Connections that are served HTTP, to be ended when the worker stops.
    pub(crate) connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) broker: Arc<Broker>,
    /// Topics that sessions are about to hold, and how many are.
    pub(crate) attaching: RefCell<HashMap<Topic, usize>>,
    /// Topics that nobody is about to hold any more, and perhaps nobody holds.
    loose: RefCell<Vec<Topic>>,
    /// Pieces of history that sessions are given.
    segments: RefCell<Segments>,
    /// Sessions that catch up and wait for this worker to get on.
    waiting: RefCell<Vec<SessionRef>>,
    /// How often the broker was asked for a session that catches up.
    fetches: Cell<u64>,
    pub(crate) door: Door,
    pub(crate) routes: Routes,
    /// Of which pages scripts may read answers.
    pub(crate) origins: Origins,
    pub(crate) trusted_proxies: Networks,
    pub(crate) proxy_protocol: bool,
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) budget: Arc<Budget>,
    /// How fast a session may publish.
    pub(crate) publish_rate: Rate,
    /// How far behind a session may be now: less than its limit while memory is short.
    allowance: Cell<usize>,
    /// What the kernel is taken to hold of a session whose client takes nothing in: half of what it
    /// may. Measured: a third, for who never reads; all of it, for who is far away and reads.
    pub(crate) socket_bytes: usize,
    pub(crate) stages: Stages,
    /// Over how long sessions are moved away when the node leaves.
    pub(crate) drain_seconds: u32,
    pub(crate) heartbeat_seconds: u32,
    /// The longest that a session lasts.
    session_seconds: Option<u32>,
    pub(crate) clock: Clock,
    runtime: tokio::runtime::Handle,
    /// The worst of late.
    lag_peak: Peak<Duration>,
    furthest: Peak<usize>,
    /// Whether this node sends itself a message each second.
    canary: bool,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) ledger: Rc<Ledger>,
    /// Sessions have no read buffer: whichever is readable reads into this one.
    pub(crate) read_buffer: RefCell<Box<[u8]>>,
    pub(crate) frame_parser: RefCell<FrameParser>,
    pub(crate) pace: Pace,
    /// What records traces, if anything does.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// What waits on the wheel.
#[derive(Debug)]
pub(crate) enum Timer {
    /// A session's heartbeat or, if it closes, its deadline.
    Session(SessionRef),
    /// A session whose client has begun a frame.
    Input(SessionRef),
    /// A connection's deadline.
    Connection(Rc<Connection>),
    /// A session that is to be closed then, since it may have missed messages.
    Gap(SessionRef, Tick),
}

/// What one read takes at most. Large enough for many small frames, small enough that a client that
/// floods them doesn't keep the worker from others for long.
const READ_BYTES: usize = 16 * 1024;

/// What a socket is counted with whose buffer isn't bounded (measured for a reader that never
/// reads).
const UNBOUNDED_SOCKET_BYTES: usize = 160 * 1024;

impl Worker {
    fn new(seed: &Seed) -> Rc<Self> {
        let limits = seed.settings.limits;
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            id: seed.id,
            hub: RefCell::new(Hub::new(limits.behind_bytes)),
            wheel: RefCell::new(Wheel::new()),
            tasks: Tasks::default(),
            connections: RefCell::new(Slab::new()),
            mailbox: seed.mailbox.clone(),
            broker: seed.broker.clone(),
            attaching: RefCell::default(),
            loose: RefCell::default(),
            segments: RefCell::default(),
            waiting: RefCell::default(),
            fetches: Cell::default(),
            door: Door::new(seed.settings.topics.clone()),
            routes: seed.settings.routes.clone(),
            origins: seed.settings.listen.origins.clone(),
            trusted_proxies: seed.settings.listen.trusted_proxies.clone(),
            proxy_protocol: seed.settings.listen.proxy_protocol,
            limits,
            admission: seed.admission.clone(),
            budget: seed.budget.clone(),
            publish_rate: Rate::new(limits.publishes_per_second),
            allowance: Cell::new(limits.behind_bytes),
            socket_bytes: match limits.socket_bytes {
                0 => UNBOUNDED_SOCKET_BYTES,
                bytes => bytes / 2,
            },
            stages: seed.stages.clone(),
            drain_seconds: seed.settings.drain.drain_seconds,
            heartbeat_seconds: seed.settings.node.heartbeat_seconds,
            session_seconds: seed.settings.node.session_seconds,
            clock: seed.clock,
            runtime: tokio::runtime::Handle::current(),
            lag_peak: Peak::default(),
            furthest: Peak::default(),
            canary: seed.settings.node.canary,
            metrics: seed.metrics.clone(),
            ledger: Rc::default(),
            read_buffer: RefCell::new(vec![0; READ_BYTES].into()),
            frame_parser: RefCell::new(FrameParser::new(
                limits.body_bytes.max(limits.payload_bytes),
            )),
            pace: Pace::default(),
            tracer: seed.tracer.clone(),
        })
    }

    fn rc(&self) -> Rc<Self> {
        self.me.upgrade().expect("whoever calls this holds it")
    }

    /// Exports how many connections are served HTTP.
    pub(crate) fn count_connections(&self) {
        self.metrics.connections_open.set_count(self.connections.borrow().len());
    }

    /// The tick of the wheel that was reached last.
    pub(crate) fn now(&self) -> Tick {
        self.wheel.borrow().now()
    }

    /// When a session that begins now has lasted as long as it may. Each gets up to a fifth less, so
    /// that those who came together don't go together.
    pub(crate) fn expiry(&self) -> Tick {
        match self.session_seconds {
            Some(seconds) => {
                self.now().plus_seconds(fastrand::u32(seconds - seconds / 5..=seconds))
            }
            None => Tick::NEVER,
        }
    }

    /// Whether clients shall go elsewhere with what comes next.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.stages.borrow() > Stage::Serving
    }
}
