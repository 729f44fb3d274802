//! A `bench.json` as it is read again: what its cases came to, without their rounds.

use serde::Deserialize;

use super::arm::{Arm, Subject};
use super::case::{Figure, Target};
use super::machine::Machine;
use super::results::{Beside, Summary};

/// A whole bench.
#[derive(Debug, Clone, Deserialize)]
pub struct Recorded {
    /// Where and of what.
    pub machine: Machine,
    /// The command, word by word.
    pub command: Vec<String>,
    /// Where the servers had their messages from.
    #[serde(default)]
    pub source: String,
    /// What Redis says of its version, if it was the source.
    #[serde(default)]
    pub redis: Option<String>,
    /// Whether the node's topics kept history.
    #[serde(default)]
    pub history: bool,
    /// Short windows: a first look.
    #[serde(default)]
    pub quick: bool,
    /// In the order in which they were run.
    pub cases: Vec<RecordedCase>,
}

/// What became of a case.
#[derive(Debug, Clone, Deserialize)]
pub struct RecordedCase {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What was compared.
    pub figure: Figure,
    /// What was wanted.
    pub target: Target,
    /// The side that it was compared with.
    pub compared_with: Arm,
    /// What the rounds say together; absent if there are none.
    pub summary: Option<Summary>,
    /// Other figures of the rounds that count.
    #[serde(default)]
    pub beside: Vec<Beside>,
    /// Why it ended early.
    pub error: Option<String>,
}

impl Recorded {
    /// What `text`, a `bench.json`, says.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl RecordedCase {
    /// What it was compared with, for people.
    pub fn other(&self) -> String {
        match self.compared_with.subject {
            Subject::Baseline => "baseline".to_owned(),
            _ => self.compared_with.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::spread::Verdict;

    #[test]
    fn benches_that_are_recorded_can_be_read() {
        let results = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
        let mut read = 0;
        for directory in std::fs::read_dir(results).unwrap() {
            let path = directory.unwrap().path().join("bench.json");
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let bench = Recorded::parse(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let reached = |case: &RecordedCase| case.summary?.verdict.eq(&Verdict::Reached).into();
            assert!(
                bench.cases.iter().filter_map(reached).any(|reached: bool| reached),
                "{path:?}"
            );
            read += 1;
        }
        assert!(read >= 3, "{read} were read");
    }
}
