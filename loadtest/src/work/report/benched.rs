//! The cost bench's part of a page: each case's ratio with its quartiles and its target.

use super::Judged;
use super::chart::bar::Bar;
use super::grid::{Cell, grid};
use super::markup::Markup;
use super::number::significant;
use super::run::facts;
use crate::bench::case::Target;
use crate::bench::recorded::{Recorded, RecordedCase};
use crate::bench::results::{Sides, Summary};
use crate::bench::spread::{Spread, Verdict};
use crate::bench::table;

/// The ratio at which bars end: above all targets, and not so far that the others can't be told apart.
const MOST: f64 = 2.0;

/// All cases.
pub fn section(page: &mut Markup, bench: &Recorded, place: &str) {
    page.within("section", &[("id", &place)], |page| {
        page.element("h2", &[], "Cost bench");
        page.element(
            "p",
            &[],
            "Each case compares the node's cost with that of another server, in alternating rounds of fresh processes. \
             A ratio is the median of the rounds' ratios: the bar is the median, the thin line its quartiles, the red \
             mark the target where that is a ratio. Bars end at 2, figures don't.",
        );
        if bench.quick {
            let note = "Quick: short windows and few rounds, a first look only.";
            page.element("p", &[("class", &"note")], note);
        }
        let head = ["case", "figure", "node", "compared with", "", "ratio", "", "target", ""];
        let rows: Vec<Vec<Cell>> = bench.cases.iter().flat_map(rows).collect();
        page.within("div", &[("class", &"cases")], |page| grid(page, &head, &rows));
        facts(page, &bench.machine, &bench.command.join(" "));
    });
}

/// What each case came to.
pub fn judged(bench: &Recorded, place: &str) -> Vec<Judged> {
    let one = |case: &RecordedCase| {
        let (found, verdict) = match (&case.summary, &case.error) {
            (Some(summary), None) => (found(case, summary), summary.verdict),
            (_, error) => (error.clone().unwrap_or("it had no rounds".to_owned()), Verdict::Missed),
        };
        Judged {
            of: format!("bench {}", case.name),
            place: place.to_owned(),
            target: format!("{}: {}", case.figure.unit(), aim(case.target)),
            found,
            verdict,
        }
    };
    bench.cases.iter().map(one).collect()
}

fn found(case: &RecordedCase, summary: &Summary) -> String {
    match case.target {
        Target::Absolute(_) | Target::AtLeast(_) => significant(summary.sides.node.median),
        _ => format!("{} × {}", significant(summary.sides.ratio.median), case.other()),
    }
}

fn aim(target: Target) -> String {
    match target {
        Target::Ratio(_) => format!("ratio at most {}", table::target(target)),
        Target::Absolute(_) => format!("at most {}", table::target(target)),
        _ => table::target(target),
    }
}

fn rows(case: &RecordedCase) -> Vec<Vec<Cell>> {
    let title = format!("{} ({})", case.title, case.name);
    let first = match (&case.summary, &case.error) {
        (Some(summary), None) => {
            let verdict = Cell::Verdict(summary.verdict);
            row(case, title, case.figure.unit(), &summary.sides, (case.target, verdict))
        }
        (_, error) => {
            let why = error.as_deref().unwrap_or("it had no rounds");
            let mut row = vec![Cell::text(title), Cell::text(case.figure.unit())];
            row.extend([Cell::number(""), Cell::text(case.other()), Cell::number("")]);
            row.extend([Cell::text(format!("failed: {why}")), Cell::number("")]);
            row.extend([Cell::number(aim(case.target)), Cell::Verdict(Verdict::Missed)]);
            row
        }
    };
    let beside = case.beside.iter().map(|beside| {
        let unjudged = (Target::None, Cell::Verdict(Verdict::Unjudged));
        row(case, "the same".to_owned(), beside.figure.unit(), &beside.sides, unjudged)
    });
    std::iter::once(first).chain(beside).collect()
}

fn row(
    case: &RecordedCase,
    title: String,
    unit: &str,
    sides: &Sides,
    (target, verdict): (Target, Cell),
) -> Vec<Cell> {
    let Spread { lower_quartile, median, upper_quartile } = sides.ratio;
    let mark = match target {
        Target::Ratio(mark) | Target::RatioAtLeast(mark) => Some(mark),
        _ => None,
    };
    let bar = Bar {
        value: median,
        spread: Some((lower_quartile, upper_quartile)),
        target: mark,
        most: MOST,
        colour: 0,
    };
    let ratio = format!("{median:.2} ({lower_quartile:.2}–{upper_quartile:.2})");
    vec![
        Cell::text(title),
        Cell::text(unit),
        Cell::number(significant(sides.node.median)),
        Cell::text(case.other()),
        Cell::number(significant(sides.against.median)),
        Cell::Bar(bar),
        Cell::number(ratio),
        Cell::number(aim(target)),
        verdict,
    ]
}
