//! The page: a summary, a table of contents, and a part for each thing that there is.

use super::grid::{Cell, badge, grid, verdict};
use super::markup::Markup;
use super::{Judged, Sources, benched, beside, held, peers, ratios, run};
use crate::bench::spread::Verdict;
use crate::work::result::Run;

const BENCH: &str = "bench";
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
        for (number, fleet) in sources.fleets.iter().enumerate() {
            held::section(page, fleet, &fleet_place(number));
        }
        if let Some(peers) = &sources.peers {
            peers::section(page, peers, PEERS);
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

fn fleet_place(number: usize) -> String {
    format!("fleet-{}", number + 1)
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
    let fleets = sources.fleets.iter().enumerate();
    let fleets = fleets.flat_map(|(number, fleet)| held::judged(fleet, &fleet_place(number)));
    let peers = sources.peers.iter().flat_map(|peers| peers::judged(peers, PEERS));
    let groups = groups(&sources.runs);
    let of_baseline = groups
        .iter()
        .enumerate()
        .flat_map(|(number, group)| ratios::judged(group, &scenario_place(number)));
    let all = of_runs.chain(problems).chain(of_baseline).chain(bench).chain(fleets).chain(peers);
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
    for (number, fleet) in sources.fleets.iter().enumerate() {
        entry(held::title(fleet), &fleet_place(number));
    }
    if sources.peers.is_some() {
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

#[cfg(test)]
mod tests {
    use super::super::{peers, runs};
    use super::*;
    use crate::bench::recorded::Recorded;
    use crate::fleet::results::Results;
    use crate::work::compare::runs::comparison;
    use proptest::prelude::*;

    const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

    fn recorded(name: &str) -> String {
        std::fs::read_to_string(format!("{RESULTS}/{name}")).unwrap()
    }

    /// Everything that a page may have, with `text` wherever somebody's text can come in.
    fn sources(text: &str) -> Sources {
        let mut run = runs::run(text, text, 1.0);
        let machine = &mut run.machine;
        for field in [&mut machine.name, &mut machine.cpu, &mut machine.kernel, &mut machine.date] {
            text.clone_into(field);
        }
        for field in [&mut machine.commit, &mut machine.node, &mut machine.congestion_control] {
            text.clone_into(field);
        }
        text.clone_into(&mut run.command);
        text.clone_into(&mut run.workload.about);
        text.clone_into(&mut run.workload.servers.settings);
        text.clone_into(&mut run.verdicts[0].target);
        text.clone_into(&mut run.verdicts[0].found);
        run.problems.push(text.to_owned());
        run.sessions.reasons.insert(format!("reason {text}"), 1);
        run.times.insert(format!("times {text}"), runs::distribution(1.0, 10));
        let other = Run { target: format!("other {text}"), ..run.clone() };
        let mut bench = Recorded::parse(&recorded("2026-11-26-vm-history/bench.json")).unwrap();
        text.clone_into(&mut bench.cases[0].title);
        bench.cases[1].error = Some(text.to_owned());
        let fleet = recorded("2026-11-26-vm-fleet/fleet.json");
        let mut fleet: Results = serde_json::from_str(&fleet).unwrap();
        text.clone_into(&mut fleet.redis);
        fleet.command = vec![text.to_owned()];
        let mut peers = peers::parse(include_str!("../../../tests/reporting/peers.json")).unwrap();
        peers.command = vec![text.to_owned()];
        for system in peers.systems.values_mut() {
            for field in [&mut system.title, &mut system.version, &mut system.fed_by] {
                text.clone_into(field);
            }
            for field in [&mut system.settings, &mut system.notes, &mut system.went_wrong] {
                *field = vec![text.to_owned()];
            }
            system.works[0].against = Some(text.to_owned());
        }
        let comparison = comparison(&run, &runs::run("fanout", "umbel", 1.0));
        Sources {
            runs: vec![run, other],
            bench: Some(bench),
            fleets: vec![fleet],
            peers: Some(peers),
            comparison: Some(comparison),
            notes: vec![text.to_owned()],
        }
    }

    /// Names of tags and attributes, one after the other; values and text are left out.
    fn skeleton(html: &str) -> Vec<String> {
        let tags = html.split('<').skip(1).map(|tag| tag.split_once('>').unwrap().0);
        let names = tags.map(|tag| tag.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
        names.collect()
    }

    fn plain() -> Vec<String> {
        skeleton(&page("title", &sources("plain")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_text_changes_what_a_page_is_made_of(
            text in "(\\PC{1,20}|[<>&\"'=/`; a]{1,20}|[\\x00-\\x1f<\"]{1,8})",
        ) {
            prop_assert_eq!(skeleton(&page(&text, &sources(&text))), plain());
        }
    }

    #[test]
    fn known_ways_out_of_text_stay_in_it() {
        for text in ["\"><script>alert(1)</script>", "' onload='alert(1)", "</title>", "]]>", "-->"]
        {
            assert_eq!(skeleton(&page(text, &sources(text))), plain(), "{text}");
        }
    }

    #[test]
    fn a_page_fetches_nothing_and_runs_nothing() {
        let html = page("title", &sources("plain"));
        let attribute = |name: &str| html.contains(&format!(" {name}=\""));
        for name in ["src", "onclick", "onload", "xlink:href", "srcset"] {
            assert!(!attribute(name), "{name}");
        }
        for text in ["<script", "<link", "<img", "@import", "url(", "href=\"http"] {
            assert!(!html.contains(text), "{text}");
        }
    }

    #[test]
    fn every_link_leads_somewhere() {
        let html = page("title", &sources("plain"));
        let mut links = 0;
        for link in html.split("href=\"#").skip(1) {
            let place = link.split_once('"').unwrap().0;
            assert_eq!(html.matches(&format!("id=\"{place}\"")).count(), 1, "{place}");
            links += 1;
        }
        assert!(links > 10, "{links}");
    }

    #[test]
    fn what_was_missed_is_seen_before_what_was_reached() {
        let mut missed = runs::run("latency", "umbel", 1.0);
        missed.verdicts[1].reached = false;
        let sources = Sources { runs: vec![missed], ..Sources::default() };
        let html = page("title", &sources);
        let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text}"));
        let (counts, target) = (at("1 × <span class=\"badge missed"), at("delivery p99 at most"));
        assert!(counts < target && target < at("Targets that were reached"));
        assert!(!html.contains("<nav"), "one run needs no table of contents");
    }

    #[test]
    fn runs_of_one_scenario_are_set_beside_each_other() {
        let run = |target: &str, slow| runs::run("fanout", target, slow);
        let runs = vec![run("slow", 4.0), run("fast", 1.0), runs::run("other", "fast", 1.0)];
        let html = page("title", &Sources { runs, ..Sources::default() });
        let beside = html.split_once("id=\"scenario-1\"").unwrap().1;
        let beside = beside.split_once("</section>").unwrap().0;
        let at = |text: &str| beside.find(text).unwrap_or_else(|| panic!("{text}: {beside}"));
        assert!(at(">fast</a>") < at(">slow</a>"), "the best is first");
        let bars: Vec<&str> = beside.split("y=\"15%\" width=\"").skip(1).collect();
        assert!(bars[0].starts_with("100.00%") && bars[1].starts_with("25.00%"), "{bars:?}");
        assert!(beside.contains("Times by percentile: last receipt"));
        assert!(!html.contains("scenario-2"));
    }
}
