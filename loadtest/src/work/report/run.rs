//! One run's part of a page.

use super::figures::{Figure, about_times, figures, times, title};
use super::grid::{Cell, badge, grid, verdict};
use super::markup::Markup;
use super::number::{Unit, float};
use super::{percentiles, series};
use crate::bench::machine::Machine;
use crate::work::file::Workload;
use crate::work::result::Run;

/// All that is known of `run`.
pub fn section(page: &mut Markup, run: &Run, place: &str) {
    page.within("section", &[("id", &place)], |page| {
        page.within("h2", &[], |page| {
            page.text(&run.scenario);
            page.element("span", &[("class", &"soft")], format_args!(" · {}", run.target));
        });
        page.element("p", &[], &run.workload.about);
        judged(page, run);
        problems(page, &run.problems);
        tiles(page, run);
        page.within("div", &[("class", &"charts")], |page| {
            if !run.times.is_empty() {
                let lines = times(run).into_iter().map(|(name, times)| (title(name), times));
                percentiles::chart(page, "Times by percentile", &lines.collect::<Vec<_>>());
            }
            series::charts(page, run);
        });
        page.element("h3", &[], "Times");
        distributions(page, run);
        if let Some(note) = about_times(run) {
            page.element("p", &[("class", &"soft")], note);
        }
        page.element("h3", &[], "All figures");
        all(page, run);
        reasons(page, run);
        page.element("h3", &[], "Where and how");
        page.within("div", &[("class", &"halves")], |page| {
            facts(page, &run.machine, &run.command);
            page.within("pre", &[], |page| page.element("code", &[], written(&run.workload)));
        });
    });
}

/// What was aimed at.
fn judged(page: &mut Markup, run: &Run) {
    if run.verdicts.is_empty() {
        page.element("p", &[("class", &"soft")], "Nothing was aimed at.");
        return;
    }
    page.within("ul", &[("class", &"badges")], |page| {
        for one in &run.verdicts {
            page.within("li", &[], |page| {
                badge(page, verdict(one.reached));
                page.text(format_args!(" {}: {}", one.target, one.found));
            });
        }
    });
}

/// What went wrong, if anything did.
pub fn problems(page: &mut Markup, problems: &[String]) {
    if problems.is_empty() {
        return;
    }
    page.within("div", &[("class", &"problems")], |page| {
        page.element("strong", &[], "Problems");
        for problem in problems {
            page.element("p", &[], problem);
        }
    });
}

fn tiles(page: &mut Markup, run: &Run) {
    let all = figures(run);
    let figure = |name: &str| {
        let figure = all.iter().find(|figure| figure.name == name)?;
        Some((name.to_owned(), figure.unit.show(figure.value?)))
    };
    let time = |name: &str, quantile: &str| {
        let (_, micros) =
            run.times.get(name)?.named().into_iter().find(|(it, _)| *it == quantile)?;
        Some((format!("{} {quantile}", title(name)), Unit::Time.show(micros)))
    };
    let tiles = [
        figure("wanted").map(|(_, value)| ("sessions".to_owned(), value)),
        figure("delivery ratio"),
        figure("deliveries per second"),
        time("delivery", "p50"),
        time("delivery", "p99"),
        time("last_receipt", "p99"),
        time("replay", "p99"),
        figure("servers' time per delivery"),
        figure("servers' time per connect"),
        figure("deliveries per core-second"),
        figure("servers' PSS per session"),
    ];
    named_tiles(page, tiles.into_iter().flatten());
}

/// The figures that matter most.
pub fn named_tiles(page: &mut Markup, tiles: impl Iterator<Item = (String, String)>) {
    page.within("dl", &[("class", &"tiles")], |page| {
        for (name, value) in tiles {
            page.within("div", &[], |page| {
                page.element("dt", &[], name);
                page.element("dd", &[], value);
            });
        }
    });
}

fn distributions(page: &mut Markup, run: &Run) {
    let times = times(run);
    let Some((_, first)) = times.first() else {
        page.element("p", &[("class", &"soft")], "None were measured.");
        return;
    };
    let mut head = vec!["", "count"];
    head.extend(first.named().map(|(name, _)| name));
    let row = |(name, times): &(&str, &crate::work::result::Distribution)| {
        let mut row =
            vec![Cell::text(title(name)), Cell::number(Unit::Count.show(float(times.count)))];
        row.extend(times.named().map(|(_, micros)| Cell::number(Unit::Time.show(micros))));
        row
    };
    grid(page, &head, &times.iter().map(row).collect::<Vec<_>>());
}

fn all(page: &mut Markup, run: &Run) {
    let (known, unknown): (Vec<Figure>, Vec<Figure>) =
        figures(run).into_iter().partition(|figure| figure.value.is_some());
    page.within("div", &[("class", &"columns")], |page| {
        for group in known.chunk_by(|a, b| a.group == b.group) {
            let head = group.first().map_or("", |figure| figure.group);
            grid(page, &[head, ""], &group.iter().map(row).collect::<Vec<_>>());
        }
    });
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|figure| figure.name.as_str()).collect();
        let names = names.join(", ");
        page.element("p", &[("class", &"soft")], format_args!("Not known: {names}."));
    }
}

fn row(figure: &Figure) -> Vec<Cell> {
    let value = figure.value.map_or("unknown".to_owned(), |value| figure.unit.show(value));
    vec![Cell::text(&figure.name), Cell::number(value)]
}

fn reasons(page: &mut Markup, run: &Run) {
    let reasons = &run.sessions.reasons;
    if reasons.is_empty() {
        return;
    }
    page.element("h3", &[], "Why sessions were refused or lost");
    let row = |(reason, count): (&String, &u64)| {
        vec![Cell::text(reason), Cell::number(Unit::Count.show(float(*count)))]
    };
    grid(page, &["reason", "times"], &reasons.iter().map(row).collect::<Vec<_>>());
}

/// Where something was run, when, and of what.
pub fn facts(page: &mut Markup, machine: &Machine, command: &str) {
    let hardware = format!(
        "{}: {}, {} cores, {} MiB",
        machine.name, machine.cpu, machine.cores, machine.memory_mib
    );
    let kernel = format!("Linux {}, TCP {}", machine.kernel, machine.congestion_control);
    let versions = format!("node {}, load test {}", machine.node, machine.loadtest);
    page.within("dl", &[("class", &"facts")], |page| {
        for (name, value) in [
            ("machine", &hardware),
            ("kernel", &kernel),
            ("date", &machine.date),
            ("commit", &machine.commit),
            ("versions", &versions),
        ] {
            page.element("dt", &[], name);
            page.element("dd", &[], value);
        }
        page.element("dt", &[], "command");
        page.within("dd", &[], |page| page.element("code", &[], command));
    });
}

/// The scenario as a file has it.
fn written(workload: &Workload) -> String {
    toml::to_string(workload).unwrap_or_else(|error| format!("# can't be written as TOML: {error}"))
}
