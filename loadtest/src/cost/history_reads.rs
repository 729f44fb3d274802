//! How often a node has read history from its Redis: by what Redis counts, and by what the node says itself.
//!
//! Redis counts all calls of functions. Publishing is some too, so that nothing must be published between two
//! readings. The node tells its reads apart by what they are for.

use std::net::SocketAddr;
use std::ops::AddAssign;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::node_metrics::NodeMetrics;
use crate::os::exchange::ask;

/// Who is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Witnesses {
    /// The Redis that the node reads from.
    pub redis: Option<SocketAddr>,
    /// The node's admin listener.
    pub admin: Option<SocketAddr>,
}

/// Counts since the start, or between two readings. Absent: nobody was named who knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HistoryReads {
    /// Calls of functions at Redis.
    pub redis_calls: Option<u64>,
    /// The node's own count; a node without Redis has none.
    pub node: Option<NodeReads>,
}

/// The node's reads, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NodeReads {
    /// To see where a topic stands, and to repair what was missed.
    pub follow: u64,
    /// To have the whole history of a topic at hand.
    pub whole: u64,
    /// For sessions that want more than the node keeps at hand.
    pub page: u64,
}

impl Witnesses {
    /// What they have counted so far.
    pub fn read(&self) -> Result<HistoryReads> {
        Ok(HistoryReads {
            redis_calls: self.redis.map(function_calls).transpose()?,
            node: self.admin.map(node_reads).transpose()?.flatten(),
        })
    }
}

impl HistoryReads {
    /// What was counted since `begin`.
    #[must_use]
    pub fn since(self, begin: Self) -> Self {
        let node = self.node.zip(begin.node).map(|(end, begin)| NodeReads {
            follow: end.follow - begin.follow,
            whole: end.whole - begin.whole,
            page: end.page - begin.page,
        });
        let redis_calls = self.redis_calls.zip(begin.redis_calls).map(|(end, begin)| end - begin);
        Self { redis_calls, node }
    }
}

impl AddAssign for HistoryReads {
    fn add_assign(&mut self, other: Self) {
        self.redis_calls = self.redis_calls.zip(other.redis_calls).map(|(sum, more)| sum + more);
        self.node = self.node.zip(other.node).map(|(sum, more)| NodeReads {
            follow: sum.follow + more.follow,
            whole: sum.whole + more.whole,
            page: sum.page + more.page,
        });
    }
}

fn function_calls(redis: SocketAddr) -> Result<u64> {
    let answer = ask(redis, "INFO commandstats\r\nQUIT\r\n");
    let answer = answer.with_context(|| format!("Redis at {redis} can't be asked"))?;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with('$'), "Redis at {redis} said {}", text.trim_end());
    calls_in(&text).with_context(|| format!("Redis at {redis} has odd statistics"))
}

/// The calls of functions in Redis' statistics of commands; none if there is no line for them.
fn calls_in(statistics: &str) -> Option<u64> {
    let line = |line: &str| line.strip_prefix("cmdstat_fcall:calls=").map(str::to_owned);
    match statistics.lines().find_map(line) {
        None => Some(0),
        Some(rest) => rest.split(',').next()?.parse().ok(),
    }
}

fn node_reads(admin: SocketAddr) -> Result<Option<NodeReads>> {
    Ok(reads_in(NodeMetrics::fetch(admin)?.text()))
}

/// The reads in a node's metrics.
fn reads_in(metrics: &str) -> Option<NodeReads> {
    let of = |kind: &str| {
        let name = format!("umbel_broker_reads_total{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok())
    };
    let follow = of("follow")? + of("compare").unwrap_or(0);
    Some(NodeReads { follow, whole: of("whole")?, page: of("page")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_counts_calls_of_functions_alone() {
        let text = "$99\r\n# Commandstats\r\ncmdstat_fcall_ro:calls=5,usec=1\r\n\
                    cmdstat_fcall:calls=1234,usec=9,usec_per_call=1.00\r\ncmdstat_evalsha:calls=7,usec=1\r\n";
        assert_eq!(calls_in(text), Some(1234));
        assert_eq!(calls_in("$1\r\n# Commandstats\r\n"), Some(0));
        assert_eq!(calls_in("cmdstat_fcall:calls=x,usec=9\r\n"), None);
    }

    #[test]
    fn a_node_tells_its_reads_apart() {
        let text = "# TYPE umbel_broker_reads_total counter\n\
                    umbel_broker_reads_total{kind=\"follow\"} 10\n\
                    umbel_broker_reads_total{kind=\"page\"} 0\n\
                    umbel_broker_reads_total{kind=\"whole\"} 2\n";
        assert_eq!(reads_in(text), Some(NodeReads { follow: 10, whole: 2, page: 0 }));
        assert_eq!(reads_in("umbel_broker_up 1\n"), None);
    }

    #[test]
    fn what_nobody_counted_stays_unknown() {
        let reads = |redis_calls, follow| HistoryReads {
            redis_calls,
            node: Some(NodeReads { follow, ..NodeReads::default() }),
        };
        assert_eq!(reads(Some(5), 7).since(reads(Some(3), 6)), reads(Some(2), 1));
        assert_eq!(reads(Some(5), 7).since(HistoryReads::default()), HistoryReads::default());
        let mut sum = reads(Some(2), 1);
        sum += reads(Some(3), 4);
        assert_eq!(sum, reads(Some(5), 5));
        assert_eq!(Witnesses::default().read().unwrap(), HistoryReads::default());
    }
}
