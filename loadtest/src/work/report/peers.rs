//! Other systems beside the node: what `peers.json` has of each work.

use serde::Deserialize;

use super::chart::bar::Bar;
use super::grid::{Cell, grid};
use super::markup::Markup;
use super::number::{Unit, significant};

/// One system.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Peer {
    /// Its name.
    pub peer: String,
    /// Its version, as it says it.
    #[serde(default)]
    pub version: Option<String>,
    /// What it was given to do.
    pub works: Vec<Work>,
}

/// What came of one work. Absent: not measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Work {
    /// Its name, the same for all systems.
    pub name: String,
    /// Deliveries for each second of the server's core.
    #[serde(default)]
    pub deliveries_per_core_second: Option<f64>,
    /// Microseconds of it for each delivery.
    #[serde(default)]
    pub us_per_delivery: Option<f64>,
    /// Compared with the node's, as whoever measured it says.
    #[serde(default)]
    pub ratio: Option<f64>,
}

/// What `text`, a `peers.json`, says.
pub fn parse(text: &str) -> serde_json::Result<Vec<Peer>> {
    serde_json::from_str(text)
}

/// A table with bars for each work.
pub fn section(page: &mut Markup, peers: &[Peer], place: &str) {
    page.within("section", &[("id", &place)], |page| {
        page.element("h2", &[], "Peers beside the node");
        page.element(
            "p",
            &[],
            "The same work for each, the one with the most deliveries per core-second first.",
        );
        for name in works(peers) {
            page.element("h3", &[], name);
            work(page, peers, name);
        }
    });
}

/// Names in the order in which they come first.
fn works(peers: &[Peer]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for work in peers.iter().flat_map(|peer| &peer.works) {
        if !names.contains(&work.name.as_str()) {
            names.push(&work.name);
        }
    }
    names
}

fn work(page: &mut Markup, peers: &[Peer], name: &str) {
    let having = peers.iter().enumerate().filter_map(|(number, peer)| {
        let work = peer.works.iter().find(|work| work.name == name)?;
        Some((number, peer, work, work.rate()))
    });
    let mut having: Vec<_> = having.collect();
    having.sort_by(|a, b| b.3.unwrap_or(0.0).total_cmp(&a.3.unwrap_or(0.0)));
    let most = having.iter().filter_map(|(.., rate)| *rate).fold(0.0, f64::max);
    let rows = having.into_iter().map(|(number, peer, work, rate)| {
        let bar = Bar { colour: number, ..Bar::of(rate.unwrap_or(0.0), most) };
        let number = |value: Option<f64>, show: fn(f64) -> String| {
            Cell::number(value.map_or(String::new(), show))
        };
        vec![
            Cell::text(&peer.peer),
            Cell::text(peer.version.as_deref().unwrap_or_default()),
            Cell::Bar(bar),
            number(rate, significant),
            number(work.us_per_delivery, |micros| Unit::Time.show(micros)),
            number(work.ratio, |ratio| format!("{ratio:.2}")),
        ]
    });
    let head = ["system", "version", "deliveries per core-second", "", "CPU each", "ratio"];
    grid(page, &head, &rows.collect::<Vec<_>>());
}

impl Work {
    fn rate(&self) -> Option<f64> {
        let from_cost =
            || self.us_per_delivery.filter(|micros| *micros > 0.0).map(|micros| 1e6 / micros);
        self.deliveries_per_core_second.or_else(from_cost)
    }
}
