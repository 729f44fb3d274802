//! A run as plain text for a terminal.

use std::fmt::Write;

use super::figures::{about_times, figures, times, title};
use super::number::{Unit, float};
use crate::work::result::{Run, Verdict};

/// All that a run says.
pub fn table(run: &Run) -> String {
    let mut text = String::new();
    head(&mut text, run);
    values(&mut text, run);
    grid(&mut text, run);
    if let Some(note) = about_times(run) {
        let _ = writeln!(text, "\n{note}");
    }
    verdicts(&mut text, &run.verdicts);
    list(&mut text, "problems", run.problems.iter().cloned());
    let reasons = run.sessions.reasons.iter();
    list(&mut text, "reasons", reasons.map(|(reason, count)| format!("{count} × {reason}")));
    text
}

fn head(text: &mut String, run: &Run) {
    let machine = &run.machine;
    let cores = format!("{} × {}, {} MiB", machine.cores, machine.cpu, machine.memory_mib);
    let window = format!("{} s", super::number::significant(run.seconds));
    for (name, value) in [
        ("scenario", &run.scenario),
        ("about", &run.workload.about),
        ("target", &run.target),
        ("machine", &format!("{}, {cores}, Linux {}", machine.name, machine.kernel)),
        ("date", &machine.date),
        ("commit", &machine.commit),
        ("command", &run.command),
        ("window", &window),
    ] {
        let _ = writeln!(text, "{name:<10}{}", one_line(value));
    }
}

fn values(text: &mut String, run: &Run) {
    let mut group = "";
    for figure in figures(run) {
        if figure.group != group {
            group = figure.group;
            let _ = writeln!(text, "\n{group}");
        }
        let value = figure.value.map_or("unknown".to_owned(), |value| figure.unit.show(value));
        let _ = writeln!(text, "  {:<34}{value:>14}", figure.name);
    }
}

/// A line for each distribution.
fn grid(text: &mut String, run: &Run) {
    let times = times(run);
    let Some((_, first)) = times.first() else { return };
    let _ = write!(text, "\n{:<16}{:>14}", "times", "count");
    for (name, _) in first.named() {
        let _ = write!(text, "{name:>10}");
    }
    text.push('\n');
    for (name, times) in times {
        let count = Unit::Count.show(float(times.count));
        let _ = write!(text, "  {:<14}{count:>14}", one_line(&title(name)));
        for (_, micros) in times.named() {
            let _ = write!(text, "{:>10}", Unit::Time.show(micros));
        }
        text.push('\n');
    }
}

fn verdicts(text: &mut String, verdicts: &[Verdict]) {
    let lines = verdicts.iter().map(|Verdict { target, found, reached }| {
        let word = if *reached { "reached" } else { "missed" };
        format!("{word:<8} {target}: {found}")
    });
    list(text, "verdicts", lines);
}

fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n{title}");
    }
    for line in lines {
        let _ = writeln!(text, "  {}", one_line(&line));
    }
}

/// Text of others can't move the cursor or begin lines.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::runs;
    use super::*;
    use crate::work::file::Pace;

    fn line<'a>(text: &'a str, begin: &str) -> &'a str {
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {text}"))
    }

    #[test]
    fn the_table_has_what_a_reader_looks_for() {
        let text = table(&runs::run("fanout", "umbel 0.1.0", 1.0));
        let words = |begin| line(&text, begin).split_whitespace().collect::<Vec<_>>();
        assert_eq!(words("scenario"), ["scenario", "fanout"]);
        assert_eq!(words("delivery ratio"), ["delivery", "ratio", "100", "%"]);
        assert_eq!(words("deliveries per second"), ["deliveries", "per", "second", "100,000/s"]);
        assert_eq!(words("Redis"), ["Redis", "unknown"]);
        assert_eq!(words("times")[..3], ["times", "count", "min"]);
        assert_eq!(words("delivery  ")[..4], ["delivery", "1,000,000", "100", "µs"]);
        assert_eq!(words("reached")[..2], ["reached", "delivery"]);
        assert!(!text.contains("problems"), "{text}");
    }

    #[test]
    fn a_closed_loop_says_why_it_has_no_latencies() {
        let mut run = runs::run("fanout", "umbel", 1.0);
        assert!(!table(&run).contains("closed loop"));
        run.workload.pace = Pace::Closed { at_hand: 1, pause_seconds: 0.0 };
        assert!(line(&table(&run), "A closed loop").contains("aren't latencies"));
        run.workload.publish = None;
        assert!(!table(&run).contains("closed loop"));
    }

    #[test]
    fn what_went_wrong_is_told() {
        let mut run = runs::run("fanout", "umbel", 1.0);
        run.verdicts[0].reached = false;
        run.problems = vec!["Redis\x1b[2J went away".to_owned()];
        run.sessions.reasons.insert("HTTP 503".to_owned(), 7);
        run.messages.delivery_ratio = 0.999_999_9;
        let text = table(&run);
        assert!(line(&text, "missed").contains("delivery ratio"), "{text}");
        assert!(text.contains("problems\n  Redis [2J went away\n"), "{text}");
        assert!(text.contains("reasons\n  7 × HTTP 503\n"), "{text}");
        assert!(line(&text, "delivery ratio").ends_with("99.9999 %"), "{text}");
    }
}
