//! Adds the workers' recorders up when a scrape asks for them.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter as CounterValue, Gauge as GaugeValue, Histogram as HistogramValue, LabelPair,
    Metric, MetricFamily,
};

use crate::family::{Cells, Combine, Over};
use crate::{BUCKETS, Counter, Family, Gauge, Histogram};

/// How many workers have series of their own. Those beyond share one, so that the number of series
/// doesn't grow with the machine.
const OWN_SERIES: usize = 32;

/// The label by which workers are told apart.
const WORKER: &str = "worker";

impl<W: 'static> Family<W> {
    fn collect(&self, workers: &[Arc<W>]) -> MetricFamily {
        let metrics = match self.over {
            Over::Node => self
                .combinations()
                .enumerate()
                // A value that stands for nothing has no series.
                .filter(|(_, labels)| labels.iter().all(|label| !label.value().is_empty()))
                .map(|(at, labels)| labelled(self.merged(workers, at, Combine::Sum), labels))
                .collect(),
            Over::Workers(combine) => {
                let (own, rest) = workers.split_at(workers.len().min(OWN_SERIES));
                let each = own.iter().enumerate().map(|(index, worker)| {
                    let metric = self.merged(std::slice::from_ref(worker), 0, combine);
                    labelled(metric, vec![pair(WORKER, &index.to_string())])
                });
                let others = (!rest.is_empty())
                    .then(|| labelled(self.merged(rest, 0, combine), vec![pair(WORKER, "other")]));
                each.chain(others).collect()
            }
        };
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.metric_type());
        family.set_metric(metrics);
        family
    }

    /// The cells of several workers, at one combination of labels, as one metric.
    fn merged(&self, workers: &[Arc<W>], at: usize, combine: Combine) -> Metric {
        match &self.cells {
            Cells::Counter(read) => counter_metric(workers.iter().map(|w| read(w, at)), 1.0),
            Cells::Seconds(read) => counter_metric(workers.iter().map(|w| read(w, at)), 1e6),
            Cells::Gauge(read) => gauge_metric(workers.iter().map(|w| read(w, at)), combine),
            Cells::Histogram(read) => histogram_metric(workers.iter().map(|w| read(w, at))),
        }
    }

    /// All combinations of the values of its labels, the last label's changing fastest.
    fn combinations(&self) -> impl Iterator<Item = Vec<LabelPair>> {
        let count: usize = self.labels.iter().map(|label| label.values.len()).product();
        (0..count).map(|at| {
            let mut rest = at;
            let mut pairs: Vec<_> = self
                .labels
                .iter()
                .rev()
                .map(|label| {
                    let value = &label.values[rest % label.values.len()];
                    rest /= label.values.len();
                    pair(label.name, value)
                })
                .collect();
            pairs.reverse();
            pairs
        })
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn labelled(mut metric: Metric, labels: Vec<LabelPair>) -> Metric {
    metric.set_label(labels);
    metric
}

#[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
fn counter_metric<'c>(cells: impl Iterator<Item = &'c Counter>, per_unit: f64) -> Metric {
    let mut value = CounterValue::default();
    value.set_value(cells.map(Counter::get).sum::<u64>() as f64 / per_unit);
    let mut metric = Metric::default();
    metric.set_counter(value);
    metric
}

fn gauge_metric<'c>(cells: impl Iterator<Item = &'c Gauge>, combine: Combine) -> Metric {
    let values = cells.map(Gauge::get);
    let mut value = GaugeValue::default();
    value.set_value(match combine {
        Combine::Sum => values.sum(),
        Combine::Max => values.fold(f64::NEG_INFINITY, f64::max),
        Combine::Min => values.fold(f64::INFINITY, f64::min),
    });
    let mut metric = Metric::default();
    metric.set_gauge(value);
    metric
}

#[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
fn histogram_metric<'c>(cells: impl Iterator<Item = &'c Histogram>) -> Metric {
    let mut counts = [0_u64; BUCKETS.len() + 1];
    let mut sum_micros = 0_u64;
    for cell in cells {
        for (total, count) in counts.iter_mut().zip(cell.counts()) {
            *total += count;
        }
        sum_micros += cell.sum_micros();
    }
    let mut cumulated = 0;
    let bucket = |(count, bound): (&u64, &f64)| {
        cumulated += count;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(cumulated);
        bucket.set_upper_bound(*bound);
        bucket
    };
    let mut value = HistogramValue::default();
    value.set_bucket(counts.iter().zip(&BUCKETS).map(bucket).collect());
    value.set_sample_count(counts.iter().sum());
    value.set_sample_sum(sum_micros as f64 / 1e6);
    let mut metric = Metric::default();
    metric.set_histogram(value);
    metric
}

/// The recorders of all workers as one collector.
pub struct Merged<W> {
    families: Vec<Family<W>>,
    descriptions: Vec<Desc>,
    workers: Vec<Arc<W>>,
}

impl<W: 'static> Merged<W> {
    /// Reads `families` from `workers` at each scrape.
    pub fn new(families: Vec<Family<W>>, workers: Vec<Arc<W>>) -> Self {
        let describe = |family: &Family<W>| {
            let names = family.label_names().into_iter().map(str::to_owned).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), names, HashMap::new())
                .expect("names and help texts are constants, and tested")
        };
        Self { descriptions: families.iter().map(describe).collect(), families, workers }
    }
}

impl<W: Send + Sync + 'static> Collector for Merged<W> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families.iter().map(|family| family.collect(&self.workers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counters, LabelSet, Transport};
    use prometheus::{Registry, TextEncoder};

    #[derive(Default)]
    struct Worker {
        accepted: Counter,
        opened: Counters<Transport>,
        open: [Gauge; 2],
        by_rule: [Counter; 4],
        lag: Gauge,
        turns: Counter,
        latency: Histogram,
        latency_by_rule: [[Histogram; 4]; 2],
    }

    fn families() -> Vec<Family<Worker>> {
        let rules = ["a", "b.*", "", "other"].map(str::to_owned);
        vec![
            Family::counter("t_accepted_total", "Accepted.", |w| &w.accepted),
            Family::counters("t_opened_total", "Opened.", "transport", |w| &w.opened),
            Family::gauges("t_open", "Open.", "transport", |w, transport: Transport| {
                &w.open[transport.index()]
            }),
            Family::counters_by("t_rule_total", "By rule.", ("rule", &rules), |w, at| {
                &w.by_rule[at]
            }),
            Family::gauge_per_worker("t_lag", "Lag.", Combine::Max, |w| &w.lag),
            Family::seconds_per_worker("t_busy_seconds_total", "Busy.", |w| &w.turns),
            Family::counter_per_worker("t_turns_total", "Turns.", |w| &w.turns),
            Family::histogram("t_latency_seconds", "Latency.", |w| &w.latency),
            Family::histograms_by(
                "t_rule_seconds",
                "Latency.",
                "transport",
                ("rule", &rules),
                |w, transport: Transport, at| &w.latency_by_rule[transport.index()][at],
            ),
        ]
    }

    fn scrape(workers: &[Arc<Worker>]) -> String {
        let registry = Registry::new();
        registry.register(Box::new(Merged::new(families(), workers.to_vec()))).unwrap();
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    fn assert_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_scrape_adds_the_workers_up() {
        let workers = [Arc::new(Worker::default()), Arc::new(Worker::default())];
        workers[0].accepted.add(2);
        workers[1].accepted.add(3);
        workers[1].opened.of(Transport::Sse).add(7);
        workers[0].open[0].set_count(4);
        workers[1].by_rule[1].add(9);
        workers[1].lag.set(0.5);
        workers[1].turns.add(6);
        workers[0].latency.observe(200, 1);
        workers[1].latency.observe(9_000_000, 1);
        workers[1].latency_by_rule[1][3].observe(3, 5);
        assert_lines(
            &scrape(&workers),
            &[
                "t_accepted_total 5",
                "t_opened_total{transport=\"sse\"} 7",
                "t_opened_total{transport=\"websocket\"} 0",
                "t_open{transport=\"websocket\"} 4",
                "t_rule_total{rule=\"b.*\"} 9",
                "t_rule_total{rule=\"a\"} 0",
                "t_lag{worker=\"0\"} 0",
                "t_lag{worker=\"1\"} 0.5",
                "t_turns_total{worker=\"1\"} 6",
                "t_busy_seconds_total{worker=\"1\"} 0.000006",
                "t_latency_seconds_bucket{le=\"0.00025\"} 1",
                "t_latency_seconds_bucket{le=\"5\"} 1",
                "t_latency_seconds_bucket{le=\"+Inf\"} 2",
                "t_latency_seconds_sum 9.0002",
                "t_latency_seconds_count 2",
                "t_rule_seconds_count{transport=\"sse\",rule=\"other\"} 5",
                "t_rule_seconds_count{transport=\"sse\",rule=\"b.*\"} 0",
                "t_rule_seconds_count{transport=\"websocket\",rule=\"other\"} 0",
            ],
        );
        assert!(!scrape(&workers).contains("rule=\"\""));
    }

    #[test]
    fn workers_beyond_the_last_with_series_of_their_own_share_one() {
        let workers: Vec<_> = (0..OWN_SERIES + 3).map(|_| Arc::<Worker>::default()).collect();
        for (index, worker) in workers.iter().enumerate() {
            worker.lag.set_count(index);
            worker.turns.add(1);
        }
        let text = scrape(&workers);
        assert_lines(
            &text,
            &[
                "t_lag{worker=\"31\"} 31",
                "t_lag{worker=\"other\"} 34",
                "t_turns_total{worker=\"other\"} 3",
            ],
        );
        assert!(!text.contains("worker=\"32\""));
    }
}
