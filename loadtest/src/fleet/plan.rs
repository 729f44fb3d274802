//! How many processes a fleet has, and which sessions are whose.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::orders::{Opening, Segment};
use super::requirements::Need;
use crate::cli::{self, FleetArgs};
use crate::os::source_addresses::PER_ADDRESS;
use crate::wire::payload::{MIN_BYTES, Template};
use crate::wire::subscribe::Dialect;

/// Sessions that one holder is opening at a time.
pub const CONCURRENCY: usize = 32;
/// Descriptors that a holder needs beside its sessions.
const HOLDER_SPARE: u64 = 32;
/// A node keeps so many, and a part of all, for connections that aren't sessions yet, its operators and its broker.
const NODE_SPARE: u64 = 64;
const NODE_SPARE_PART: u64 = 16;

/// What is to be run; nothing after this reads a flag.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Sessions of all.
    pub sessions: usize,
    /// Node processes.
    pub nodes: usize,
    /// Processes that hold the other ends.
    pub holders: usize,
    /// How sessions speak.
    pub dialect: Dialect,
    /// When a silent session gets a ping, in seconds.
    pub heartbeat_seconds: u32,
    /// Sessions opened in a second, by all holders.
    pub per_second: u32,
    /// How long all are held.
    pub hold: Duration,
    /// Messages to all.
    pub messages: u64,
    /// Size of each.
    pub payload_bytes: usize,
    /// How long a step may go on without progress.
    pub patience: Duration,
    /// How many descriptors a process may have, if there is a limit.
    pub descriptors: Option<u64>,
}

impl Plan {
    /// Checks the flags; `descriptors` is what a process may have at most.
    pub fn new(args: &FleetArgs, descriptors: Option<u64>) -> Result<Self> {
        let sessions = args.sessions;
        ensure!(sessions > 0, "--sessions is 0, at least 1 is needed");
        ensure!(
            Template::new(args.payload).is_some(),
            "--payload is {} bytes, at least {MIN_BYTES} are needed for number and time",
            args.payload
        );
        let nodes =
            Holds { what: "nodes", setting: "--nodes ", each: sessions_of_node(descriptors) };
        let each = sessions_of_holder(descriptors);
        let holders = Holds { what: "holders", setting: "--holders ", each };
        Ok(Self {
            sessions,
            nodes: nodes.processes(args.nodes, sessions)?,
            holders: holders.processes(args.holders, sessions)?,
            dialect: args.transport.into(),
            heartbeat_seconds: args.heartbeat,
            per_second: args.pace,
            hold: cli::seconds("--hold", args.hold)?,
            messages: args.messages,
            payload_bytes: args.payload,
            patience: cli::seconds("--patience-seconds", args.patience_seconds)?,
            descriptors,
        })
    }

    /// The most that a holder has.
    pub fn share_of_holder(&self) -> usize {
        self.sessions.div_ceil(self.holders)
    }

    /// What it needs of the machine.
    pub fn need(&self) -> Need {
        let on_their_way = CONCURRENCY * (self.holders.div_ceil(self.nodes) + 1);
        let Self { sessions, nodes, holders, .. } = *self;
        Need { sessions, nodes, holders, on_their_way }
    }

    /// How often the heartbeat of all sessions makes a node write, in a second.
    pub fn heartbeats_per_second(&self) -> f64 {
        super::float(self.sessions as u64) / f64::from(self.heartbeat_seconds)
    }

    /// What holder `holder` opens, given where the nodes are. Neighbouring sessions have the same node and the same
    /// holder: while a node writes to many it wakes one process, not all by turns.
    pub fn opening(
        &self,
        holder: usize,
        nodes: &[SocketAddr],
        first_source: u32,
    ) -> Result<Opening> {
        let own = block(self.sessions, self.holders, holder);
        let segments = nodes.iter().enumerate().filter_map(|(node, address)| {
            let of_node = block(self.sessions, self.nodes, node);
            let both = own.start.max(of_node.start)..own.end.min(of_node.end);
            (!both.is_empty()).then(|| Segment { node, address: *address, sessions: both.len() })
        });
        let addresses = u32::try_from(self.share_of_holder())?.div_ceil(PER_ADDRESS);
        let before = u32::try_from(holder)?.checked_mul(addresses);
        Ok(Opening {
            dialect: self.dialect,
            segments: segments.collect(),
            first_source: first_source.wrapping_add(before.context("too many holders")?),
            per_second: f64::from(self.per_second) / super::float(self.holders as u64),
            concurrency: CONCURRENCY,
            payload_bytes: self.payload_bytes,
        })
    }
}

/// Sessions that a node can have whose descriptors are limited so.
pub fn sessions_of_node(descriptors: Option<u64>) -> u64 {
    let limit = descriptors.unwrap_or(u64::MAX);
    limit.saturating_sub(NODE_SPARE + limit / NODE_SPARE_PART)
}

/// The same of a holder.
pub fn sessions_of_holder(descriptors: Option<u64>) -> u64 {
    descriptors.unwrap_or(u64::MAX).saturating_sub(HOLDER_SPARE)
}

/// Processes that hold sessions, as many as there must be.
#[derive(Debug)]
pub struct Holds {
    /// What they are.
    pub what: &'static str,
    /// How their number is set, up to that number.
    pub setting: &'static str,
    /// How many one can hold.
    pub each: u64,
}

impl Holds {
    /// How many there are: `wanted`, if so many can hold all sessions, else as few as can.
    pub fn processes(&self, wanted: Option<usize>, sessions: usize) -> Result<usize> {
        let Self { what, setting, each } = self;
        let needed = sessions.div_ceil(usize::try_from((*each).max(1)).unwrap_or(usize::MAX));
        let count = wanted.unwrap_or(needed);
        ensure!(
            count >= needed,
            "{count} {what} can't hold {sessions} sessions: with the descriptors that a process may have (ulimit -n) \
             one of them holds {each}; {setting}{needed}, or a higher limit, is needed"
        );
        ensure!(count <= sessions, "{count} {what} are more than there are sessions");
        Ok(count)
    }
}

/// Part number `index` of `total` things in `parts` parts that are as equal as can be.
pub fn block(total: usize, parts: usize, index: usize) -> Range<usize> {
    let begin = |index: usize| total / parts * index + total % parts * index / parts;
    begin(index)..begin(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use proptest::prelude::*;

    fn plan(flags: &str) -> Result<Plan> {
        let words = ["umbel-loadtest", "fleet", "--umbel", "x"].into_iter();
        let Command::Fleet(args) = Cli::parse_from(words.chain(flags.split_whitespace())).command
        else {
            panic!("it is a fleet");
        };
        Plan::new(&args, Some(20_000))
    }

    #[test]
    fn a_fleet_has_as_many_processes_as_descriptors_ask_for() {
        for (sessions, nodes, holders) in
            [(1, 1, 1), (18_686, 1, 1), (18_687, 2, 1), (100_000, 6, 6), (1_000_000, 54, 51)]
        {
            let plan = plan(&format!("--sessions {sessions}")).unwrap();
            assert_eq!((plan.nodes, plan.holders), (nodes, holders), "{sessions}");
        }
        assert_eq!(plan("--sessions 600 --nodes 3 --holders 2").unwrap().share_of_holder(), 300);
    }

    #[test]
    fn what_can_not_be_is_refused_by_name() {
        for (flags, reason) in [
            ("--sessions 100000 --nodes 5", "--nodes 6, or a higher limit"),
            ("--sessions 100000 --holders 5", "--holders 6, or a higher limit"),
            ("--sessions 2 --nodes 3", "more than there are sessions"),
            ("--sessions 0", "--sessions is 0"),
            ("--payload 8", "--payload is 8 bytes"),
            ("--hold=-1", "--hold"),
        ] {
            let error = plan(flags).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_session_has_one_holder_and_one_node(
            sessions in 1usize..2000, nodes in 1u16..20, holders in 1usize..20,
        ) {
            prop_assume!(usize::from(nodes) <= sessions && holders <= sessions);
            let plan =
                plan(&format!("--sessions {sessions} --nodes {nodes} --holders {holders}")).unwrap();
            let places: Vec<SocketAddr> =
                (1..=nodes).map(|port| ([127, 0, 0, 1], port).into()).collect();
            let mut of_node = vec![0; places.len()];
            for holder in 0..holders {
                let opening = plan.opening(holder, &places, 7).unwrap();
                let own: usize = opening.segments.iter().map(|segment| segment.sessions).sum();
                prop_assert!(own <= plan.share_of_holder());
                for segment in opening.segments {
                    prop_assert_eq!(segment.address, places[segment.node]);
                    of_node[segment.node] += segment.sessions;
                }
            }
            prop_assert_eq!(of_node.iter().sum::<usize>(), sessions);
            prop_assert!(of_node.iter().all(|own| *own > 0 && *own <= sessions.div_ceil(plan.nodes)));
        }
    }
}
