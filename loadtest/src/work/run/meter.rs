//! What a part of a run cost: the clocks of servers, Redis, load and machine between two readings.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::servers::Servers;
use crate::cost::core_time::CoreTime;
use crate::cost::machine_time::MachineTime;
use crate::cost::process_time::ProcessTime;

/// The clocks at one time.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    at: Instant,
    servers: Option<Duration>,
    core: Option<CoreTime>,
    redis: Option<Duration>,
    load: Duration,
    machine: MachineTime,
}

/// What passed between two readings, in seconds. Absent: not known.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// By the clock.
    pub wall: f64,
    /// CPU of the servers.
    pub servers: Option<f64>,
    /// Time in which their core wasn't idle, if all have the same.
    pub core: Option<f64>,
    /// CPU of Redis.
    pub redis: Option<f64>,
    /// CPU of coordinator and holders.
    pub load: f64,
    /// Of the machine, in softirqs.
    pub softirq: f64,
}

impl Reading {
    /// Now; `holders` are the processes of the load beside this one.
    pub fn take(servers: &Servers, core: Option<usize>, holders: &[u32]) -> Result<Self> {
        let mut load = ProcessTime::of_process(std::process::id())?;
        for holder in holders {
            load += ProcessTime::of_process(*holder)?;
        }
        Ok(Self {
            at: Instant::now(),
            servers: servers.time(),
            core: core.map(CoreTime::read).transpose()?,
            redis: servers.redis_time(),
            load: load.total(),
            machine: MachineTime::read()?,
        })
    }

    /// What passed since `begin`.
    pub fn since(&self, begin: &Self) -> Spent {
        let wall = self.at - begin.at;
        let passed = |end: Option<Duration>, begin: Option<Duration>| {
            Some(end?.saturating_sub(begin?).as_secs_f64())
        };
        Spent {
            wall: wall.as_secs_f64(),
            servers: passed(self.servers, begin.servers),
            core: self.core.zip(begin.core).map(|(end, begin)| end.since(begin).busy(wall)),
            redis: passed(self.redis, begin.redis),
            load: self.load.saturating_sub(begin.load).as_secs_f64(),
            softirq: self.machine.since(begin.machine).softirq.as_secs_f64(),
        }
    }
}

impl Spent {
    /// Microseconds of the servers' core, else of their processes, for each of `count`.
    pub fn us_per(&self, count: u64) -> Option<f64> {
        let seconds = self.core.or(self.servers)?;
        (count > 0).then(|| seconds * 1e6 / super::float(count))
    }
}
