//! One side of a comparison: a server, how it is spoken to, where it runs; and what was measured of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::server::Placement;
use crate::scenario::Outcome;
use crate::wire::subscribe::Dialect;

/// A server as it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Which server.
    pub subject: Subject,
    /// How sessions speak.
    pub dialect: Dialect,
    /// Where it may run.
    pub placement: Placement,
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The node under test.
    Node {
        /// Its worker threads.
        workers: usize,
    },
    /// The bare floor.
    Baseline,
    /// The usual design.
    Naive,
    /// hyper with a handler that does nothing.
    Empty,
    /// The private Redis itself.
    Redis,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.subject, self.placement) {
            (Subject::Node { workers }, Placement::Free) => {
                write!(f, "node with {workers} worker{}", if workers == 1 { "" } else { "s" })
            }
            (Subject::Node { .. }, Placement::Pinned) => write!(f, "node {}", self.dialect),
            (Subject::Baseline, _) => write!(f, "baseline {}", self.dialect),
            (Subject::Naive, _) => write!(f, "naive {}", self.dialect),
            (Subject::Empty, _) => f.write_str("empty handler"),
            (Subject::Redis, _) => f.write_str("Redis itself"),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// What was measured.
    pub arm: Arm,
    /// The case's figure.
    pub value: f64,
    /// Measurements that were thrown away before it because others had disturbed them.
    pub thrown_away: usize,
    /// So was this one, but it was the last try.
    pub disturbed: bool,
    /// All that the run said.
    pub outcome: Outcome,
}
