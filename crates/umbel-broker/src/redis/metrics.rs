//! What the broker's thread records. It alone writes these.

use umbel_metrics::{Counter, Counters, Family, Gauge, Histogram, LabelSet};

use super::fault::FaultKind;

/// Everything that the broker's thread records.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    pub(super) up: Gauge,
    pub(super) connections: Counter,
    pub(super) failures: Counters<FaultKind>,
    pub(super) probe_seconds: Histogram,
    pub(super) topics: Gauge,
    pub(super) messages: Counters<Form>,
    pub(super) received_bytes: Counter,
    pub(super) gaps: Counter,
    pub(super) pauses: Counter,
    pub(super) published: Counters<Outcome>,
    pub(super) publish_batches: Counter,
}

/// How a message came from a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// With Umbel's header.
    Envelope,
    /// Any bytes.
    Plain,
    /// Begins like an envelope and isn't one: passed on as bytes.
    Malformed,
}

impl LabelSet for Form {
    const ALL: &'static [Self] = &[Self::Envelope, Self::Plain, Self::Malformed];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Plain => "plain",
            Self::Malformed => "malformed",
        }
    }
}

/// What became of a message that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Redis took it.
    Published,
    /// It was not published.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl LabelSet for Outcome {
    const ALL: &'static [Self] = &[Self::Published, Self::Refused, Self::Unknown];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Every family that the broker exports.
pub fn families() -> Vec<Family<BrokerMetrics>> {
    vec![
        Family::gauge(
            "umbel_broker_up",
            "1 while the last probe of the link to Redis came back, else 0.",
            |b| &b.up,
        ),
        Family::counter("umbel_broker_connects_total", "Connections made to Redis.", |b| {
            &b.connections
        }),
        Family::counters(
            "umbel_broker_failures_total",
            "Times that a link to Redis failed or could not be made, by cause.",
            "cause",
            |b| &b.failures,
        ),
        Family::histogram(
            "umbel_broker_probe_seconds",
            "From sending the probe by the command connection to its return by the other.",
            |b| &b.probe_seconds,
        ),
        Family::gauge(
            "umbel_broker_topics",
            "Topics that this node is subscribed to at Redis, or is about to be.",
            |b| &b.topics,
        ),
        Family::counters(
            "umbel_broker_messages_total",
            "Messages that came from Redis, by their form.",
            "form",
            |b| &b.messages,
        ),
        Family::counter(
            "umbel_broker_received_bytes_total",
            "Bytes read from the connection for subscriptions.",
            |b| &b.received_bytes,
        ),
        Family::counter(
            "umbel_broker_gaps_total",
            "Topics, once per worker, of which messages may have been lost with a link; their sessions are told.",
            |b| &b.gaps,
        ),
        Family::counter(
            "umbel_broker_intake_pauses_total",
            "Times that messages were not read from Redis since a worker had no room for more.",
            |b| &b.pauses,
        ),
        Family::counters(
            "umbel_broker_published_total",
            "Messages that this node was to publish at Redis, by outcome.",
            "outcome",
            |b| &b.published,
        ),
        Family::counter(
            "umbel_broker_publish_batches_total",
            "Round trips that publishing took; messages per round trip is the pipelining.",
            |b| &b.publish_batches,
        ),
    ]
}
