//! What is reported of the node as a whole: looked up when a scrape asks for it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use umbel_broker::Broker;
use umbel_metrics::{Counter, Family, Gauge};

use crate::admission::Admission;
use crate::budget::Budget;
use crate::drain::{Stage, Stages};
use crate::machine;

/// Where it is looked up.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) broker: Arc<Broker>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) stages: Stages,
    /// When the node was asked to leave.
    pub(crate) asked: Arc<OnceLock<Instant>>,
    /// How long it takes to move all sessions away: the pause and the drain.
    pub(crate) planned: Duration,
}

/// What was found. Written by the admin listener's thread.
#[derive(Debug, Default)]
pub(super) struct NodeMetrics {
    netstat: Netstat,
    sessions_limit: Gauge,
    queue_overflows: Counter,
    queue_drops: Counter,
    descriptors_open: Gauge,
    descriptors_limit: Gauge,
    budget_bytes: Gauge,
    history_bytes: Gauge,
    allocated_bytes: Gauge,
    resident_bytes: Gauge,
    leaving: Gauge,
    stage: Gauge,
    elapsed: Gauge,
    planned: Gauge,
    canaries_sent: Counter,
    canaries_lost: Counter,
}

/// The kernel's counts, kept open: it is when descriptors have run out that they are of interest.
#[derive(Debug)]
struct Netstat(Option<File>);

impl Default for Netstat {
    fn default() -> Self {
        Self(File::open("/proc/self/net/netstat").ok())
    }
}

impl Netstat {
    fn read(&self) -> Option<QueueCounts> {
        let file = self.0.as_ref()?;
        let mut text = vec![0; 16 * 1024];
        let length = file.read_at(&mut text, 0).ok()?;
        queue_counts(std::str::from_utf8(&text[..length]).ok()?)
    }
}

/// What the kernel counts of connections that a full accept queue turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct QueueCounts {
    overflows: u64,
    drops: u64,
}

impl NodeMetrics {
    /// Looks everything up.
    pub(super) fn update(&self, node: &NodeState) {
        let limit = node.admission.max_sessions();
        match limit {
            usize::MAX => self.sessions_limit.set(f64::INFINITY),
            limit => self.sessions_limit.set_count(limit),
        }
        if let Some(QueueCounts { overflows, drops }) = self.netstat.read() {
            self.queue_overflows.set(overflows);
            self.queue_drops.set(drops);
        }
        if let Some(open) = machine::open_descriptors() {
            self.descriptors_open.set_count(open);
        }
        self.descriptors_limit.set_count(machine::max_descriptors());
        self.budget_bytes.set_count(node.budget.limit());
        self.history_bytes.set_count(node.broker.history_bytes());
        self.update_allocator();
        let stage = *node.stages.borrow();
        self.leaving.set_count((stage > Stage::Serving).into());
        self.stage.set_count(stage as usize);
        let elapsed = node.asked.get().map_or(Duration::ZERO, Instant::elapsed);
        self.elapsed.set(elapsed.as_secs_f64());
        self.planned.set(node.planned.as_secs_f64());
        let canaries = node.broker.canaries();
        self.canaries_sent.set(canaries.sent);
        self.canaries_lost.set(canaries.lost);
    }

    /// Statistics are of the last epoch, so a new one is begun. Without jemalloc they stay 0.
    fn update_allocator(&self) {
        use tikv_jemalloc_ctl::{epoch, stats};
        if epoch::advance().is_ok() {
            self.allocated_bytes.set_count(stats::allocated::read().unwrap_or(0));
            self.resident_bytes.set_count(stats::resident::read().unwrap_or(0));
        }
    }
}

/// Every family of the whole node.
pub(super) fn families() -> Vec<Family<NodeMetrics>> {
    vec![
        Family::gauge(
            "umbel_sessions_limit",
            "How many sessions the node may have: limits.sessions, or what its descriptors allow if that is less.",
            |n| &n.sessions_limit,
        ),
        Family::counter(
            "umbel_accept_queue_overflows_total",
            "Times that a listener's accept queue was full, of all listeners in the node's network namespace (ListenOverflows).",
            |n| &n.queue_overflows,
        ),
        Family::counter(
            "umbel_accept_queue_drops_total",
            "Connections that the kernel dropped before they were accepted, of all listeners in the node's network namespace (ListenDrops).",
            |n| &n.queue_drops,
        ),
        Family::gauge(
            "umbel_descriptors_open",
            "Descriptors that the process has; known also when it can't have another.",
            |n| &n.descriptors_open,
        ),
        Family::gauge("umbel_descriptors_limit", "Descriptors that the process may have.", |n| {
            &n.descriptors_limit
        }),
        Family::gauge(
            "umbel_memory_budget_bytes",
            "What may be held in all, logs included, in bytes: node.memory_mib less what the program itself needs.",
            |n| &n.budget_bytes,
        ),
        Family::gauge(
            "umbel_history_bytes",
            "Memory of the messages that the node keeps of topics with history, in bytes.",
            |n| &n.history_bytes,
        ),
        Family::gauge(
            "umbel_allocator_allocated_bytes",
            "Memory that the program has asked for and not given back, in bytes.",
            |n| &n.allocated_bytes,
        ),
        Family::gauge(
            "umbel_allocator_resident_bytes",
            "Memory that the allocator holds for it in RAM, in bytes.",
            |n| &n.resident_bytes,
        ),
        Family::gauge("umbel_leaving", "1 from when the node was asked to leave.", |n| &n.leaving),
        Family::gauge(
            "umbel_drain_stage",
            "How far a node that leaves is: 0 serving, 1 announced, 2 moving its sessions, 3 hurried, 4 stopping.",
            |n| &n.stage,
        ),
        Family::gauge(
            "umbel_drain_elapsed_seconds",
            "How long ago the node was asked to leave; 0 if it wasn't.",
            |n| &n.elapsed,
        ),
        Family::gauge(
            "umbel_drain_planned_seconds",
            "After how long all sessions should have been moved: drain.pause_seconds and drain.drain_seconds.",
            |n| &n.planned,
        ),
        Family::counter(
            "umbel_canaries_sent_total",
            "Messages of the node's own that were sent to the broker, one a second.",
            |n| &n.canaries_sent,
        ),
        Family::counter(
            "umbel_canaries_lost_total",
            "Messages of the node's own that did not come back.",
            |n| &n.canaries_lost,
        ),
    ]
}

/// Finds the counts in `/proc/net/netstat`: pairs of lines, one of names and one of numbers.
fn queue_counts(netstat: &str) -> Option<QueueCounts> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let count = |wanted| {
        let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
        pairs.find(|(name, _)| *name == wanted).and_then(|(_, number)| number.parse().ok())
    };
    Some(QueueCounts { overflows: count("ListenOverflows")?, drops: count("ListenDrops")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counts_are_found_by_name() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 9 3 4\n\
             IpExt: ListenDrops\nIpExt: 7\n";
        assert_eq!(queue_counts(netstat), Some(QueueCounts { overflows: 3, drops: 4 }));
        for strange in ["", "TcpExt: ListenDrops\n", "TcpExt: ListenDrops\nTcpExt: x\n"] {
            assert_eq!(queue_counts(strange), None, "{strange:?}");
        }
        let ours = Netstat::default();
        assert!(ours.read().is_some() && ours.read().is_some(), "this kernel has them, each time");
    }
}
