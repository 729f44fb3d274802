//! One side of a comparison: a server, how it is spoken to, where it runs; and the lab in which it is measured.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use super::case::{Case, Figure};
use super::server::{Placement, Program, Server};
use crate::cli::{BenchArgs, CONCURRENCY, PATIENCE, PAYLOAD_BYTES};
use crate::cost::core_time::CoreTime;
use crate::interrupt;
use crate::load::Manner;
use crate::load::target::Target;
use crate::os::cores::Affinity;
use crate::os::poller::timespec;
use crate::scenario::{Outcome, Plan};
use crate::wire::subscribe::Dialect;

/// A server as it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Arm {
    /// Which server.
    pub subject: Subject,
    /// How sessions speak.
    pub dialect: Dialect,
    /// Where it may run.
    pub placement: Placement,
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The node under test.
    Node {
        /// Its worker threads.
        workers: usize,
    },
    /// The bare floor.
    Baseline,
    /// The usual design.
    Naive,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.subject, self.placement) {
            (Subject::Node { workers }, Placement::Free) => {
                write!(f, "node with {workers} worker{}", if workers == 1 { "" } else { "s" })
            }
            (Subject::Node { .. }, Placement::Pinned) => write!(f, "node {}", self.dialect),
            (Subject::Baseline, _) => write!(f, "baseline {}", self.dialect),
            (Subject::Naive, _) => write!(f, "naive {}", self.dialect),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// What was measured.
    pub arm: Arm,
    /// The case's figure.
    pub value: f64,
    /// Measurements that were thrown away before it because others had disturbed them.
    pub thrown_away: usize,
    /// So was this one, but it was the last try.
    pub disturbed: bool,
    /// All that the run said.
    pub outcome: Outcome,
}

/// Tries for one measurement while others disturb it.
const TRIES: usize = 3;
/// Measurements that a bench may throw away, and the time that it may wait for quiet: they bound how long it takes.
const THROWN_AWAY: usize = 60;
const WAITING: Duration = Duration::from_mins(5);
const QUICK_THROWN_AWAY: usize = 6;
const QUICK_WAITING: Duration = Duration::from_secs(20);
/// A core is quiet if it works for less than this share of a look.
const QUIET: f64 = 0.15;
const LOOK: Duration = Duration::from_millis(500);

/// Where measurements are made.
#[derive(Debug)]
pub struct Lab {
    umbel: PathBuf,
    node_env: Vec<(String, String)>,
    server_core: usize,
    load_core: usize,
    everywhere: Affinity,
    log: PathBuf,
    may_throw_away: usize,
    may_wait: Duration,
}

impl Lab {
    /// For the servers of `args`; `everywhere` is where an unpinned one may run.
    pub fn new(args: &BenchArgs, everywhere: Affinity, log: PathBuf) -> Result<Self> {
        let (server, load) = (args.server_core, args.load_core);
        ensure!(
            server != load,
            "server and load are both to run on core {server}: each needs its own"
        );
        Ok(Self {
            umbel: args.umbel.clone(),
            node_env: args.node_env.clone(),
            server_core: server,
            load_core: load,
            everywhere,
            log,
            may_throw_away: if args.quick { QUICK_THROWN_AWAY } else { THROWN_AWAY },
            may_wait: if args.quick { QUICK_WAITING } else { WAITING },
        })
    }

    /// Measures `arm` in a fresh process, again if others disturbed it.
    pub fn measure(&mut self, case: &Case, arm: &Arm) -> Result<Sample> {
        let mut thrown_away = 0;
        loop {
            let outcome = self.run(case, arm)?;
            let disturbed = matters(case, arm) && outcome.measured.disturbed();
            if disturbed && thrown_away + 1 < TRIES && self.may_throw_away > 0 {
                thrown_away += 1;
                self.may_throw_away -= 1;
                self.wait_for_quiet()?;
                continue;
            }
            let value = case.figure.of(&outcome)?;
            return Ok(Sample { arm: *arm, value, thrown_away, disturbed, outcome });
        }
    }

    fn run(&self, case: &Case, arm: &Arm) -> Result<Outcome> {
        let server = Server::start(self.program(arm)?, arm.placement, self)?;
        let plan = Plan {
            manner: Manner {
                target: Target::of_server(server.address(), arm.dialect),
                payload_bytes: PAYLOAD_BYTES,
                concurrency: CONCURRENCY,
                patience: PATIENCE,
            },
            scenario: case.scenario,
            span: case.span,
            warm_up: case.warm_up,
            server: Some(server.pid()),
        };
        let outcome = plan.run()?;
        if !outcome.is_clean() {
            let integrity = serde_json::to_string(&outcome.integrity)?;
            let stalled = if outcome.measured.stalled { "stalled: " } else { "" };
            bail!("messages were lost, doubled or changed: {stalled}{integrity}");
        }
        Ok(outcome)
    }

    fn program(&self, arm: &Arm) -> Result<Program> {
        Ok(match arm.subject {
            Subject::Node { workers } => Program::node(&self.umbel, workers, &self.node_env)?,
            Subject::Baseline => Program::comparison("baseline")?,
            Subject::Naive => Program::comparison("naive")?,
        })
    }

    /// Waits until nobody else is at work on the two cores, for as long as this bench may wait in all.
    fn wait_for_quiet(&mut self) -> Result<()> {
        while !self.may_wait.is_zero() {
            interrupt::check()?;
            let (start, before) = (Instant::now(), self.cores()?);
            // Cut short by a signal, the look is shorter and the interrupt is seen.
            let _ = rustix::thread::nanosleep(&timespec(LOOK));
            let (after, wall) = (self.cores()?, start.elapsed());
            self.may_wait = self.may_wait.saturating_sub(wall);
            let busy =
                |core: usize| after[core].since(before[core]).busy(wall) / wall.as_secs_f64();
            if busy(0) < QUIET && busy(1) < QUIET {
                break;
            }
        }
        Ok(())
    }

    fn cores(&self) -> Result<[CoreTime; 2]> {
        Ok([CoreTime::read(self.server_core)?, CoreTime::read(self.load_core)?])
    }

    /// The core of pinned servers.
    pub fn server_core(&self) -> usize {
        self.server_core
    }

    /// Where unpinned servers may run.
    pub fn everywhere(&self) -> &Affinity {
        &self.everywhere
    }

    /// Where servers write what they have to say.
    pub fn log(&self) -> &PathBuf {
        &self.log
    }
}

/// Whether others on the core can change the case's figure.
fn matters(case: &Case, arm: &Arm) -> bool {
    arm.placement == Placement::Pinned && case.figure != Figure::RssPerSession
}
