//! Other systems beside the node: what `peers/compare.py` measured, and the verdicts that it came to.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Judged;
use super::chart::bar::Bar;
use super::grid::{Cell, grid};
use super::markup::Markup;
use super::number::{Unit, float, significant};
use super::run::facts;
use crate::bench::machine::Machine;
use crate::bench::spread::{Spread, Verdict};

/// A `peers.json`, as far as the page shows it: single rounds are left to whoever doubts it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Peers {
    /// Where it was run.
    pub machine: Machine,
    /// How it was started.
    pub command: Vec<String>,
    /// How often each system was measured.
    pub rounds: u64,
    /// Of the order of systems within each round.
    pub seed: u64,
    /// Subscribers of the one topic.
    pub sessions: u64,
    /// Length of each measurement.
    pub seconds: f64,
    /// By the name of their directory.
    pub systems: BTreeMap<String, System>,
}

/// One system.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct System {
    /// What people call it.
    pub title: String,
    /// Its version, as it says it.
    pub version: String,
    /// Where its messages come from.
    pub fed_by: String,
    /// Whether it is the node itself, fed in one of its ways.
    pub ours: bool,
    /// What was set for fairness.
    pub settings: Vec<String>,
    /// What one must know of its figures.
    pub notes: Vec<String>,
    /// Those of the notes that say what went wrong.
    pub went_wrong: Vec<String>,
    /// What it did.
    pub works: Vec<Work>,
}

/// What came of one work, by the rounds in which every message came once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Work {
    /// How many messages were published at once.
    pub at_hand: u64,
    /// Deliveries for each second of the server's core. Absent: it has no such round.
    pub deliveries_per_core_second: Option<Spread>,
    /// How many times as many the node has, by rounds. Absent: none has both, or it is the node.
    pub ratio: Option<Spread>,
    /// How many times as many the bare loop has that is fed alike. Absent: it wasn't measured.
    #[serde(default)]
    pub floor: Option<Spread>,
    /// How many rounds have both.
    pub rounds: u64,
    /// The title of the node that it is compared with: the one that is fed alike.
    pub against: Option<String>,
    /// The least ratio that was aimed at.
    pub target: Option<f64>,
    /// Whether it was reached.
    pub verdict: Verdict,
}

/// What `text`, a `peers.json`, says.
pub fn parse(text: &str) -> serde_json::Result<Peers> {
    serde_json::from_str(text)
}

/// A table with bars for each work, and what one must know to read them.
pub fn section(page: &mut Markup, peers: &Peers, place: &str) {
    page.within("section", &[("id", &place)], |page| {
        page.element("h2", &[], "Peers beside the node");
        let about = format!(
            "The same work for each system on the same core: {} subscribers of one topic, the next messages when all \
             have all of those before, {} s each; {} rounds, in an order shuffled with seed {}. A ratio says how many \
             times as many the node delivers in the same core time, fed in the same way: its median over the rounds, \
             and its quartiles. The bare loop's ratio is the same for a loop that does nothing but write preframed \
             bytes, once per subscriber and batch: what the kernel's part allows. Rounds in which a message was lost, \
             doubled or garbled are left out.",
            Unit::Count.show(float(peers.sessions)),
            peers.seconds,
            peers.rounds,
            peers.seed
        );
        page.element("p", &[], about);
        for at_hand in hands(peers) {
            page.element("h3", &[], format_args!("Messages at hand: {at_hand}"));
            work(page, peers, at_hand);
        }
        listed(page, "To know besides", peers, |system| system.notes.clone());
        listed(page, "Settings", peers, |system| vec![system.settings.join(", ")]);
        facts(page, &peers.machine, &peers.command.join(" "));
    });
}

/// What was aimed at beside each system; whatever went wrong with the node's own work was missed.
pub fn judged(peers: &Peers, place: &str) -> Vec<Judged> {
    let one = |system: &System, target: String, found: String, verdict: Verdict| Judged {
        of: format!("beside {}", system.title),
        place: place.to_owned(),
        target,
        found,
        verdict,
    };
    let mut all = Vec::new();
    for system in peers.systems.values() {
        for work in &system.works {
            if let Some(least) = work.target {
                let at_hand = work.at_hand;
                let target = format!("{at_hand} at hand: {}", aim(least));
                all.push(one(system, target, found(work), work.verdict));
            }
        }
        for wrong in system.went_wrong.iter().filter(|_| system.ours) {
            let target = "nothing goes wrong".to_owned();
            let of = system.title.clone();
            all.push(Judged { of, ..one(system, target, wrong.clone(), Verdict::Missed) });
        }
    }
    all
}

/// How many messages were at hand, from few to many.
fn hands(peers: &Peers) -> Vec<u64> {
    let works = peers.systems.values().flat_map(|system| &system.works);
    let mut hands: Vec<u64> = works.map(|work| work.at_hand).collect();
    hands.sort_unstable();
    hands.dedup();
    hands
}

fn work(page: &mut Markup, peers: &Peers, at_hand: u64) {
    let having = peers.systems.values().enumerate().filter_map(|(number, system)| {
        let work = system.works.iter().find(|work| work.at_hand == at_hand)?;
        Some((number, system, work))
    });
    let mut having: Vec<_> = having.collect();
    having.sort_by(|(.., a), (.., b)| median(b).total_cmp(&median(a)));
    let most = having.iter().map(|(.., work)| upper(work)).fold(0.0, f64::max);
    let rows = having.into_iter().map(|(number, system, work)| row(number, system, work, most));
    let head = [
        "system",
        "version",
        "fed by",
        "deliveries per core-second",
        "",
        "CPU each",
        "compared with",
        "ratio",
        "rounds",
        "bare loop's ratio",
        "target",
        "",
    ];
    grid(page, &head, &rows.collect::<Vec<_>>());
}

fn row(number: usize, system: &System, work: &Work, most: f64) -> Vec<Cell> {
    let rate = work.deliveries_per_core_second;
    let spread = rate.map(|rate| (rate.lower_quartile, rate.upper_quartile));
    let bar = Bar { spread, colour: number, ..Bar::of(median(work), most) };
    let each = |rate: Spread| Unit::Time.show(1e6 / rate.median);
    let empty = |text: Option<String>| text.unwrap_or_default();
    vec![
        Cell::text(&system.title),
        Cell::text(&system.version),
        Cell::text(&system.fed_by),
        Cell::Bar(bar),
        Cell::number(rate.map_or("not measured".to_owned(), |rate| significant(rate.median))),
        Cell::number(empty(rate.map(each))),
        Cell::text(empty(work.against.clone())),
        Cell::number(empty(work.ratio.map(quartiles))),
        Cell::number(empty(work.ratio.map(|_| work.rounds.to_string()))),
        Cell::number(empty(work.floor.map(quartiles))),
        Cell::text(empty(work.target.map(aim))),
        Cell::Verdict(work.verdict),
    ]
}

fn median(work: &Work) -> f64 {
    work.deliveries_per_core_second.map_or(0.0, |rate| rate.median)
}

fn upper(work: &Work) -> f64 {
    work.deliveries_per_core_second.map_or(0.0, |rate| rate.upper_quartile)
}

fn aim(least: f64) -> String {
    format!("ratio at least {least}")
}

fn found(work: &Work) -> String {
    work.ratio.map_or("not measured".to_owned(), quartiles)
}

fn quartiles(Spread { lower_quartile, median, upper_quartile }: Spread) -> String {
    format!("{median:.2} ({lower_quartile:.2}–{upper_quartile:.2})")
}

fn listed(page: &mut Markup, title: &str, peers: &Peers, texts: fn(&System) -> Vec<String>) {
    let of = |system: &System| {
        let title = system.title.clone();
        texts(system).into_iter().map(move |text| vec![Cell::text(&title), Cell::text(text)])
    };
    let rows: Vec<Vec<Cell>> = peers.systems.values().flat_map(of).collect();
    if !rows.is_empty() {
        page.element("h3", &[], title);
        grid(page, &["system", ""], &rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `peers/test_compare.py` has made by the same functions as `compare.py`.
    fn example() -> Peers {
        parse(include_str!("../../../tests/reporting/peers.json")).unwrap()
    }

    fn shown(peers: &Peers) -> String {
        let mut page = Markup::default();
        section(&mut page, peers, "peers");
        page.finish()
    }

    #[test]
    fn what_was_aimed_at_is_judged_and_nothing_else() {
        let judged = judged(&example(), "peers");
        let told = |of: &str| -> Vec<(&str, &str, Verdict)> {
            let of = judged.iter().filter(|judged| judged.of == format!("beside {of}"));
            of.map(|one| (one.target.as_str(), one.found.as_str(), one.verdict)).collect()
        };
        let nats = [
            ("1 at hand: ratio at least 1", "1.11 (1.01–1.21)", Verdict::Reached),
            ("64 at hand: ratio at least 2", "1.75 (1.72–1.99)", Verdict::Missed),
        ];
        assert_eq!(told("NATS"), nats);
        assert_eq!(told("Socket.IO with its Redis adapter")[1].2, Verdict::Undecided);
        assert_eq!(told("nginx with Nchan").len(), 1, "many at hand have no target there");
        assert_eq!(told("ws and ioredis, batched by hand"), []);
        assert_eq!(judged.len(), 9);
    }

    #[test]
    fn what_goes_wrong_with_the_node_is_missed_and_with_others_it_is_a_note() {
        let mut peers = example();
        assert!(peers.systems["nchan"].went_wrong[0].contains("12 lost"));
        let node = peers.systems.get_mut("umbel").unwrap();
        node.went_wrong.push("8 at hand: 1 lost".to_owned());
        let judged = judged(&peers, "peers");
        let wrong: Vec<_> =
            judged.iter().filter(|one| one.target == "nothing goes wrong").collect();
        assert_eq!(wrong.len(), 1);
        assert_eq!((wrong[0].of.as_str(), wrong[0].verdict), ("Umbel", Verdict::Missed));
    }

    #[test]
    fn the_page_has_the_best_first_and_says_why_there_is_no_verdict() {
        let html = shown(&example());
        let many = html.split_once("Messages at hand: 64").unwrap().1;
        let many = many.split_once("</table>").unwrap().0;
        let names = many.split("<tr>").skip(2).map(|row| row.split(['<', '>']).nth(2).unwrap());
        let best_first = [
            "Bare loop",
            "Umbel",
            "Bare loop, Redis",
            "Umbel, Redis",
            "Umbel, Redis, POST",
            "NATS",
            "ws and ioredis, batched by hand",
            "Centrifugo",
            "nginx with Nchan",
            "Centrifugo, HTTP API",
            "Socket.IO with its Redis adapter",
        ];
        assert_eq!(names.collect::<Vec<_>>(), best_first);
        assert!(many.contains("35.56 (34.44–36.67)"), "beside the node that takes POST");
        let row = many.split_once("batched by hand").unwrap().1.split_once("</tr>").unwrap().0;
        assert!(!row.contains("badge"), "{row}");
        let row = many.split_once("Centrifugo").unwrap().1.split_once("</tr>").unwrap().0;
        assert!(row.contains("5.13 (4.52–5.34)"), "what is possible stands beside it: {row}");
        assert!(html.contains("no verdict: written by us"));
        assert!(html.contains("12 lost; the round is left out"));
    }
}
