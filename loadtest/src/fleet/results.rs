//! All that a fleet showed, as it is written to `fleet.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::nodes::NodeCounts;
use super::orders::State;
use super::plan::Plan;
use super::reading::{Cpu, Holding, growth_each};
use super::receipts::Delivery;
use super::{float, table};
use crate::bench::machine::Machine;
use crate::bench::redis::Redis;
use crate::cli::FleetArgs;
use crate::load::ledger::Integrity;
use crate::wire::subscribe::Dialect;

/// A whole run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// Where and of what.
    pub machine: Machine,
    /// The command, word by word.
    pub command: Vec<String>,
    /// What Redis says of its version.
    pub redis: String,
    /// The nodes' settings from the environment, beside heartbeat and limit.
    pub node_env: Vec<(String, String)>,
    /// Sessions that were wanted.
    pub sessions: usize,
    /// Node processes, of one worker each.
    pub nodes: usize,
    /// Processes that held the clients' ends.
    pub holders: usize,
    /// How many descriptors a process might have.
    pub descriptors: Option<u64>,
    /// How sessions spoke.
    pub dialect: Dialect,
    /// When a silent session got a ping.
    pub heartbeat_seconds: u32,
    /// The pace that was asked for.
    pub pace_per_second: u32,
    /// Size of each message.
    pub payload_bytes: usize,
    /// The first phase.
    pub opened: Opened,
    /// The second.
    pub held: Held,
    /// What was held when all processes ran, without sessions.
    pub before: Holding,
    /// What was held at the end of the second phase.
    pub after: Holding,
    /// What nodes had counted then.
    pub counted_open: NodeCounts,
    /// The third, message by message.
    pub deliveries: Vec<Delivery>,
    /// CPU time of all nodes while messages were on their way.
    pub node_seconds_of_messages: f64,
    /// The last.
    pub closed: Closed,
    /// Sessions that were refused or lost, by node and reason.
    pub ends: State,
    /// Numbers of the nodes that ended by themselves.
    pub nodes_ended: Vec<usize>,
    /// Why the run failed; nothing if it didn't.
    pub problems: Vec<String>,
}

/// All sessions were tried.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Opened {
    /// How long it took.
    pub seconds: f64,
    /// Those that were open then.
    pub sessions: u64,
    /// Opened in a second.
    pub per_second: f64,
    /// Those that never were.
    pub refused: u64,
}

/// Nothing happened but heartbeats.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Held {
    /// What was used.
    pub cpu: Cpu,
    /// Pings and comments sent by all nodes.
    pub heartbeats_per_second: f64,
    /// Sessions lost from the beginning to its end.
    pub lost: u64,
}

/// All were closed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Closed {
    /// From the first close until nodes had noticed all.
    pub seconds: f64,
    /// What came of all messages.
    pub integrity: Integrity,
    /// Deliveries that nodes had counted before.
    pub delivered: f64,
    /// What nodes count at the end.
    pub left: NodeCounts,
}

/// Bytes for each open session.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Of all nodes, with what they take without sessions: what a fleet of this size needs.
    pub nodes: f64,
    /// The same that grew with sessions.
    pub nodes_growth: f64,
    /// Of all holders, that grew.
    pub holders_growth: f64,
    /// Slabs of sockets, for both ends; unknown to all but root.
    pub socket_growth: Option<f64>,
    /// All slabs of the kernel.
    pub slab_growth: f64,
    /// By how much the machine has less to give, for all of that.
    pub available_drop: f64,
}

impl Results {
    /// Nothing was run yet.
    pub fn new(machine: Machine, plan: &Plan, args: &FleetArgs) -> Self {
        let cpu = Cpu::default();
        Self {
            machine,
            command: std::env::args().collect(),
            redis: Redis::version(),
            node_env: args.node_env.clone(),
            sessions: plan.sessions,
            nodes: plan.nodes,
            holders: plan.holders,
            descriptors: plan.descriptors,
            dialect: plan.dialect,
            heartbeat_seconds: plan.heartbeat_seconds,
            pace_per_second: plan.per_second,
            payload_bytes: plan.payload_bytes,
            opened: Opened::default(),
            held: Held { cpu, heartbeats_per_second: 0.0, lost: 0 },
            before: Holding::default(),
            after: Holding::default(),
            counted_open: NodeCounts::default(),
            deliveries: Vec::new(),
            node_seconds_of_messages: 0.0,
            closed: Closed::default(),
            ends: State::default(),
            nodes_ended: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Memory by session.
    pub fn memory(&self) -> Memory {
        let (before, after) = (&self.before, &self.after);
        let sessions = self.opened.sessions;
        let each = |before, after| growth_each(before, after, sessions);
        let sockets = before.kernel.socket_slab_bytes.zip(after.kernel.socket_slab_bytes);
        Memory {
            nodes: each(0, after.nodes.pss_bytes),
            nodes_growth: each(before.nodes.pss_bytes, after.nodes.pss_bytes),
            holders_growth: each(before.holders.pss_bytes, after.holders.pss_bytes),
            socket_growth: sockets.map(|(before, after)| each(before, after)),
            slab_growth: each(before.kernel.slab_bytes, after.kernel.slab_bytes),
            available_drop: each(after.kernel.available_bytes, before.kernel.available_bytes),
        }
    }

    /// Receipts of all messages.
    pub fn received(&self) -> u64 {
        self.deliveries.iter().map(|delivery| delivery.received).sum()
    }

    /// Finds what went wrong.
    pub fn judge(&mut self, plan: &Plan) {
        let mut problems = Vec::new();
        let mut expect = |fine: bool, problem: String| {
            if !fine {
                problems.push(problem);
            }
        };
        let State { refused, lost, by_node, reasons, .. } = &self.ends;
        let ended = &self.nodes_ended;
        expect(ended.is_empty(), format!("nodes ended by themselves: {ended:?}"));
        let where_and_why = format!("by node {by_node:?}, by reason {reasons:?}");
        expect(*refused == 0, format!("{refused} sessions were refused: {where_and_why}"));
        expect(*lost == 0, format!("{lost} sessions were lost: {where_and_why}"));
        for (number, delivery) in self.deliveries.iter().enumerate() {
            let Delivery { missing, nodes, .. } = delivery;
            expect(
                *missing == 0,
                format!("message {} didn't reach {missing} sessions", number + 1),
            );
            let all = plan.nodes as u64 == *nodes;
            expect(all, format!("message {} reached {nodes} of {} nodes", number + 1, plan.nodes));
        }
        let integrity = &self.closed.integrity;
        expect(
            integrity.is_clean(),
            format!("messages didn't come once, in order and unchanged: {integrity:?}"),
        );
        let mut count = |what: &str, counted: f64, expected: u64| {
            let fine = (counted - float(expected)).abs() < 0.5;
            expect(fine, format!("nodes count {counted} {what}, {expected} are expected"));
        };
        count(
            "open sessions after the hold",
            self.counted_open.open,
            self.opened.sessions - self.held.lost,
        );
        count("opened sessions", self.closed.left.opened, self.opened.sessions);
        count("deliveries", self.closed.delivered, integrity.received);
        count("open sessions at the end", self.closed.left.open, 0);
        self.problems = problems;
    }

    /// Writes `fleet.json` and `fleet.md` into `out`.
    pub fn write(&self, out: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        write("fleet.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("fleet.md", format!("{}\n{}\n", table::preface(self), table::text(self)))
    }
}
