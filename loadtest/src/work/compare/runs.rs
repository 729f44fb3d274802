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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::report::runs::run;

    #[test]
    fn only_what_both_have_is_compared() {
        let (a, mut b) = (run("fanout", "umbel", 1.0), run("fanout", "umbel", 2.0));
        b.times.remove("publish");
        b.cost.rss_bytes = None;
        let comparison = comparison(&a, &b);
        let find = |name: &str| comparison.rows.iter().find(|row| row.name == name);
        let ratio = find("last receipt p99").unwrap().ratio().unwrap();
        assert_eq!(format!("{ratio:.2}"), "2.00");
        assert_eq!(find("delivery ratio").unwrap().ratio(), Some(1.0));
        assert!(find("publish p99").is_none() && find("servers' RSS").is_none());
        assert!(comparison.differences.is_empty(), "{:?}", comparison.differences);
    }

    #[test]
    fn sessions_and_messages_that_were_lost_are_told_apart() {
        let (mut a, b) = (run("fanout", "umbel", 1.0), run("fanout", "umbel", 1.0));
        a.messages.integrity.lost = 5;
        let rows = comparison(&a, &b).rows;
        let lost: Vec<_> =
            rows.iter().filter(|row| row.name == "lost").map(|row| (row.a, row.b)).collect();
        assert_eq!(lost, [(360.0, 360.0), (5.0, 0.0)]);
    }

    #[test]
    fn pears_are_told_from_apples() {
        let a = run("fanout", "umbel", 1.0);
        let mut b = run("fanout", "baseline", 1.0);
        b.workload.publish = None;
        b.workload.faults.clear();
        b.machine.kernel = "5.15".to_owned();
        b.machine.date = "another day".to_owned();
        let comparison = comparison(&a, &b);
        let keys: Vec<&str> = comparison.differences.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["target", "workload.faults", "workload.publish", "machine.kernel"]);
        assert_eq!(comparison.differences[3].b, "5.15");
        assert!(comparison.text().contains("What differs above"));
    }
}
