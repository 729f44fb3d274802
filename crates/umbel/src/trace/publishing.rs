//! A publish that is recorded, under way.

use std::sync::Arc;

use umbel_broker::{PublishError, Published};
use umbel_protocol::{SpanId, Topic, TraceParent};

use super::span::{Span, Work};
use super::{Tracer, now};

/// Recorded when it is dropped.
#[derive(Debug)]
pub(crate) struct Publishing {
    tracer: Arc<Tracer>,
    own: TraceParent,
    parent: Option<SpanId>,
    start: u64,
    topic: Topic,
    outcome: Option<Outcome>,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many nodes the message was handed to.
    pub(crate) receivers: Option<u64>,
    /// Why it wasn't published, or may not have been.
    pub(crate) error: Option<String>,
}

impl Publishing {
    /// Begins to record a publish, if that is wanted. `given` is what the publisher said of its trace.
    pub(crate) fn begin(
        tracer: &Arc<Tracer>,
        given: Option<TraceParent>,
        topic: &Topic,
    ) -> Option<Self> {
        let (own, parent) = tracer.parent(given.as_ref())?;
        let (tracer, topic) = (tracer.clone(), topic.clone());
        Some(Self { tracer, own, parent, start: now(), topic, outcome: None })
    }

    /// What the message carries.
    pub(crate) fn parent(&self) -> TraceParent {
        self.own
    }

    /// Notes what became of it.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Outcome {
    pub(crate) fn of(result: &Result<Published, PublishError>) -> Self {
        match result {
            Ok(published) => Self::published(published),
            Err(error) => Self::failed(error.to_string()),
        }
    }

    pub(crate) fn published(published: &Published) -> Self {
        Self { receivers: Some(published.receivers), error: None }
    }

    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self { receivers: None, error: Some(error.into()) }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let gone = || Outcome::failed("the publisher went away");
        let outcome = self.outcome.take().unwrap_or_else(gone);
        if let Some(error) = &outcome.error {
            let (topic, trace_id) = (&self.topic, self.own.trace);
            tracing::debug!(%topic, error, %trace_id, "Message not published");
        }
        self.tracer.record(Span {
            trace: self.own.trace,
            id: self.own.span,
            parent: self.parent,
            start: self.start,
            end: now(),
            topic: self.topic.clone(),
            work: Work::Publish(outcome),
        });
    }
}
