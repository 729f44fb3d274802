//! A fleet's part of a page.

use super::Judged;
use super::chart::bar::Bar;
use super::grid::{Cell, grid, verdict};
use super::markup::Markup;
use super::number::{Unit, float};
use super::run::{facts, named_tiles, problems};
use crate::bench::spread::Verdict;
use crate::fleet::results::Results;
use crate::fleet::table::{Row, rows};

/// What it is.
pub fn title(fleet: &Results) -> String {
    let sessions = Unit::Count.show(float(fleet.sessions as u64));
    let Results { nodes, heartbeat_seconds, .. } = fleet;
    format!("Fleet: {sessions} sessions on {nodes} nodes, a ping after {heartbeat_seconds} s")
}

/// All figures.
pub fn section(page: &mut Markup, fleet: &Results, place: &str) {
    page.within("section", &[("id", &place)], |page| {
        page.element("h2", &[], title(fleet));
        let about = format!(
            "All nodes, all holders of the clients' ends and one Redis ({}) on one machine. Sessions speak {}, have one \
             topic, and get a ping when they were silent for {} s.",
            fleet.redis, fleet.dialect, fleet.heartbeat_seconds
        );
        page.element("p", &[], about);
        problems(page, &fleet.problems);
        tiles(page, fleet);
        page.element("h3", &[], "Messages to all");
        messages(page, fleet);
        page.element("h3", &[], "All figures");
        let rows: Vec<Vec<Cell>> = rows(fleet).into_iter().map(row).collect();
        grid(page, &["phase", "figure", "value", "target", ""], &rows);
        facts(page, &fleet.machine, &fleet.command.join(" "));
    });
}

/// What was aimed at.
pub fn judged(fleet: &Results, place: &str) -> Vec<Judged> {
    let one = |row: Row| {
        let (target, reached) = row.judged?;
        let of = format!("fleet, {} s, {}: {}", fleet.heartbeat_seconds, row.phase, row.figure);
        let place = place.to_owned();
        Some(Judged { of, place, target, found: row.value, verdict: verdict(reached) })
    };
    rows(fleet).into_iter().filter_map(one).collect()
}

fn tiles(page: &mut Markup, fleet: &Results) {
    let text = |text: &str| text.to_owned();
    let last = fleet.deliveries.iter().map(|delivery| delivery.last_seconds).fold(0.0, f64::max);
    let tiles = [
        (text("sessions open"), Unit::Count.show(float(fleet.opened.sessions))),
        (text("opened per second"), Unit::PerSecond.show(fleet.opened.per_second)),
        (text("held"), Unit::Time.show(fleet.held.cpu.wall_seconds * 1e6)),
        (text("lost"), Unit::Count.show(float(fleet.held.lost))),
        (text("nodes' cores while held"), Unit::Cores.show(fleet.held.cpu.nodes())),
        (text("nodes' memory per session"), Unit::Bytes.show(fleet.memory().nodes)),
        (text("slowest message at the last"), Unit::Time.show(last * 1e6)),
    ];
    named_tiles(page, tiles.into_iter());
}

fn messages(page: &mut Markup, fleet: &Results) {
    let most = fleet.deliveries.iter().map(|delivery| delivery.last_seconds).fold(0.0, f64::max);
    let time = |seconds: f64| Cell::number(Unit::Time.show(seconds * 1e6));
    let rows = fleet.deliveries.iter().enumerate().map(|(number, delivery)| {
        let spread = Some((delivery.p50_seconds, delivery.p99_seconds));
        vec![
            Cell::number((number + 1).to_string()),
            Cell::number(Unit::Count.show(float(delivery.received))),
            time(delivery.first_seconds),
            time(delivery.p50_seconds),
            time(delivery.p99_seconds),
            time(delivery.last_seconds),
            Cell::Bar(Bar { spread, ..Bar::of(delivery.last_seconds, most) }),
            Cell::number(Unit::PerSecond.show(delivery.per_second)),
        ]
    });
    let head =
        ["message", "have it", "first", "p50", "p99", "last", "last, and p50 to p99", "deliveries"];
    grid(page, &head, &rows.collect::<Vec<_>>());
}

fn row(Row { phase, figure, value, judged }: Row) -> Vec<Cell> {
    let (target, verdict) = match judged {
        Some((target, reached)) => (target, verdict(reached)),
        None => (String::new(), Verdict::Unjudged),
    };
    vec![
        Cell::text(phase),
        Cell::text(figure),
        Cell::text(value),
        Cell::text(target),
        Cell::Verdict(verdict),
    ]
}
