//! What the log counts. Any thread may log, so these are atomics and not a worker's cells.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts};
use tracing::Level;

/// Lines by what became of them.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    families: IntCounterVec,
    /// Written, by level from `ERROR` on.
    written: [IntCounter; LEVELS.len()],
    pub(super) suppressed: IntCounter,
    pub(super) dropped: IntCounter,
    /// Not lines, but what each logs one of.
    pub(super) panics: IntCounter,
}

const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

impl Counts {
    pub(crate) fn new() -> Self {
        let options = Opts::new("umbel_log_events_total", "Lines logged.");
        let families =
            IntCounterVec::new(options, &["level"]).expect("name and label are constants");
        let counter = |name: &str, help| IntCounter::new(name, help).expect("names are constants");
        Self {
            written: LEVELS.map(|(_, label)| families.with_label_values(&[label])),
            families,
            suppressed: counter(
                "umbel_log_events_suppressed_total",
                "Lines not logged, since their place in the code had logged enough.",
            ),
            dropped: counter(
                "umbel_log_events_dropped_total",
                "Lines lost, since the standard error took nothing in.",
            ),
            panics: counter(
                "umbel_panics_total",
                "Panics: mistakes in Umbel itself, of which the log says where.",
            ),
        }
    }

    pub(super) fn written(&self, level: Level) {
        let at = LEVELS.iter().position(|(known, _)| *known == level);
        self.written[at.expect("these are all levels")].inc();
    }
}

impl Collector for Counts {
    fn desc(&self) -> Vec<&Desc> {
        [self.families.desc(), self.suppressed.desc(), self.dropped.desc(), self.panics.desc()]
            .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        [
            self.families.collect(),
            self.suppressed.collect(),
            self.dropped.collect(),
            self.panics.collect(),
        ]
        .concat()
    }
}
