//! The node processes of a fleet, and what they say of themselves.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::bench::server::{Program, Server};
use crate::channels::Channels;
use crate::cost::node_metrics::NodeMetrics;

/// Time in which a node that doesn't answer may turn out to be ending.
const DYING: Duration = Duration::from_secs(1);

/// All nodes; dropping it ends them.
#[derive(Debug)]
pub struct Nodes(Vec<Server>);

/// Sums over all nodes that run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Sessions that they may have.
    pub limit: f64,
    /// Sessions that are open.
    pub open: f64,
    /// Those that were ever opened.
    pub opened: f64,
    /// Messages written whole to a session.
    pub delivered: f64,
    /// Pings and comments sent to silent sessions.
    pub heartbeats: f64,
}

impl Nodes {
    /// Starts one after the other, and waits for each until it is ready; what they have to say goes into `logs`.
    pub fn start(
        plan: &Plan,
        umbel: &Path,
        more: &[(String, String)],
        channels: &Channels,
        logs: &Path,
    ) -> Result<Self> {
        let setting = |name: &str, value: String| (name.to_owned(), value);
        let mut env = vec![
            setting("UMBEL_NODE__HEARTBEAT_SECONDS", plan.heartbeat_seconds.to_string()),
            // What its descriptors allow.
            setting("UMBEL_LIMITS__SESSIONS", "0".to_owned()),
        ];
        env.extend_from_slice(more);
        let mut nodes = Self(Vec::with_capacity(plan.nodes));
        for number in 0..plan.nodes {
            let program = Program::node(umbel, Some(1), &env, Some(channels), None)?;
            let log = logs.join(format!("node-{number}.log"));
            let server = Server::start(program, &log, || Ok(()));
            nodes.0.push(server.with_context(|| format!("node {number}"))?);
        }
        Ok(nodes)
    }

    /// Where they serve.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(Server::address).collect()
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Server::pid).collect()
    }

    /// The numbers of those that have ended.
    pub fn ended(&self) -> Vec<usize> {
        let nodes = self.0.iter().enumerate();
        nodes
            .filter(|(_, server)| server.ends_within(Duration::ZERO))
            .map(|(number, _)| number)
            .collect()
    }

    /// What those that run have counted.
    pub fn counts(&self) -> Result<NodeCounts> {
        let mut sum = NodeCounts::default();
        for server in &self.0 {
            let admin = server.admin().context("a node has no admin listener")?;
            let metrics = match NodeMetrics::fetch(admin) {
                Ok(metrics) => metrics,
                Err(_) if server.ends_within(DYING) => continue,
                Err(error) => return Err(error),
            };
            sum.limit += metrics.sum("umbel_sessions_limit");
            sum.open += metrics.sum("umbel_sessions_open");
            sum.opened += metrics.sum("umbel_sessions_opened_total");
            sum.delivered += metrics.sum("umbel_deliveries_total");
            sum.heartbeats += metrics.sum("umbel_heartbeats_total");
        }
        Ok(sum)
    }
}
