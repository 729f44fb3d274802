//! The servers of a run: started here and ended with it, or such as run already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::plan::{Plan, Running, Source};
use crate::bench::redis::Redis;
use crate::bench::server::{Program, Server};
use crate::channels::Channels;
use crate::cli;
use crate::cost::memory::Memory;
use crate::cost::process_time::ProcessTime;
use crate::os::cores::{self, Affinity};
use crate::os::descriptors;
use crate::work::file::{By, What};
use crate::work::orders::Place;

/// All servers; dropping it ends those that were started.
#[derive(Debug)]
pub struct Servers {
    nodes: Vec<Server>,
    redis: Option<Redis>,
    placement: Placement,
    places: Vec<Place>,
    publish: Place,
    channels: Option<Channels>,
    /// Processes that run already.
    others: Vec<u32>,
    /// CPU of processes that have ended, of nodes and of Redis.
    ended: (ProcessTime, ProcessTime),
    /// How some ended that were asked to, if not well.
    problems: Vec<String>,
}

/// Where servers run that are started.
#[derive(Debug)]
struct Placement {
    core: Option<usize>,
    everywhere: Affinity,
}

impl Servers {
    /// Starts what `plan` says, and waits until it is ready; `everywhere` is where servers may run that aren't pinned.
    /// What they have to say goes into `directory`.
    pub fn start(plan: &Plan, everywhere: Affinity, directory: &Path) -> Result<Self> {
        let core = plan.server_core;
        if let Source::Running(running) = &plan.source {
            return Ok(Self::running(running, Placement { core: None, everywhere }));
        }
        let placement = Placement { core, everywhere };
        let redis = plan.work.servers.redis.then(|| start_redis(plan, directory)).transpose()?;
        let channels = redis.as_ref().map(|redis| redis.channels().clone());
        let settings = write_settings(plan, directory)?;
        let mut nodes = Vec::with_capacity(plan.work.servers.nodes);
        for number in 0..plan.work.servers.nodes {
            let program = program(plan, channels.as_ref(), settings.as_deref())?;
            let log = directory.join(format!("node-{number}.log"));
            let server = Server::start(program, &log, || placement.take());
            nodes.push(server.with_context(|| format!("node {number}"))?);
        }
        let places: Vec<Place> = nodes.iter().map(place_at).collect();
        // Faults are the first node's: publishers' requests are to arrive.
        let publish = places.last().cloned().context("there is no node")?;
        let ended = Default::default();
        Ok(Self {
            nodes,
            redis,
            placement,
            places,
            publish,
            channels,
            others: Vec::new(),
            ended,
            problems: Vec::new(),
        })
    }

    fn running(running: &Running, placement: Placement) -> Self {
        Self {
            nodes: Vec::new(),
            redis: None,
            placement,
            places: running.places.clone(),
            publish: running.publish.clone(),
            channels: running.redis.clone(),
            others: running.pids.clone(),
            ended: Default::default(),
            problems: Vec::new(),
        }
    }

    /// Where sessions connect.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where messages are published by way of a server.
    pub fn publish(&self) -> &Place {
        &self.publish
    }

    /// Where they are at Redis.
    pub fn channels(&self) -> Option<&Channels> {
        self.channels.as_ref()
    }

    /// The processes, Redis left out; nothing is known of others' if they weren't named.
    pub fn pids(&self) -> Vec<u32> {
        let own = self.nodes.iter().map(Server::pid);
        own.chain(self.others.iter().copied()).collect()
    }

    /// The core that all of them are pinned to.
    pub fn core(&self) -> Option<usize> {
        let pids = self.pids();
        let core = cores::pinned_core(Some(*pids.first()?))?;
        pids.iter().all(|pid| cores::pinned_core(Some(*pid)) == Some(core)).then_some(core)
    }

    /// CPU of all nodes since they began.
    pub fn time(&self) -> Option<Duration> {
        let pids = self.pids();
        let known = !pids.is_empty();
        known.then(|| sum(self.ended.0, &pids).total())
    }

    /// CPU of the run's own Redis.
    pub fn redis_time(&self) -> Option<Duration> {
        let redis = self.redis.as_ref()?;
        Some(sum(self.ended.1, &[redis.pid()]).total())
    }

    /// User memory of all nodes, as (RSS, PSS).
    pub fn memory(&self) -> Option<(u64, u64)> {
        let each = self.pids().into_iter().map(|pid| Memory::of_process(pid).ok());
        let add =
            |sum: (u64, u64), memory: Memory| (sum.0 + memory.rss_bytes, sum.1 + memory.pss_bytes);
        let known: Vec<Memory> = each.collect::<Option<_>>()?;
        (!known.is_empty()).then(|| known.into_iter().fold((0, 0), add))
    }

    /// Descriptors of all nodes.
    pub fn descriptors(&self) -> Option<u64> {
        let each = self.pids().into_iter().map(|pid| descriptors::open_of(pid).ok());
        let known: Vec<usize> = each.collect::<Option<_>>()?;
        (!known.is_empty()).then(|| known.into_iter().sum::<usize>() as u64)
    }

    /// What is wrong with those that were started: some have ended though nobody asked them to, or ended badly when
    /// they were asked.
    pub fn problems(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let nodes = nodes.filter(|(_, node)| node.ends_within(Duration::ZERO));
        let mut ended: Vec<_> = nodes.map(|(number, _)| format!("node {number}")).collect();
        if self.redis.as_ref().is_some_and(Redis::has_ended) {
            ended.push("Redis".to_owned());
        }
        let ended = ended.into_iter().map(|name| format!("{name} has ended by itself"));
        self.problems.iter().cloned().chain(ended).collect()
    }

    /// Has something fail.
    pub fn fail(&mut self, what: What) -> Result<()> {
        let signal = match what {
            What::RestartNode => Signal::TERM,
            What::KillNode | What::RestartRedis => Signal::KILL,
            What::PauseRedis => Signal::STOP,
        };
        self.failing(what)?.signal(signal)
    }

    /// Has it back; says whether it is, since a node that drains takes its time to end.
    pub fn restore(&mut self, what: What) -> Result<bool> {
        if what == What::PauseRedis {
            self.failing(what)?.signal(Signal::CONT)?;
            return Ok(true);
        }
        let server = self.failing(what)?;
        if !server.ends_within(Duration::ZERO) {
            return Ok(false);
        }
        // An ended process has its time until it is waited for.
        let time = ProcessTime::of_process(server.pid())?;
        if what == What::RestartRedis {
            self.ended.1 += time;
            self.failing(what)?.start_again(|| Ok(()))?;
        } else {
            self.ended.0 += time;
            let Self { nodes, placement, problems, .. } = self;
            let status = nodes[0].start_again(|| placement.take())?;
            problems.extend(bad_end(what, status));
        }
        Ok(true)
    }

    fn failing(&mut self, what: What) -> Result<&mut Server> {
        match what {
            What::RestartNode | What::KillNode => self.nodes.first_mut().context("no node is ours"),
            What::RestartRedis | What::PauseRedis => {
                self.redis.as_mut().map(Redis::server).context("no Redis is ours")
            }
        }
    }
}

impl Placement {
    /// Moves the calling thread to where servers run.
    fn take(&self) -> io::Result<()> {
        match self.core {
            Some(core) => cores::pin_to(core),
            None => self.everywhere.restore(),
        }
    }
}

/// What is wrong with how the first node ended.
fn bad_end(what: What, status: ExitStatus) -> Option<String> {
    let text = || format!("the first node was asked to end, and failed: {status}");
    (what == What::RestartNode && !status.success()).then(text)
}

fn sum(mut time: ProcessTime, pids: &[u32]) -> ProcessTime {
    // One that is gone is noticed elsewhere.
    for each in pids.iter().filter_map(|pid| ProcessTime::of_process(*pid).ok()) {
        time += each;
    }
    time
}

fn place_at(node: &Server) -> Place {
    let address = node.address();
    Place { address, host: address.to_string(), path: String::new() }
}

/// One that must survive a fault writes down what it confirms.
fn start_redis(plan: &Plan, directory: &Path) -> Result<Redis> {
    let log = directory.join("redis.log");
    let restarts = plan.work.faults.iter().any(|fault| fault.what == What::RestartRedis);
    if restarts { Redis::start_keeping(&log, directory) } else { Redis::start(&log) }
}

fn write_settings(plan: &Plan, directory: &Path) -> Result<Option<PathBuf>> {
    let settings = &plan.work.servers.settings;
    if settings.is_empty() || !matches!(plan.source, Source::Umbel(_)) {
        return Ok(None);
    }
    let path = directory.join("node.toml");
    fs::write(&path, settings).with_context(|| format!("can't write {}", path.display()))?;
    Ok(Some(path))
}

fn program(plan: &Plan, channels: Option<&Channels>, settings: Option<&Path>) -> Result<Program> {
    let server = match &plan.source {
        Source::Umbel(path) => {
            // On one core more than one has nothing to do.
            let workers = plan.server_core.map(|_| 1);
            return Program::node(path, workers, &[], channels, settings);
        }
        Source::Comparison(cli::Server::Naive) => "naive",
        Source::Comparison(_) | Source::Running(_) => "baseline",
    };
    let by_redis = plan.work.publish.is_some_and(|publish| publish.by == By::Redis);
    Program::comparison(server, channels.filter(|_| by_redis))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_node_that_was_asked_to_end_must_succeed() {
        let (success, failure) = (ExitStatus::from_raw(0), ExitStatus::from_raw(0x0100));
        assert_eq!(bad_end(What::RestartNode, success), None);
        assert!(bad_end(What::RestartNode, failure).unwrap().ends_with("exit status: 1"));
        let killed = ExitStatus::from_raw(9);
        assert_eq!(bad_end(What::KillNode, killed), None);
        assert!(bad_end(What::RestartNode, killed).is_some());
    }
}
