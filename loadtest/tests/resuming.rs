//! Sessions that come back: each must get just what it missed, and what a server does wrong must be told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "resuming/history_server.rs"]
mod history_server;
#[path = "running/server.rs"]
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use history_server::Fault;
use server::Running;
use umbel_loadtest::cost::history_reads::Witnesses;
use umbel_loadtest::load::Manner;
use umbel_loadtest::load::ledger::Integrity;
use umbel_loadtest::load::pacing::Span;
use umbel_loadtest::load::target::Target;
use umbel_loadtest::scenario::resume::Resume;
use umbel_loadtest::scenario::{Outcome, Plan, Scenario, Unit};
use umbel_loadtest::wire::subscribe::Dialect;

const SESSIONS: usize = 5;
const MISSED: usize = 10;

fn run(address: SocketAddr, dialect: Dialect, missed: usize, waves: u64) -> Result<Outcome> {
    let resume = Resume { sessions: SESSIONS, missed, witnesses: Witnesses::default() };
    let plan = Plan {
        manner: Manner {
            target: Target::of_server(address, dialect),
            payload_bytes: 64,
            concurrency: 2,
            patience: Duration::from_millis(500),
        },
        scenario: Scenario::Resume(resume),
        span: Span::Rounds(waves),
        warm_up: Duration::ZERO,
        server: Some(std::process::id()),
    };
    plan.run()
}

/// Both dialects report `faults` once for each session, and nothing else.
fn check(fault: Fault, faults: fn(&mut Integrity)) {
    let mut each = Integrity::default();
    faults(&mut each);
    for dialect in [Dialect::Sse, Dialect::Json] {
        let outcome = run(history_server::start(fault), dialect, MISSED, 1).unwrap();
        let sessions = SESSIONS as u64;
        let expected = Integrity {
            expected: MISSED as u64 * sessions,
            received: (MISSED as u64 - each.lost) * sessions,
            lost: each.lost * sessions,
            doubled: each.doubled * sessions,
            reordered: each.reordered * sessions,
            ..Integrity::default()
        };
        assert_eq!(outcome.integrity, expected, "{fault:?} over {dialect}");
        assert_eq!(outcome.is_clean(), fault == Fault::None);
        assert_eq!(outcome.measured.stalled, each.lost > 0);
    }
}

#[test]
fn who_comes_back_gets_what_it_missed() {
    check(Fault::None, |_| {});
}

#[test]
fn a_message_that_does_not_come_is_lost() {
    check(Fault::Drop, |faults| faults.lost = 1);
}

#[test]
fn a_message_that_comes_twice_is_doubled() {
    check(Fault::Double, |faults| faults.doubled = 1);
}

#[test]
fn a_message_that_was_seen_already_is_doubled() {
    check(Fault::Early, |faults| faults.doubled = 1);
}

#[test]
fn messages_in_the_wrong_order_are_reordered() {
    check(Fault::Swap, |faults| faults.reordered = 1);
}

#[test]
fn what_makes_resuming_impossible_ends_the_run_with_its_reason() {
    for (fault, dialect, reason) in [
        (Fault::Gap, Dialect::Sse, "5 times of something else than messages"),
        (Fault::Gap, Dialect::Json, "server can't give all that a session missed"),
        (Fault::Forget, Dialect::Sse, "a message got no id: its topic keeps no history"),
        (Fault::Refuse, Dialect::Sse, "refused messages with status 503"),
    ] {
        let error = run(history_server::start(fault), dialect, MISSED, 1).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
}

#[test]
fn the_floor_serves_wave_after_wave() {
    // More than one publish request has.
    let missed = 1200;
    let server = Running::keeping(missed).unwrap();
    let outcome = run(server.address, Dialect::Sse, missed, 3).unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!(outcome.integrity.expected, (SESSIONS * missed * 3) as u64);
    let measured = &outcome.measured;
    assert_eq!((measured.unit, measured.units, measured.rounds), (Unit::Resume, 15, 3));
    assert!(measured.growth.is_some() && measured.reads.is_some());
    assert!(outcome.holding.unwrap().memory.peak_rss_bytes > 0);
}
