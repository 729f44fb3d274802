//! Where a bench was run, when, and of what.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::os::process::said_by;

/// Everything that somebody needs to doubt a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its short name.
    pub name: String,
    /// Model of its processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release of its kernel.
    pub kernel: String,
    /// Congestion control of its TCP, whose cost differs.
    pub congestion_control: String,
    /// When the bench began, in UTC.
    pub date: String,
    /// The commit that the working directory is at, and whether it was changed since.
    pub commit: String,
    /// What the node says of its version.
    pub node: String,
    /// The version of this program.
    pub loadtest: String,
}

impl Machine {
    /// This machine, now; `umbel` is the node.
    pub fn describe(umbel: &Path) -> Result<Self> {
        let system = rustix::system::uname();
        Ok(Self {
            name: short(&system.nodename().to_string_lossy()),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory_mib().unwrap_or(0),
            kernel: system.release().to_string_lossy().into_owned(),
            congestion_control: said_in("/proc/sys/net/ipv4/tcp_congestion_control"),
            date: date(SystemTime::now().duration_since(UNIX_EPOCH)?),
            commit: commit(),
            node: said_by(Command::new(umbel).arg("--version")).unwrap_or_else(unknown),
            loadtest: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The day of the bench.
    pub fn day(&self) -> &str {
        self.date.split('T').next().unwrap_or_default()
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Something that can be a part of a directory's name.
fn short(name: &str) -> String {
    let name = name.split('.').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    if name.is_empty() { unknown() } else { name }
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said_in(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn memory_mib() -> Option<u64> {
    let kib: u64 = field("/proc/meminfo", "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

fn commit() -> String {
    let git = |args: &[&str]| said_by(Command::new("git").args(args));
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) if changed => format!("{commit} and changes that aren't committed"),
        commit => commit.unwrap_or_else(unknown),
    }
}

/// `2026-01-31T12:00:00Z` for a time since 1970.
fn date(since: Duration) -> String {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days since 1970, by eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_out_right() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_name_fits_into_a_path() {
        assert_eq!(short("db 1.example.org"), "db-1");
        assert_eq!(short(""), "unknown");
    }

    #[test]
    fn this_machine_has_a_description() {
        let machine = Machine::describe(Path::new("/nonexistent")).unwrap();
        assert!(machine.cores > 0 && machine.memory_mib > 0);
        assert_eq!((machine.node.as_str(), machine.day().len()), ("unknown", 10));
    }
}
