//! The cases and their targets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::arm::{Arm, Subject};
use super::server::Placement;
use crate::cli::PER_SECOND;
use crate::load::pacing::Span;
use crate::scenario::fanout::Fanout;
use crate::scenario::idle::Idle;
use crate::scenario::latency::Latency;
use crate::scenario::storm::Storm;
use crate::scenario::unicast::Unicast;
use crate::scenario::{Outcome, Scenario};
use crate::wire::subscribe::Dialect;

/// One comparison.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name on the command line.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// What is done to both servers.
    pub scenario: Scenario,
    /// How long.
    pub span: Span,
    /// How long before that, unmeasured.
    pub warm_up: Duration,
    /// What is compared.
    pub figure: Figure,
    /// The side that is judged.
    pub node: Arm,
    /// The side that it is compared with.
    pub against: Arm,
    /// Measured now and then, for the distance.
    pub naive: Option<Arm>,
    /// What is wanted.
    pub target: Target,
    /// It has no more rounds than this, whatever is asked for.
    pub most_rounds: usize,
}

/// What a case compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// CPU of the server's core, microseconds per delivery.
    CorePerDelivery,
    /// CPU of the server's core, microseconds per connect.
    CorePerConnect,
    /// CPU of the server's threads, microseconds per delivery.
    ProcessPerDelivery,
    /// Microseconds from a message's due time to its last receipt, exceeded by one in a hundred.
    LatencyP99,
    /// Growth of resident memory, bytes per session.
    RssPerSession,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The node's figure, divided by the other's, at most this.
    Ratio(f64),
    /// The node's figure itself at most this.
    Absolute(f64),
}

impl Figure {
    /// The figure of one run.
    pub fn of(self, outcome: &Outcome) -> Result<f64> {
        let (measured, cost) = (&outcome.measured, &outcome.measured.cost);
        let value = match self {
            Self::CorePerDelivery | Self::CorePerConnect => {
                measured.per_unit(cost.server_core_seconds)
            }
            Self::ProcessPerDelivery => measured.per_unit(cost.server_process_seconds),
            Self::LatencyP99 => measured.latency.map(|latency| latency.p99_us),
            Self::RssPerSession => measured.growth.map(|growth| growth.rss_bytes_per_session),
        };
        value.with_context(|| format!("the run has no figure {self:?}"))
    }

    /// Its unit, for tables.
    pub fn unit(self) -> &'static str {
        match self {
            Self::CorePerDelivery => "core µs/delivery",
            Self::CorePerConnect => "core µs/connect",
            Self::ProcessPerDelivery => "process µs/delivery",
            Self::LatencyP99 => "p99 µs",
            Self::RssPerSession => "RSS B/session",
        }
    }
}

/// The pause between bursts; half the time is work then.
const BURST_PAUSE: Duration = Duration::from_millis(10);
const FEW: usize = 1000;
const MANY: usize = 10_000;
/// Near the most that a process may have open on some machines.
const MOST: usize = 18_000;
/// Bytes that an idle session may hold.
const IDLE_BYTES: f64 = 3072.0;
/// What SSE may cost, as a ratio to WebSocket.
const SSE: f64 = 1.15;

/// Lengths of windows.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    warm_up: Duration,
    window: Duration,
    latency: Duration,
    settle: Duration,
    waves: u64,
    /// Most rounds of cases whose figure hardly varies.
    steady_rounds: usize,
}

/// The core's clock is good to 10 ms: two seconds make that half a percent. Latency is 160 messages, of which the
/// second worst is the 99th percentile.
const FULL: Lengths = Lengths {
    warm_up: Duration::from_millis(300),
    window: Duration::from_secs(2),
    latency: Duration::from_secs(8),
    settle: Duration::from_secs(2),
    waves: 3,
    steady_rounds: 3,
};
const QUICK: Lengths = Lengths {
    warm_up: Duration::from_millis(100),
    window: Duration::from_millis(500),
    latency: Duration::from_secs(3),
    settle: Duration::from_millis(500),
    waves: 1,
    steady_rounds: 1,
};

impl Case {
    /// A case of deliveries: WebSocket against the baseline.
    fn delivery(
        name: &str,
        title: String,
        scenario: Scenario,
        target: f64,
        lengths: &Lengths,
    ) -> Self {
        Self {
            name: name.to_owned(),
            title,
            scenario,
            span: Span::Time(lengths.window),
            warm_up: lengths.warm_up,
            figure: Figure::CorePerDelivery,
            node: node(Dialect::WebSocket),
            against: pinned(Subject::Baseline, Dialect::WebSocket),
            naive: Some(pinned(Subject::Naive, Dialect::WebSocket)),
            target: Target::Ratio(target),
            most_rounds: usize::MAX,
        }
    }

    /// The same case for SSE, against the node's own WebSocket.
    fn as_sse(&self) -> Self {
        Self {
            name: format!("sse-{}", self.name),
            title: format!("SSE: {}", self.title),
            node: node(Dialect::Sse),
            against: node(Dialect::WebSocket),
            naive: None,
            target: Target::Ratio(SSE),
            ..self.clone()
        }
    }
}

fn pinned(subject: Subject, dialect: Dialect) -> Arm {
    Arm { subject, dialect, placement: Placement::Pinned }
}

fn node(dialect: Dialect) -> Arm {
    pinned(Subject::Node { workers: 1 }, dialect)
}

/// The chosen cases, all if `names` is empty; `name*` is all whose names begin so.
pub fn select(names: &[String], quick: bool) -> Result<Vec<Case>> {
    let all = all(if quick { &QUICK } else { &FULL });
    let chosen = |case: &Case, name: &String| match name.strip_suffix('*') {
        Some(start) => case.name.starts_with(start),
        None => case.name == *name,
    };
    for name in names {
        let known = || all.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(
            all.iter().any(|case| chosen(case, name)),
            "there is no case {name}; there are {}",
            known()
        );
    }
    let wanted = |case: &Case| names.is_empty() || names.iter().any(|name| chosen(case, name));
    Ok(all.into_iter().filter(wanted).collect())
}

fn all(lengths: &Lengths) -> Vec<Case> {
    let deliveries = deliveries(lengths);
    let sse: Vec<Case> = deliveries.iter().map(Case::as_sse).collect();
    let mut all = deliveries;
    all.push(latency(lengths));
    all.extend(sse);
    all.extend(idle(lengths));
    all.push(storm(lengths));
    all.push(two_workers(lengths));
    all
}

fn deliveries(lengths: &Lengths) -> Vec<Case> {
    let mut cases = Vec::new();
    for (subscribers, suffix) in [(FEW, ""), (MANY, "-10k")] {
        for (at_hand, target) in [(1, 1.15), (8, 1.25), (64, 1.5)] {
            let fanout = Fanout { subscribers, at_hand, pause: Duration::ZERO };
            let title = format!("fan-out to {subscribers}, {at_hand} at hand");
            let name = format!("fanout{at_hand}{suffix}");
            cases.push(Case::delivery(&name, title, Scenario::Fanout(fanout), target, lengths));
        }
        let burst = Fanout { subscribers, at_hand: 100, pause: BURST_PAUSE };
        let title = format!("bursts of 100 to {subscribers}");
        cases.push(Case::delivery(
            &format!("burst100{suffix}"),
            title,
            Scenario::Burst(burst),
            1.5,
            lengths,
        ));
    }
    for outstanding in [64, 512] {
        let unicast = Unicast { topics: MANY, outstanding };
        let title = format!("{MANY} topics with one subscriber, {outstanding} under way");
        let name = format!("unicast{outstanding}");
        cases.push(Case::delivery(&name, title, Scenario::Unicast(unicast), 1.5, lengths));
    }
    cases
}

fn latency(lengths: &Lengths) -> Case {
    let scenario = Scenario::Latency(Latency { subscribers: FEW, per_second: PER_SECOND });
    let title = format!("{PER_SECOND} messages/s to {FEW}, last receipt");
    Case {
        figure: Figure::LatencyP99,
        span: Span::Time(lengths.latency),
        ..Case::delivery("latency", title, scenario, 1.3, lengths)
    }
}

fn idle(lengths: &Lengths) -> Vec<Case> {
    let mut cases = Vec::new();
    for (dialect, name) in [(Dialect::WebSocket, "ws"), (Dialect::Sse, "sse")] {
        for (sessions, suffix) in [(MANY, "10k"), (MOST, "18k")] {
            let scenario = Scenario::Idle(Idle { sessions, settle: lengths.settle });
            let title = format!("{sessions} idle {dialect} sessions");
            let name = format!("idle-{name}-{suffix}");
            cases.push(Case {
                figure: Figure::RssPerSession,
                node: node(dialect),
                against: pinned(Subject::Baseline, dialect),
                naive: Some(pinned(Subject::Naive, dialect)),
                target: Target::Absolute(IDLE_BYTES),
                most_rounds: lengths.steady_rounds,
                ..Case::delivery(&name, title, scenario, 1.0, lengths)
            });
        }
    }
    cases
}

fn storm(lengths: &Lengths) -> Case {
    let scenario = Scenario::Storm(Storm { sessions: MOST });
    let title = format!("storm of {MOST}: connect, upgrade, subscribe");
    Case {
        figure: Figure::CorePerConnect,
        span: Span::Rounds(lengths.waves),
        ..Case::delivery("storm", title, scenario, 1.6, lengths)
    }
}

fn two_workers(lengths: &Lengths) -> Case {
    let fanout = Fanout { subscribers: FEW, at_hand: 8, pause: Duration::ZERO };
    let title = format!("two workers against one: fan-out to {FEW}, 8 at hand");
    let free = |workers| Arm {
        subject: Subject::Node { workers },
        dialect: Dialect::WebSocket,
        placement: Placement::Free,
    };
    Case {
        figure: Figure::ProcessPerDelivery,
        node: free(2),
        against: free(1),
        naive: None,
        ..Case::delivery("workers2", title, Scenario::Fanout(fanout), 1.1, lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn names(chosen: &[&str]) -> Result<Vec<String>> {
        let chosen: Vec<_> = chosen.iter().map(ToString::to_string).collect();
        Ok(select(&chosen, false)?.into_iter().map(|case| case.name).collect())
    }

    #[test]
    fn names_are_unique_and_choose_their_case() {
        let all = names(&[]).unwrap();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(names(&["storm", "fanout1"]).unwrap(), ["fanout1", "storm"]);
        assert_eq!(names(&["unicast*"]).unwrap(), ["unicast64", "unicast512"]);
        let error = names(&["nothing"]).unwrap_err().to_string();
        assert!(error.contains("no case nothing; there are fanout1, "), "{error}");
    }

    #[test]
    fn the_targets_are_those_that_were_set() {
        let targets = [
            ("fanout1", Target::Ratio(1.15)),
            ("fanout8-10k", Target::Ratio(1.25)),
            ("fanout64", Target::Ratio(1.5)),
            ("burst100-10k", Target::Ratio(1.5)),
            ("unicast512", Target::Ratio(1.5)),
            ("latency", Target::Ratio(1.3)),
            ("sse-fanout64", Target::Ratio(1.15)),
            ("sse-unicast64", Target::Ratio(1.15)),
            ("idle-sse-18k", Target::Absolute(3072.0)),
            ("storm", Target::Ratio(1.6)),
            ("workers2", Target::Ratio(1.1)),
        ];
        for (name, target) in targets {
            let case = &select(&[name.to_owned()], true).unwrap()[0];
            assert_eq!(case.target, target, "{name}");
        }
    }
}
