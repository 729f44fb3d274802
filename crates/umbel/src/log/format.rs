//! How a line looks.
//!
//! The fields of a JSON line are flat: what each line has, then what the event says. The worker is
//! known by its thread and not by a span, so that no filter can hide it.

use std::cell::Cell;
use std::fmt::{self, Debug, Write as _};
use std::thread;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Which form lines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people if the standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// How the log writes.
#[derive(Debug)]
pub(super) struct Format {
    is_json: bool,
    has_colours: bool,
    /// The node's name.
    node: String,
}

/// What a line begins with.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) level: Level,
    pub(super) target: &'a str,
}

/// The longest value of a field, in bytes. What clients name is far below it.
const MAX_VALUE_BYTES: usize = 4096;

/// What the log itself says in each line. An event's own field of such a name gets another.
const OWN: [&str; 6] = ["timestamp", "level", "target", "node", "thread", "worker"];

thread_local! {
    static WORKER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has the lines of this thread say that they are a worker's.
pub(crate) fn this_is_worker(index: usize) {
    WORKER.set(Some(index));
}

impl<'a> Head<'a> {
    pub(super) fn of(metadata: &Metadata<'a>) -> Self {
        Self { level: *metadata.level(), target: metadata.target() }
    }
}

impl Format {
    pub(super) fn new(format: LogFormat, is_terminal: bool, node: String) -> Self {
        let is_json = match format {
            LogFormat::Auto => !is_terminal,
            LogFormat::Human => false,
            LogFormat::Json => true,
        };
        Self { is_json, has_colours: is_terminal && !is_json, node }
    }

    /// An event as a line.
    pub(super) fn line(&self, event: &Event<'_>) -> Vec<u8> {
        self.write(&Head::of(event.metadata()), |fields| event.record(fields))
    }

    /// What the log says by itself, of so many lines.
    pub(super) fn notice(&self, head: &Head<'_>, text: &str, count: u64, like: &str) -> Vec<u8> {
        self.write(head, |fields| {
            fields.text("message", text);
            fields.plain("suppressed", count);
            if !like.is_empty() {
                fields.text("like", like);
            }
        })
    }

    fn write(&self, head: &Head<'_>, record: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let mut fields =
            Fields { is_json: self.is_json, message: String::new(), rest: String::new() };
        record(&mut fields);
        fields.text_of_line("node", &self.node);
        let thread = thread::current();
        if let Some(name) = thread.name() {
            fields.text_of_line("thread", name);
        }
        if let Some(worker) = WORKER.get() {
            fields.plain_of_line("worker", worker);
        }
        let (time, level, target) = (now(), head.level, head.target);
        let Fields { message, rest, .. } = fields;
        let line = if self.is_json {
            format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"target\":{}{message}{rest}}}\n",
                json(target)
            )
        } else {
            let (on, off) = if self.has_colours { (colour(level), "\x1b[0m") } else { ("", "") };
            format!("{time} {on}{level:>5}{off} {target}:{message}{rest}\n")
        };
        line.into_bytes()
    }
}

/// The message of an event, as text.
pub(super) fn message(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                self.0 = shown(value);
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

/// The fields of a line as they are written.
pub(super) struct Fields {
    is_json: bool,
    message: String,
    rest: String,
}

impl Fields {
    /// A field of the event with text as its value.
    fn text(&mut self, name: &str, text: &str) {
        if name == "message" && !self.is_json {
            self.message.push(' ');
            escape(&mut self.message, text);
        } else if name == "message" {
            let text = json(text);
            write!(self.message, ",\"message\":{text}").expect("a string takes all text");
        } else {
            self.text_of_line(&own(name), text);
        }
    }

    /// A field of the event whose value needs no quotes.
    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.plain_of_line(&own(name), value);
    }

    fn text_of_line(&mut self, name: &str, text: &str) {
        if self.is_json {
            let (name, text) = (json(name), json(text));
            write!(self.rest, ",{name}:{text}").expect("a string takes all text");
            return;
        }
        write!(self.rest, " {name}=").expect("a string takes all text");
        escape(&mut self.rest, text);
    }

    fn plain_of_line(&mut self, name: &str, value: impl fmt::Display) {
        let written = if self.is_json {
            write!(self.rest, ",{}:{value}", json(name))
        } else {
            write!(self.rest, " {name}={value}")
        };
        written.expect("a string takes all text");
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinities nor NaN.
        if value.is_finite() {
            self.plain(field.name(), value);
        } else {
            self.text(field.name(), &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), &shown(&format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field.name(), &shown(value));
    }
}

fn own(name: &str) -> String {
    if OWN.contains(&name) { format!("event_{name}") } else { name.to_owned() }
}

/// A value as text, cut off where it is too long.
fn shown(value: &dyn Debug) -> String {
    struct Cut(String);
    impl fmt::Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MAX_VALUE_BYTES - self.0.len();
            let fits = text.floor_char_boundary(room);
            self.0.push_str(&text[..fits]);
            if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut cut = Cut(String::new());
    if write!(cut, "{value:?}").is_err() {
        cut.0.push('…');
    }
    cut.0
}

/// Text without what a terminal would take for more than text: a client may have chosen it.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

fn now() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("a string takes all text");
    text
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    struct Keep(Format, Arc<Mutex<Vec<u8>>>);

    impl<S: tracing::Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.1.lock().unwrap().extend(self.0.line(event));
        }
    }

    /// What is logged by `log`, without the time.
    fn line(format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Arc::default();
        let keep = Keep(Format::new(format, false, "edge 1".to_owned()), Arc::clone(&kept));
        let subscriber = tracing_subscriber::Registry::default().with(keep);
        tracing::subscriber::with_default(subscriber, log);
        let line = kept.lock().unwrap().clone();
        String::from_utf8(line).unwrap()
    }

    fn log() {
        let (topic, error) = ("a\n\x1b[31mb", "broken \"pipe\"");
        tracing::warn!(topic, %error, worker = 7, ratio = f64::NAN, ok = true, n = -1, "It {}", "failed");
    }

    #[test]
    fn json_is_flat_and_a_field_never_twice() {
        thread::Builder::new()
            .name("worker-3".to_owned())
            .spawn(|| {
                this_is_worker(3);
                let line = line(LogFormat::Json, log);
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                let mut expected = serde_json::json!({
                    "level": "WARN", "target": module_path!(), "message": "It failed", "topic": "a\n\u{1b}[31mb",
                    "error": "broken \"pipe\"", "event_worker": 7, "ratio": "NaN", "ok": true, "n": -1,
                    "node": "edge 1", "thread": "worker-3", "worker": 3,
                });
                expected["timestamp"] = value["timestamp"].clone();
                assert_eq!(value, expected);
                assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
                assert_eq!(line.matches("\"worker\"").count(), 1);
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn lines_for_people_are_one_line_of_text_alone() {
        let line = line(LogFormat::Human, log);
        let (_, rest) = line.split_once(' ').unwrap();
        let begin = format!(
            " WARN {}: It failed topic=a\\n\\u{{1b}}[31mb error=broken \"pipe\" event_worker=7 ratio=NaN ok=true n=-1 node=edge 1 thread=",
            module_path!()
        );
        assert!(rest.starts_with(&begin), "{rest}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn long_values_are_cut_off() {
        let line = line(LogFormat::Json, || tracing::info!(x = "ä".repeat(5000), "Long"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["x"].as_str().unwrap().len(), MAX_VALUE_BYTES + '…'.len_utf8());
    }
}
