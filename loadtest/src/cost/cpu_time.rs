//! Run time of threads, in nanoseconds, from `schedstat`.
//!
//! Its first field is the time for which the scheduler had the thread on a core. A kernel that doesn't account
//! interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING` off) leaves in it what softirqs did meanwhile. It is brought
//! up to date when the thread leaves the core, and at each timer tick.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all present threads of a process; what ended threads used isn't known.
pub fn of_process(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&tasks).with_context(|| format!("process {pid} has no {tasks}"))?;
    let mut sum = Duration::ZERO;
    for thread in threads {
        // A thread may end between the listing and the reading.
        sum += read(&thread?.path().join("schedstat")).unwrap_or_default();
    }
    Ok(sum)
}

/// CPU time of the calling thread; its own clock, because `schedstat` lags behind for a thread that runs.
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = time.tv_nsec.unsigned_abs();
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(nanos)
}

fn read(path: &Path) -> Result<Duration> {
    let text =
        fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} doesn't begin with a number", path.display()))
}

fn parse(schedstat: &str) -> Option<Duration> {
    let run = schedstat.split_ascii_whitespace().next()?;
    Some(Duration::from_nanos(run.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_is_the_run_time() {
        assert_eq!(parse("1234 99 2\n"), Some(Duration::from_nanos(1234)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn threads_have_used_time_and_no_process_is_an_error() {
        assert!(of_this_thread() > Duration::ZERO);
        assert!(of_process(std::process::id()).is_ok());
        assert!(of_process(u32::MAX).is_err());
    }
}
