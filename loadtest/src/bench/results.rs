//! All that a bench found, as it is written to `bench.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::arm::{Arm, Sample};
use super::case::{Case, Figure, Target};
use super::machine::Machine;
use super::spread::{Spread, Verdict};
use super::table;
use crate::cli::BenchArgs;

/// A whole bench.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where and of what.
    pub machine: Machine,
    /// The command, word by word.
    pub command: Vec<String>,
    /// Short windows: a first look.
    pub quick: bool,
    /// The servers' core.
    pub server_core: usize,
    /// The load's core.
    pub load_core: usize,
    /// The node's settings from the environment.
    pub node_env: Vec<(String, String)>,
    /// In the order in which they were run.
    pub cases: Vec<CaseResult>,
}

/// What became of a case.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What was compared.
    pub figure: Figure,
    /// What was wanted.
    pub target: Target,
    /// The side that is judged.
    pub judged: Arm,
    /// The side that it was compared with.
    pub compared_with: Arm,
    /// What the rounds say together; absent if there are none.
    pub summary: Option<Summary>,
    /// Why it ended early.
    pub error: Option<String>,
    /// Each round.
    pub rounds: Vec<Round>,
}

/// A measurement of each side.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Which side was first.
    pub node_first: bool,
    /// The side that is judged.
    pub node: Sample,
    /// The other.
    pub against: Sample,
    /// The naive server, in some rounds.
    pub naive: Option<Sample>,
}

/// Medians and quartiles over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Of the node's figure.
    pub node: Spread,
    /// Of the other's.
    pub against: Spread,
    /// Of the naive server's.
    pub naive: Option<Spread>,
    /// Of the ratios of each round.
    pub ratio: Spread,
    /// What the load's core did, per what the other server's core did.
    pub load: Option<f64>,
    /// Whether the target is met.
    pub verdict: Verdict,
    /// Rounds that count.
    pub counted: usize,
    /// Rounds that others disturbed; they count only where there are no others.
    pub disturbed: usize,
}

impl Results {
    /// No cases yet.
    pub fn new(machine: Machine, args: &BenchArgs) -> Self {
        Self {
            machine,
            command: std::env::args().collect(),
            quick: args.quick,
            server_core: args.server_core,
            load_core: args.load_core,
            node_env: args.node_env.clone(),
            cases: Vec::new(),
        }
    }

    /// Writes `bench.json` and `bench.md` into `out`.
    pub fn write(&self, out: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        write("bench.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("bench.md", table::page(self))
    }
}

impl CaseResult {
    /// No rounds yet.
    pub fn new(case: &Case) -> Self {
        Self {
            name: case.name.clone(),
            title: case.title.clone(),
            figure: case.figure,
            target: case.target,
            judged: case.node,
            compared_with: case.against,
            summary: None,
            error: None,
            rounds: Vec::new(),
        }
    }

    /// It ended with an error.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// Draws the sums over the rounds. Disturbed ones are left out; where all are, nothing is decided.
    pub fn summarise(&mut self) {
        let quiet: Vec<&Round> = self.rounds.iter().filter(|round| !round.disturbed()).collect();
        let disturbed = self.rounds.len() - quiet.len();
        let all = || summary(self.target, &self.rounds.iter().collect::<Vec<_>>());
        let summary = summary(self.target, &quiet).or_else(|| {
            let undecided = |summary| Summary { verdict: Verdict::Undecided, ..summary };
            all().map(undecided)
        });
        self.summary = summary.map(|summary| Summary { disturbed, ..summary });
    }
}

fn summary(target: Target, rounds: &[&Round]) -> Option<Summary> {
    let of = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(|round| figure(round)));
    let (node, ratio) = (of(|round| round.node.value)?, of(Round::ratio)?);
    let judged = match target {
        Target::Ratio(_) => ratio,
        Target::Absolute(_) => node,
    };
    let naive = rounds.iter().filter_map(|round| round.naive.as_ref());
    let load = rounds.iter().filter_map(|round| round.against.load_share());
    Some(Summary {
        node,
        against: of(|round| round.against.value)?,
        naive: Spread::of(naive.map(|sample| sample.value)),
        ratio,
        load: Spread::of(load).map(|spread| spread.median),
        verdict: Verdict::on(target, &judged),
        counted: rounds.len(),
        disturbed: 0,
    })
}

impl Round {
    /// The node's figure as a multiple of the other's.
    pub fn ratio(&self) -> f64 {
        self.node.value / self.against.value
    }

    fn disturbed(&self) -> bool {
        self.node.disturbed || self.against.disturbed
    }
}

impl Sample {
    /// What the load's core did, per what the server's did.
    fn load_share(&self) -> Option<f64> {
        let cost = &self.outcome.measured.cost;
        Some(cost.load_core_seconds? / cost.server_core_seconds?).filter(|share| share.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case;
    use crate::cost::Cost;
    use crate::load::ledger::Integrity;
    use crate::scenario::{Measured, Outcome, Unit};

    fn sample(arm: Arm, value: f64, disturbed: bool) -> Sample {
        let cost = Cost {
            wall_seconds: 2.0,
            server_process_seconds: Some(1.0),
            server_core_seconds: Some(1.0),
            server_core_stolen_seconds: Some(0.0),
            load_thread_seconds: 0.5,
            load_core_seconds: Some(0.5),
            waited_seconds: Some(0.0),
        };
        let measured = Measured {
            unit: Unit::Delivery,
            units: 1,
            rounds: 1,
            messages: 1,
            posts: 1,
            cost,
            stalled: false,
            latency: None,
            hiccup_seconds: None,
            growth: None,
        };
        let outcome = Outcome {
            scenario: "fanout",
            sessions: 1,
            measured,
            integrity: Integrity::default(),
            holding: None,
        };
        Sample { arm, value, thrown_away: 0, disturbed, outcome }
    }

    /// The result of a case with these ratios, each with whether it was disturbed.
    fn result(ratios: &[(f64, bool)]) -> CaseResult {
        let case = &case::select(&["fanout1".to_owned()], false).unwrap()[0];
        let mut result = CaseResult::new(case);
        result.rounds.extend(ratios.iter().map(|(ratio, disturbed)| Round {
            node_first: true,
            node: sample(case.node, ratio * 2.0, *disturbed),
            against: sample(case.against, 2.0, false),
            naive: None,
        }));
        result.summarise();
        result
    }

    #[test]
    fn a_case_without_rounds_has_no_summary() {
        assert!(result(&[]).summary.is_none());
    }

    #[test]
    fn disturbed_rounds_are_left_out() {
        let result = result(&[(1.0, false), (1.1, false), (9.0, true)]);
        let summary = result.summary.unwrap();
        assert_eq!((summary.counted, summary.disturbed, summary.verdict), (2, 1, Verdict::Reached));
        assert!((summary.ratio.median - 1.05).abs() < 1e-9);
        assert_eq!(summary.load, Some(0.5));
        let row = table::row(&result);
        assert!(row.contains("| 2.10 (2.05–2.15) | baseline 2.00 (2.00–2.00) | 1.05 (1.02–1.08) | 1.15 | reached |"), "{row}");
        assert!(row.ends_with("| 2 of 3, the others disturbed |"), "{row}");
    }

    #[test]
    fn when_all_are_disturbed_nothing_is_decided() {
        let result = result(&[(9.0, true), (1.0, true), (1.0, true)]);
        let summary = result.summary.unwrap();
        assert_eq!((summary.counted, summary.verdict), (3, Verdict::Undecided));
        assert!(table::row(&result).ends_with("| 3, all disturbed |"));
    }

    #[test]
    fn a_case_that_failed_says_why() {
        let mut result = result(&[(1.0, false)]);
        result.error = Some("a|b".to_owned());
        assert!(table::row(&result).contains("failed: a\\|b"));
    }
}
