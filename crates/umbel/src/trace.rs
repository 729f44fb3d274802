//! Traces: a message's way from its publisher to the sockets, as spans for a collector.
//!
//! `publish` is from the request to the broker's confirmation, `receive` from there to a node that
//! has subscribers, `fan_out` from the node to the last write of each of its workers. Whether a trace
//! is recorded is its publisher's decision (the header `traceparent`), within a quota, or, without
//! one, chance. A message that isn't recorded carries nothing, and all that it costs is to see that.

mod endpoint;
mod export;
mod otlp;
mod publishing;
mod quota;
mod span;

pub use endpoint::Endpoint;
pub(crate) use publishing::{Outcome, Publishing};

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::IntCounter;
use tokio::sync::mpsc;
use umbel_broker::Witness;
use umbel_protocol::{Delivery, SpanId, Timestamp, TraceParent};

use crate::config::Settings;
use crate::machine;
use export::Export;
use otlp::Resource;
use quota::Quota;
pub(crate) use span::FanOut;
use span::{Span, Work};

/// How many spans may wait to be exported, about half a megabyte. What comes beyond it is dropped.
const QUEUE_SPANS: usize = 4096;

/// Records spans. Shared by all threads: only messages that are recorded come by.
#[derive(Debug)]
pub(crate) struct Tracer {
    spans: mpsc::Sender<Span>,
    /// How many in a million publishes without a `traceparent` are recorded.
    sample_ppm: u32,
    /// How many publishes are recorded since their publishers ask for it.
    followed: Quota,
    counts: Counts,
}

/// What becomes of spans.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) exported: IntCounter,
    pub(crate) dropped: IntCounter,
}

/// The traces of a node. When it is dropped, what was recorded is exported, for two seconds at most.
#[derive(Debug)]
pub(crate) struct Traces {
    tracer: Arc<Tracer>,
    _export: Export,
}

impl Traces {
    /// Starts the thread that exports, if there is where to.
    pub(crate) fn start(settings: &Settings) -> io::Result<Option<Self>> {
        let Some(endpoint) = settings.traces.endpoint.clone() else {
            return Ok(None);
        };
        let (spans, queue) = mpsc::channel(QUEUE_SPANS);
        let counts = Counts::new();
        let node = settings.node_name.clone().unwrap_or_else(machine::name);
        let export = Export::start(endpoint, Resource { node }, queue, counts.clone())?;
        let sample_ppm = settings.traces.sample_ppm;
        let tracer = Tracer { spans, sample_ppm, followed: Quota::default(), counts };
        Ok(Some(Self { tracer: Arc::new(tracer), _export: export }))
    }

    /// What records.
    pub(crate) fn tracer(&self) -> Arc<Tracer> {
        self.tracer.clone()
    }
}

impl Tracer {
    /// Whether a publish is recorded, as part of which trace.
    fn parent(&self, given: Option<&TraceParent>) -> Option<(TraceParent, Option<SpanId>)> {
        match given {
            Some(parent) if parent.is_sampled => {
                let is_followed = self.followed.allows(now() / 1_000_000_000) || self.samples();
                is_followed.then(|| (span::child(parent), Some(parent.span)))
            }
            None if self.samples() => Some((span::root(), None)),
            _ => None,
        }
    }

    fn samples(&self) -> bool {
        fastrand::u32(..1_000_000) < self.sample_ppm
    }

    /// A worker has written a message to all that could take it.
    pub(crate) fn fanned_out(&self, delivery: &Delivery, fan_out: FanOut) {
        let Some(parent) = &delivery.message.trace else {
            return;
        };
        let end = now();
        let start = end.saturating_sub(fan_out.age.saturating_mul(1000));
        let own = span::child(parent);
        self.record(Span {
            trace: own.trace,
            id: own.span,
            parent: Some(parent.span),
            start,
            end,
            topic: delivery.message.topic.clone(),
            work: Work::FanOut(fan_out),
        });
    }

    fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.inc();
        }
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Witness for Tracer {
    fn received(&self, delivery: &Delivery, parent: &TraceParent, now: Timestamp) -> TraceParent {
        let own = span::child(parent);
        let end = nanos(now);
        self.record(Span {
            trace: own.trace,
            id: own.span,
            parent: Some(parent.span),
            // The clock of whoever published it may be ahead.
            start: nanos(delivery.message.published).min(end),
            end,
            topic: delivery.message.topic.clone(),
            work: Work::Receive,
        });
        own
    }
}

impl Counts {
    pub(crate) fn new() -> Self {
        let counter = |name, help| IntCounter::new(name, help).expect("names are constants");
        Self {
            exported: counter(
                "umbel_spans_exported_total",
                "Spans that the collector of traces has taken.",
            ),
            dropped: counter(
                "umbel_spans_dropped_total",
                "Spans that were recorded and couldn't be exported.",
            ),
        }
    }

    /// Both, to be registered.
    pub(crate) fn into_counters(self) -> [IntCounter; 2] {
        [self.exported, self.dropped]
    }
}

/// Nanoseconds since 1970, as spans have their times.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).expect("until the year 2554")
}

fn nanos(time: Timestamp) -> u64 {
    time.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_broker::{PublishError, Published};
    use umbel_protocol::Topic;

    fn tracer(sample_ppm: u32, queue: usize) -> (Arc<Tracer>, mpsc::Receiver<Span>) {
        let (spans, recorded) = mpsc::channel(queue);
        let followed = Quota::default();
        (Arc::new(Tracer { spans, sample_ppm, followed, counts: Counts::new() }), recorded)
    }

    fn given(flags: &str) -> TraceParent {
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}").parse().unwrap()
    }

    fn topic() -> Topic {
        Topic::new("a").unwrap()
    }

    #[test]
    fn the_publisher_decides_and_without_a_word_of_it_chance() {
        for (sample_ppm, given, is_recorded) in [
            (0, None, false),
            (1_000_000, None, true),
            (0, Some(given("01")), true),
            (1_000_000, Some(given("00")), false),
        ] {
            let (tracer, mut recorded) = tracer(sample_ppm, 1);
            let publishing = Publishing::begin(&tracer, given, &topic());
            assert_eq!(publishing.is_some(), is_recorded, "{sample_ppm} {given:?}");
            drop(publishing);
            assert_eq!(recorded.try_recv().is_ok(), is_recorded);
        }
    }

    #[test]
    fn a_publish_is_a_child_of_its_publishers_span_and_parent_of_what_follows() {
        let (tracer, mut recorded) = tracer(0, 8);
        let given = given("01");
        let publishing = Publishing::begin(&tracer, Some(given), &topic()).unwrap();
        let next = publishing.parent();
        publishing.end(Outcome::of(&Ok(Published { id: None, receivers: 2 })));
        let span = recorded.try_recv().unwrap();
        assert_eq!((span.trace, span.parent), (given.trace, Some(given.span)));
        assert_eq!((span.trace, span.id), (next.trace, next.span));
        assert!(span.start <= span.end && next.is_sampled);
        let Work::Publish(outcome) = span.work else { panic!("{span:?}") };
        assert_eq!(outcome, Outcome { receivers: Some(2), error: None });
    }

    #[test]
    fn what_is_given_up_is_recorded_as_an_error() {
        let (tracer, mut recorded) = tracer(0, 8);
        drop(Publishing::begin(&tracer, Some(given("01")), &topic()));
        let refused = Publishing::begin(&tracer, Some(given("01")), &topic()).unwrap();
        refused.end(Outcome::of(&Err(PublishError::KeyUsed)));
        for expected in ["the publisher went away", "another message was published"] {
            let Work::Publish(outcome) = recorded.try_recv().unwrap().work else { panic!() };
            assert!(outcome.error.as_ref().unwrap().starts_with(expected), "{outcome:?}");
        }
    }

    #[test]
    fn publishers_have_only_so_many_recorded_unless_the_node_would_anyway() {
        let many = 5 * quota::PER_SECOND as usize;
        for (sample_ppm, is_bounded) in [(0, true), (1_000_000, false)] {
            let (tracer, _recorded) = tracer(sample_ppm, 1);
            let first = now() / 1_000_000_000;
            let begun = || Publishing::begin(&tracer, Some(given("01")), &topic()).is_some();
            let count = (0..many).filter(|_| begun()).count();
            let seconds = now() / 1_000_000_000 - first + 1;
            let allowed = quota::PER_SECOND as usize * usize::try_from(seconds).unwrap();
            let expected = if is_bounded { 1..=allowed } else { many..=many };
            assert!(expected.contains(&count), "{count} of {many} in {seconds} s");
        }
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        let (tracer, _recorded) = tracer(0, 1);
        for _ in 0..3 {
            drop(Publishing::begin(&tracer, Some(given("01")), &topic()));
        }
        assert_eq!(tracer.counts().dropped.get(), 2);
    }
}
