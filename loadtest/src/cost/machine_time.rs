//! What all cores together did, from the first line of `/proc/stat`.
//!
//! Softirq time is a sample of the timer tick, rough over seconds and good over minutes. Where interrupts aren't
//! accounted for by the clock it is also in the times of the processes that they interrupted.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// One unit of `/proc/stat`: `USER_HZ` is 100 on Linux, whatever the timer's rate.
const UNIT: Duration = Duration::from_millis(10);

/// Times since boot, or between two readings, summed over all cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MachineTime {
    /// All but idle time, time for disks and stolen time.
    pub busy: Duration,
    /// The part of it in softirqs.
    pub softirq: Duration,
    /// Taken by the hypervisor.
    pub stolen: Duration,
}

impl MachineTime {
    /// The times since boot.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("can't read /proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line for all cores")
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields = line.split_ascii_whitespace().map_while(|field| field.parse().ok());
        let units: Vec<u32> = fields.collect();
        let &[user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = units.as_slice()
        else {
            return None;
        };
        Some(Self {
            busy: [user, nice, system, irq, softirq].into_iter().map(|units| UNIT * units).sum(),
            softirq: UNIT * softirq,
            stolen: UNIT * stolen,
        })
    }

    /// The times between `begin` and this.
    #[must_use]
    pub fn since(self, begin: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(begin.busy),
            softirq: self.softirq.saturating_sub(begin.softirq),
            stolen: self.stolen.saturating_sub(begin.stolen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn busy_is_neither_idle_nor_stolen() {
        let text = "cpu  1 2 3 400 50 4 5 60 0 0\ncpu0 9 9 9 9 9 9 9 9 0 0\n";
        let time = MachineTime { busy: UNIT * 15, softirq: UNIT * 5, stolen: UNIT * 60 };
        assert_eq!(MachineTime::parse(text), Some(time));
        assert_eq!(time.since(time), MachineTime::default());
        assert_eq!(MachineTime::parse("cpu 1 2 3\n"), None);
        assert!(MachineTime::read().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(text in "(cpu )?[ 0-9a-z\n]{0,80}") {
            let _ = MachineTime::parse(&text);
        }
    }
}
