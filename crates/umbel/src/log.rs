//! The node's log: lines to the standard error, for people or as JSON.
//!
//! Whoever logs makes the line and leaves it in a bounded buffer; a thread of the log's own writes
//! it ([`pipe`]). So a standard error that nobody reads costs lines, which are counted, and holds up
//! no worker. What can be said as often as a client likes is held to a quota ([`quota`]). What is
//! logged can be changed while the node runs ([`control`]).

mod control;
mod counts;
mod filter;
mod format;
mod panics;
mod pipe;
mod quota;

pub(crate) use control::{Control, InForce};
pub(crate) use counts::Counts;
pub use filter::LogFilter;
pub use format::LogFormat;

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::Settings;
use crate::machine;
pub(crate) use format::this_is_worker;
use format::{Format, Head};
use pipe::Pipe;
use quota::Quotas;

/// How often the log looks after what is due by time, while anything may be.
const TICK: Duration = Duration::from_secs(1);

/// How long the end of the process waits for lines to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// The log of the process. When it is dropped, what was logged is written, for a second at most.
#[derive(Debug)]
pub struct Log {
    lines: Arc<Lines>,
    control: Arc<Control>,
}

/// What an operator sees of a log.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) control: Arc<Control>,
    pub(crate) counts: Counts,
}

/// What all threads leave their lines with.
#[derive(Debug)]
struct Lines {
    format: Format,
    quotas: Quotas,
    pipe: Pipe,
    counts: Counts,
}

/// Hears what is logged.
struct Listener(Arc<Lines>);

impl Log {
    /// Starts the process's log. There is one: a second is an error.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let is_terminal = io::stderr().is_terminal();
        let name = settings.node_name.clone().unwrap_or_else(machine::name);
        let lines = Arc::new(Lines::new(Format::new(settings.log.format, is_terminal, name)));
        let filter = settings.log.filter.clone();
        let (layer, handle) = reload::Layer::new(filter.build());
        let control = Arc::new(Control::new(handle, filter));
        Registry::default()
            .with(layer)
            .with(Listener(lines.clone()))
            .try_init()
            .map_err(io::Error::other)?;
        let writes = lines.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writes.write_to(&mut io::stderr()))?;
        panics::hear(lines.counts.panics.clone());
        Ok(Self { lines, control })
    }

    pub(crate) fn desk(&self) -> Desk {
        Desk { control: self.control.clone(), counts: self.lines.counts.clone() }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.pipe.close(FLUSH_DEADLINE);
    }
}

impl Lines {
    fn new(format: Format) -> Self {
        Self { format, quotas: Quotas::default(), pipe: Pipe::default(), counts: Counts::new() }
    }

    fn put(&self, level: Level, line: &[u8]) {
        if self.pipe.push(line) {
            self.counts.written(level);
        } else {
            self.counts.dropped.inc();
        }
    }

    /// Writes what is logged until the log is closed.
    fn write_to(&self, out: &mut impl Write) {
        let mut seen_dropped = 0;
        loop {
            let patience = (!self.quotas.is_empty()).then_some(TICK);
            let (mut batch, is_last) = self.pipe.take(patience);
            for owed in self.quotas.sweep(Instant::now(), is_last) {
                let head = Head::of(owed.metadata);
                let text = "More lines like this one were suppressed";
                let line = self.format.notice(&head, text, owed.count, &owed.like);
                self.counts.written(*owed.metadata.level());
                batch.extend_from_slice(&line);
            }
            let dropped = self.counts.dropped.get();
            if dropped > seen_dropped && !batch.is_empty() {
                let head = Head { level: Level::WARN, target: module_path!() };
                let text = "Lines were lost: the standard error took nothing in";
                batch.extend(self.format.notice(&head, text, dropped - seen_dropped, ""));
                self.counts.written(Level::WARN);
            }
            match lost_of(&batch, out) {
                0 if !batch.is_empty() => seen_dropped = dropped,
                // The next that can be written says so.
                lost => self.counts.dropped.inc_by(lost),
            }
            self.pipe.wrote(batch, is_last);
            if is_last {
                return;
            }
        }
    }
}

/// Writes lines; how many of them, counting one of which a part is missing, couldn't be written.
fn lost_of(lines: &[u8], out: &mut impl Write) -> u64 {
    let mut rest = lines;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => break,
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    rest.split_inclusive(|byte| *byte == b'\n').count() as u64
}

impl<S: Subscriber> Layer<S> for Listener {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let is_allowed = self.0.quotas.allows(event, Instant::now());
        if !is_allowed {
            self.0.counts.suppressed.inc();
        }
        is_allowed
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.put(*event.metadata().level(), &self.0.format.line(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Arc<Lines> {
        Arc::new(Lines::new(Format::new(LogFormat::Json, false, "n".to_owned())))
    }

    fn warn_of(number: u32) {
        tracing::warn!(number, "Flooded");
    }

    /// What the log wrote, line by line.
    fn written(lines: &Lines) -> Vec<serde_json::Value> {
        lines.pipe.end();
        let mut out = Vec::new();
        lines.write_to(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_flood_from_one_place_is_held_to_its_quota_and_others_are_heard() {
        let lines = lines();
        let subscriber = Registry::default().with(Listener(lines.clone()));
        tracing::subscriber::with_default(subscriber, || {
            (0..1000).for_each(warn_of);
            tracing::warn!("Another");
        });
        let suppressed = 1000 - u64::from(quota::LINES);
        assert_eq!(lines.counts.suppressed.get(), suppressed);
        let written = written(&lines);
        let of = |text: &str| written.iter().filter(|line| line["message"] == text).count();
        assert_eq!((of("Flooded"), of("Another")), (quota::LINES as usize, 1));
        let notice = written.last().unwrap();
        assert_eq!(notice["suppressed"], suppressed, "{notice}");
        assert_eq!((&notice["like"], &notice["level"]), (&"Flooded".into(), &"WARN".into()));
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let lines = lines();
        let long = vec![b'x'; pipe::CAPACITY / 2 + 1];
        lines.put(Level::INFO, &long);
        lines.put(Level::INFO, &long);
        assert_eq!(lines.counts.dropped.get(), 1);
        let mut out = Vec::new();
        lines.pipe.end();
        lines.write_to(&mut out);
        let text = String::from_utf8(out).unwrap();
        let notice: serde_json::Value = serde_json::from_str(text.trim_matches('x')).unwrap();
        assert_eq!(notice["suppressed"], 1);
    }

    /// Takes so many bytes, then no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.0);
            self.0 -= count;
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_can_not_be_written_is_counted_as_dropped() {
        let lines = lines();
        (0..4).for_each(|_| lines.put(Level::INFO, b"line\n"));
        lines.pipe.end();
        // One whole line, and a part of the second.
        lines.write_to(&mut Full(7));
        assert_eq!(lines.counts.dropped.get(), 3);
    }

    #[test]
    fn whoever_silences_the_log_is_heard() {
        let (lines, filter) = (lines(), |text| LogFilter::parse(text).unwrap());
        let (layer, handle) = reload::Layer::new(filter("info").build());
        let control = Control::new(handle, filter("info"));
        let subscriber = Registry::default().with(layer).with(Listener(lines.clone()));
        tracing::subscriber::with_default(subscriber, || {
            control.set(filter("off"), None);
            tracing::error!("Unheard");
            control.set(filter("info"), None);
        });
        let written = written(&lines);
        let filters: Vec<_> = written.iter().map(|line| line["filter"].as_str()).collect();
        assert_eq!(filters, [Some("off"), Some(filter("info").as_str())]);
    }

    #[test]
    fn a_panic_is_a_line_and_counted() {
        let lines = lines();
        let subscriber = Registry::default().with(Listener(lines.clone()));
        let default = std::panic::take_hook();
        panics::hear(lines.counts.panics.clone());
        let panicked = std::thread::spawn(|| {
            tracing::subscriber::with_default(subscriber, || panic!("a mistake"));
        });
        assert!(panicked.join().is_err());
        std::panic::set_hook(default);
        // Tests that fail at the same time may have come by.
        assert!(lines.counts.panics.get() >= 1);
        let written = written(&lines);
        assert_eq!(
            (&written[0]["level"], &written[0]["fault"]),
            (&"ERROR".into(), &"a mistake".into())
        );
        assert!(written[0]["location"].as_str().unwrap().contains("log.rs:"), "{}", written[0]);
    }
}
