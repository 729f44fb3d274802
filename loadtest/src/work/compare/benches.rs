//! Two cost benches, by the cases that both have.

use super::differences::{self, Difference};
use super::{Comparison, Row};
use crate::bench::recorded::{Recorded, RecordedCase};
use crate::bench::results::Sides;
use crate::work::report::number::Unit;

/// Case by case: the node's own figure, and its ratio to what it was compared with.
pub fn comparison(a: &Recorded, b: &Recorded) -> Comparison {
    let mut differences = differences::between("source", &a.source, &b.source);
    differences.extend(differences::between("redis", &a.redis, &b.redis));
    differences.extend(differences::between("history", &a.history, &b.history));
    differences.extend(differences::between("quick", &a.quick, &b.quick));
    differences.extend(differences::of_machines(&a.machine, &b.machine));
    differences.extend(alone(a, b));
    let rows = both(a, b).flat_map(|(first, second)| rows(first, second)).collect();
    Comparison { names: (name(a), name(b)), differences, rows }
}

fn name(bench: &Recorded) -> String {
    let Recorded { machine, cases, .. } = bench;
    format!("cost bench of {} cases, {}, commit {}", cases.len(), machine.date, machine.commit)
}

fn find<'a>(bench: &'a Recorded, name: &str) -> Option<&'a RecordedCase> {
    bench.cases.iter().find(|case| case.name == name)
}

fn both<'a>(
    a: &'a Recorded,
    b: &'a Recorded,
) -> impl Iterator<Item = (&'a RecordedCase, &'a RecordedCase)> {
    a.cases.iter().filter_map(|case| Some((case, find(b, &case.name)?)))
}

/// Cases that only one has, and those that compare other things under the same name.
fn alone(a: &Recorded, b: &Recorded) -> Vec<Difference> {
    let is = |there: bool| if there { "measured" } else { "not measured" }.to_owned();
    let only = |of: &Recorded, other: &Recorded, first: bool| {
        let alone = of.cases.iter().filter(|case| find(other, &case.name).is_none());
        let difference = |case: &RecordedCase| Difference {
            key: format!("case {}", case.name),
            a: is(first),
            b: is(!first),
        };
        alone.map(difference).collect::<Vec<_>>()
    };
    let mut differences = only(a, b, true);
    differences.extend(only(b, a, false));
    for (first, second) in both(a, b) {
        let what = |case: &RecordedCase| format!("{} against {}", case.figure.unit(), case.other());
        let key = format!("case {}", first.name);
        differences.extend(differences::between(&key, &what(first), &what(second)));
    }
    differences
}

fn rows(a: &RecordedCase, b: &RecordedCase) -> Vec<Row> {
    let sides = |case: &RecordedCase| case.summary.map(|summary| summary.sides);
    let (Some(first), Some(second)) = (sides(a), sides(b)) else { return Vec::new() };
    let row = |name: String, of: fn(&Sides) -> f64| Row {
        group: format!("{} ({})", a.title, a.name),
        name,
        unit: Unit::Plain,
        a: of(&first),
        b: of(&second),
        noisy: true,
    };
    vec![
        row(a.figure.unit().to_owned(), |sides| sides.node.median),
        row(format!("ratio to {}", a.other()), |sides| sides.ratio.median),
    ]
}
