//! Idle time of one core, from its line in `/proc/stat`.
//!
//! The columns for user, system and softirq time are samples of the timer tick, too rough here. Idle and iowait
//! are measured: on a tickless kernel (`CONFIG_NO_HZ_IDLE`) the clock is read whenever the core begins and ends
//! being idle, interrupts left out, and only the output is rounded, to 10 ms. So busy time is wall time
//! less idle time, good to about 10 ms, and a window of two seconds is good to half a percent of the core.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// One unit of `/proc/stat`: `USER_HZ` is 100 on Linux, whatever the timer's rate.
const UNIT: Duration = Duration::from_millis(10);

/// Times of a core since boot, or between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreTime {
    /// Idle, waiting for disks included.
    pub idle: Duration,
    /// Taken by the hypervisor.
    pub stolen: Duration,
}

impl CoreTime {
    /// The times of core `core` since boot.
    pub fn read(core: usize) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("can't read /proc/stat")?;
        Self::parse(&text, core).with_context(|| format!("/proc/stat has no line for core {core}"))
    }

    fn parse(stat: &str, core: usize) -> Option<Self> {
        let name = format!("cpu{core}");
        let mut lines = stat.lines().map(str::split_ascii_whitespace);
        let fields = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
        let units: Vec<u32> = fields.map_while(|field| field.parse().ok()).collect();
        let &[_user, _nice, _system, idle, iowait, _irq, _softirq, stolen, ..] = units.as_slice()
        else {
            return None;
        };
        Some(Self { idle: UNIT * idle + UNIT * iowait, stolen: UNIT * stolen })
    }

    /// The times between `begin` and this.
    #[must_use]
    pub fn since(self, begin: Self) -> Self {
        Self {
            idle: self.idle.saturating_sub(begin.idle),
            stolen: self.stolen.saturating_sub(begin.stolen),
        }
    }

    /// Seconds of `wall` in which the core wasn't idle.
    pub fn busy(self, wall: Duration) -> f64 {
        wall.saturating_sub(self.idle).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 2 3 400 5 6 7 8 0 0\ncpu10 0 0 0 1 0 0 0 0 0 0\n";

    #[test]
    fn iowait_is_idle_time() {
        let time = CoreTime::parse(STAT, 1).unwrap();
        assert_eq!((time.idle, time.stolen), (UNIT * 405, UNIT * 8));
        assert_eq!(CoreTime::parse(STAT, 10).unwrap().idle, UNIT);
        assert_eq!(CoreTime::parse(STAT, 0), None);
    }

    #[test]
    fn busy_is_what_is_left_of_the_wall_time() {
        let begin = CoreTime::parse(STAT, 10).unwrap();
        let end = CoreTime { idle: UNIT * 31, ..begin };
        let busy = end.since(begin).busy(Duration::from_secs(1));
        assert!((busy - 0.7).abs() < 1e-9);
        assert!(end.since(begin).busy(Duration::ZERO).abs() < 1e-9);
    }
}
