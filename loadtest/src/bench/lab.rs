//! Where the sides of a comparison are measured, one after the other, each in fresh processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::arm::{Arm, Sample, Subject};
use super::case::{Case, Figure};
use super::redis::Redis;
use super::server::{Placement, Program, Server};
use super::settings;
use crate::channels::Channels;
use crate::cli::{BenchArgs, CONCURRENCY, PATIENCE, PAYLOAD_BYTES, Source};
use crate::cost::core_time::CoreTime;
use crate::cost::history_reads::Witnesses;
use crate::interrupt;
use crate::load::Manner;
use crate::load::members::At;
use crate::load::target::Target;
use crate::os::cores::{self, Affinity};
use crate::os::poller::timespec;
use crate::scenario::resume::Resume;
use crate::scenario::subscribe_many::SubscribeMany;
use crate::scenario::{Outcome, Plan, Scenario};

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

/// What nodes are told unless the flags say otherwise. Who has to wait for a share of a second's accepts measures the
/// waiting, and the servers beside the node know no such limit.
const NODE_ENV: [(&str, &str); 1] = [("UMBEL_LIMITS__ACCEPTS_PER_SECOND", "0")];

/// Where measurements are made.
#[derive(Debug)]
pub struct Lab {
    umbel: PathBuf,
    node_env: Vec<(String, String)>,
    /// The file with the node's settings, if its topics keep history.
    node_settings: Option<PathBuf>,
    server_core: usize,
    load_core: usize,
    everywhere: Affinity,
    source: Source,
    out: PathBuf,
    may_throw_away: usize,
    may_wait: Duration,
}

impl Lab {
    /// For the servers of `args`, which write what they have to say into `out`; `everywhere` is where an unpinned one
    /// may run.
    pub fn new(args: &BenchArgs, everywhere: Affinity, out: PathBuf) -> Result<Self> {
        let (server, load) = (args.server_core, args.load_core);
        ensure!(
            server != load,
            "server and load are both to run on core {server}: each needs its own"
        );
        Ok(Self {
            umbel: args.umbel.clone(),
            node_env: NODE_ENV
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .chain(args.node_env.iter().cloned())
                .collect(),
            node_settings: args.history.then(|| settings::write(&out)).transpose()?,
            server_core: server,
            load_core: load,
            everywhere,
            source: args.source,
            out,
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
        let redis = match self.source {
            Source::Http => None,
            Source::Redis => Some(Redis::start(&self.out.join("redis.log"))?),
        };
        let channels = redis.as_ref().map(Redis::channels);
        let feed = channels.filter(|_| !arm.keeps(&case.scenario));
        let server = self.start(case, arm, feed)?;
        let witnesses = Witnesses {
            redis: channels.map(|channels| channels.address),
            admin: server.as_ref().and_then(Server::admin),
        };
        let plan = Plan {
            manner: Manner {
                target: self.target(arm, server.as_ref(), feed)?,
                payload_bytes: PAYLOAD_BYTES,
                concurrency: CONCURRENCY,
                patience: PATIENCE,
            },
            scenario: arm.subject.scenario(case.scenario, witnesses),
            span: case.span,
            warm_up: case.warm_up,
            server: server.as_ref().map(Server::pid),
        };
        let outcome = plan.run()?;
        if !outcome.is_clean() {
            let integrity = serde_json::to_string(&outcome.integrity)?;
            let stalled = if outcome.measured.stalled { "stalled: " } else { "" };
            bail!("messages were lost, doubled or changed: {stalled}{integrity}");
        }
        Ok(outcome)
    }

    /// Starts the arm's server, if it is another than Redis.
    fn start(&self, case: &Case, arm: &Arm, channels: Option<&Channels>) -> Result<Option<Server>> {
        let program = match (arm.subject, case.scenario) {
            (Subject::Baseline, Scenario::Resume(resume)) => {
                Program::keeping_baseline(resume.missed)?
            }
            (Subject::Node { workers }, _) => {
                let settings = self.node_settings.as_deref();
                Program::node(&self.umbel, Some(workers), &self.node_env, channels, settings)?
            }
            (Subject::Baseline, _) => Program::comparison("baseline", channels)?,
            (Subject::Naive, _) => Program::comparison("naive", channels)?,
            (Subject::Empty, _) => Program::comparison("empty", None)?,
            (Subject::Redis, _) => return Ok(None),
        };
        let place = || match arm.placement {
            Placement::Pinned => cores::pin_to(self.server_core),
            Placement::Free => self.everywhere.restore(),
        };
        Server::start(program, &self.out.join("server.log"), place).map(Some)
    }

    /// Whom the arm is loaded through: its server, or Redis itself.
    fn target(
        &self,
        arm: &Arm,
        server: Option<&Server>,
        channels: Option<&Channels>,
    ) -> Result<Target> {
        let address = server.map(Server::address).or(channels.map(|channels| channels.address));
        let address = address.with_context(|| format!("{arm} needs Redis as the source"))?;
        let mut target = Target::of_server(address, arm.dialect);
        if let Some(channels) = channels {
            target = target.fed_by(channels.clone());
        }
        let places = self.node_settings.is_some() && matches!(arm.subject, Subject::Node { .. });
        Ok(if places { target.with_history() } else { target })
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
}

impl Arm {
    /// Whether it has to keep what is published, which only a node can do with what comes from Redis.
    fn keeps(&self, scenario: &Scenario) -> bool {
        self.subject == Subject::Baseline && matches!(scenario, Scenario::Resume(_))
    }
}

impl Subject {
    /// The case's scenario, as it is done to this one.
    fn scenario(self, scenario: Scenario, witnesses: Witnesses) -> Scenario {
        match (self, scenario) {
            (Self::Node { .. }, Scenario::Resume(resume)) => {
                Scenario::Resume(Resume { witnesses, ..resume })
            }
            (Self::Redis, Scenario::SubscribeMany(many)) => {
                Scenario::SubscribeMany(SubscribeMany { sessions: 1, at: At::Redis, ..many })
            }
            _ => scenario,
        }
    }
}

/// Whether others on the core can change the case's figure, and it takes long enough for that to be seen.
fn matters(case: &Case, arm: &Arm) -> bool {
    let seen = !matches!(case.figure, Figure::RssPerSession | Figure::WallPerSubscription);
    arm.placement == Placement::Pinned && seen
}
