//! Two runs.

use super::{Comparison, Row, differences};
use crate::work::report::figures::{Figure, figures, times, title};
use crate::work::report::number::Unit;
use crate::work::result::Run;

/// Figure by figure.
pub fn comparison(a: &Run, b: &Run) -> Comparison {
    let mut differences = differences::between("scenario", &a.scenario, &b.scenario);
    differences.extend(differences::between("target", &a.target, &b.target));
    differences.extend(differences::between("workload", &a.workload, &b.workload));
    differences.extend(differences::of_machines(&a.machine, &b.machine));
    let mut rows = of_figures(a, b);
    rows.extend(of_times(a, b));
    Comparison { names: (name(a), name(b)), differences, rows }
}

fn name(run: &Run) -> String {
    let Run { scenario, target, machine, .. } = run;
    format!("{scenario}, {target}, {}, commit {}", machine.date, machine.commit)
}

fn of_figures(a: &Run, b: &Run) -> Vec<Row> {
    let others = figures(b);
    let row = |figure: Figure| {
        let same = |other: &&Figure| (other.group, &other.name) == (figure.group, &figure.name);
        let (first, second) = (figure.value?, others.iter().find(same)?.value?);
        Some(Row {
            group: figure.group.to_owned(),
            name: figure.name,
            unit: figure.unit,
            a: first,
            b: second,
            noisy: figure.noisy,
        })
    };
    figures(a).into_iter().filter_map(row).collect()
}

fn of_times(a: &Run, b: &Run) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, first) in times(a) {
        let Some(second) = b.times.get(name) else { continue };
        for ((quantile, a), (_, b)) in first.named().into_iter().zip(second.named()) {
            let name = format!("{} {quantile}", title(name));
            rows.push(Row { group: "times".to_owned(), name, unit: Unit::Time, a, b, noisy: true });
        }
    }
    rows
}
