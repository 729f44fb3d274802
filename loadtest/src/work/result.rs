//! What a run was and what came of it: the file that reports and comparisons are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::Workload;
use crate::bench::machine::Machine;
use crate::load::ledger::Integrity;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the scenario: that of its file.
    pub scenario: String,
    /// What was loaded: `umbel`, `baseline`, or a peer's name, with its version as far as it is known.
    pub target: String,
    /// The command line.
    pub command: String,
    /// Where and when.
    pub machine: Machine,
    /// What was done.
    pub workload: Workload,
    /// How long the window was.
    pub seconds: f64,
    /// The sessions.
    pub sessions: SessionFigures,
    /// The messages.
    pub messages: MessageFigures,
    /// Times, by name: `delivery`, `last_receipt`, `connect`, `back`, `replay`, `publish`; only those that were measured.
    /// In closed loops times of receipt aren't: see [`Workload::is_closed_loop`].
    pub times: BTreeMap<String, Distribution>,
    /// What it cost.
    pub cost: CostFigures,
    /// Second by second.
    pub series: Vec<Moment>,
    /// What was aimed at.
    pub verdicts: Vec<Verdict>,
    /// What went wrong in words; empty when all went well.
    pub problems: Vec<String>,
}

/// What came of sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionFigures {
    /// How many there were to be.
    pub wanted: u64,
    /// Open when the window began.
    pub opened: u64,
    /// How long opening took.
    pub open_seconds: f64,
    /// Open at the end.
    pub open_at_end: u64,
    /// Connects, returns counted.
    pub connects: u64,
    /// Attempts that failed.
    pub refused: u64,
    /// Ended by servers or by failures.
    pub lost: u64,
    /// Cut by the load.
    pub cut: u64,
    /// Subscriptions changed by the load.
    pub churned: u64,
    /// Away at the end.
    pub never_returned: u64,
    /// In runs with a storm: from its begin until all were back, known to a quarter of a second.
    pub back_seconds: Option<f64>,
    /// Why some were refused or lost.
    pub reasons: BTreeMap<String, u64>,
}

/// What came of messages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageFigures {
    /// Published since the start.
    pub published: u64,
    /// Of them in the window.
    pub published_in_window: u64,
    /// Requests or writes that they took.
    pub requests: u64,
    /// Publish requests that failed and were repeated or given up.
    pub failed_requests: u64,
    /// Messages that were sent again though they may have been published, without a key to tell: the load itself may
    /// have doubled them.
    #[serde(default)]
    pub doubtful: u64,
    /// Receipts in the window, doubles left out.
    pub deliveries: u64,
    /// All receipts against what was published.
    pub integrity: Integrity,
    /// The same of sessions that were open from the first opening to the end, as far as it is told apart: expected,
    /// received and lost.
    #[serde(default)]
    pub steady: Integrity,
    /// Received of expected.
    pub delivery_ratio: f64,
    /// Gaps that servers told of.
    pub gaps: u64,
}

/// A distribution of times, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// The least.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half are at most this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
    /// Quantiles from 0 to 1 and their times, for a chart.
    pub curve: Vec<(f64, f64)>,
}

/// What the window cost. Absent: not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CostFigures {
    /// CPU of all processes of the servers; Redis isn't one of them.
    pub server_process_seconds: Option<f64>,
    /// Time in which the servers' core wasn't idle, softirqs included: if all are pinned to one.
    pub server_core_seconds: Option<f64>,
    /// CPU of the run's own Redis.
    pub redis_seconds: Option<f64>,
    /// CPU of coordinator and holders.
    pub load_seconds: f64,
    /// Of the whole machine, in softirqs; not more than the kernel accounts for apart.
    pub softirq_seconds: f64,
    /// Microseconds of the servers' core (else: process) per delivery.
    pub us_per_delivery: Option<f64>,
    /// The same per connect, in runs with a storm: from its begin until all are back.
    pub us_per_connect: Option<f64>,
    /// Deliveries per second of the servers' core (else: process).
    pub deliveries_per_core_second: Option<f64>,
    /// Servers' memory at the end of the window.
    pub rss_bytes: Option<u64>,
    /// See `rss_bytes`.
    pub pss_bytes: Option<u64>,
    /// What PSS grew by since before the first session, per session.
    pub pss_bytes_per_session: Option<f64>,
    /// Memory in TCP queues of the whole machine at the end of the window.
    pub socket_bytes: u64,
    /// Slabs of sockets of the whole machine, if root reads them.
    pub socket_slab_bytes: Option<u64>,
    /// Servers' descriptors.
    pub descriptors: Option<u64>,
}

/// One second of a run, counted from the window's begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Which.
    pub second: f64,
    /// Sessions open.
    pub open: u64,
    /// Messages published in it.
    pub published: u64,
    /// Receipts in it.
    pub received: u64,
    /// Connects in it.
    pub connects: u64,
    /// Cores that the servers took.
    pub server_cores: Option<f64>,
}

/// One figure against its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was to be reached, with its bound.
    pub target: String,
    /// What came.
    pub found: String,
    /// Whether it was reached.
    pub reached: bool,
}
