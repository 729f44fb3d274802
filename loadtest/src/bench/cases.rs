//! The catalogue of cases, each with its target.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::arm::{Arm, Subject};
use super::case::{Case, Figure, Target};
use super::server::Placement;
use crate::cli::{
    MEMBERS, MISSED, NEW_TOPICS, PER_SECOND, PIPELINED, PUBLISHERS, Source, UNDER_WAY,
};
use crate::cost::history_reads::Witnesses;
use crate::load::members::At;
use crate::load::pacing::Span;
use crate::load::requests::Form;
use crate::scenario::Scenario;
use crate::scenario::fanout::Fanout;
use crate::scenario::idle::Idle;
use crate::scenario::latency::Latency;
use crate::scenario::publish::Publish;
use crate::scenario::resume::Resume;
use crate::scenario::storm::Storm;
use crate::scenario::subscribe_many::SubscribeMany;
use crate::scenario::throughput::Throughput;
use crate::scenario::unicast::Unicast;
use crate::wire::subscribe::Dialect;

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
/// What one node must be able to deliver.
const MESSAGES_PER_SECOND: f64 = 150_000.0;

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
            beside: Vec::new(),
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

/// The chosen cases, all if `names` is empty; `name*` is all whose names begin so. Some need topics with history.
pub fn select(names: &[String], quick: bool, source: Source, history: bool) -> Result<Vec<Case>> {
    let lengths = if quick { &QUICK } else { &FULL };
    let mut all = all(lengths, source);
    if history {
        all.extend(resume(lengths, source));
    }
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

fn all(lengths: &Lengths, source: Source) -> Vec<Case> {
    let deliveries = deliveries(lengths, source);
    let sse: Vec<Case> = deliveries.iter().map(Case::as_sse).collect();
    let mut all = deliveries;
    all.push(latency(lengths));
    all.extend(sse);
    all.extend(idle(lengths));
    all.push(storm(lengths));
    all.push(two_workers(lengths));
    match source {
        Source::Http => all.push(publish(lengths)),
        Source::Redis => all.extend([throughput(lengths), subscribe_many(lengths)]),
    }
    all
}

fn deliveries(lengths: &Lengths, source: Source) -> Vec<Case> {
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
        let target = match source {
            Source::Http => 1.5,
            // Each message also comes alone over the link to Redis.
            Source::Redis => 1.6,
        };
        cases.push(Case::delivery(&name, title, Scenario::Unicast(unicast), target, lengths));
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

/// What one node can deliver, one subscriber per topic.
fn throughput(lengths: &Lengths) -> Case {
    let scenario = Scenario::Throughput(Throughput { topics: FEW, outstanding: UNDER_WAY });
    let title = format!("{FEW} topics with one subscriber, as much as can be delivered");
    Case {
        figure: Figure::MessagesPerSecond,
        target: Target::AtLeast(MESSAGES_PER_SECOND),
        beside: vec![Figure::CorePerDelivery, Figure::ProcessPerDelivery, Figure::CoreShare],
        ..Case::delivery("throughput", title, scenario, 1.0, lengths)
    }
}

/// The time of new subscriptions, against that of the same `SUBSCRIBE`s pipelined to Redis.
fn subscribe_many(lengths: &Lengths) -> Case {
    let many = SubscribeMany { sessions: MEMBERS, topics: NEW_TOPICS, at: At::Node };
    let title = format!("{NEW_TOPICS} new topics subscribed by {MEMBERS} JSON sessions");
    Case {
        figure: Figure::WallPerSubscription,
        span: Span::Rounds(lengths.waves),
        against: pinned(Subject::Redis, Dialect::WebSocket),
        naive: None,
        ..Case::delivery("subscribe-many", title, Scenario::SubscribeMany(many), 3.0, lengths)
    }
}

/// What a publish request costs beside what HTTP itself does.
fn publish(lengths: &Lengths) -> Case {
    let publish = Publish { connections: PUBLISHERS, pipelined: PIPELINED, form: Form::Single };
    let title = format!(
        "POST of one message, {PUBLISHERS} connections with {PIPELINED} requests under way, to nobody"
    );
    Case {
        figure: Figure::RequestsPerSecond,
        against: pinned(Subject::Empty, Dialect::WebSocket),
        naive: None,
        target: Target::RatioAtLeast(0.5),
        beside: vec![Figure::CorePerRequest, Figure::ProcessPerRequest, Figure::CoreShare],
        ..Case::delivery("publish", title, Scenario::Publish(publish), 1.0, lengths)
    }
}

/// Sessions that come back at once: by SSE against the floor, which keeps messages as bytes, and in the JSON dialect
/// against SSE. Nothing is wanted of them but to be seen.
fn resume(lengths: &Lengths, source: Source) -> [Case; 2] {
    let resume = Resume { sessions: MANY, missed: MISSED, witnesses: Witnesses::default() };
    let title = |dialect| format!("{MANY} {dialect} sessions come back, {MISSED} messages missed");
    let mut beside = vec![Figure::ProcessPerResume, Figure::UntilAllResumed, Figure::RssPerSession];
    if source == Source::Redis {
        beside.push(Figure::ReadsPerWave);
    }
    let sse = Case {
        figure: Figure::CorePerResume,
        span: Span::Rounds(lengths.waves),
        node: node(Dialect::Sse),
        against: pinned(Subject::Baseline, Dialect::Sse),
        naive: None,
        target: Target::None,
        beside,
        ..Case::delivery("resume", title(Dialect::Sse), Scenario::Resume(resume), 1.0, lengths)
    };
    let json = Case {
        name: "resume-json".to_owned(),
        title: title(Dialect::Json),
        node: node(Dialect::Json),
        against: node(Dialect::Sse),
        ..sse.clone()
    };
    [sse, json]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn names(chosen: &[&str]) -> Result<Vec<String>> {
        let chosen: Vec<_> = chosen.iter().map(ToString::to_string).collect();
        Ok(select(&chosen, false, Source::Redis, true)?.into_iter().map(|case| case.name).collect())
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
            ("publish", Target::RatioAtLeast(0.5)),
        ];
        for (name, target) in targets {
            let case = &select(&[name.to_owned()], true, Source::Http, false).unwrap()[0];
            assert_eq!(case.target, target, "{name}");
        }
    }

    #[test]
    fn with_redis_some_targets_are_others() {
        let targets = [
            ("fanout1", Target::Ratio(1.15)),
            ("unicast64", Target::Ratio(1.6)),
            ("unicast512", Target::Ratio(1.6)),
            ("throughput", Target::AtLeast(150_000.0)),
            ("subscribe-many", Target::Ratio(3.0)),
        ];
        for (name, target) in targets {
            let case = &select(&[name.to_owned()], true, Source::Redis, false).unwrap()[0];
            assert_eq!(case.target, target, "{name}");
        }
        for (name, source) in [("publish", Source::Redis), ("throughput", Source::Http)] {
            assert!(
                select(&[name.to_owned()], true, source, false).is_err(),
                "{name} has no use there"
            );
        }
    }
    #[test]
    fn history_adds_cases_and_changes_none() {
        for source in [Source::Http, Source::Redis] {
            let all = |history| select(&[], false, source, history).unwrap();
            let (without, with) = (all(false), all(true));
            for (one, other) in without.iter().zip(&with) {
                assert_eq!((&one.name, one.target), (&other.name, other.target));
            }
            let added: Vec<_> = with[without.len()..].iter().map(|case| &case.name).collect();
            assert_eq!(added, ["resume", "resume-json"]);
        }
    }
}
