//! What the server and the load cost, read from /proc beside them.
//!
//! Two figures of time. *Process*: the run time of all threads, in nanoseconds. *Core*: how long the core that
//! the server is pinned to wasn't idle. On loopback the sender's core also runs the receiver's TCP input, and
//! the kernel charges what is deferred there to no process: the core figure has it all. Anything else that runs
//! on that core is in it too, so nothing else should.

pub mod core_time;
pub mod cpu_time;
pub mod hiccup;
pub mod history_reads;
pub mod kernel_memory;
pub mod machine_time;
pub mod memory;
pub mod node_metrics;
pub mod pressure;
pub mod process_time;
pub mod socket_memory;
pub mod socket_slabs;

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::os::{cores, descriptors};
use core_time::CoreTime;
use cpu_time::ThreadTimes;
use hiccup::HiccupWatch;
use memory::Memory;

/// Reads the cost of one server process and of the calling thread.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    server: Option<u32>,
    server_core: Option<usize>,
    load_core: Option<usize>,
}

/// The clocks of cost at one time.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    at: Instant,
    server: Option<ThreadTimes>,
    server_core: Option<CoreTime>,
    load_cpu: Duration,
    load_core: Option<CoreTime>,
    waited: Option<Duration>,
}

/// What passed between two readings. Absent: not known, since no process was named or it isn't on one core.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Wall time.
    pub wall_seconds: f64,
    /// CPU of all threads of the server.
    pub server_process_seconds: Option<f64>,
    /// Time in which a thread of the server wanted a core and had none.
    pub server_waited_seconds: Option<f64>,
    /// Time in which the server's core wasn't idle.
    pub server_core_seconds: Option<f64>,
    /// Time that the hypervisor took from that core; it is part of the above.
    pub server_core_stolen_seconds: Option<f64>,
    /// CPU of the load's thread.
    pub load_thread_seconds: f64,
    /// Time in which the load's core wasn't idle.
    pub load_core_seconds: Option<f64>,
    /// Time in which some task of the machine waited for a core.
    pub waited_seconds: Option<f64>,
}

/// What the server holds at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Holding {
    /// User-space memory.
    pub memory: Memory,
    /// Memory of all TCP sockets of the machine, both ends of each connection.
    pub socket_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Meter {
    /// For process `server`, and the calling thread.
    pub fn new(server: Option<u32>) -> Self {
        Self {
            server,
            server_core: server.and_then(|pid| cores::pinned_core(Some(pid))),
            load_core: cores::pinned_core(None),
        }
    }

    /// Reads all clocks.
    pub fn read(&self) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            server: self.server.map(cpu_time::of_process).transpose()?,
            server_core: self.server_core.map(CoreTime::read).transpose()?,
            load_cpu: cpu_time::of_this_thread(),
            load_core: self.load_core.map(CoreTime::read).transpose()?,
            waited: pressure::read(),
        })
    }

    /// What has passed since `begin`.
    pub fn since(&self, begin: &Reading) -> Result<Cost> {
        let end = self.read()?;
        let core = |end: Option<CoreTime>, begin: Option<CoreTime>| Some(end?.since(begin?));
        let threads = |time: fn(ThreadTimes) -> Duration| {
            passed(end.server.map(time), begin.server.map(time))
        };
        let wall = end.at - begin.at;
        let server = core(end.server_core, begin.server_core);
        let load = core(end.load_core, begin.load_core);
        Ok(Cost {
            wall_seconds: wall.as_secs_f64(),
            server_process_seconds: threads(|times| times.run),
            server_waited_seconds: threads(|times| times.waited),
            server_core_seconds: server.map(|time| time.busy(wall)),
            server_core_stolen_seconds: server.map(|time| time.stolen.as_secs_f64()),
            load_thread_seconds: end.load_cpu.saturating_sub(begin.load_cpu).as_secs_f64(),
            load_core_seconds: load.map(|time| time.busy(wall)),
            waited_seconds: passed(end.waited, begin.waited),
        })
    }

    /// Watches the cores that server and load are pinned to.
    pub fn watch_hiccups(&self) -> Result<HiccupWatch> {
        let cores = [self.server_core, self.load_core];
        HiccupWatch::on(cores.into_iter().flatten()).context("can't watch for hiccups")
    }

    /// What the server holds now, if one was named.
    pub fn holding(&self) -> Result<Option<Holding>> {
        let Some(pid) = self.server else {
            return Ok(None);
        };
        let descriptors = descriptors::open_of(pid);
        Ok(Some(Holding {
            memory: Memory::of_process(pid)?,
            socket_bytes: socket_memory::read()?,
            descriptors: descriptors.with_context(|| format!("descriptors of process {pid}"))?,
        }))
    }
}

/// What a run without others on its cores may show, as shares.
#[derive(Debug, Clone, Copy)]
pub struct Innocent {
    /// Of the server's core, what the server's threads didn't use: the kernel's own work.
    pub kernel: f64,
    /// Of the server's CPU time, the time in which a thread of it wanted a core and had none.
    pub waited: f64,
}

impl Cost {
    /// Somebody else was at work on the server's core: the core did more than the server, and the server waited for it.
    ///
    /// Either alone has innocent causes: a kernel that accounts interrupts apart leaves them out of the process's
    /// time, and threads of one server wait for each other. That others wait for other cores says nothing: load and
    /// Redis do so, where they share one.
    pub fn disturbed(&self, innocent: Innocent) -> bool {
        let (Some(core), Some(process)) = (self.server_core_seconds, self.server_process_seconds)
        else {
            return false;
        };
        let waited = self.server_waited_seconds.unwrap_or(0.0);
        core - process > innocent.kernel * core && waited > innocent.waited * process
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall_seconds += other.wall_seconds;
        add(&mut self.server_process_seconds, other.server_process_seconds);
        add(&mut self.server_waited_seconds, other.server_waited_seconds);
        add(&mut self.server_core_seconds, other.server_core_seconds);
        add(&mut self.server_core_stolen_seconds, other.server_core_stolen_seconds);
        self.load_thread_seconds += other.load_thread_seconds;
        add(&mut self.load_core_seconds, other.load_core_seconds);
        add(&mut self.waited_seconds, other.waited_seconds);
    }
}

/// A sum is known if all its parts are.
fn add(sum: &mut Option<f64>, more: Option<f64>) {
    *sum = sum.zip(more).map(|(sum, more)| sum + more);
}

fn passed(end: Option<Duration>, begin: Option<Duration>) -> Option<f64> {
    Some(end?.saturating_sub(begin?).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_cost_and_holds_something() {
        let meter = Meter::new(Some(std::process::id()));
        let begin = meter.read().unwrap();
        let cost = meter.since(&begin).unwrap();
        assert!(cost.server_process_seconds.unwrap() >= 0.0);
        let holding = meter.holding().unwrap().unwrap();
        assert!(holding.memory.rss_bytes >= holding.memory.pss_bytes);
        assert!(holding.descriptors > 2);
    }

    #[test]
    fn a_run_is_disturbed_when_others_used_the_core_and_the_server_waited() {
        let cost = |process, core, waited| Cost {
            wall_seconds: 10.0,
            server_process_seconds: Some(process),
            server_waited_seconds: Some(waited),
            server_core_seconds: Some(core),
            server_core_stolen_seconds: Some(0.0),
            load_thread_seconds: 0.0,
            load_core_seconds: None,
            waited_seconds: Some(9.9),
        };
        let innocent = Innocent { kernel: 0.1, waited: 0.1 };
        assert!(cost(5.0, 9.0, 3.0).disturbed(innocent));
        assert!(!cost(8.9, 9.0, 3.0).disturbed(innocent));
        assert!(!cost(5.0, 9.0, 0.1).disturbed(innocent));
    }

    #[test]
    fn without_a_process_only_the_load_is_known() {
        let meter = Meter::new(None);
        let cost = meter.since(&meter.read().unwrap()).unwrap();
        assert_eq!((cost.server_process_seconds, cost.server_core_seconds), (None, None));
        assert!(meter.holding().unwrap().is_none());
    }
}
