//! What a run is to do: the file and the flags, checked. Nothing behind this reads a flag.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::checks;
use crate::channels::Channels;
use crate::cli::{RunArgs, Server};
use crate::fleet::plan::{Holds, block, sessions_of_holder, sessions_of_node};
use crate::fleet::requirements::{Given, Need};
use crate::os::address::resolve;
use crate::os::descriptors;
use crate::os::source_addresses::{self, ADDRESSES};
use crate::wire::payload::MIN_BYTES;
use crate::work::file::{Publish, Transport, Workload};
use crate::work::orders::{Opening, Place};
use crate::work::script::Script;
use crate::work::shape::Spread;

const HTTP_PORT: u16 = 80;

/// A run, checked.
#[derive(Debug)]
pub struct Plan {
    /// Name of the scenario.
    pub scenario: String,
    /// What the file says, and the changes to it.
    pub work: Workload,
    /// What is loaded.
    pub source: Source,
    /// What it is called.
    pub target: String,
    /// Processes that hold sessions.
    pub holders: usize,
    /// Who has which topic.
    pub spread: Spread,
    /// How another system speaks: text of its file.
    pub script: Option<String>,
    /// Where servers run that are started here.
    pub server_core: Option<usize>,
    /// Where the load runs.
    pub load_core: Option<usize>,
}

/// Where servers come from.
#[derive(Debug)]
pub enum Source {
    /// Nodes of this program are started.
    Umbel(PathBuf),
    /// Comparison servers are.
    Comparison(Server),
    /// They run.
    Running(Running),
}

/// Servers that run already.
#[derive(Debug)]
pub struct Running {
    /// Where sessions connect.
    pub places: Vec<Place>,
    /// Where messages are published, unless it is at Redis.
    pub publish: Place,
    /// Their Redis.
    pub redis: Option<Channels>,
    /// Their processes.
    pub pids: Vec<u32>,
}

impl Plan {
    /// Checks everything that can be known before something is started.
    pub fn new(scenario: &str, work: Workload, args: &RunArgs) -> Result<Self> {
        let script = args.script.as_ref().map(|path| {
            let text = fs::read_to_string(path);
            text.with_context(|| format!("can't read {}", path.display()))
        });
        let script = script.transpose()?;
        let parsed = script.as_deref().map(Script::parse).transpose()?;
        let source = Source::new(args, work.sessions.transport)?;
        checks::numbers(&work)?;
        checks::together(&work, &source, parsed.as_ref())?;
        ensure!(
            args.server_core.is_none() || args.server_core != args.load_core,
            "--server-core and --load-core are the same: each needs its own"
        );
        let limit = descriptors::limit();
        let count = work.sessions.count;
        if !matches!(source, Source::Running(_)) {
            let each = sessions_of_node(limit);
            let nodes = Holds { what: "nodes", setting: "servers.nodes = ", each };
            nodes.processes(Some(work.servers.nodes), count)?;
        }
        // A connection that was cut in silence stays until the session's new one is there.
        let doubled = work.sessions.cut.map_or(0, |_| work.sessions.concurrency);
        let each = sessions_of_holder(limit).saturating_sub(u64::try_from(doubled)?);
        let holders = Holds { what: "processes", setting: "sessions.processes = ", each };
        let holders = holders.processes(work.sessions.processes, count)?;
        Ok(Self {
            scenario: scenario.to_owned(),
            target: args.name.clone().unwrap_or_else(|| source.name().to_owned()),
            source,
            holders,
            spread: work.topics.shape.over(count, work.topics.per_session),
            work,
            script,
            server_core: args.server_core,
            load_core: args.load_core,
        })
    }

    /// Whether the machine has what is needed, and what to set if not.
    pub fn check_machine(&self) -> Result<()> {
        let sessions = self.work.sessions.count;
        let nodes = match &self.source {
            Source::Running(running) => running.places.len(),
            Source::Umbel(_) | Source::Comparison(_) => self.work.servers.nodes,
        };
        let on_their_way =
            sessions.min(self.work.sessions.concurrency * self.holders).div_ceil(nodes);
        let need = Need { sessions, nodes, holders: self.holders, on_their_way };
        let missing = Given::read()?.missing_for(&need);
        if missing.is_empty() {
            return Ok(());
        }
        bail!("this machine isn't ready for {sessions} sessions:\n- {}", missing.join("\n- "))
    }

    /// Time without progress after which the run gives up.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.work.window.patience_seconds)
    }

    /// Size of each message.
    pub fn payload_bytes(&self) -> usize {
        self.work.publish.map_or(MIN_BYTES, |Publish { payload_bytes, .. }| payload_bytes)
    }

    /// What each holder is to open, given where the servers are.
    pub fn openings(&self, places: &[Place]) -> Result<Vec<Opening>> {
        let first = source_addresses::any();
        let count = self.work.sessions.count;
        // Who comes back takes new addresses, and mustn't come to those of another process: a port that is searched for
        // among many that are taken costs the kernel far more than the connection.
        let apart = ADDRESSES / u32::try_from(self.holders)?;
        let mut openings = Vec::with_capacity(self.holders);
        for holder in 0..self.holders {
            let own = block(count, self.holders, holder);
            openings.push(Opening {
                sessions: self.work.sessions.clone(),
                topics: self.work.topics,
                first: own.start,
                count: own.len(),
                holders: self.holders,
                places: places.to_vec(),
                script: self.script.clone(),
                first_source: first.wrapping_add(u32::try_from(holder)? * apart),
                payload_bytes: self.payload_bytes(),
                patience_seconds: self.work.window.patience_seconds,
            });
        }
        Ok(openings)
    }
}

impl Source {
    fn new(args: &RunArgs, transport: Transport) -> Result<Self> {
        let of_others = args.publish_url.is_some() || args.redis.is_some() || !args.pid.is_empty();
        ensure!(
            !of_others || !args.url.is_empty(),
            "--publish-url, --redis and --pid are for what runs already: they need --url"
        );
        if let Some(path) = &args.umbel {
            return Ok(Self::Umbel(path.clone()));
        }
        if let Some(server) = args.server {
            ensure!(server != Server::Empty, "the empty server has no sessions");
            return Ok(Self::Comparison(server));
        }
        let place = |url: &String| place(url, transport);
        let places: Vec<Place> = args.url.iter().map(place).collect::<Result<_>>()?;
        let first = places.first().context("nothing is named to be loaded")?;
        let publish = match &args.publish_url {
            Some(url) => Place::new(url, &["http", "ws"])?,
            None => Place { path: String::new(), ..first.clone() },
        };
        let redis = args.redis.as_ref().map(|url| Channels::new(url, &args.prefix)).transpose()?;
        Ok(Self::Running(Running { publish, places, redis, pids: args.pid.clone() }))
    }

    fn name(&self) -> &str {
        match self {
            Self::Umbel(_) => "umbel",
            Self::Comparison(Server::Baseline) => "baseline",
            Self::Comparison(Server::Naive) => "naive",
            Self::Comparison(Server::Empty) => "empty",
            Self::Running(_) => "server",
        }
    }
}

/// Where sessions connect, by a URL that fits to how they speak.
fn place(url: &str, transport: Transport) -> Result<Place> {
    let scheme = match transport {
        Transport::WebSocket | Transport::Json => "ws",
        Transport::Sse | Transport::Poll => "http",
        Transport::Script => return Place::new(url, &["ws", "http"]),
    };
    let name = format!("{transport:?}").to_lowercase();
    Place::new(url, &[scheme]).with_context(|| format!("sessions.transport is {name}"))
}

impl Place {
    /// `SCHEME://HOST[:PORT][/PATH]`, of one of these schemes.
    fn new(url: &str, schemes: &[&str]) -> Result<Self> {
        let expected = || format!("URL {url} doesn't begin with {}://", schemes.join(":// or "));
        let (scheme, rest) = url.split_once("://").with_context(expected)?;
        ensure!(schemes.contains(&scheme), expected());
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Self {
            address: resolve(host, HTTP_PORT)?,
            host: host.to_owned(),
            path: if path.len() <= 1 { String::new() } else { path.to_owned() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::tests::plan;
    use super::*;

    #[test]
    fn processes_have_neighbouring_sessions_and_source_addresses_far_apart() {
        let flags = "--set sessions.count=10 --set sessions.processes=3";
        let openings = plan(&format!("fanout --umbel x {flags}")).unwrap().openings(&[]).unwrap();
        let blocks: Vec<_> = openings.iter().map(|own| own.first..own.first + own.count).collect();
        assert_eq!(blocks, [0..3, 3..6, 6..10]);
        for pair in openings.windows(2) {
            let apart = pair[1].first_source - pair[0].first_source;
            assert_eq!(apart, ADDRESSES / 3, "as far as can be");
        }
    }
}
