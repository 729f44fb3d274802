//! The limit of open descriptors of a process, and how many it has open.

use std::fmt;
use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside the sessions: standard streams, epoll, publisher, /proc.
const SPARE: u64 = 32;

/// A process may not hold the descriptors that a scenario needs.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFew {
    process: Process,
    needed: u64,
    limit: u64,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// This one.
    Load,
    /// The system under test.
    Server(u32),
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, limit, .. } = self;
        match self.process {
            Process::Load => f.write_str("the load")?,
            Process::Server(pid) => write!(f, "server process {pid}")?,
        }
        write!(f, " needs {needed} descriptors, but its limit (ulimit -n) is {limit}")
    }
}

impl std::error::Error for TooFew {}

/// Raises this process's limit to what it may be at most; children inherit it.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// How many descriptors this process and its children may have, if there is a limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether `process` may hold `sessions` sockets beside what it has anyway.
pub fn check(process: Process, sessions: usize) -> Result<(), TooFew> {
    let limit = match process {
        Process::Load => limit(),
        Process::Server(pid) => limit_of(pid),
    };
    let needed = sessions as u64 + SPARE;
    match limit {
        Some(limit) if limit < needed => Err(TooFew { process, needed, limit }),
        _ => Ok(()),
    }
}

/// The limit in force for another process; unknown ones are taken for unlimited.
fn limit_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// How many descriptors the process has open.
pub fn open_of(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_named_with_the_need() {
        let server = Process::Server(std::process::id());
        for process in [Process::Load, server] {
            assert_eq!(check(process, 1), Ok(()));
            let Err(error) = check(process, 1 << 40) else {
                continue; // no limit here
            };
            assert!(error.to_string().contains("1099511627808 descriptors"), "{error}");
        }
    }

    #[test]
    fn open_descriptors_are_counted() {
        assert!(open_of(std::process::id()).unwrap() >= 3);
    }
}
