//! What is exported: names, meanings, labels, and where a worker keeps it.

use prometheus::proto::MetricType;

use crate::{Counter, Counters, Gauge, Histogram, Histograms, LabelSet};

/// One metric family: its name, its help text, and where a worker `W` keeps it.
pub struct Family<W> {
    /// The exported name.
    pub name: &'static str,
    /// What it means and in which unit.
    pub help: &'static str,
    pub(crate) labels: Vec<Label>,
    pub(crate) over: Over,
    pub(crate) cells: Cells<W>,
}

/// A label and its values.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<String>,
}

/// What a series is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over {
    /// All workers together.
    Node,
    /// One worker each: for what must not hide in a sum.
    Workers(Combine),
}

/// How gauges of several workers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// They add up.
    Sum,
    /// The largest counts.
    Max,
    /// The smallest counts.
    Min,
}

/// Finds a cell of a worker; the number is that of the combination of label values.
type Read<W, T> = Box<dyn Fn(&W, usize) -> &T + Send + Sync>;

pub(crate) enum Cells<W> {
    Counter(Read<W, Counter>),
    /// Kept in microseconds, exported in seconds.
    Seconds(Read<W, Counter>),
    Gauge(Read<W, Gauge>),
    Histogram(Read<W, Histogram>),
}

/// A label whose values are known when the program starts: its name and the values.
pub type KnownLabel<'v> = (&'static str, &'v [String]);

/// Ties the lifetime of what a closure returns to the worker that it reads.
fn read<W, T>(read: impl for<'w> Fn(&'w W, usize) -> &'w T + Send + Sync + 'static) -> Read<W, T> {
    Box::new(read)
}

impl Label {
    fn of<L: LabelSet>(name: &'static str) -> Self {
        Self { name, values: L::ALL.iter().map(|label| label.as_label().to_owned()).collect() }
    }

    fn known((name, values): KnownLabel<'_>) -> Self {
        Self { name, values: values.to_vec() }
    }
}

impl<W: 'static> Family<W> {
    fn new(name: &'static str, help: &'static str, labels: Vec<Label>, cells: Cells<W>) -> Self {
        Self { name, help, labels, over: Over::Node, cells }
    }

    /// A counter, added up over the workers.
    pub fn counter(name: &'static str, help: &'static str, of: fn(&W) -> &Counter) -> Self {
        Self::new(name, help, Vec::new(), Cells::Counter(read(move |worker, _| of(worker))))
    }

    /// A counter per label, added up over the workers.
    pub fn counters<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        of: fn(&W) -> &Counters<L>,
    ) -> Self {
        let cells = read(move |worker, at| of(worker).of(L::ALL[at]));
        Self::new(name, help, vec![Label::of::<L>(label)], Cells::Counter(cells))
    }

    /// A counter per value of a known label, added up over the workers.
    pub fn counters_by(
        name: &'static str,
        help: &'static str,
        label: KnownLabel<'_>,
        of: fn(&W, usize) -> &Counter,
    ) -> Self {
        Self::new(name, help, vec![Label::known(label)], Cells::Counter(read(of)))
    }

    /// A counter with one series per worker, labelled `worker`.
    pub fn counter_per_worker(
        name: &'static str,
        help: &'static str,
        of: fn(&W) -> &Counter,
    ) -> Self {
        let over = Over::Workers(Combine::Sum);
        Self { over, ..Self::counter(name, help, of) }
    }

    /// Seconds that add up, kept in microseconds.
    pub fn seconds(name: &'static str, help: &'static str, of: fn(&W) -> &Counter) -> Self {
        Self::new(name, help, Vec::new(), Cells::Seconds(read(move |worker, _| of(worker))))
    }

    /// The same with one series per worker.
    pub fn seconds_per_worker(
        name: &'static str,
        help: &'static str,
        of: fn(&W) -> &Counter,
    ) -> Self {
        Self { over: Over::Workers(Combine::Sum), ..Self::seconds(name, help, of) }
    }

    /// A gauge, added up over the workers.
    pub fn gauge(name: &'static str, help: &'static str, of: fn(&W) -> &Gauge) -> Self {
        Self::new(name, help, Vec::new(), Cells::Gauge(read(move |worker, _| of(worker))))
    }

    /// A gauge per label, added up over the workers.
    pub fn gauges<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        of: fn(&W, L) -> &Gauge,
    ) -> Self {
        let cells = read(move |worker, at| of(worker, L::ALL[at]));
        Self::new(name, help, vec![Label::of::<L>(label)], Cells::Gauge(cells))
    }

    /// A gauge with one series per worker, labelled `worker`; on machines with very many cores some
    /// share one.
    pub fn gauge_per_worker(
        name: &'static str,
        help: &'static str,
        combine: Combine,
        of: fn(&W) -> &Gauge,
    ) -> Self {
        Self { over: Over::Workers(combine), ..Self::gauge(name, help, of) }
    }

    /// A histogram in seconds, added up over the workers.
    pub fn histogram(name: &'static str, help: &'static str, of: fn(&W) -> &Histogram) -> Self {
        Self::new(name, help, Vec::new(), Cells::Histogram(read(move |worker, _| of(worker))))
    }

    /// A histogram in seconds per label, added up over the workers.
    pub fn histograms<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        of: fn(&W) -> &Histograms<L>,
    ) -> Self {
        let cells = read(move |worker, at| of(worker).of(L::ALL[at]));
        Self::new(name, help, vec![Label::of::<L>(label)], Cells::Histogram(cells))
    }

    /// A histogram in seconds per label and value of a known label, added up over the workers.
    pub fn histograms_by<L: LabelSet>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        known: KnownLabel<'_>,
        of: fn(&W, L, usize) -> &Histogram,
    ) -> Self {
        let count = known.1.len();
        let cells = read(move |worker, at| of(worker, L::ALL[at / count], at % count));
        let labels = vec![Label::of::<L>(label), Label::known(known)];
        Self::new(name, help, labels, Cells::Histogram(cells))
    }

    /// The names of its labels.
    pub fn label_names(&self) -> Vec<&'static str> {
        match self.over {
            Over::Node => self.labels.iter().map(|label| label.name).collect(),
            Over::Workers(_) => vec!["worker"],
        }
    }

    /// The values of its labels, as far as they are known beforehand.
    pub fn label_values(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.labels.iter().map(|label| (label.name, &label.values[..]))
    }

    /// What kind of metric it is.
    pub fn metric_type(&self) -> MetricType {
        match self.cells {
            Cells::Counter(_) | Cells::Seconds(_) => MetricType::COUNTER,
            Cells::Gauge(_) => MetricType::GAUGE,
            Cells::Histogram(_) => MetricType::HISTOGRAM,
        }
    }
}
