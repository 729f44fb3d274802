//! What a worker records, and the table of what is exported.

use umbel_metrics::{Counter, Counters, Family, Gauge, Histogram, Histograms, LabelSet, Transport};
use umbel_protocol::GapReason;

use super::labels::{Held, Limit, Policy, Polled, Resumed, Skip, Source, Status};
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
    pub(crate) deliveries_expected: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) replayed: Counter,
    pub(crate) resumes: Counters<Resumed>,
    pub(crate) polls: Counters<Polled>,
    pub(crate) polls_waiting: Gauge,
    pub(crate) deliveries_skipped: Counters<Skip>,
    pub(crate) sent_bytes: Counter,
    pub(crate) writes: Counter,
    pub(crate) slow_consumers: Counters<Policy>,
    pub(crate) gaps: Counters<GapReason>,
    pub(crate) heartbeats: Counter,
    pub(crate) log_bytes: Gauge,
    /// Of the whole node; the first worker says it.
    pub(crate) history_bytes: Gauge,
    pub(crate) held_bytes: [Gauge; Held::COUNT],
    pub(crate) limited: Counters<Limit>,
    /// Of the whole node; the first worker says it.
    pub(crate) budget_bytes: Gauge,
    pub(crate) allowance_bytes: Gauge,
    pub(crate) furthest_bytes: Gauge,
    pub(crate) delivery_seconds: Histograms<Transport>,
    pub(crate) fan_out_seconds: Histogram,
    pub(crate) loop_lag_seconds: Histogram,
    pub(crate) loop_lag_peak: Gauge,
    /// When the event loop last ticked, by the node's clock: not exported, asked for liveness.
    pub(crate) last_tick_micros: Counter,
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

/// Every family that workers export.
pub(crate) fn families() -> Vec<Family<WorkerMetrics>> {
    let mut families = of_connections();
    families.extend(of_messages());
    families.extend(of_memory_and_time());
    families
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
            "HTTP requests to publish, by status.",
            "status",
            |w| &w.publish_requests,
        ),
        Family::counter(
            "umbel_deliveries_expected_total",
            "Messages times subscriptions at the time of their fan-out.",
            |w| &w.deliveries_expected,
        ),
        Family::counter("umbel_deliveries_total", "Messages written whole to a session.", |w| {
            &w.deliveries
        }),
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
            "umbel_deliveries_skipped_total",
            "Deliveries that were expected and not made, by reason.",
            "reason",
            |w| &w.deliveries_skipped,
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
            "Gaps told to sessions (plain WebSocket: only counted), by reason.",
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

fn of_memory_and_time() -> Vec<Family<WorkerMetrics>> {
    vec![
        Family::gauge("umbel_log_bytes", "Memory of the topics' logs, in bytes.", |w| &w.log_bytes),
        Family::gauge(
            "umbel_history_bytes",
            "Memory of the messages that the node keeps of topics with history, in bytes.",
            |w| &w.history_bytes,
        ),
        Family::gauges(
            "umbel_held_bytes",
            "Memory held for messages and clients besides the logs, in bytes, by what holds it.",
            "by",
            |w, held: Held| &w.held_bytes[held.index()],
        ),
        Family::gauge(
            "umbel_memory_budget_bytes",
            "What may be held in all, logs included, in bytes: node.memory_mib less what the program itself needs.",
            |w| &w.budget_bytes,
        ),
        Family::gauge_per_worker(
            "umbel_allowed_behind_bytes",
            "How far behind a session may be now; less than limits.behind_bytes while memory is short.",
            |w| &w.allowance_bytes,
        ),
        Family::gauge_per_worker(
            "umbel_furthest_behind_bytes",
            "The most bytes that a session was found behind within the last second.",
            |w| &w.furthest_bytes,
        ),
        Family::histograms(
            "umbel_delivery_seconds",
            "From the node's receipt of a message to its write to a session, one observation per write, by its oldest message.",
            "transport",
            |w| &w.delivery_seconds,
        ),
        Family::histogram(
            "umbel_fan_out_seconds",
            "From the node's receipt of a message to the last write of its batch, per message and worker.",
            |w| &w.fan_out_seconds,
        ),
        Family::histogram(
            "umbel_event_loop_lag_seconds",
            "How late the ticks of the workers' event loops are.",
            |w| &w.loop_lag_seconds,
        ),
        Family::gauge_per_worker(
            "umbel_event_loop_lag_peak_seconds",
            "The largest lag of a worker's event loop in recent seconds; it decays.",
            |w| &w.loop_lag_peak,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    #[test]
    fn names_follow_the_conventions_and_register() {
        let names: HashSet<_> = families().iter().map(|family| family.name).collect();
        assert_eq!(names.len(), families().len());
        assert!(names.iter().all(|name| name.starts_with("umbel_")));
        let registry = prometheus::Registry::new();
        let merged =
            umbel_metrics::Merged::new(families(), vec![Arc::new(WorkerMetrics::default())]);
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
