//! How long runnable tasks of the whole machine waited for a core, from `/proc/pressure/cpu`.
//!
//! On a machine with nothing else to do that is next to nothing: server and load have a core each. So it tells
//! whether somebody else was at work, whose time is in the figures of the cores.

use std::fs;
use std::time::Duration;

/// Time since boot in which at least one task waited; unknown on kernels that don't keep it.
pub fn read() -> Option<Duration> {
    parse(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn parse(pressure: &str) -> Option<Duration> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let (_, total) = some.split_once("total=")?;
    Some(Duration::from_micros(total.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_counts() {
        let text =
            "some avg10=1.97 avg60=7.59 avg300=5.41 total=70756571\nfull avg10=0.00 total=0\n";
        assert_eq!(parse(text), Some(Duration::from_micros(70_756_571)));
        assert_eq!(parse(""), None);
    }
}
