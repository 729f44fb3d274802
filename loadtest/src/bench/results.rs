//! All that a bench found, as it is written to `bench.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::arm::{Arm, Sample};
use super::case::{Case, Figure, Target};
use super::machine::Machine;
use super::redis::Redis;
use super::spread::{Spread, Verdict};
use super::table;
use crate::cli::{BenchArgs, Source};

/// A whole bench.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where and of what.
    pub machine: Machine,
    /// The command, word by word.
    pub command: Vec<String>,
    /// Where the servers had their messages from.
    pub source: Source,
    /// What Redis says of its version, if it was the source.
    pub redis: Option<String>,
    /// Whether the node's topics kept history.
    pub history: bool,
    /// Short windows: a first look.
    pub quick: bool,
    /// The servers' core.
    pub server_core: usize,
    /// The load's core, and that of Redis.
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
    /// Other figures of the rounds that count.
    pub beside: Vec<Beside>,
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

/// Medians and quartiles of one figure, over the rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sides {
    /// Of the side that is judged.
    pub node: Spread,
    /// Of the other.
    pub against: Spread,
    /// Of the naive server.
    pub naive: Option<Spread>,
    /// Of the ratios of each round.
    pub ratio: Spread,
}

/// What the rounds say of the figure that is judged.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Summary {
    /// The figure.
    #[serde(flatten)]
    pub sides: Sides,
    /// What the load's core did, per what the other server's core did.
    pub load: Option<f64>,
    /// Whether the target is met.
    pub verdict: Verdict,
    /// Rounds that count.
    pub counted: usize,
    /// Rounds that others disturbed; they count only where there are no others.
    pub disturbed: usize,
}

/// A figure that explains the one that is judged, in the same rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Beside {
    /// Which.
    pub figure: Figure,
    /// What it is.
    #[serde(flatten)]
    pub sides: Sides,
}

impl Results {
    /// No cases yet.
    pub fn new(machine: Machine, args: &BenchArgs) -> Self {
        Self {
            machine,
            command: std::env::args().collect(),
            source: args.source,
            redis: (args.source == Source::Redis).then(Redis::version),
            history: args.history,
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
            beside: Vec::new(),
            error: None,
            rounds: Vec::new(),
        }
    }

    /// It ended with an error.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// Draws the sums over the rounds, of the figures `beside` too. Disturbed rounds are left out; where all are,
    /// nothing is decided.
    pub fn summarise(&mut self, beside: &[Figure]) {
        let all: Vec<&Round> = self.rounds.iter().collect();
        let quiet: Vec<&Round> = all.iter().copied().filter(|round| !round.disturbed()).collect();
        let (disturbed, none_is_quiet) = (all.len() - quiet.len(), quiet.is_empty());
        let counted = if none_is_quiet { all } else { quiet };
        let beside = beside.iter().filter_map(|figure| {
            let sides = Sides::of(&counted, |sample| figure.of(&sample.outcome).ok())?;
            Some(Beside { figure: *figure, sides })
        });
        self.beside = beside.collect();
        self.summary = summary(self.target, &counted).map(|summary| Summary {
            disturbed,
            verdict: match summary.verdict {
                Verdict::Unjudged => Verdict::Unjudged,
                _ if none_is_quiet => Verdict::Undecided,
                verdict => verdict,
            },
            ..summary
        });
    }
}

fn summary(target: Target, rounds: &[&Round]) -> Option<Summary> {
    let sides = Sides::of(rounds, |sample| Some(sample.value))?;
    let load = rounds.iter().filter_map(|round| round.against.load_share());
    Some(Summary {
        sides,
        load: Spread::of(load).map(|spread| spread.median),
        verdict: Verdict::on(target, &sides),
        counted: rounds.len(),
        disturbed: 0,
    })
}

impl Sides {
    /// Of the rounds in which both sides have the figure.
    fn of(rounds: &[&Round], figure: impl Fn(&Sample) -> Option<f64>) -> Option<Self> {
        let pairs: Vec<(f64, f64)> = rounds
            .iter()
            .filter_map(|round| Some((figure(&round.node)?, figure(&round.against)?)))
            .collect();
        let naive = rounds.iter().filter_map(|round| figure(round.naive.as_ref()?));
        Some(Self {
            node: Spread::of(pairs.iter().map(|(node, _)| *node))?,
            against: Spread::of(pairs.iter().map(|(_, against)| *against))?,
            naive: Spread::of(naive),
            ratio: Spread::of(pairs.iter().map(|(node, against)| node / against))?,
        })
    }
}

impl Round {
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
    use crate::bench::cases;
    use crate::cost::Cost;
    use crate::load::ledger::Integrity;
    use crate::scenario::{Measured, Outcome, Unit};

    fn sample(arm: Arm, value: f64, disturbed: bool) -> Sample {
        let cost = Cost {
            wall_seconds: 2.0,
            server_process_seconds: Some(1.0),
            server_waited_seconds: Some(0.0),
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
            reads: None,
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
        let case = &cases::select(&["fanout1".to_owned()], false, Source::Http, false).unwrap()[0];
        let mut result = CaseResult::new(case);
        result.rounds.extend(ratios.iter().map(|(ratio, disturbed)| Round {
            node_first: true,
            node: sample(case.node, ratio * 2.0, *disturbed),
            against: sample(case.against, 2.0, false),
            naive: None,
        }));
        result.summarise(&[Figure::CoreShare]);
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
        assert!((summary.sides.ratio.median - 1.05).abs() < 1e-9);
        assert_eq!(summary.load, Some(0.5));
        let rows = table::rows(&result);
        let (row, beside) = rows.split_once('\n').unwrap();
        assert!(row.contains("| 2.10 (2.05–2.15) | baseline 2.00 (2.00–2.00) | 1.05 (1.02–1.08) | 1.15 | reached |"), "{row}");
        assert!(row.ends_with("| 2 of 3, the others disturbed |"), "{row}");
        let expected =
            "| share of the core | 0.5000 (0.5000–0.5000) | baseline 0.5000 (0.5000–0.5000) | 1.00";
        assert!(beside.contains(expected), "{beside}");
    }

    #[test]
    fn one_quiet_round_of_two_decides() {
        let summary = result(&[(1.0, false), (9.0, true)]).summary.unwrap();
        assert_eq!((summary.counted, summary.disturbed, summary.verdict), (1, 1, Verdict::Reached));
    }

    #[test]
    fn when_all_are_disturbed_nothing_is_decided() {
        let result = result(&[(9.0, true), (1.0, true), (1.0, true)]);
        let summary = result.summary.unwrap();
        assert_eq!((summary.counted, summary.verdict), (3, Verdict::Undecided));
        assert!(table::rows(&result).contains("| 3, all disturbed |"));
    }

    #[test]
    fn a_case_that_failed_says_why() {
        let mut result = result(&[(1.0, false)]);
        result.error = Some("a|b".to_owned());
        assert!(table::rows(&result).contains("failed: a\\|b"));
    }
}
