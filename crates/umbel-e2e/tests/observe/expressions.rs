//! Every expression that the dashboards ask of Prometheus, and whether it moves.

use std::collections::HashSet;

use serde_json::Value;
use umbel_e2e::{Prometheus, Series};

use crate::deploy;

/// An expression and where it stands.
pub(crate) struct Expression {
    pub(crate) place: String,
    pub(crate) text: String,
}

/// What needn't move, by what its expression has in it, and why.
const EXCUSES: [(&str, &str); 4] = [
    ("umbel_spans_", "no collector of traces is set up"),
    ("umbel_log_events_suppressed_total", "nothing is said so often"),
    ("umbel_log_events_dropped_total", "takes a standard error that nobody reads"),
    ("umbel_broker_intake_pauses_total", "takes a worker that stands still for seconds: fleet.rs"),
];

/// How many seconds a rate looks back here; four scrapes at least, as Grafana has it.
const RATE_INTERVAL: &str = "4s";

pub(crate) fn excuse(text: &str) -> Option<&'static str> {
    EXCUSES.iter().find(|(needle, _)| text.contains(needle)).map(|(_, reason)| *reason)
}

fn dashboards() -> Vec<Value> {
    let read = |name| {
        let text = std::fs::read_to_string(deploy().join("grafana").join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    ["umbel-fleet.json", "umbel-node.json"].map(read).into()
}

/// All panels but rows, with the names of their dashboards.
pub(crate) fn panels() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for dashboard in dashboards() {
        let panels = dashboard["panels"].as_array().unwrap();
        let panels = panels.iter().filter(|panel| panel["type"] != "row");
        all.extend(
            panels.map(|panel| (dashboard["uid"].as_str().unwrap().to_owned(), panel.clone())),
        );
    }
    all
}

/// What panels, annotations and variables ask, with the variables as they are at first.
pub(crate) fn of_dashboards() -> Vec<Expression> {
    let mut all = Vec::new();
    let mut add = |place: String, text: &str| {
        let text = text.replace("$__rate_interval", RATE_INTERVAL);
        let text = text.replace("$cluster", ".*").replace("$node", ".*");
        assert!(!text.contains('$'), "{place} has a variable that isn't known: {text}");
        all.push(Expression { place, text });
    };
    for (dashboard, panel) in panels() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let letter = target["refId"].as_str().unwrap();
            let place = format!("{dashboard}, {title}, {letter}");
            add(place, target["expr"].as_str().unwrap());
        }
    }
    for dashboard in dashboards() {
        let name = dashboard["uid"].as_str().unwrap();
        for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
            if let Some(text) = annotation["expr"].as_str() {
                add(format!("{name}, annotation {}", annotation["name"]), text);
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
                let (selector, label) = inner.rsplit_once(", ").unwrap();
                let text = format!("count by ({label}) ({selector})");
                add(format!("{name}, variable {}", variable["name"]), &text);
            }
        }
    }
    assert!(all.len() > 150, "only {} expressions were found", all.len());
    all
}

/// Whether an expression gives numbers over a span of time, and not always the same.
pub(crate) async fn judge(
    prometheus: &Prometheus,
    text: &str,
    span: (f64, f64),
) -> Result<(), String> {
    let all = prometheus.range(text, span, STEP).await?;
    if all.iter().all(|series| numbers(series).next().is_none()) {
        return Err("gives nothing".to_owned());
    }
    // What is asked for with a condition comes and goes; a node that goes takes all its series along.
    let is_conditional = [" > 0", "== 1", "ALERTS", " and "].iter().any(|part| text.contains(part));
    let comes_and_goes = |series: &Series| is_conditional && series.values.len() < steps(span);
    let moves = |series: &Series| {
        let values: HashSet<u64> = numbers(series).map(|(_, value)| value.to_bits()).collect();
        values.len() > 1
    };
    // Which clusters and nodes there are, a variable asks of those that are up.
    let is_choice = text.starts_with("count by") && text.contains("umbel_build_info");
    if all.iter().any(|series| moves(series) || comes_and_goes(series)) || is_choice {
        Ok(())
    } else {
        Err(format!("is always {:?}", all[0].values[0].1))
    }
}

/// Seconds between two evaluations.
pub(crate) const STEP: f64 = 0.5;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn steps((from, to): (f64, f64)) -> usize {
    ((to - from) / STEP) as usize
}

pub(crate) fn numbers(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    series.values.iter().copied().filter(|(_, value)| value.is_finite())
}
