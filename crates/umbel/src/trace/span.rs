//! Spans as they are recorded.

use std::num::{NonZeroU64, NonZeroU128};

use umbel_protocol::{SpanId, Topic, TraceId, TraceParent};

use super::Outcome;

/// A piece of a message's way.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    /// In nanoseconds since 1970, as the end is.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) topic: Topic,
    pub(super) work: Work,
}

/// What was done in it.
#[derive(Debug)]
pub(super) enum Work {
    /// From the request to the broker's confirmation.
    Publish(Outcome),
    /// From the time of publishing until the node had it.
    Receive,
    /// From then to the last write of one of its workers.
    FanOut(FanOut),
}

/// What one worker did with a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FanOut {
    /// Which one.
    pub(crate) worker: usize,
    /// How many subscriptions it has to the topic.
    pub(crate) subscriptions: usize,
    /// How long ago the node had received it, in microseconds.
    pub(crate) age: u64,
}

/// A new span of the trace, to be recorded.
pub(super) fn child(parent: &TraceParent) -> TraceParent {
    TraceParent { trace: parent.trace, span: span_id(), is_sampled: true }
}

/// The first span of a new trace.
pub(super) fn root() -> TraceParent {
    let trace = TraceId(NonZeroU128::new(fastrand::u128(1..)).expect("1 or more"));
    TraceParent { trace, span: span_id(), is_sampled: true }
}

fn span_id() -> SpanId {
    SpanId(NonZeroU64::new(fastrand::u64(1..)).expect("1 or more"))
}
