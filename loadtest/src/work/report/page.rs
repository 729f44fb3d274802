//! The page: a summary, a table of contents, and a part for each thing that there is.

use super::grid::{Cell, badge, grid, verdict};
use super::markup::Markup;
use super::{Judged, Sources, benched, beside, held, peers, run};
use crate::bench::spread::Verdict;
use crate::work::result::Run;

const BENCH: &str = "bench";
const FLEET: &str = "fleet";
const PEERS: &str = "peers";
const COMPARISON: &str = "comparison";

/// All of it, under `title`.
pub fn page(title: &str, sources: &Sources) -> String {
    let mut page = Markup::default();
    page.verbatim("<!DOCTYPE html>\n");
    page.within("html", &[("lang", &"en")], |page| {
        page.within("head", &[], |page| {
            page.void("meta", &[("charset", &"utf-8")]);
            let viewport = "width=device-width, initial-scale=1";
            page.void("meta", &[("name", &"viewport"), ("content", &viewport)]);
            page.element("title", &[], title);
            page.within("style", &[], |page| page.verbatim(include_str!("style.css")));
        });
        page.within("body", &[], |page| body(page, title, sources));
    });
    page.verbatim("\n");
    page.finish()
}

fn body(page: &mut Markup, title: &str, sources: &Sources) {
    page.within("header", &[], |page| {
        page.element("h1", &[], title);
        notes(page, &sources.notes);
        summary(page, &judged(sources));
    });
    let groups = groups(&sources.runs);
    contents(page, sources, &groups);
    page.within("main", &[], |page| {
        if let Some(comparison) = &sources.comparison {
            comparison.section(page, COMPARISON);
        }
        for (number, group) in groups.iter().enumerate() {
            if group.len() > 1 {
                beside::section(page, group, &scenario_place(number));
            }
            for (one, place) in group {
                run::section(page, one, place);
            }
        }
        if let Some(bench) = &sources.bench {
            benched::section(page, bench, BENCH);
        }
        if let Some(fleet) = &sources.fleet {
            held::section(page, fleet, FLEET);
        }
        if !sources.peers.is_empty() {
            peers::section(page, &sources.peers, PEERS);
        }
    });
}

/// Runs with their places, those of one scenario together.
fn groups(runs: &[Run]) -> Vec<Vec<(&Run, String)>> {
    let mut groups: Vec<Vec<(&Run, String)>> = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let one = (run, run_place(number));
        match groups.iter_mut().find(|group| group[0].0.scenario == run.scenario) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

fn run_place(number: usize) -> String {
    format!("run-{}", number + 1)
}

fn scenario_place(number: usize) -> String {
    format!("scenario-{}", number + 1)
}

fn judged(sources: &Sources) -> Vec<Judged> {
    let of_runs = sources.runs.iter().enumerate().flat_map(|(number, run)| {
        run.verdicts.iter().map(move |one| Judged {
            of: format!("{}, {}", run.scenario, run.target),
            place: run_place(number),
            target: one.target.clone(),
            found: one.found.clone(),
            verdict: verdict(one.reached),
        })
    });
    let problems = sources.runs.iter().enumerate().flat_map(|(number, run)| {
        run.problems.iter().map(move |problem| Judged {
            of: format!("{}, {}", run.scenario, run.target),
            place: run_place(number),
            target: "nothing goes wrong".to_owned(),
            found: problem.clone(),
            verdict: Verdict::Missed,
        })
    });
    let bench = sources.bench.iter().flat_map(|bench| benched::judged(bench, BENCH));
    let fleet = sources.fleet.iter().flat_map(|fleet| held::judged(fleet, FLEET));
    let all = of_runs.chain(problems).chain(bench).chain(fleet);
    all.filter(|judged| judged.verdict != Verdict::Unjudged).collect()
}

/// How many targets were reached; those that weren't one by one, all of them on demand.
fn summary(page: &mut Markup, judged: &[Judged]) {
    if judged.is_empty() {
        page.element("p", &[("class", &"soft")], "Nothing was aimed at.");
        return;
    }
    page.within("ul", &[("class", &"badges")], |page| {
        for verdict in [Verdict::Reached, Verdict::Undecided, Verdict::Missed] {
            let count = judged.iter().filter(|judged| judged.verdict == verdict).count();
            if count > 0 {
                page.within("li", &[], |page| {
                    page.text(format_args!("{count} × "));
                    badge(page, verdict);
                });
            }
        }
    });
    let head = ["of", "target", "found", ""];
    let rows = |judged: &[&Judged]| judged.iter().copied().map(row).collect::<Vec<_>>();
    let (reached, other): (Vec<&Judged>, Vec<&Judged>) =
        judged.iter().partition(|judged| judged.verdict == Verdict::Reached);
    if !other.is_empty() {
        grid(page, &head, &rows(&other));
    }
    if !reached.is_empty() {
        page.within("details", &[], |page| {
            page.element("summary", &[], "Targets that were reached");
            grid(page, &head, &rows(&reached));
        });
    }
}

fn row(judged: &Judged) -> Vec<Cell> {
    vec![
        Cell::Link(judged.of.clone(), judged.place.clone()),
        Cell::text(&judged.target),
        Cell::text(&judged.found),
        Cell::Verdict(judged.verdict),
    ]
}

fn notes(page: &mut Markup, notes: &[String]) {
    for note in notes {
        page.element("p", &[("class", &"note")], format_args!("Note: {note}"));
    }
}

fn contents(page: &mut Markup, sources: &Sources, groups: &[Vec<(&Run, String)>]) {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut entry = |text: String, place: &str| entries.push((text, place.to_owned()));
    if sources.comparison.is_some() {
        entry("Comparison".to_owned(), COMPARISON);
    }
    for (number, group) in groups.iter().enumerate() {
        if let [(first, _), _, ..] = &group[..] {
            entry(format!("{}: {} runs", first.scenario, group.len()), &scenario_place(number));
        }
        for (run, place) in group {
            entry(format!("{} · {}", run.scenario, run.target), place);
        }
    }
    if sources.bench.is_some() {
        entry("Cost bench".to_owned(), BENCH);
    }
    if sources.fleet.is_some() {
        entry("Fleet".to_owned(), FLEET);
    }
    if !sources.peers.is_empty() {
        entry("Peers beside the node".to_owned(), PEERS);
    }
    if entries.len() < 2 {
        return;
    }
    page.within("nav", &[("aria-label", &"contents")], |page| {
        page.within("ul", &[], |page| {
            for (text, place) in &entries {
                let link = format!("#{place}");
                page.within("li", &[], |page| page.element("a", &[("href", &link)], text));
            }
        });
    });
}
