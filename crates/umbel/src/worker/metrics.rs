//! What a worker records, and the table of what is exported.

use umbel_hub::Tag;
use umbel_metrics::{
    Combine, Counter, Counters, Family, Gauge, Histogram, Histograms, LabelSet, Transport,
};
use umbel_protocol::GapReason;

use super::labels::{Held, Limit, Policy, Polled, ReadFrom, Resumed, Skip, Source, Status};
use crate::session::CloseReason;

/// Everything that one worker records. Aligned so that no other worker writes to its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerMetrics {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_open: Gauge,
    pub(crate) accept_errors: Counter,
    pub(crate) sessions_opened: Counters<Transport>,
    pub(crate) sessions_open: [Gauge; 2],
    pub(crate) sessions_closed: Counters<CloseReason>,
    pub(crate) subscriptions: Gauge,
    pub(crate) topics: Gauge,
    pub(crate) messages_in: Counters<Source>,
    pub(crate) publish_requests: Counters<Status>,
    pub(crate) publish_seconds: Histogram,
    pub(crate) published_in_future: Counter,
    /// By the tag of the topic's rule.
    pub(crate) by_rule: [RuleCells; Tag::COUNT],
    pub(crate) deliveries_pending: Gauge,
    pub(crate) replayed: Counter,
    pub(crate) resumes: Counters<Resumed>,
    pub(crate) resume_reads: Counters<ReadFrom>,
    pub(crate) unconfirmed: Counter,
    pub(crate) base64: Counter,
    pub(crate) polls: Counters<Polled>,
    pub(crate) polls_waiting: Gauge,
    pub(crate) deliveries_skipped: Counters<Skip>,
    pub(crate) sent_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) slow_consumers: Counters<Policy>,
    pub(crate) gaps: Counters<GapReason>,
    pub(crate) heartbeats: Counter,
    pub(crate) log_bytes: Gauge,
    pub(crate) held_bytes: [Gauge; Held::COUNT],
    pub(crate) limited: Counters<Limit>,
    pub(crate) allowance_bytes: Gauge,
    pub(crate) furthest_bytes: Gauge,
    pub(crate) handshake_seconds: Histograms<Transport>,
    /// By transport and the tag of the topic's rule.
    pub(crate) delivery_seconds: [[Histogram; Tag::COUNT]; 2],
    pub(crate) fan_out_seconds: Histogram,
    pub(crate) canary_seconds: Histogram,
    pub(crate) loop_lag_seconds: Histogram,
    pub(crate) loop_lag_peak: Gauge,
    pub(crate) busy_micros: Counter,
    pub(crate) parks: Counter,
    pub(crate) queue: Gauge,
    pub(crate) tasks: Gauge,
    /// When the event loop last ticked, by the node's clock: not exported, asked for liveness.
    pub(crate) last_tick_micros: Counter,
    /// How long ago that is. Whoever is asked for metrics writes it: a worker that is stuck can't.
    pub(crate) silent: Gauge,
}

/// What is recorded per topic rule.
#[derive(Debug, Default)]
pub(crate) struct RuleCells {
    pub(crate) fanned_out: Counter,
    pub(crate) expected: Counter,
    pub(crate) delivered: Counter,
}

impl WorkerMetrics {
    pub(crate) fn session_opened(&self, transport: Transport) {
        self.sessions_opened.of(transport).add(1);
        self.sessions_open[transport.index()].add(1.0);
    }

    pub(crate) fn session_gone(&self, transport: Transport) {
        self.sessions_open[transport.index()].add(-1.0);
    }
}

/// Every family that workers export. `rules` is what the tags of rules stand for.
pub(crate) fn families(rules: &[String]) -> Vec<Family<WorkerMetrics>> {
    let mut families = of_connections();
    families.extend(of_messages());
    families.extend(of_rules(rules));
    families.extend(of_history());
    families.extend(of_time());
    families.extend(of_memory());
    families
}

fn of_rules(rules: &[String]) -> Vec<Family<WorkerMetrics>> {
    let rule = ("rule", rules);
    vec![
        Family::counters_by(
            "umbel_fanned_out_total",
            "Messages that workers fanned out, once per worker with subscribers, by topic rule.",
            rule,
            |w, at| &w.by_rule[at].fanned_out,
        ),
        Family::counters_by(
            "umbel_deliveries_expected_total",
            "Messages times subscriptions at the time of their fan-out, by topic rule.",
            rule,
            |w, at| &w.by_rule[at].expected,
        ),
        Family::counters_by(
            "umbel_deliveries_total",
            "Messages written whole to a session, by topic rule; with a cursor over several topics up to 16 KiB before they are.",
            rule,
            |w, at| &w.by_rule[at].delivered,
        ),
        Family::histograms_by(
            "umbel_delivery_seconds",
            "From the publishing of a message to its write to a session: one observation per write, by its oldest message. By the clock of the node or Redis that published it; of a plain PUBLISH it isn't known, it counts from its receipt. What was skipped, or came from history, isn't in it.",
            "transport",
            rule,
            |w, transport: Transport, at| &w.delivery_seconds[transport.index()][at],
        ),
    ]
}

fn of_connections() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::counter("umbel_connections_accepted_total", "Connections accepted.", |w| {
            &w.connections_accepted
        }),
        Family::gauge(
            "umbel_connections_open",
            "Connections that are served HTTP and are no session.",
            |w| &w.connections_open,
        ),
        Family::counter(
            "umbel_accept_errors_total",
            "Connections that could not be accepted, mostly for want of descriptors.",
            |w| &w.accept_errors,
        ),
        Family::counters("umbel_sessions_opened_total", "Sessions opened.", "transport", |w| {
            &w.sessions_opened
        }),
        Family::gauges(
            "umbel_sessions_open",
            "Sessions that are open now.",
            "transport",
            |w, transport: Transport| &w.sessions_open[transport.index()],
        ),
        Family::counters(
            "umbel_sessions_closed_total",
            "Sessions that ended, by reason.",
            "reason",
            |w| &w.sessions_closed,
        ),
        Family::counters(
            "umbel_limited_total",
            "What was more than is allowed: refused, delayed or ended, by what it was.",
            "limit",
            |w| &w.limited,
        ),
        Family::gauge("umbel_subscriptions", "Subscriptions that sessions hold now.", |w| {
            &w.subscriptions
        }),
        Family::gauge("umbel_topics", "Topics with subscriptions, counted once per worker.", |w| {
            &w.topics
        }),
    ]
}

fn of_messages() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::counters(
            "umbel_messages_received_total",
            "Messages that publishers gave this node and the broker took.",
            "source",
            |w| &w.messages_in,
        ),
        Family::counters(
            "umbel_publish_requests_total",
            "HTTP requests to publish, by status; gone: the publisher didn't wait for one.",
            "status",
            |w| &w.publish_requests,
        ),
        Family::histogram(
            "umbel_publish_seconds",
            "From handing a request's messages to the broker to its answer, or to when the publisher gave up.",
            |w| &w.publish_seconds,
        ),
        Family::counter(
            "umbel_published_in_future_total",
            "Messages, once per worker, whose time of publishing lies ahead of this node's clock; they count as published when they came.",
            |w| &w.published_in_future,
        ),
        Family::gauge(
            "umbel_deliveries_pending",
            "Deliveries that are expected and neither made nor skipped yet.",
            |w| &w.deliveries_pending,
        ),
        Family::counters(
            "umbel_deliveries_skipped_total",
            "Deliveries that were expected and not made, by reason.",
            "reason",
            |w| &w.deliveries_skipped,
        ),
        Family::counter(
            "umbel_base64_total",
            "Binary messages that were encoded for SSE sessions, once per worker.",
            |w| &w.base64,
        ),
        Family::counter("umbel_sent_bytes_total", "Bytes written to sessions.", |w| &w.sent_bytes),
        Family::counter(
            "umbel_session_writes_total",
            "Write calls on sessions that wrote something; deliveries per write is the coalescing.",
            |w| &w.writes,
        ),
        Family::counters(
            "umbel_slow_consumers_total",
            "Times that a session was further behind than its budget, by what became of it.",
            "policy",
            |w| &w.slow_consumers,
        ),
        Family::counters(
            "umbel_gaps_total",
            "Gaps in what sessions get, once per session and topic, by reason. They are told, but not to plain WebSockets, nor again while the last one waits to be read.",
            "reason",
            |w| &w.gaps,
        ),
        Family::counter(
            "umbel_heartbeats_total",
            "Pings and comments sent to silent sessions.",
            |w| &w.heartbeats,
        ),
    ]
}

fn of_history() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::counter(
            "umbel_replayed_total",
            "Messages of history written whole to a session, beside the deliveries.",
            |w| &w.replayed,
        ),
        Family::counters(
            "umbel_resumes_total",
            "Subscriptions that named a place to go on at, by whether all behind it could be given.",
            "outcome",
            |w| &w.resumes,
        ),
        Family::gauge(
            "umbel_polls_waiting",
            "Requests for history as JSON that wait for the first message.",
            |w| &w.polls_waiting,
        ),
        Family::counters(
            "umbel_polls_total",
            "Requests for history as JSON, by what they got.",
            "outcome",
            |w| &w.polls,
        ),
        Family::counters(
            "umbel_resume_reads_total",
            "Pieces of history that sessions and polls lacked, by where they were read: shared is what another session had just been given.",
            "from",
            |w| &w.resume_reads,
        ),
        Family::counter(
            "umbel_unconfirmed_total",
            "Topics that a session was given before the broker had confirmed them: a gap follows.",
            |w| &w.unconfirmed,
        ),
    ]
}

fn of_time() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::histograms(
            "umbel_handshake_seconds",
            "From the first byte of a connection, or the arrival of a later request on it, to the open session.",
            "transport",
            |w| &w.handshake_seconds,
        ),
        Family::histogram(
            "umbel_fan_out_seconds",
            "From the node's receipt of a message to the last write of its batch, per message and worker.",
            |w| &w.fan_out_seconds,
        ),
        Family::histogram(
            "umbel_canary_seconds",
            "From the sending of a message of the node's own to the broker to where workers would have delivered it, per worker; one a second.",
            |w| &w.canary_seconds,
        ),
        Family::histogram(
            "umbel_event_loop_lag_seconds",
            "How late the ticks of the workers' event loops are.",
            |w| &w.loop_lag_seconds,
        ),
        Family::gauge_per_worker(
            "umbel_event_loop_lag_peak_seconds",
            "The largest lag of a worker's event loop within the last half to whole minute.",
            Combine::Max,
            |w| &w.loop_lag_peak,
        ),
        Family::gauge_per_worker(
            "umbel_event_loop_silent_seconds",
            "How long ago a worker's event loop ticked last: a quarter of a second at most, unless it is stuck.",
            Combine::Max,
            |w| &w.silent,
        ),
        Family::seconds_per_worker(
            "umbel_runtime_busy_seconds_total",
            "Time that a worker's event loop was not waiting, by tokio.",
            |w| &w.busy_micros,
        ),
        Family::counter_per_worker(
            "umbel_runtime_parks_total",
            "Times that a worker's event loop had nothing to do and waited, by tokio.",
            |w| &w.parks,
        ),
        Family::gauge_per_worker(
            "umbel_runtime_queue_depth",
            "Tasks that other threads have woken and that a worker's event loop hasn't run yet, by tokio.",
            Combine::Sum,
            |w| &w.queue,
        ),
        Family::gauge_per_worker(
            "umbel_runtime_alive_tasks",
            "Tasks of a worker: about one per session and connection.",
            Combine::Sum,
            |w| &w.tasks,
        ),
    ]
}

fn of_memory() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::gauge_per_worker(
            "umbel_log_bytes",
            "Memory of the topics' logs, in bytes.",
            Combine::Sum,
            |w| &w.log_bytes,
        ),
        Family::gauges(
            "umbel_held_bytes",
            "Memory held for messages and clients besides the logs, in bytes, by what holds it.",
            "by",
            |w, held: Held| &w.held_bytes[held.index()],
        ),
        Family::gauge_per_worker(
            "umbel_allowed_behind_bytes",
            "How far behind a session may be now; less than limits.behind_bytes while memory is short.",
            Combine::Min,
            |w| &w.allowance_bytes,
        ),
        Family::gauge_per_worker(
            "umbel_furthest_behind_bytes",
            "The most bytes that a session was found behind when it was to be written, within the last half to whole minute.",
            Combine::Max,
            |w| &w.furthest_bytes,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    fn rules() -> Vec<String> {
        vec!["chat.*".to_owned(), "other".to_owned()]
    }

    #[test]
    fn names_follow_the_conventions_and_register() {
        let names: HashSet<_> = families(&rules()).iter().map(|family| family.name).collect();
        assert_eq!(names.len(), families(&rules()).len());
        assert!(names.iter().all(|name| name.starts_with("umbel_")));
        let registry = prometheus::Registry::new();
        let merged = umbel_metrics::Merged::new(
            families(&rules()),
            vec![Arc::new(WorkerMetrics::default())],
        );
        registry.register(Box::new(merged)).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let [_, _, name, kind] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        }
    }
}
