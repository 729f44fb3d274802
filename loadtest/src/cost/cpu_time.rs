//! Times of threads, in nanoseconds, from `schedstat`.
//!
//! Its first field is the time for which the scheduler had the thread on a core, the second that for which the thread
//! wanted one and had none. A kernel that doesn't account
//! interrupts apart (`CONFIG_IRQ_TIME_ACCOUNTING` off) leaves in it what softirqs did meanwhile. It is brought
//! up to date when the thread leaves the core, and at each timer tick.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Times of all threads of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTimes {
    /// On a core.
    pub run: Duration,
    /// Ready to run, without a core.
    pub waited: Duration,
}

/// The times of all present threads of a process; those of ended threads aren't known.
pub fn of_process(pid: u32) -> Result<ThreadTimes> {
    let tasks = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&tasks).with_context(|| format!("process {pid} has no {tasks}"))?;
    let mut sum = ThreadTimes::default();
    for thread in threads {
        // A thread may end between the listing and the reading.
        let times = read(&thread?.path().join("schedstat")).unwrap_or_default();
        sum.run += times.run;
        sum.waited += times.waited;
    }
    Ok(sum)
}

/// CPU time of the calling thread; its own clock, because `schedstat` lags behind for a thread that runs.
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = time.tv_nsec.unsigned_abs();
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(nanos)
}

fn read(path: &Path) -> Result<ThreadTimes> {
    let text =
        fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} doesn't begin with two numbers", path.display()))
}

fn parse(schedstat: &str) -> Option<ThreadTimes> {
    let mut nanos = schedstat.split_ascii_whitespace().map(|field| field.parse().ok());
    let (run, waited) = (nanos.next()??, nanos.next()??);
    Some(ThreadTimes { run: Duration::from_nanos(run), waited: Duration::from_nanos(waited) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fields_are_running_and_waiting() {
        let times = |run, waited| {
            let (run, waited) = (Duration::from_nanos(run), Duration::from_nanos(waited));
            Some(ThreadTimes { run, waited })
        };
        assert_eq!(parse("1234 99 2\n"), times(1234, 99));
        assert_eq!(parse("1234"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn threads_have_used_time_and_no_process_is_an_error() {
        assert!(of_this_thread() > Duration::ZERO);
        assert!(of_process(std::process::id()).is_ok());
        assert!(of_process(u32::MAX).is_err());
    }
}
