//! The scenarios, and the one way in which each is run and measured.

pub mod fanout;
pub mod idle;
pub mod latency;
pub mod storm;
pub mod unicast;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cost::{Cost, Holding, Innocent, Meter, Reading};
use crate::load::ledger::Integrity;
use crate::load::pacing::Span;
use crate::load::recording::Percentiles;
use crate::load::{Load, Manner, Waited};
use crate::os::descriptors::{self, Process};
use crate::wire::publish_line::MAX_LINES;
use fanout::Fanout;
use idle::{Growth, Idle};
use latency::Latency;
use storm::Storm;
use unicast::Unicast;

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scenario {
    /// One topic, all subscribed to it, messages as fast as all have received those before.
    Fanout(Fanout),
    /// The same with a pause between the rounds.
    Burst(Fanout),
    /// A topic for each session, a fixed number of messages under way.
    Unicast(Unicast),
    /// Sessions that hear nothing.
    Idle(Idle),
    /// Connects as fast as possible.
    Storm(Storm),
    /// Messages at fixed times, whatever became of those before.
    Latency(Latency),
}

/// All that a run needs to know; checked by [`Plan::check`].
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whom to load, and with what.
    pub manner: Manner,
    /// How.
    pub scenario: Scenario,
    /// How long.
    pub span: Span,
    /// How long before that, unmeasured.
    pub warm_up: Duration,
    /// The server's process, if its cost shall be read.
    pub server: Option<u32>,
}

/// What a scenario counts cost by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// One message received by one session.
    Delivery,
    /// One session opened.
    Connect,
}

/// What a scenario measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What is counted.
    pub unit: Unit,
    /// How many in the window.
    pub units: u64,
    /// Rounds in the window.
    pub rounds: u64,
    /// Messages published in the window.
    pub messages: u64,
    /// Requests that they took.
    pub posts: u64,
    /// What the window cost.
    pub cost: Cost,
    /// Something that had to come didn't, so that the window ended early.
    pub stalled: bool,
    /// Times to the last receipt, from the latency scenario.
    pub latency: Option<Percentiles>,
    /// The longest time for which a core stood still, from the same.
    pub hiccup_seconds: Option<f64>,
    /// Memory per session, from the idle scenario.
    pub growth: Option<Growth>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Sessions that were open.
    pub sessions: usize,
    /// What the window showed.
    #[serde(flatten)]
    pub measured: Measured,
    /// What came of all messages, those of the warm-up included.
    pub integrity: Integrity,
    /// What the server held at the end of the window.
    pub holding: Option<Holding>,
}

impl Scenario {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fanout(_) => "fanout",
            Self::Burst(_) => "burst",
            Self::Unicast(_) => "unicast",
            Self::Idle(_) => "idle",
            Self::Storm(_) => "storm",
            Self::Latency(_) => "latency",
        }
    }

    /// Sessions that it opens.
    pub fn sessions(&self) -> usize {
        match self {
            Self::Fanout(fanout) | Self::Burst(fanout) => fanout.subscribers,
            Self::Unicast(unicast) => unicast.topics,
            Self::Idle(idle) => idle.sessions,
            Self::Storm(storm) => storm.sessions,
            Self::Latency(latency) => latency.subscribers,
        }
    }

    /// Topics that they subscribe to.
    fn topics(&self) -> usize {
        match self {
            Self::Unicast(unicast) => unicast.topics,
            _ => 1,
        }
    }

    /// Most messages that it posts at once.
    fn most_at_once(&self) -> usize {
        match self {
            Self::Fanout(fanout) | Self::Burst(fanout) => fanout.at_hand,
            Self::Unicast(unicast) => unicast.outstanding,
            Self::Idle(_) | Self::Storm(_) | Self::Latency(_) => 1,
        }
    }
}

impl Plan {
    /// Whether it can be run at all.
    pub fn check(&self) -> Result<()> {
        let (sessions, at_once) = (self.scenario.sessions(), self.scenario.most_at_once());
        ensure!(sessions > 0, "a scenario needs at least one session");
        ensure!(
            (1..=MAX_LINES).contains(&at_once),
            "{at_once} messages at once, from 1 to {MAX_LINES} are possible, the most that one request may have"
        );
        if let Scenario::Unicast(Unicast { topics, outstanding }) = self.scenario {
            ensure!(
                outstanding <= topics,
                "{outstanding} messages can't be under way on {topics} topics"
            );
        }
        self.manner.target.check_topics(self.scenario.topics())?;
        descriptors::check(Process::Load, sessions)?;
        if let Some(pid) = self.server {
            descriptors::check(Process::Server(pid), sessions)?;
        }
        Ok(())
    }

    /// Runs it.
    pub fn run(&self) -> Result<Outcome> {
        self.check()?;
        let meter = Meter::new(self.server);
        let mut load = Load::new(&self.manner)?;
        let measured = match &self.scenario {
            Scenario::Fanout(fanout) | Scenario::Burst(fanout) => {
                fanout.run(self, &meter, &mut load)
            }
            Scenario::Unicast(unicast) => unicast.run(self, &meter, &mut load),
            Scenario::Idle(idle) => idle.run(&meter, &mut load),
            Scenario::Storm(storm) => storm.run(self, &meter, &mut load),
            Scenario::Latency(latency) => latency.run(self, &meter, &mut load),
        }?;
        Ok(Outcome {
            scenario: self.scenario.name(),
            sessions: self.scenario.sessions(),
            measured,
            holding: meter.holding()?,
            integrity: load.settle()?,
        })
    }
}

impl Outcome {
    /// Nothing was lost, doubled, reordered or changed, and nothing stalled.
    pub fn is_clean(&self) -> bool {
        self.integrity.is_clean() && !self.measured.stalled
    }
}

/// Measured on a quiet machine: some percent in deliveries.
const QUIET_DELIVERIES: Innocent = Innocent { kernel: 0.1, waited: 0.15 };
/// A slow open loop does little itself, and has the watch for hiccups beside it.
const QUIET_WATCHED: Innocent = Innocent { kernel: 0.25, waited: 0.35 };
/// When sessions are opened, a third of the core's time is work that the kernel does later.
const QUIET_CONNECTS: Innocent = Innocent { kernel: 0.4, waited: 0.5 };
/// Seconds for which no core stands still on a machine that does nothing else: some time slices.
const HICCUP: f64 = 0.015;

impl Measured {
    /// Somebody else was at work on the server's core, or a core stood still where times were measured.
    pub fn disturbed(&self) -> bool {
        let innocent = match (self.unit, self.hiccup_seconds) {
            (Unit::Delivery, None) => QUIET_DELIVERIES,
            (Unit::Delivery, Some(_)) => QUIET_WATCHED,
            (Unit::Connect, _) => QUIET_CONNECTS,
        };
        self.cost.disturbed(innocent) || self.hiccup_seconds.is_some_and(|longest| longest > HICCUP)
    }

    /// Microseconds per unit.
    pub fn per_unit(&self, seconds: Option<f64>) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let units = self.units as f64;
        Some(seconds? * 1e6 / units).filter(|figure| figure.is_finite())
    }
}

/// Warms up, then measures the plan's span; `run` runs a span and says how many rounds it had.
fn measure(
    plan: &Plan,
    meter: &Meter,
    load: &mut Load,
    mut run: impl FnMut(Span, &mut Load) -> Result<(u64, Waited)>,
) -> Result<Measured> {
    let (_, warmed) = run(Span::Time(plan.warm_up), load)?;
    let measuring = Measuring::begin(meter, load)?;
    let (rounds, waited) = match warmed {
        Waited::Done => run(plan.span, load)?,
        Waited::Stalled => (0, warmed),
    };
    let mut measured = measuring.end(load, rounds)?;
    measured.stalled = waited == Waited::Stalled;
    Ok(measured)
}

/// A window that is being measured.
struct Measuring<'a> {
    meter: &'a Meter,
    begin: Reading,
    received: u64,
    messages: u64,
    posts: u64,
}

impl<'a> Measuring<'a> {
    /// Begins now, while nothing is under way.
    fn begin(meter: &'a Meter, load: &Load) -> Result<Self> {
        Ok(Self {
            meter,
            received: load.received(),
            messages: load.publisher().messages(),
            posts: load.publisher().posts(),
            begin: meter.read()?,
        })
    }

    /// Ends now, after `rounds` rounds.
    fn end(self, load: &Load, rounds: u64) -> Result<Measured> {
        let cost = self.meter.since(&self.begin)?;
        Ok(Measured {
            unit: Unit::Delivery,
            units: load.received() - self.received,
            rounds,
            messages: load.publisher().messages() - self.messages,
            posts: load.publisher().posts() - self.posts,
            cost,
            stalled: false,
            latency: None,
            hiccup_seconds: None,
            growth: None,
        })
    }
}
