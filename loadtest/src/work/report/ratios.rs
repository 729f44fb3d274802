//! Runs against those of the bare baseline, round by round: what a file aims at there can be judged by nobody who sees
//! one run only.

use super::Judged;
use crate::bench::spread::{Spread, Verdict};
use crate::work::file::OfBaseline;
use crate::work::result::Run;

/// How the baseline's runs are called.
const BASELINE: &str = "baseline";

/// A figure as a ratio to the baseline's, by the rounds that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// Of which figure.
    pub figure: &'static str,
    /// Whose.
    pub target: String,
    /// Median and quartiles.
    pub spread: Spread,
    /// How many rounds there are.
    pub rounds: usize,
    /// The most that is aimed at.
    pub most: f64,
}

impl Ratio {
    /// The ratio in words.
    pub fn found(&self) -> String {
        let Spread { lower_quartile, median, upper_quartile } = self.spread;
        let rounds = if self.rounds == 1 { "round" } else { "rounds" };
        format!("{median:.2} ({lower_quartile:.2}–{upper_quartile:.2}, {} {rounds})", self.rounds)
    }

    /// Whether it is what was aimed at.
    pub fn verdict(&self) -> Verdict {
        Verdict::on_most(self.most, &self.spread)
    }
}

/// All ratios that the files of these runs aim at. Runs are of one scenario, those of one target in the order of their
/// dates; the first of a target is compared with the baseline's first of the same work, and so on.
pub fn ratios(runs: &[(&Run, String)]) -> Vec<Ratio> {
    let (base, others): (Vec<&Run>, Vec<&Run>) =
        runs.iter().map(|(run, _)| *run).partition(|run| run.target == BASELINE);
    let mut targets: Vec<&str> = others.iter().map(|run| run.target.as_str()).collect();
    targets.dedup();
    let mut all = Vec::new();
    for target in targets {
        let of: Vec<&Run> = others.iter().copied().filter(|run| run.target == target).collect();
        let pairs = || of.iter().zip(&base).filter(|(run, base)| run.workload == base.workload);
        for (figure, most, read) in aims(of[0].workload.targets.of_baseline) {
            let ratios = pairs().filter_map(|(run, base)| Some(read(run)? / read(base)?));
            let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
            let rounds = ratios.len();
            if let Some(spread) = Spread::of(ratios) {
                all.push(Ratio { figure, target: target.to_owned(), spread, rounds, most });
            }
        }
    }
    all
}

/// The same for the list at the top of the page; `place` is where these runs stand beside each other.
pub fn judged(runs: &[(&Run, String)], place: &str) -> Vec<Judged> {
    let one = |ratio: Ratio| Judged {
        of: format!("{}, {}", runs[0].0.scenario, ratio.target),
        place: place.to_owned(),
        target: format!("{}: at most {} × the baseline's", ratio.figure, ratio.most),
        found: ratio.found(),
        verdict: ratio.verdict(),
    };
    ratios(runs).into_iter().map(one).collect()
}

/// Where a run has a figure.
type Read = fn(&Run) -> Option<f64>;

/// Each figure that has a bound, with that, and where a run has it.
fn aims(aims: OfBaseline) -> impl Iterator<Item = (&'static str, f64, Read)> {
    let OfBaseline { us_per_delivery, us_per_connect, last_receipt_p99 } = aims;
    let all: [(&str, Option<f64>, Read); 3] = [
        ("CPU per delivery", us_per_delivery, |run| run.cost.us_per_delivery),
        ("CPU per connect", us_per_connect, |run| run.cost.us_per_connect),
        ("last receipt p99", last_receipt_p99, |run| {
            run.times.get("last_receipt").map(|times| times.p99_us)
        }),
    ];
    all.into_iter().filter_map(|(figure, most, read)| Some((figure, most?, read)))
}

#[cfg(test)]
mod tests {
    use super::super::runs;
    use super::*;

    fn of(target: &str, slow: f64) -> (Run, String) {
        let mut run = runs::run("latency", target, slow);
        run.workload.targets.of_baseline = OfBaseline {
            last_receipt_p99: Some(1.3),
            us_per_delivery: Some(1.1),
            ..Default::default()
        };
        run.cost.us_per_connect = None;
        (run, format!("{target} {slow}"))
    }

    fn shown(runs: &[(Run, String)]) -> Vec<(&'static str, String, String, Verdict)> {
        let runs: Vec<_> = runs.iter().map(|(run, place)| (run, place.clone())).collect();
        let shown = |it: Ratio| (it.figure, it.target.clone(), it.found(), it.verdict());
        ratios(&runs).into_iter().map(shown).collect()
    }

    #[test]
    fn rounds_are_compared_with_each_other_and_their_median_is_judged() {
        let mut runs = Vec::from([2.0, 2.0, 1.0].map(|slow| of("baseline", slow)));
        runs.extend([2.4, 2.2, 1.4].map(|slow| of("umbel", slow)));
        let expected = |figure, verdict| {
            (figure, "umbel".to_owned(), "1.20 (1.15–1.30, 3 rounds)".to_owned(), verdict)
        };
        assert_eq!(
            shown(&runs),
            [
                expected("CPU per delivery", Verdict::Missed),
                expected("last receipt p99", Verdict::Reached)
            ]
        );
        let runs: Vec<_> = runs.iter().map(|(run, place)| (run, place.clone())).collect();
        let judged = judged(&runs, "scenario-1");
        assert_eq!(judged[1].target, "last receipt p99: at most 1.3 × the baseline's");
    }

    #[test]
    fn other_work_and_rounds_without_a_partner_are_not_compared() {
        let mut other = of("umbel", 9.0);
        other.0.workload.sessions.count += 1;
        let runs =
            [of("baseline", 1.0), of("baseline", 1.0), other, of("umbel", 1.0), of("umbel", 9.0)];
        let ratios = shown(&runs);
        assert_eq!(ratios.len(), 2);
        assert!(ratios.iter().all(|it| it.2 == "1.00 (1.00–1.00, 1 round)"), "{ratios:?}");
        assert!(shown(&[of("umbel", 1.0)]).is_empty() && shown(&[of("baseline", 1.0)]).is_empty());
    }
}
