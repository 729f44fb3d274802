//! What a case is: two sides, what is done to them, which figure is compared, and what is wanted.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::arm::Arm;
use crate::load::pacing::Span;
use crate::scenario::{Outcome, Scenario};

/// One comparison.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name on the command line.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// What is done to both servers.
    pub scenario: Scenario,
    /// How long.
    pub span: Span,
    /// How long before that, unmeasured.
    pub warm_up: Duration,
    /// What is compared.
    pub figure: Figure,
    /// The side that is judged.
    pub node: Arm,
    /// The side that it is compared with.
    pub against: Arm,
    /// Measured now and then, for the distance.
    pub naive: Option<Arm>,
    /// What is wanted.
    pub target: Target,
    /// Figures of the same runs that explain the first.
    pub beside: Vec<Figure>,
    /// It has no more rounds than this, whatever is asked for.
    pub most_rounds: usize,
}

/// What a case compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// CPU of the server's core, microseconds per delivery.
    CorePerDelivery,
    /// CPU of the server's core, microseconds per connect.
    CorePerConnect,
    /// CPU of the server's threads, microseconds per delivery.
    ProcessPerDelivery,
    /// Microseconds from a message's due time to its last receipt, exceeded by one in a hundred.
    LatencyP99,
    /// Growth of resident memory, bytes per session.
    RssPerSession,
    /// Messages delivered per second.
    MessagesPerSecond,
    /// Share of the time in which the server's core wasn't idle.
    CoreShare,
    /// Time per topic from the first subscription to the last confirmation, microseconds.
    WallPerSubscription,
    /// Requests answered per second.
    RequestsPerSecond,
    /// CPU of the server's core, microseconds per request.
    CorePerRequest,
    /// CPU of the server's threads, microseconds per request.
    ProcessPerRequest,
    /// CPU of the server's core, microseconds per session that came back and has all that it missed.
    CorePerResume,
    /// CPU of the server's threads, microseconds for the same.
    ProcessPerResume,
    /// Time from the first connect until the last session that came back has its last message, seconds.
    UntilAllResumed,
    /// Calls of functions at Redis that a wave of such sessions took.
    ReadsPerWave,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node's figure, divided by the other's, at most this.
    Ratio(f64),
    /// The node's figure itself at most this.
    Absolute(f64),
    /// The node's figure, divided by the other's, at least this.
    RatioAtLeast(f64),
    /// The node's figure itself at least this.
    AtLeast(f64),
    /// Nothing: the figure is shown and not judged.
    None,
}

impl Figure {
    /// The figure of one run.
    pub fn of(self, outcome: &Outcome) -> Result<f64> {
        let (measured, cost) = (&outcome.measured, &outcome.measured.cost);
        let value = match self {
            Self::CorePerDelivery
            | Self::CorePerConnect
            | Self::CorePerRequest
            | Self::CorePerResume => measured.per_unit(cost.server_core_seconds),
            Self::ProcessPerDelivery | Self::ProcessPerRequest | Self::ProcessPerResume => {
                measured.per_unit(cost.server_process_seconds)
            }
            Self::UntilAllResumed => measured.per_round(Some(cost.wall_seconds)),
            Self::ReadsPerWave => measured.reads.and_then(|reads| {
                #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
                measured.per_round(Some(reads.redis_calls? as f64))
            }),
            Self::WallPerSubscription => measured.per_unit(Some(cost.wall_seconds)),
            Self::MessagesPerSecond | Self::RequestsPerSecond => measured.per_second(),
            Self::CoreShare => cost.server_core_seconds.map(|busy| busy / cost.wall_seconds),
            Self::LatencyP99 => measured.latency.map(|latency| latency.p99_us),
            Self::RssPerSession => measured.growth.map(|growth| growth.rss_bytes_per_session),
        };
        value.with_context(|| format!("the run has no figure {self:?}"))
    }

    /// Its unit, for tables.
    pub fn unit(self) -> &'static str {
        match self {
            Self::CorePerDelivery => "core µs/delivery",
            Self::CorePerConnect => "core µs/connect",
            Self::ProcessPerDelivery => "process µs/delivery",
            Self::LatencyP99 => "p99 µs",
            Self::RssPerSession => "RSS B/session",
            Self::MessagesPerSecond => "messages/s",
            Self::CoreShare => "share of the core",
            Self::WallPerSubscription => "µs/subscription",
            Self::RequestsPerSecond => "requests/s",
            Self::CorePerRequest => "core µs/request",
            Self::ProcessPerRequest => "process µs/request",
            Self::CorePerResume => "core µs/resume",
            Self::ProcessPerResume => "process µs/resume",
            Self::UntilAllResumed => "s until all have all",
            Self::ReadsPerWave => "reads at Redis",
        }
    }
}
