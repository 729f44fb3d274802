//! Everything that a scrape gets, and the page that explains it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{Opts, Registry};
use umbel_broker::BrokerMetrics;
use umbel_metrics::Merged;

use super::node_metrics::{self, NodeMetrics};
use crate::worker::{self, WorkerMetrics};
use crate::{log, trace};

/// Registers every metric. `name` is the node's; `rules` are the topic rules as metrics name them; `broker` is what a
/// link to Redis records, if there is one.
pub(super) fn registry(
    name: &str,
    rules: &[String],
    workers: Vec<Arc<WorkerMetrics>>,
    node: Arc<NodeMetrics>,
    broker: Option<Arc<BrokerMetrics>>,
) -> Registry {
    let registry = Registry::new();
    let register = |collector| {
        registry.register(collector).expect("names are constants and differ");
    };
    register(Box::new(Merged::new(worker::families(rules), workers)));
    register(Box::new(Merged::new(node_metrics::families(), vec![node])));
    if let Some(broker) = broker {
        register(Box::new(Merged::new(umbel_broker::families(), vec![broker])));
    }
    register(Box::new(ProcessCollector::for_self()));
    register(Box::new(build_info(name)));
    registry
}

fn build_info(name: &str) -> prometheus::Gauge {
    let options = Opts::new("umbel_build_info", "1, labelled with the node's name and version.")
        .const_label("node", name)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let gauge = prometheus::Gauge::with_opts(options).expect("name and label are constants");
    gauge.set(1.0);
    gauge
}

/// A page with every metric and what it means. `deploy/metrics.md` is this text.
pub(crate) fn reference() -> String {
    let rules = ["chat.*".to_owned()];
    let workers = vec![Arc::default()];
    let registry = registry("", &rules, workers, Arc::default(), Some(Arc::default()));
    let register = |collector| {
        registry.register(collector).expect("names are constants and differ");
    };
    register(Box::new(log::Counts::new()));
    for counter in trace::Counts::new().into_counters() {
        register(Box::new(counter));
    }
    let mut page = INTRODUCTION.to_owned();
    for family in registry.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let name = family.name();
        let labels = labels(&family);
        writeln!(page, "| `{name}` | {kind} | {labels} | {} |", family.help())
            .expect("a String takes everything");
    }
    page
}

/// The labels of a family and their values, where these are of a closed set.
fn labels(family: &MetricFamily) -> String {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in family.get_metric().iter().flat_map(Metric::get_label) {
        let known = values.entry(pair.name()).or_default();
        if !known.contains(&pair.value()) {
            known.push(pair.value());
        }
    }
    let label = |(name, values): (&str, Vec<&str>)| match name {
        "rule" | "worker" | "version" | "node" => format!("`{name}`"),
        _ => format!("`{name}`: {}", values.join(", ")),
    };
    values.into_iter().map(label).collect::<Vec<_>>().join("; ")
}

const INTRODUCTION: &str = "\
# Metrics

What a node exports at `/metrics` of its admin listener, in the text format of Prometheus. `umbel reference
--metrics` prints this page.

- Series are there from the start, at 0, and none comes or goes by what clients do (but `process_*` can't be had when
  descriptors have run out): a node has some 330, and
  1000 with twenty topic rules.
- `rule` is the pattern of a topic rule, `**` if there are no rules; rules past the twentieth share `other`.
  `worker` is the number of an event loop; those past the 32nd share `other`.
- Histograms have buckets at 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250 and 500 ms, 1 s and 5 s.
- What workers count they hand over four times a second.
- `umbel_broker_*` are there only if the broker is Redis, `umbel_spans_*` only if traces are exported.

| metric | type | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn the_page_in_the_repository_is_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/metrics.md");
        let page = std::fs::read_to_string(path).expect("deploy/metrics.md");
        assert!(page == reference(), "write it anew: make reference");
    }

    /// How many lines a scrape has besides comments.
    fn series(rules: usize, workers: usize) -> usize {
        let rules: Vec<_> = (0..rules).map(|rule| format!("rule.{rule}")).collect();
        let workers = (0..workers).map(|_| Arc::default()).collect();
        let registry = registry("", &rules, workers, Arc::default(), Some(Arc::default()));
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn a_node_has_less_than_2000_series_however_large_it_is() {
        let largest = series(21, 128);
        assert!(largest < 2000, "{largest}");
        assert!((300..600).contains(&series(1, 2)), "{}", series(1, 2));
        assert!((1000..1200).contains(&series(21, 2)), "{}", series(21, 2));
    }

    #[test]
    fn a_metric_without_labels_or_with_labels_of_closed_sets_is_explained() {
        let page = reference();
        for line in [
            "| `umbel_topics` | gauge |  | Topics with subscriptions, counted once per worker. |",
            "| `umbel_broker_up` | gauge |  | 1 while the last probe of the link to Redis came back, else 0. |",
            "| `umbel_messages_received_total` | counter | `source`: http, session | Messages that publishers gave this node and the broker took. |",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
    }
}
