//! The result of one run as a table.

use std::fmt::Write;

use crate::cost::history_reads::{HistoryReads, NodeReads};
use crate::scenario::{Outcome, Unit};

/// Lines of name and value.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{name:<34}{value:>16}");
    }

    fn figure(&mut self, name: &str, value: Option<f64>, unit: &str) {
        let value = value.map_or("unknown".to_owned(), |value| format!("{value:.3} {unit}"));
        self.add(name, &value);
    }

    fn count(&mut self, name: &str, value: u64) {
        self.add(name, &value.to_string());
    }
}

/// A table of all that `outcome` says.
pub fn table(outcome: &Outcome) -> String {
    let mut lines = Lines::default();
    lines.add("scenario", outcome.scenario);
    lines.count("sessions", outcome.sessions as u64);
    window(&mut lines, outcome);
    cost(&mut lines, outcome);
    extras(&mut lines, outcome);
    integrity(&mut lines, outcome);
    lines.0
}

fn window(lines: &mut Lines, outcome: &Outcome) {
    let measured = &outcome.measured;
    lines.figure("wall time", Some(measured.cost.wall_seconds), "s");
    lines.count("rounds", measured.rounds);
    lines.count("messages", measured.messages);
    lines.count("publish requests", measured.posts);
    if measured.unit != Unit::Message {
        lines.count(measured.unit.plural(), measured.units);
    }
    let per_second = format!("{} per second", measured.unit.plural());
    lines.figure(&per_second, measured.per_second(), "");
}

fn cost(lines: &mut Lines, outcome: &Outcome) {
    let (measured, cost) = (&outcome.measured, &outcome.measured.cost);
    let unit = format!("µs/{}", measured.unit.singular());
    let mut each = |name, seconds| lines.figure(name, measured.per_unit(seconds), &unit);
    each("server's core, softirq included", cost.server_core_seconds);
    each("server's process", cost.server_process_seconds);
    each("load's core, softirq included", cost.load_core_seconds);
    each("load's thread", Some(cost.load_thread_seconds));
    lines.figure("server waited for a core", cost.server_waited_seconds, "s");
    lines.figure("tasks waited for a core", cost.waited_seconds, "s");
    if measured.disturbed() {
        lines.add("disturbed by others", "yes");
    }
}

fn extras(lines: &mut Lines, outcome: &Outcome) {
    if let Some(latency) = outcome.measured.latency {
        lines.figure("last receipt, p50", Some(latency.p50_us), "µs");
        lines.figure("last receipt, p90", Some(latency.p90_us), "µs");
        lines.figure("last receipt, p99", Some(latency.p99_us), "µs");
        lines.figure("last receipt, maximum", Some(latency.max_us), "µs");
        lines.figure("longest hiccup of a core", outcome.measured.hiccup_seconds, "s");
    }
    if let Some(growth) = outcome.measured.growth {
        lines.figure("RSS per session", Some(growth.rss_bytes_per_session), "B");
        lines.figure("PSS per session", Some(growth.pss_bytes_per_session), "B");
        lines.figure("socket queues per session", Some(growth.socket_bytes_per_session), "B");
    }
    if let Some(reads) = outcome.measured.reads {
        self::reads(lines, reads);
    }
    if let Some(holding) = outcome.holding {
        lines.count("server's RSS, KiB", holding.memory.rss_bytes / 1024);
        lines.count("server's PSS, KiB", holding.memory.pss_bytes / 1024);
        lines.count("server's peak RSS, KiB", holding.memory.peak_rss_bytes / 1024);
        lines.count("all sockets' queues, KiB", holding.socket_bytes / 1024);
        lines.count("server's descriptors", holding.descriptors as u64);
    }
}

fn reads(lines: &mut Lines, reads: HistoryReads) {
    if let Some(calls) = reads.redis_calls {
        lines.count("function calls at Redis", calls);
    }
    if let Some(NodeReads { follow, whole, page }) = reads.node {
        lines.count("node's reads, kind follow", follow);
        lines.count("node's reads, kind whole", whole);
        lines.count("node's reads, kind page", page);
    }
}

fn integrity(lines: &mut Lines, outcome: &Outcome) {
    let integrity = outcome.integrity;
    lines.count("expected since the start", integrity.expected);
    lines.count("received", integrity.received);
    lines.count("lost", integrity.lost);
    lines.count("doubled", integrity.doubled);
    lines.count("reordered", integrity.reordered);
    lines.count("garbled", integrity.garbled);
    if outcome.measured.stalled {
        lines.add("stalled", "yes");
    }
}

impl Unit {
    fn singular(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Connect => "connect",
            Self::Subscription => "subscription",
            Self::Request => "request",
            Self::Message => "message",
            Self::Resume => "resume",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Delivery => "deliveries",
            Self::Connect => "connects",
            Self::Subscription => "subscriptions",
            Self::Request => "requests",
            Self::Message => "messages",
            Self::Resume => "resumes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_told_as_far_as_they_were_counted() {
        let told = |redis_calls, node| {
            let mut lines = Lines::default();
            reads(&mut lines, HistoryReads { redis_calls, node });
            lines
                .0
                .lines()
                .filter_map(|line| line.split_whitespace().last()?.parse().ok())
                .collect()
        };
        let node = Some(NodeReads { follow: 1, whole: 2, page: 3 });
        for (redis_calls, node, expected) in
            [(None, None, vec![]), (Some(6), None, vec![6]), (Some(6), node, vec![6, 1, 2, 3])]
        {
            let told: Vec<u64> = told(redis_calls, node);
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_figure_that_is_not_known_says_so() {
        let mut lines = Lines::default();
        lines.figure("known", Some(1.23456), "µs");
        lines.figure("not known", None, "µs");
        let rows: Vec<Vec<&str>> =
            lines.0.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["known", "1.235", "µs"], vec!["not", "known", "unknown"]]);
    }
}
