//! What all processes of a fleet and the machine have used and hold, read at one time.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::float;
use crate::cost::kernel_memory::KernelMemory;
use crate::cost::machine_time::MachineTime;
use crate::cost::memory::Memory;
use crate::cost::process_time::ProcessTime;

/// The processes, by what they are.
#[derive(Debug, Clone)]
pub struct Processes {
    /// Nodes.
    pub nodes: Vec<u32>,
    /// Holders.
    pub holders: Vec<u32>,
    /// Redis.
    pub redis: u32,
}

/// The clocks of cost at one time.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    at: Instant,
    nodes: ProcessTime,
    holders: ProcessTime,
    redis: ProcessTime,
    machine: MachineTime,
}

/// Shares of one core between two readings: 1.0 is a whole core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// How long that was.
    pub wall_seconds: f64,
    /// All nodes, outside of the kernel.
    pub nodes_user: f64,
    /// All nodes, within it.
    pub nodes_system: f64,
    /// All holders.
    pub holders: f64,
    /// Redis.
    pub redis: f64,
    /// Everything on the machine, others' work too.
    pub machine_busy: f64,
    /// The part of that in softirqs.
    pub machine_softirq: f64,
    /// Taken by the hypervisor.
    pub machine_stolen: f64,
}

/// Memory of all processes and of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// All nodes.
    pub nodes: Resident,
    /// All holders.
    pub holders: Resident,
    /// Redis.
    pub redis: Resident,
    /// The machine's sums.
    pub kernel: KernelMemory,
}

/// Memory of some processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// All resident pages of each.
    pub rss_bytes: u64,
    /// The same, with shared pages counted once.
    pub pss_bytes: u64,
}

impl Processes {
    /// The clocks now.
    pub fn clocks(&self) -> Result<Clocks> {
        Ok(Clocks {
            at: Instant::now(),
            nodes: times(&self.nodes),
            holders: times(&self.holders),
            redis: times(&[self.redis]),
            machine: MachineTime::read()?,
        })
    }

    /// What is held now.
    pub fn holding(&self) -> Result<Holding> {
        Ok(Holding {
            nodes: resident(&self.nodes),
            holders: resident(&self.holders),
            redis: resident(&[self.redis]),
            kernel: KernelMemory::read()?,
        })
    }
}

/// A process that is gone has no more to tell; its end is told elsewhere.
fn times(pids: &[u32]) -> ProcessTime {
    let mut sum = ProcessTime::default();
    for time in pids.iter().filter_map(|pid| ProcessTime::of_process(*pid).ok()) {
        sum += time;
    }
    sum
}

fn resident(pids: &[u32]) -> Resident {
    let mut sum = Resident::default();
    for memory in pids.iter().filter_map(|pid| Memory::of_process(*pid).ok()) {
        sum.rss_bytes += memory.rss_bytes;
        sum.pss_bytes += memory.pss_bytes;
    }
    sum
}

impl Clocks {
    /// What was used since `begin`.
    pub fn since(&self, begin: &Self) -> Cpu {
        let wall_seconds = (self.at - begin.at).as_secs_f64();
        let share = |time: std::time::Duration| time.as_secs_f64() / wall_seconds;
        let nodes = self.nodes.since(begin.nodes);
        let machine = self.machine.since(begin.machine);
        Cpu {
            wall_seconds,
            nodes_user: share(nodes.user),
            nodes_system: share(nodes.system),
            holders: share(self.holders.since(begin.holders).total()),
            redis: share(self.redis.since(begin.redis).total()),
            machine_busy: share(machine.busy),
            machine_softirq: share(machine.softirq),
            machine_stolen: share(machine.stolen),
        }
    }
}

impl Cpu {
    /// All nodes.
    pub fn nodes(&self) -> f64 {
        self.nodes_user + self.nodes_system
    }
}

/// What grew from `before` to `after`, for each of `sessions`, in bytes.
pub fn growth_each(before: u64, after: u64, sessions: u64) -> f64 {
    (float(after) - float(before)) / float(sessions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read_and_one_that_is_gone_counts_nothing() {
        let own = std::process::id();
        let processes = Processes { nodes: vec![own, u32::MAX], holders: vec![], redis: own };
        let begin = processes.clocks().unwrap();
        let holding = processes.holding().unwrap();
        assert!(holding.nodes.rss_bytes > 0 && holding.nodes.pss_bytes > 0);
        assert_eq!(holding.holders, Resident::default());
        let cpu = processes.clocks().unwrap().since(&begin);
        assert!(cpu.nodes() >= 0.0 && cpu.machine_busy >= 0.0, "{cpu:?}");
    }

    #[test]
    fn growth_may_be_negative() {
        assert!((growth_each(100, 300, 2) - 100.0).abs() < f64::EPSILON);
        assert!((growth_each(300, 100, 2) + 100.0).abs() < f64::EPSILON);
    }
}
