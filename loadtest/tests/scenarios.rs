//! Every scenario against both comparison servers, in both dialects: what is expected must be received.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "running/server.rs"]
mod server;

use std::time::Duration;

use server::Running;
use umbel_loadtest::load::Manner;
use umbel_loadtest::load::pacing::Span;
use umbel_loadtest::load::requests::Form;
use umbel_loadtest::load::target::Target;
use umbel_loadtest::scenario::fanout::Fanout;
use umbel_loadtest::scenario::idle::Idle;
use umbel_loadtest::scenario::latency::Latency;
use umbel_loadtest::scenario::publish::Publish;
use umbel_loadtest::scenario::storm::Storm;
use umbel_loadtest::scenario::throughput::Throughput;
use umbel_loadtest::scenario::unicast::Unicast;
use umbel_loadtest::scenario::{Outcome, Plan, Scenario, Unit};
use umbel_loadtest::wire::subscribe::Dialect;

/// Runs `scenario` for `rounds` after one round of warm-up, against each server in each dialect.
fn check(scenario: Scenario, rounds: u64, expect: impl Fn(&Outcome)) {
    for server in [Running::baseline(None).unwrap(), Running::naive(None).unwrap()] {
        for dialect in [Dialect::WebSocket, Dialect::Sse] {
            let plan = Plan {
                manner: Manner {
                    target: Target::of_server(server.address, dialect),
                    payload_bytes: 64,
                    concurrency: 8,
                    patience: Duration::from_secs(5),
                },
                scenario,
                span: Span::Rounds(rounds),
                warm_up: Duration::ZERO,
                server: Some(std::process::id()),
            };
            let outcome = plan.run().unwrap();
            assert!(outcome.is_clean(), "{dialect}: {outcome:?}");
            expect(&outcome);
        }
    }
}

/// All deliveries came, in the window and in all.
fn received(outcome: &Outcome, window: u64, warm_up: u64) {
    assert_eq!(outcome.measured.units, window);
    assert_eq!(outcome.integrity.expected, window + warm_up);
}

#[test]
fn a_fan_out_is_received_by_all() {
    let fanout = Fanout { subscribers: 20, at_hand: 5, pause: Duration::ZERO };
    check(Scenario::Fanout(fanout), 10, |outcome| {
        received(outcome, 20 * 5 * 10, 20 * 5);
        assert_eq!((outcome.measured.rounds, outcome.measured.posts), (10, 10));
    });
}

#[test]
fn a_burst_is_received_by_all() {
    let burst = Fanout { subscribers: 10, at_hand: 100, pause: Duration::from_millis(1) };
    check(Scenario::Burst(burst), 3, |outcome| received(outcome, 10 * 100 * 3, 10 * 100));
}

#[test]
fn each_subscriber_receives_its_own_messages() {
    let unicast = Unicast { topics: 30, outstanding: 10 };
    check(Scenario::Unicast(unicast), 20, |outcome| {
        assert_eq!(outcome.measured.units, outcome.measured.messages);
        assert!(outcome.integrity.expected > outcome.measured.units);
    });
}

#[test]
fn latency_counts_each_message_once() {
    let latency = Latency { subscribers: 10, per_second: 1000 };
    check(Scenario::Latency(latency), 20, |outcome| {
        received(outcome, 10 * 20, 10);
        let times = outcome.measured.latency.unwrap();
        assert_eq!(times.count, 20);
        assert!(times.p50_us > 0.0 && times.p50_us <= times.max_us);
    });
}

#[test]
fn idle_sessions_are_all_open() {
    let idle = Idle { sessions: 50, settle: Duration::from_millis(1) };
    check(Scenario::Idle(idle), 1, |outcome| {
        let growth = outcome.measured.growth.unwrap();
        // Both ends of each connection are in this process, and so are other tests.
        assert!(growth.descriptors_per_session > 0.0, "{growth:?}");
        assert_eq!(outcome.measured.units, 50);
    });
}

#[test]
fn a_storm_opens_all_sessions_of_each_wave() {
    let storm = Storm { sessions: 50 };
    check(Scenario::Storm(storm), 2, |outcome| {
        assert_eq!((outcome.measured.units, outcome.measured.rounds), (100, 2));
    });
}

#[test]
fn as_much_as_can_be_delivered_is_under_way_and_comes() {
    let throughput = Throughput { topics: 30, outstanding: 90 };
    check(Scenario::Throughput(throughput), 20, |outcome| {
        assert_eq!(outcome.measured.units, outcome.measured.messages);
        assert!(outcome.measured.per_second().unwrap() > 0.0);
        assert!(outcome.integrity.expected > outcome.measured.units);
    });
}

/// Four connections with eight requests of this form under way on each, to `server`.
fn publish(server: &Running, form: Form) -> anyhow::Result<Outcome> {
    let plan = Plan {
        manner: Manner {
            target: Target::of_server(server.address, Dialect::WebSocket),
            payload_bytes: 128,
            concurrency: 1,
            patience: Duration::from_secs(5),
        },
        scenario: Scenario::Publish(Publish { connections: 4, pipelined: 8, form }),
        span: Span::Rounds(10),
        warm_up: Duration::ZERO,
        server: None,
    };
    plan.run()
}

#[test]
fn publish_requests_are_answered_one_by_one() {
    let outcome = publish(&Running::empty().unwrap(), Form::Single).unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!((outcome.scenario, outcome.measured.unit), ("publish", Unit::Request));
    assert!(outcome.measured.units >= 9 * 32, "{outcome:?}");
    assert!(outcome.integrity.expected >= 12 * 32, "{outcome:?}");
}

#[test]
fn each_message_of_a_batch_is_answered_with_an_id() {
    let outcome = publish(&Running::keeping(100).unwrap(), Form::Batch(50)).unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!((outcome.scenario, outcome.measured.unit), ("publish-batches", Unit::Message));
    assert!(outcome.measured.units >= 9 * 32 * 50, "{outcome:?}");
    assert_eq!(outcome.measured.units, outcome.measured.posts * 50);
    assert!(outcome.integrity.expected >= 12 * 32 * 50, "{outcome:?}");
}

#[test]
fn batches_to_topics_without_history_end_the_run() {
    for (server, reason) in [
        (Running::baseline(None).unwrap(), "a message got no id"),
        (Running::empty().unwrap(), "0 results came for 50 messages"),
    ] {
        let error = format!("{:#}", publish(&server, Form::Batch(50)).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}
