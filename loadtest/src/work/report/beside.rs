//! Runs of one scenario by different targets, beside each other.

use super::chart::bar::Bar;
use super::figures::title;
use super::grid::{Cell, grid, verdict};
use super::markup::Markup;
use super::number::{Unit, significant};
use super::percentiles;
use super::ratios::{Ratio, ratios};
use crate::bench::spread::Verdict;
use crate::work::result::Run;

/// What their figures are compared by, if they have it.
const TIMES: [&str; 6] = ["delivery", "last_receipt", "replay", "back", "connect", "publish"];

/// Bars of what a core-second brings, and their times in one chart.
pub fn section(page: &mut Markup, runs: &[(&Run, String)], place: &str) {
    let Some((first, _)) = runs.first() else { return };
    let ratios = ratios(runs);
    let mut runs = runs.to_vec();
    runs.sort_by(|(a, _), (b, _)| rate(b).unwrap_or(0.0).total_cmp(&rate(a).unwrap_or(0.0)));
    let runs = &runs;
    page.within("section", &[("id", &place)], |page| {
        page.element("h2", &[], format_args!("{}: {} runs", first.scenario, runs.len()));
        page.element("p", &[], &first.workload.about);
        table(page, runs);
        of_baseline(page, &ratios);
        page.within("div", &[("class", &"charts")], |page| {
            for name in TIMES {
                let having = runs
                    .iter()
                    .filter_map(|(run, _)| Some((label(run, runs), run.times.get(name)?)));
                let lines: Vec<_> = having.collect();
                if lines.len() > 1 {
                    percentiles::chart(
                        page,
                        &format!("Times by percentile: {}", title(name)),
                        &lines,
                    );
                }
            }
        });
    });
}

fn rate(run: &Run) -> Option<f64> {
    run.cost.deliveries_per_core_second.filter(|rate| rate.is_finite())
}

/// A run's target, and its date where others have the same.
fn label(run: &Run, runs: &[(&Run, String)]) -> String {
    let same = runs.iter().filter(|(other, _)| other.target == run.target).count();
    if same > 1 { format!("{}, {}", run.target, run.machine.date) } else { run.target.clone() }
}

/// All of a run's verdicts as one.
fn outcome(run: &Run) -> Verdict {
    let reached = run.verdicts.iter().all(|verdict| verdict.reached) && run.problems.is_empty();
    if reached && run.verdicts.is_empty() { Verdict::Unjudged } else { verdict(reached) }
}

fn table(page: &mut Markup, runs: &[(&Run, String)]) {
    let most = runs.iter().filter_map(|(run, _)| rate(run)).fold(0.0, f64::max);
    let time = |run: &Run, name: &str| {
        let time = run.times.get(name).map_or(String::new(), |times| Unit::Time.show(times.p99_us));
        Cell::number(time)
    };
    let row = |(index, (run, place)): (usize, &(&Run, String))| {
        let rate = rate(run);
        let bar = Bar { colour: index, ..Bar::of(rate.unwrap_or(0.0), most) };
        let each = run.cost.us_per_delivery.map_or(String::new(), |each| Unit::Time.show(each));
        vec![
            Cell::Link(label(run, runs), place.clone()),
            Cell::Bar(bar),
            Cell::number(rate.map_or(String::new(), significant)),
            Cell::number(each),
            Cell::number(
                run.cost.us_per_connect.map_or(String::new(), |each| Unit::Time.show(each)),
            ),
            time(run, "delivery"),
            time(run, "last_receipt"),
            Cell::number(Unit::Share.show(run.messages.delivery_ratio)),
            Cell::Verdict(outcome(run)),
        ]
    };
    let rows: Vec<_> = runs.iter().enumerate().map(row).collect();
    let head = [
        "target",
        "deliveries per core-second",
        "",
        "CPU each",
        "CPU per connect",
        "delivery p99",
        "last receipt p99",
        "delivery ratio",
        "",
    ];
    grid(page, &head, &rows);
}

/// What is aimed at beside the baseline.
fn of_baseline(page: &mut Markup, ratios: &[Ratio]) {
    if ratios.is_empty() {
        return;
    }
    let row = |ratio: &Ratio| {
        vec![
            Cell::text(&ratio.target),
            Cell::text(ratio.figure),
            Cell::number(ratio.found()),
            Cell::text(format!("at most {}", ratio.most)),
            Cell::Verdict(ratio.verdict()),
        ]
    };
    let head = ["target", "figure", "ratio to the baseline's", "target", ""];
    grid(page, &head, &ratios.iter().map(row).collect::<Vec<_>>());
}
