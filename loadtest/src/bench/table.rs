//! Results as the table that is printed and written to `bench.md`.

use super::arm::Subject;
use super::case::{Figure, Target};

use super::results::{Beside, CaseResult, Results, Sides, Summary};
use super::settings::{KEPT_MESSAGES, KEPT_SECONDS};
use super::spread::{Spread, Verdict};
use crate::cli::Source;

/// The head of the table.
pub const HEAD: &str = "\
| case | figure | node | compared with | ratio | target | verdict | naive | load | rounds |
|---|---|---|---|---|---|---|---|---|---|";

/// What must be known before the table is read.
pub fn preface(results: &Results) -> String {
    let machine = &results.machine;
    let length =
        if results.quick { "quick: short windows, few rounds, a first look only" } else { "full" };
    format!(
        "# Node against baseline{on}\n\n\
         - Date: {date}, commit {commit}; node: {node}; load test {loadtest}\n\
         - Machine: {name}, {cpu}, {cores} cores, {memory} MiB, Linux {kernel}, TCP {tcp}\n\
         - Run: {length}; server on core {server}, load on core {load}\n\
         - Source: {source}\n{history}\
         - Command: `{command}`\n\n\
         All three servers take their messages in the same way, and all are measured by the same load. Figures are \
         medians, with quartiles in parentheses; a ratio is the median of the ratios of each round. Core: time in which \
         the server's core wasn't idle, softirq included, which on loopback has the receivers' TCP input too. Load: what \
         the load's core did, per what the other server's did.\n",
        on = match (results.redis.is_some(), results.history) {
            (false, false) => "",
            (false, true) => ", with history",
            (true, false) => ", from Redis",
            (true, true) => ", from Redis with history",
        },
        date = machine.date,
        commit = machine.commit,
        node = machine.node,
        loadtest = machine.loadtest,
        name = machine.name,
        cpu = machine.cpu,
        cores = machine.cores,
        memory = machine.memory_mib,
        kernel = machine.kernel,
        tcp = machine.congestion_control,
        server = results.server_core,
        load = results.load_core,
        source = source(results),
        history = history(results),
        command = results.command.join(" "),
    )
}

fn source(results: &Results) -> String {
    match &results.redis {
        None => "HTTP POST to the server, one JSON object per line".to_owned(),
        Some(version) => format!(
            "PUBLISH on Redis {version}, pipelined, all messages at hand in one write; redis-server is private and new for \
             each measurement, on core {} beside the load, so that nothing of it is in the server's core",
            results.load_core
        ),
    }
}

/// What is different where the node's topics keep history.
fn history(results: &Results) -> String {
    let by = match (results.history, results.source) {
        (false, _) => return String::new(),
        (true, Source::Http) => "",
        (true, Source::Redis) => {
            ", and its messages come by FCALL umbel_publish instead of PUBLISH"
        }
    };
    format!(
        "- History: all topics of the node keep {KEPT_MESSAGES} messages for {KEPT_SECONDS} s{by}; the other servers' keep none\n"
    )
}

/// The whole page.
pub fn page(results: &Results) -> String {
    let rows: Vec<String> = results.cases.iter().map(rows).collect();
    format!("{}\n{HEAD}\n{}\n", preface(results), rows.join("\n"))
}

/// The lines of one case: that which is judged, and what explains it.
pub fn rows(result: &CaseResult) -> String {
    let title = format!("{} (`{}`)", result.title, result.name);
    let figures = match (&result.summary, &result.error) {
        (Some(summary), None) => summed(result, summary),
        (_, error) => {
            let error = error.as_deref().unwrap_or("it had no rounds").replace('|', "\\|");
            format!("| | | | {} | failed: {error} | | |", target(result.target))
        }
    };
    let first = format!("| {title} | {} {figures}", result.figure.unit());
    let beside = result.beside.iter().map(|beside| explained(result, beside));
    std::iter::once(first).chain(beside).collect::<Vec<_>>().join("\n")
}

fn summed(result: &CaseResult, summary: &Summary) -> String {
    format!(
        "{sides} | {target} | {verdict} | {naive} | {load} | {rounds} |",
        sides = compared(result, result.figure, &summary.sides),
        target = target(result.target),
        verdict = summary.verdict.word(),
        naive = naive(result.figure, &summary.sides),
        load = summary.load.map_or(String::new(), |load| plain(load, 2)),
        rounds = rounds(result, summary),
    )
}

fn explained(result: &CaseResult, beside: &Beside) -> String {
    let Beside { figure, sides } = beside;
    let (compared, naive) = (compared(result, *figure, sides), naive(*figure, sides));
    format!("| the same (`{}`) | {} {compared} | | | {naive} | | |", result.name, figure.unit())
}

/// Both sides and their ratio.
fn compared(result: &CaseResult, figure: Figure, sides: &Sides) -> String {
    let show = |spread: &Spread| with_quartiles(spread, decimals(figure, spread.median));
    let other = match result.compared_with.subject {
        Subject::Baseline => "baseline".to_owned(),
        _ => result.compared_with.to_string(),
    };
    let (node, against) = (show(&sides.node), show(&sides.against));
    format!("| {node} | {other} {against} | {}", with_quartiles(&sides.ratio, 2))
}

fn naive(figure: Figure, sides: &Sides) -> String {
    let median = sides.naive.as_ref().map(|naive| naive.median);
    median.map_or(String::new(), |median| plain(median, decimals(figure, median)))
}

/// How many rounds count, and how many don't.
fn rounds(result: &CaseResult, summary: &Summary) -> String {
    let (all, Summary { counted, disturbed, .. }) = (result.rounds.len(), summary);
    match disturbed {
        0 => all.to_string(),
        _ if *counted < all => format!("{counted} of {all}, the others disturbed"),
        _ => format!("{all}, all disturbed"),
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "**missed**",
            Self::Undecided => "undecided",
            Self::Unjudged => "",
        }
    }
}

/// A target for people.
pub fn target(target: Target) -> String {
    match target {
        Target::Ratio(ratio) => format!("{ratio:.2}"),
        Target::Absolute(most) => format!("{most:.0}"),
        Target::RatioAtLeast(ratio) => format!("≥ {ratio:.2}"),
        Target::AtLeast(least) => format!("≥ {least:.0}"),
        Target::None => String::new(),
    }
}

/// Three significant digits or so.
fn decimals(figure: Figure, value: f64) -> usize {
    match figure {
        Figure::LatencyP99
        | Figure::RssPerSession
        | Figure::MessagesPerSecond
        | Figure::RequestsPerSecond => 0,
        _ if value < 1.0 => 4,
        _ => 2,
    }
}

fn plain(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

fn with_quartiles(spread: &Spread, decimals: usize) -> String {
    let Spread { lower_quartile, median, upper_quartile } = spread;
    format!("{median:.decimals$} ({lower_quartile:.decimals$}–{upper_quartile:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        assert_eq!(plain(2.3456, decimals(Figure::CorePerDelivery, 2.3456)), "2.35");
        assert_eq!(plain(0.04567, decimals(Figure::CorePerDelivery, 0.04567)), "0.0457");
        assert_eq!(plain(5136.4, decimals(Figure::LatencyP99, 5136.4)), "5136");
        let spread = Spread { lower_quartile: 1.0, median: 1.25, upper_quartile: 1.5 };
        assert_eq!(with_quartiles(&spread, 2), "1.25 (1.00–1.50)");
    }
}
