//! What the broker's thread records. It alone writes these.

use umbel_metrics::{Counter, Counters, Family, Gauge, Histogram, LabelSet};

use super::archive::Ask;
use super::fault::FaultKind;

/// Everything that the broker's thread records.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    pub(super) up: Gauge,
    pub(super) connections: Counter,
    pub(super) failures: Counters<FaultKind>,
    pub(super) probe_seconds: Histogram,
    pub(super) clock_skew: Gauge,
    pub(super) busy_micros: Counter,
    /// Exported by the node, for every broker.
    pub(super) canaries_sent: Counter,
    pub(super) canaries_returned: Counter,
    pub(super) canaries_lost: Counter,
    pub(super) topics: Gauge,
    pub(super) messages: Counters<Form>,
    pub(super) received_bytes: Counter,
    pub(super) gaps: Counter,
    pub(super) pauses: Counter,
    pub(super) unplaced: Counter,
    pub(super) duplicates: Counter,
    pub(super) held: Counter,
    pub(super) repaired: Counter,
    pub(super) behind: Gauge,
    pub(super) reads: Counters<ReadKind>,
    pub(super) refused_reads: Counter,
    pub(super) malformed_entries: Counter,
    pub(super) publish_retries: Counter,
    pub(super) published: Counters<Outcome>,
    pub(super) receivers: Counter,
    pub(super) publish_batches: Counter,
}

impl BrokerMetrics {
    /// What was sent as a canary and isn't back won't come any more.
    pub(super) fn lose_canaries(&self) {
        self.canaries_lost.set(self.canaries_sent.get() - self.canaries_returned.get());
    }
}

/// How a message came from a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// With Umbel's header.
    Envelope,
    /// Any bytes.
    Plain,
    /// Begins like an envelope and isn't one: dropped.
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

/// Why a topic's history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// To see of many topics at once whether a message was missed.
    Compare,
    /// To see whether a message was missed, and to get it.
    Follow,
    /// To have the whole history at hand for those that come back.
    Whole,
    /// For those that want more than the node keeps at hand.
    Page,
}

impl ReadKind {
    pub(super) fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Follow(_) => Self::Follow,
            Ask::Whole(_) => Self::Whole,
            Ask::Page(..) => Self::Page,
        }
    }
}

impl LabelSet for ReadKind {
    const ALL: &'static [Self] = &[Self::Compare, Self::Follow, Self::Whole, Self::Page];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Follow => "follow",
            Self::Whole => "whole",
            Self::Page => "page",
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
    let mut families = of_link();
    families.extend(of_history());
    families
}

fn of_history() -> Vec<Family<BrokerMetrics>> {
    vec![
        Family::counter(
            "umbel_broker_messages_without_id_total",
            "Messages without an id that came by the channel of a topic with history: live, and not replayed.",
            |b| &b.unplaced,
        ),
        Family::counter(
            "umbel_broker_duplicates_total",
            "Messages that came again and were dropped.",
            |b| &b.duplicates,
        ),
        Family::counter(
            "umbel_broker_held_total",
            "Messages that had to wait until those before them were read from history.",
            |b| &b.held,
        ),
        Family::counter(
            "umbel_broker_repaired_total",
            "Messages that this node had missed and got from history.",
            |b| &b.repaired,
        ),
        Family::gauge(
            "umbel_broker_topics_behind",
            "Topics of which messages are missing now and being read from history.",
            |b| &b.behind,
        ),
        Family::counters(
            "umbel_broker_reads_total",
            "Reads of topics' history: compare asks of many quiet topics at once whether something was missed, follow repairs it, whole and page serve sessions that come back.",
            "kind",
            |b| &b.reads,
        ),
        Family::counter(
            "umbel_broker_refused_reads_total",
            "Reads of topics' history that Redis refused, such as for keys of another type.",
            |b| &b.refused_reads,
        ),
        Family::counter(
            "umbel_broker_malformed_entries_total",
            "Entries of history that are no messages and were passed over.",
            |b| &b.malformed_entries,
        ),
        Family::counter(
            "umbel_broker_publish_retries_total",
            "Messages that were sent to Redis again, since it had not taken them or their key says whether it had.",
            |b| &b.publish_retries,
        ),
    ]
}

fn of_link() -> Vec<Family<BrokerMetrics>> {
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
            "umbel_broker_clock_skew_seconds",
            "Redis' clock less the node's, known to half a round trip: so much is the time of messages with history off.",
            |b| &b.clock_skew,
        ),
        Family::seconds(
            "umbel_broker_busy_seconds_total",
            "Time that the one thread which all messages of Redis pass was not waiting, by tokio.",
            |b| &b.busy_micros,
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
            "Gaps that sessions are told of: of a live topic once per worker, of one with history once.",
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
            "umbel_broker_receivers_total",
            "Nodes, and others that subscribe, that Redis gave the messages to that this node published; over a fleet that publishes by its nodes alone as many as umbel_broker_messages_total.",
            |b| &b.receivers,
        ),
        Family::counter(
            "umbel_broker_publish_batches_total",
            "Round trips that publishing took; messages per round trip is the pipelining.",
            |b| &b.publish_batches,
        ),
    ]
}
