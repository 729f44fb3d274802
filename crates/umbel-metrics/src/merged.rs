//! Adds the workers' recorders up when a scrape asks for them.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter as CounterValue, Gauge as GaugeValue, Histogram as HistogramValue, LabelPair,
    Metric, MetricFamily, MetricType,
};

use crate::{BUCKETS, Counter, Counters, Gauge, Histogram, Histograms, LabelSet};

/// One metric family: its name, its help text, and where a worker `W` keeps it.
pub struct Family<W> {
    /// The exported name.
    pub name: &'static str,
    /// What it means and in which unit.
    pub help: &'static str,
    source: Source<W>,
}

type Read<W, T> = Box<dyn Fn(&W) -> &T + Send + Sync>;
type ReadLabelled<W, T> = Box<dyn Fn(&W, usize) -> &T + Send + Sync>;

/// Ties the lifetime of what a closure returns to the worker that it reads.
fn read_labelled<W, T>(
    read: impl for<'w> Fn(&'w W, usize) -> &'w T + Send + Sync + 'static,
) -> ReadLabelled<W, T> {
    Box::new(read)
}

enum Source<W> {
    Counter(Read<W, Counter>),
    Counters(Labels, ReadLabelled<W, Counter>),
    /// Added up over the workers.
    Sum(Read<W, Gauge>),
    Sums(Labels, ReadLabelled<W, Gauge>),
    /// One series per worker: for what must not hide in a sum.
    PerWorker(Read<W, Gauge>),
    Histogram(Read<W, Histogram>),
    Histograms(Labels, ReadLabelled<W, Histogram>),
}

/// The name of a label and its values.
struct Labels {
    name: &'static str,
    values: Vec<&'static str>,
}

impl Labels {
    fn of<L: LabelSet>(name: &'static str) -> Self {
        Self { name, values: L::ALL.iter().map(|label| label.as_label()).collect() }
    }
}

impl<W: 'static> Family<W> {
    fn new(name: &'static str, help: &'static str, source: Source<W>) -> Self {
        Self { name, help, source }
    }

    /// A counter, added up over the workers.
    pub fn counter(name: &'static str, help: &'static str, read: fn(&W) -> &Counter) -> Self {
        Self::new(name, help, Source::Counter(Box::new(read)))
    }

    /// A counter per label, added up over the workers.
    pub fn counters<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: fn(&W) -> &Counters<L>,
    ) -> Self {
        let read = read_labelled(move |worker, at| read(worker).of(L::ALL[at]));
        Self::new(name, help, Source::Counters(Labels::of::<L>(label), read))
    }

    /// A gauge, added up over the workers.
    pub fn gauge(name: &'static str, help: &'static str, read: fn(&W) -> &Gauge) -> Self {
        Self::new(name, help, Source::Sum(Box::new(read)))
    }

    /// A gauge per label, added up over the workers.
    pub fn gauges<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: fn(&W, L) -> &Gauge,
    ) -> Self {
        let read = read_labelled(move |worker, at| read(worker, L::ALL[at]));
        Self::new(name, help, Source::Sums(Labels::of::<L>(label), read))
    }

    /// A gauge with one series per worker, labelled `worker`.
    pub fn gauge_per_worker(
        name: &'static str,
        help: &'static str,
        read: fn(&W) -> &Gauge,
    ) -> Self {
        Self::new(name, help, Source::PerWorker(Box::new(read)))
    }

    /// A histogram in seconds, added up over the workers.
    pub fn histogram(name: &'static str, help: &'static str, read: fn(&W) -> &Histogram) -> Self {
        Self::new(name, help, Source::Histogram(Box::new(read)))
    }

    /// A histogram in seconds per label, added up over the workers.
    pub fn histograms<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: fn(&W) -> &Histograms<L>,
    ) -> Self {
        let read = read_labelled(move |worker, at| read(worker).of(L::ALL[at]));
        Self::new(name, help, Source::Histograms(Labels::of::<L>(label), read))
    }

    fn label(&self) -> Option<&'static str> {
        match &self.source {
            Source::Counters(labels, _)
            | Source::Sums(labels, _)
            | Source::Histograms(labels, _) => Some(labels.name),
            Source::PerWorker(_) => Some("worker"),
            Source::Counter(_) | Source::Sum(_) | Source::Histogram(_) => None,
        }
    }

    fn metric_type(&self) -> MetricType {
        match &self.source {
            Source::Counter(_) | Source::Counters(..) => MetricType::COUNTER,
            Source::Sum(_) | Source::Sums(..) | Source::PerWorker(_) => MetricType::GAUGE,
            Source::Histogram(_) | Source::Histograms(..) => MetricType::HISTOGRAM,
        }
    }

    fn collect(&self, workers: &[Arc<W>]) -> MetricFamily {
        let metrics = match &self.source {
            Source::Counter(read) => vec![counter_metric(workers.iter().map(|w| read(w)))],
            Source::Sum(read) => vec![gauge_metric(workers.iter().map(|w| read(w)))],
            Source::Histogram(read) => vec![histogram_metric(workers.iter().map(|w| read(w)))],
            Source::Counters(labels, read) => {
                labels.each(|at| counter_metric(workers.iter().map(|w| read(w, at))))
            }
            Source::Sums(labels, read) => {
                labels.each(|at| gauge_metric(workers.iter().map(|w| read(w, at))))
            }
            Source::Histograms(labels, read) => {
                labels.each(|at| histogram_metric(workers.iter().map(|w| read(w, at))))
            }
            Source::PerWorker(read) => {
                let metric = |(index, worker): (usize, &Arc<W>)| {
                    labelled(gauge_metric([read(worker)].into_iter()), "worker", &index.to_string())
                };
                workers.iter().enumerate().map(metric).collect()
            }
        };
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.metric_type());
        family.set_metric(metrics);
        family
    }
}

impl Labels {
    fn each(&self, metric: impl Fn(usize) -> Metric) -> Vec<Metric> {
        let values = self.values.iter().enumerate();
        values.map(|(at, value)| labelled(metric(at), self.name, value)).collect()
    }
}

fn labelled(mut metric: Metric, name: &str, value: &str) -> Metric {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    metric.set_label(vec![pair]);
    metric
}

#[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
fn counter_metric<'c>(cells: impl Iterator<Item = &'c Counter>) -> Metric {
    let mut value = CounterValue::default();
    value.set_value(cells.map(Counter::get).sum::<u64>() as f64);
    let mut metric = Metric::default();
    metric.set_counter(value);
    metric
}

fn gauge_metric<'c>(cells: impl Iterator<Item = &'c Gauge>) -> Metric {
    let mut value = GaugeValue::default();
    value.set_value(cells.map(Gauge::get).sum());
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
            let labels = family.label().into_iter().map(str::to_owned).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
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
    use crate::Transport;
    use prometheus::{Registry, TextEncoder};

    #[derive(Default)]
    struct Worker {
        accepted: Counter,
        opened: Counters<Transport>,
        open: [Gauge; 2],
        lag: Gauge,
        latency: Histogram,
    }

    fn families() -> Vec<Family<Worker>> {
        vec![
            Family::counter("t_accepted_total", "Accepted.", |w| &w.accepted),
            Family::counters("t_opened_total", "Opened.", "transport", |w| &w.opened),
            Family::gauges("t_open", "Open.", "transport", |w, transport: Transport| {
                &w.open[transport.index()]
            }),
            Family::gauge_per_worker("t_lag", "Lag.", |w| &w.lag),
            Family::histogram("t_latency_seconds", "Latency.", |w| &w.latency),
        ]
    }

    #[test]
    fn a_scrape_adds_the_workers_up() {
        let workers = [Arc::new(Worker::default()), Arc::new(Worker::default())];
        workers[0].accepted.add(2);
        workers[1].accepted.add(3);
        workers[1].opened.of(Transport::Sse).add(7);
        workers[0].open[0].set_count(4);
        workers[1].lag.set(0.5);
        workers[0].latency.observe(200, 1);
        workers[1].latency.observe(9_000_000, 1);
        let registry = Registry::new();
        registry.register(Box::new(Merged::new(families(), workers.to_vec()))).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "t_accepted_total 5",
            "t_opened_total{transport=\"sse\"} 7",
            "t_opened_total{transport=\"websocket\"} 0",
            "t_open{transport=\"websocket\"} 4",
            "t_lag{worker=\"0\"} 0",
            "t_lag{worker=\"1\"} 0.5",
            "t_latency_seconds_bucket{le=\"0.0001\"} 0",
            "t_latency_seconds_bucket{le=\"0.00025\"} 1",
            "t_latency_seconds_bucket{le=\"5\"} 1",
            "t_latency_seconds_bucket{le=\"+Inf\"} 2",
            "t_latency_seconds_sum 9.0002",
            "t_latency_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
