//! A server that does wrong on purpose: the load must say what.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "faults/faulty_server.rs"]
mod faulty_server;

use std::time::Duration;

use anyhow::Result;
use faulty_server::{Fault, FaultyServer};
use umbel_loadtest::load::Manner;
use umbel_loadtest::load::ledger::Integrity;
use umbel_loadtest::load::pacing::Span;
use umbel_loadtest::load::target::Target;
use umbel_loadtest::scenario::fanout::Fanout;
use umbel_loadtest::scenario::{Outcome, Plan, Scenario};
use umbel_loadtest::wire::subscribe::Dialect;

const SUBSCRIBERS: usize = 3;
const AT_HAND: usize = 10;
/// One of warm-up, one measured.
const ROUNDS: usize = 2;

fn run(dialect: Dialect, fault: Fault) -> Result<Outcome> {
    let server = FaultyServer::start(fault);
    let plan = Plan {
        manner: Manner {
            target: Target::of_server(server.address(), dialect),
            payload_bytes: 64,
            concurrency: 1,
            patience: Duration::from_millis(500),
        },
        scenario: Scenario::Fanout(Fanout {
            subscribers: SUBSCRIBERS,
            at_hand: AT_HAND,
            pause: Duration::ZERO,
        }),
        span: Span::Rounds(1),
        warm_up: Duration::ZERO,
        server: None,
    };
    plan.run()
}

/// Both dialects report `faults` once for each session and round, and nothing else.
fn check(fault: Fault, faults: fn(&mut Integrity)) {
    let mut each = Integrity::default();
    faults(&mut each);
    for dialect in [Dialect::WebSocket, Dialect::Sse] {
        let outcome = run(dialect, fault).unwrap();
        let times = (SUBSCRIBERS * ROUNDS) as u64;
        let expected = Integrity {
            expected: AT_HAND as u64 * times,
            received: (AT_HAND as u64 - each.lost) * times,
            lost: each.lost * times,
            doubled: each.doubled * times,
            reordered: each.reordered * times,
            garbled: each.garbled * times,
            notices: each.notices * times,
        };
        assert_eq!(outcome.integrity, expected, "{fault:?} over {dialect}");
        assert_eq!(outcome.is_clean(), expected.is_clean());
        assert!(!outcome.measured.stalled);
    }
}

#[test]
fn a_faultless_server_is_clean() {
    check(Fault::None, |_| {});
}

#[test]
fn a_dropped_message_is_lost() {
    check(Fault::Drop, |faults| faults.lost = 1);
}

#[test]
fn a_message_sent_twice_is_doubled() {
    check(Fault::Double, |faults| faults.doubled = 1);
}

#[test]
fn messages_in_the_wrong_order_are_reordered() {
    check(Fault::Swap, |faults| faults.reordered = 1);
}

#[test]
fn a_changed_message_is_garbled_and_lost() {
    check(Fault::Garble, |faults| {
        faults.garbled = 1;
        faults.lost = 1;
    });
}

#[test]
fn a_round_whose_end_is_dropped_stalls_and_is_lost() {
    let outcome = run(Dialect::WebSocket, Fault::DropLast).unwrap();
    assert!(outcome.measured.stalled && !outcome.is_clean());
    assert_eq!(outcome.integrity.lost, SUBSCRIBERS as u64);
}

#[test]
fn a_closed_session_ends_the_run() {
    let error = format!("{:#}", run(Dialect::Sse, Fault::Close).unwrap_err());
    assert!(error.contains("session") && error.contains("server closed its connection"), "{error}");
}

#[test]
fn a_message_that_is_not_taken_ends_the_run() {
    let error = format!("{:#}", run(Dialect::Sse, Fault::Refuse).unwrap_err());
    assert!(error.contains("refused messages with status 503: not today"), "{error}");
}
