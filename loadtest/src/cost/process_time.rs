//! CPU time that a process has used, ended threads included, from `/proc/[pid]/stat`.
//!
//! On a kernel without `CONFIG_IRQ_TIME_ACCOUNTING` the softirqs that interrupt a process, or end its calls, are in
//! its time. Over loopback a send runs the receiver's TCP input so: that is charged to the sender.

use std::fs;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// One unit of `/proc/[pid]/stat`: `USER_HZ` is 100 on Linux, whatever the timer's rate.
const UNIT: Duration = Duration::from_millis(10);
/// `utime` and `stime` stand so many fields behind the command's name.
const BEHIND_NAME: usize = 11;

/// Time since the process began, or between two readings; several processes add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProcessTime {
    /// Outside of the kernel.
    pub user: Duration,
    /// Within it.
    pub system: Duration,
}

impl ProcessTime {
    /// Of process `pid`; one that has ended and isn't reaped keeps its time.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} has no times"))
    }

    /// The name may hold spaces and parentheses, so that fields count from its last one.
    fn parse(stat: &str) -> Option<Self> {
        let (_, behind) = stat.rsplit_once(')')?;
        let mut fields = behind.split_ascii_whitespace().skip(BEHIND_NAME);
        let mut next = || Some(UNIT * fields.next()?.parse::<u32>().ok()?);
        Some(Self { user: next()?, system: next()? })
    }

    /// The time between `begin` and this.
    #[must_use]
    pub fn since(self, begin: Self) -> Self {
        Self {
            user: self.user.saturating_sub(begin.user),
            system: self.system.saturating_sub(begin.system),
        }
    }

    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

impl AddAssign for ProcessTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_count_from_behind_the_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 123 45 9 9 20 0 1 0 8 0 0\n";
        let time = ProcessTime { user: UNIT * 123, system: UNIT * 45 };
        assert_eq!(ProcessTime::parse(text), Some(time));
        assert_eq!(time.total(), Duration::from_millis(1680));
        assert_eq!(ProcessTime::parse("7 (a) S 1 7 7"), None);
    }

    #[test]
    fn this_process_has_used_time_and_no_process_is_an_error() {
        assert!(ProcessTime::of_process(std::process::id()).is_ok());
        assert!(ProcessTime::of_process(u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(text in "[ ()0-9a-z\u{e4}-]{0,80}") {
            let _ = ProcessTime::parse(&text);
        }
    }
}
