//! The scenarios, and the one way in which each is run and measured.

pub mod fanout;
pub mod idle;
pub mod latency;
pub mod publish;
pub mod resume;
pub mod storm;
pub mod subscribe_many;
pub mod throughput;
pub mod unicast;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cost::history_reads::HistoryReads;
use crate::cost::{Cost, Holding, Innocent, Meter, Reading};
use crate::load::ledger::Integrity;
use crate::load::pacing::Span;
use crate::load::recording::Percentiles;
use crate::load::{Counts, Load, Manner, Waited};
use crate::os::descriptors::{self, Process};
use crate::wire::publish_line::MAX_LINES;
use fanout::Fanout;
use idle::{Growth, Idle};
use latency::Latency;
use publish::Publish;
use resume::Resume;
use storm::Storm;
use subscribe_many::SubscribeMany;
use throughput::Throughput;
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
    /// A topic for each session, messages as fast as they can be delivered.
    Throughput(Throughput),
    /// Subscriptions to new topics as fast as possible.
    SubscribeMany(SubscribeMany),
    /// Publish requests, to nobody.
    Publish(Publish),
    /// Sessions that come back at once and want what they missed.
    Resume(Resume),
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
    /// One topic subscribed.
    Subscription,
    /// One request answered.
    Request,
    /// One message whose publishing was answered.
    Message,
    /// One session that came back and has all that it missed.
    Resume,
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
    /// Memory per session, from the idle scenario and from the first wave of the resume scenario.
    pub growth: Option<Growth>,
    /// How often the server read history, from the resume scenario.
    pub reads: Option<HistoryReads>,
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
            Self::Throughput(_) => "throughput",
            Self::SubscribeMany(_) => "subscribe-many",
            Self::Publish(publish) => publish.name(),
            Self::Resume(_) => "resume",
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
            Self::Throughput(throughput) => throughput.topics,
            Self::SubscribeMany(many) => many.sessions,
            Self::Publish(publish) => publish.connections,
            Self::Resume(resume) => resume.sessions,
        }
    }

    /// Topics that each have a URL of their own, in a run of so long.
    fn topics(&self, span: Span) -> usize {
        match (self, span) {
            (Self::Unicast(unicast), _) => unicast.topics,
            (Self::Throughput(throughput), _) => throughput.topics,
            (Self::Publish(publish), _) => publish.paths(),
            (Self::Resume(_), Span::Rounds(waves)) => usize::try_from(waves).unwrap_or(usize::MAX),
            (Self::Resume(_), Span::Time(_)) => 2,
            _ => 1,
        }
    }

    /// Most messages that it posts at once, where that is fixed.
    fn most_at_once(&self) -> usize {
        match self {
            Self::Fanout(fanout) | Self::Burst(fanout) => fanout.at_hand,
            Self::Unicast(unicast) => unicast.outstanding,
            _ => 1,
        }
    }

    /// Whether it can be done at all.
    fn check(&self) -> Result<()> {
        let at_once = self.most_at_once();
        ensure!(self.sessions() > 0, "a scenario needs at least one session");
        ensure!(
            (1..=MAX_LINES).contains(&at_once),
            "{at_once} messages at once, from 1 to {MAX_LINES} are possible, the most that one request may have"
        );
        match *self {
            Self::Unicast(Unicast { topics, outstanding }) => ensure!(
                outstanding <= topics,
                "{outstanding} messages can't be under way on {topics} topics"
            ),
            Self::Throughput(Throughput { outstanding, .. }) => {
                ensure!(outstanding > 0, "at least one message must be under way")
            }
            Self::SubscribeMany(SubscribeMany { sessions, topics, .. }) => ensure!(
                topics >= sessions,
                "{topics} topics can't be spread over {sessions} sessions"
            ),
            Self::Publish(publish) => publish.check()?,
            Self::Resume(Resume { missed, .. }) => {
                ensure!(missed > 0, "at least one message must be missed")
            }
            _ => {}
        }
        Ok(())
    }
}

impl Plan {
    /// Whether it can be run at all.
    pub fn check(&self) -> Result<()> {
        let sessions = self.scenario.sessions();
        self.scenario.check()?;
        self.manner.target.check_topics(self.scenario.topics(self.span))?;
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
        match &self.scenario {
            Scenario::SubscribeMany(many) => self.outcome(&meter, many.run(self, &meter)?),
            Scenario::Publish(publish) => self.outcome(&meter, publish.run(self, &meter)?),
            _ => self.run_with_audience(&meter),
        }
    }

    fn run_with_audience(&self, meter: &Meter) -> Result<Outcome> {
        let mut load = Load::new(&self.manner)?;
        let measured = match &self.scenario {
            Scenario::Fanout(fanout) | Scenario::Burst(fanout) => {
                fanout.run(self, meter, &mut load)
            }
            Scenario::Unicast(unicast) => unicast.run(self, meter, &mut load),
            Scenario::Idle(idle) => idle.run(meter, &mut load),
            Scenario::Storm(storm) => storm.run(self, meter, &mut load),
            Scenario::Latency(latency) => latency.run(self, meter, &mut load),
            Scenario::Throughput(throughput) => throughput.run(self, meter, &mut load),
            Scenario::Resume(resume) => resume.run(self, meter, &mut load),
            Scenario::SubscribeMany(_) | Scenario::Publish(_) => {
                unreachable!("they have no audience")
            }
        }?;
        let holding = meter.holding()?;
        Ok(Outcome { holding, ..self.outcome(meter, (measured, load.settle()?))? })
    }

    fn outcome(
        &self,
        meter: &Meter,
        (measured, integrity): (Measured, Integrity),
    ) -> Result<Outcome> {
        Ok(Outcome {
            scenario: self.scenario.name(),
            sessions: self.scenario.sessions(),
            measured,
            integrity,
            holding: meter.holding()?,
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
            (Unit::Delivery | Unit::Request | Unit::Message, None) => QUIET_DELIVERIES,
            (Unit::Delivery | Unit::Request | Unit::Message, Some(_)) => QUIET_WATCHED,
            (Unit::Connect | Unit::Subscription | Unit::Resume, _) => QUIET_CONNECTS,
        };
        self.cost.disturbed(innocent) || self.hiccup_seconds.is_some_and(|longest| longest > HICCUP)
    }

    /// Units per second.
    pub fn per_second(&self) -> Option<f64> {
        Some(1e6 / self.per_unit(Some(self.cost.wall_seconds))?).filter(|rate| rate.is_finite())
    }

    /// Microseconds per unit.
    pub fn per_unit(&self, seconds: Option<f64>) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let units = self.units as f64;
        Some(seconds? * 1e6 / units).filter(|figure| figure.is_finite())
    }

    /// So much of each round.
    pub fn per_round(&self, sum: Option<f64>) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let rounds = self.rounds as f64;
        Some(sum? / rounds).filter(|figure| figure.is_finite())
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
    let measuring = Measuring::begin(meter, load.counts())?;
    let (rounds, waited) = match warmed {
        Waited::Done => run(plan.span, load)?,
        Waited::Stalled => (0, warmed),
    };
    let mut measured = measuring.end(load.counts(), rounds)?;
    measured.stalled = waited == Waited::Stalled;
    Ok(measured)
}

impl Measured {
    /// Adds another wave of the same kind.
    fn add_wave(&mut self, wave: &Self) {
        self.units += wave.units;
        self.rounds += wave.rounds;
        self.cost += wave.cost;
        self.stalled |= wave.stalled;
        self.reads = self.reads.zip(wave.reads).map(|(mut sum, wave)| {
            sum += wave;
            sum
        });
    }
}

/// A window that is being measured.
struct Measuring<'a> {
    meter: &'a Meter,
    begin: Reading,
    counts: Counts,
}

impl<'a> Measuring<'a> {
    /// Begins now, when so much was counted.
    fn begin(meter: &'a Meter, counts: Counts) -> Result<Self> {
        Ok(Self { meter, counts, begin: meter.read()? })
    }

    /// Ends now, after `rounds` rounds.
    fn end(self, counts: Counts, rounds: u64) -> Result<Measured> {
        let cost = self.meter.since(&self.begin)?;
        Ok(Measured {
            unit: Unit::Delivery,
            units: counts.received - self.counts.received,
            rounds,
            messages: counts.messages - self.counts.messages,
            posts: counts.posts - self.counts.posts,
            cost,
            stalled: false,
            latency: None,
            hiccup_seconds: None,
            growth: None,
            reads: None,
        })
    }
}
