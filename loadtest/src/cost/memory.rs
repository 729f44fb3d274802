//! User-space memory of a process, from `smaps_rollup`.
//!
//! Its `Rss` is what `VmRSS` in `status` shows too, but counted anew: `status` shows counters that each core
//! keeps for itself and adds up late, which hides up to some hundred KiB. The peak is known only from there.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All resident pages.
    pub rss_bytes: u64,
    /// The same, with each page divided by the number of processes that share it.
    pub pss_bytes: u64,
    /// The most that was resident at any time since the process began.
    pub peak_rss_bytes: u64,
}

impl Memory {
    /// Of process `pid`, now.
    pub fn of_process(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
        };
        let (rollup, status) = (read("smaps_rollup")?, read("status")?);
        let parsed = Self::parse(&rollup, &status);
        parsed.with_context(|| format!("/proc/{pid} doesn't tell Rss, Pss and VmHWM"))
    }

    fn parse(rollup: &str, status: &str) -> Option<Self> {
        let rss_bytes = kib(rollup, "Rss:")? * 1024;
        Some(Self {
            rss_bytes,
            pss_bytes: kib(rollup, "Pss:")? * 1024,
            peak_rss_bytes: rss_bytes.max(kib(status, "VmHWM:")? * 1024),
        })
    }
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sums_are_found() {
        let text = "55d-7ff ---p 00000000 00:00 0 [rollup]\nRss:     884 kB\nPss:     385 kB\nPss_Dirty: 68 kB\n";
        for (peak, expected) in [(999, 999), (800, 884)] {
            let memory = Memory {
                rss_bytes: 884 * 1024,
                pss_bytes: 385 * 1024,
                peak_rss_bytes: expected * 1024,
            };
            let status = format!("Name:\tx\nVmHWM:\t     {peak} kB\nVmRSS:\t 884 kB\n");
            assert_eq!(Memory::parse(text, &status), Some(memory));
        }
        assert_eq!(Memory::parse(text, ""), None);
        assert_eq!(Memory::parse("Rss: 1 kB", "VmHWM: 1 kB"), None);
    }
}
