//! Cores that a thread or process runs on.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the calling thread, and what it starts from now on, on one core.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(no_such_core(core));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|_| no_such_core(core))
}

fn no_such_core(core: usize) -> io::Error {
    let message = format!("core {core} isn't one that this process may run on");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The only core that the process's main thread, or the calling thread, may run on.
pub fn pinned_core(pid: Option<u32>) -> Option<usize> {
    let set = sched_getaffinity(pid_of(pid)).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
    cores.next().filter(|_| cores.next().is_none())
}

fn pid_of(pid: Option<u32>) -> Option<Pid> {
    Pid::from_raw(pid?.try_into().ok()?)
}

/// Where the calling thread may run; [`Affinity::restore`] returns to it.
#[derive(Debug)]
pub struct Affinity(CpuSet);

impl Affinity {
    /// Remembers the present one.
    pub fn of_this_thread() -> io::Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
    }

    /// Makes it the calling thread's again.
    pub fn restore(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_knows_its_core() {
        let pinned = std::thread::spawn(|| pin_to(0).map(|()| pinned_core(None)));
        assert_eq!(pinned.join().unwrap().unwrap(), Some(0));
    }

    #[test]
    fn a_core_that_is_not_there_is_named() {
        for core in [1000, 100_000] {
            let error = pin_to(core).unwrap_err().to_string();
            assert!(error.contains(&format!("core {core}")), "{error}");
        }
    }
}
