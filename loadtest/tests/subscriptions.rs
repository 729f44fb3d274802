//! Many subscriptions in the JSON dialect: each confirmation must be true.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "subscriptions/json_server.rs"]
mod json_server;

use std::time::Duration;

use anyhow::Result;
use json_server::Fault;
use umbel_loadtest::load::Manner;
use umbel_loadtest::load::members::At;
use umbel_loadtest::load::pacing::Span;
use umbel_loadtest::load::target::Target;
use umbel_loadtest::scenario::subscribe_many::SubscribeMany;
use umbel_loadtest::scenario::{Outcome, Plan, Scenario};
use umbel_loadtest::wire::subscribe::Dialect;

/// Two waves of two sessions that subscribe to 150 topics each.
fn run(fault: Fault) -> Result<Outcome> {
    let plan = Plan {
        manner: Manner {
            target: Target::of_server(json_server::start(fault), Dialect::WebSocket),
            payload_bytes: 64,
            concurrency: 1,
            patience: Duration::from_millis(500),
        },
        scenario: Scenario::SubscribeMany(SubscribeMany { sessions: 2, topics: 300, at: At::Node }),
        span: Span::Rounds(2),
        warm_up: Duration::ZERO,
        server: None,
    };
    plan.run()
}

#[test]
fn all_topics_are_confirmed_and_proven() {
    let outcome = run(Fault::None).unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
    assert_eq!((outcome.measured.units, outcome.measured.rounds), (600, 2));
    assert_eq!(outcome.integrity.received, 300 + 600);
}

#[test]
fn a_confirmation_without_a_subscription_shows_as_a_loss() {
    let outcome = run(Fault::Forget).unwrap();
    assert!(!outcome.is_clean());
    assert_eq!(outcome.integrity.lost, 2);
}

#[test]
fn a_topic_that_is_not_confirmed_ends_the_run() {
    let error = format!("{:#}", run(Fault::Silent).unwrap_err());
    assert!(error.contains("299 of 300 topics are subscribed, and no other for 500ms"), "{error}");
}

#[test]
fn a_second_confirmation_ends_the_run() {
    let error = format!("{:#}", run(Fault::Twice).unwrap_err());
    assert!(error.contains("topic bench.7 was confirmed twice"), "{error}");
}

#[test]
fn a_refused_topic_ends_the_run_with_the_reason() {
    let error = format!("{:#}", run(Fault::Refuse).unwrap_err());
    assert!(error.contains("no such luck"), "{error}");
}
