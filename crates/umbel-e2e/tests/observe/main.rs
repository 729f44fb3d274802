//! What operators are shown is true: every expression of the dashboards, rules and alerts is run by a
//! real Prometheus against real nodes, gives data, and moves with its cause, which the test brings about.
//! Constants don't count. Each alert is seen firing, by the rules as they are but for their patience.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod bed;
mod causes;
mod clients;
mod expressions;
mod files;
mod preview;
mod rules;

use std::path::{Path, PathBuf};

use umbel_e2e::{Prometheus, promtool, raise_descriptor_limit};

use self::bed::Bed;
use self::expressions::Expression;

/// The folder of what operators take.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

#[tokio::test]
async fn rules_and_their_unit_tests_pass() {
    let file = |name| deploy().join("prometheus").join(name).to_str().unwrap().to_owned();
    for (what, name) in [("config", "prometheus.yml"), ("rules", "umbel.alerts.yml")] {
        let (code, said) = promtool(&["check", what, &file(name)], b"").await;
        assert_eq!(code, 0, "{said}");
    }
    for name in ["umbel.tests.yml", "umbel.slow.tests.yml"] {
        let (code, said) = promtool(&["test", "rules", &file(name)], b"").await;
        assert_eq!(code, 0, "{said}");
    }
}

/// Everything that can go wrong with a fleet does, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_rule_and_alert_moves_with_its_cause() {
    raise_descriptor_limit();
    let mut bed = Bed::start().await;
    let begin = Prometheus::now();
    causes::a_storm_of_reconnects(&mut bed).await;
    causes::slow_consumers(&mut bed).await;
    causes::strange_entries(&mut bed).await;
    causes::returns(&mut bed).await;
    causes::no_room(&mut bed).await;
    causes::a_stalled_loop(&mut bed).await;
    causes::an_accept_queue(&mut bed).await;
    causes::a_slow_line(&mut bed).await;
    causes::a_broken_line(&mut bed).await;
    causes::no_redis(&mut bed).await;
    causes::leaving(&mut bed).await;
    causes::nobody_left(&mut bed).await;
    let span = (begin, Prometheus::now());

    let mut wrong = bed.wrong_alerts().await;
    let mut all = expressions::of_dashboards();
    all.extend(bed.recording_rules().await);
    let count = all.len();
    for Expression { place, text } in all {
        let verdict = expressions::judge(&bed.prometheus, &text, span).await;
        if let Err(why) = verdict
            && expressions::excuse(&text).is_none()
        {
            wrong.push(format!("{place}: {why}\n    {text}"));
        }
    }
    wrong.extend(bed.not_moved_by_their_cause().await);
    println!("{count} expressions over {:.0} s", span.1 - span.0);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
