//! Results as the table that is printed and written to `bench.md`.

use super::arm::Subject;
use super::case::{Figure, Target};
use super::results::{CaseResult, Results, Summary};
use super::spread::{Spread, Verdict};

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
        "# Node against baseline\n\n\
         - Date: {date}, commit {commit}; node: {node}; load test {loadtest}\n\
         - Machine: {name}, {cpu}, {cores} cores, {memory} MiB, Linux {kernel}, TCP {tcp}\n\
         - Run: {length}; server on core {server}, load on core {load}\n\
         - Command: `{command}`\n\n\
         All three servers take their messages by the same HTTP POST with one JSON object per line, and all are measured \
         by the same load. Figures are medians, with quartiles in parentheses; a ratio is the median of the ratios of each \
         round. Core: time in which the server's core wasn't idle, softirq included, which on loopback has the \
         receivers' TCP input too. Load: what the load's core did, per what the other server's did.\n",
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
        command = results.command.join(" "),
    )
}

/// The whole page.
pub fn page(results: &Results) -> String {
    let rows: Vec<String> = results.cases.iter().map(row).collect();
    format!("{}\n{HEAD}\n{}\n", preface(results), rows.join("\n"))
}

/// The line of one case.
pub fn row(result: &CaseResult) -> String {
    let title = format!("{} (`{}`)", result.title, result.name);
    let figures = match (&result.summary, &result.error) {
        (Some(summary), None) => summed(result, summary),
        (_, error) => {
            let error = error.as_deref().unwrap_or("it had no rounds").replace('|', "\\|");
            format!("| | | | {} | failed: {error} | | |", target(result.target))
        }
    };
    format!("| {title} | {} {figures}", result.figure.unit())
}

fn summed(result: &CaseResult, summary: &Summary) -> String {
    let show = |spread: &Spread| with_quartiles(spread, decimals(result.figure, spread.median));
    let ratio = with_quartiles(&summary.ratio, 2);
    let other = match result.compared_with.subject {
        Subject::Baseline => "baseline".to_owned(),
        _ => result.compared_with.to_string(),
    };
    format!(
        "| {node} | {other} {against} | {ratio} | {target} | {verdict} | {naive} | {load} | {rounds} |",
        node = show(&summary.node),
        against = show(&summary.against),
        target = target(result.target),
        verdict = summary.verdict.word(),
        naive = summary.naive.as_ref().map_or(String::new(), |naive| plain(
            naive.median,
            decimals(result.figure, naive.median)
        )),
        load = summary.load.map_or(String::new(), |load| plain(load, 2)),
        rounds = rounds(result, summary),
    )
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
        }
    }
}

fn target(target: Target) -> String {
    match target {
        Target::Ratio(ratio) => format!("{ratio:.2}"),
        Target::Absolute(most) => format!("{most:.0}"),
    }
}

/// Three significant digits or so.
fn decimals(figure: Figure, value: f64) -> usize {
    match figure {
        Figure::LatencyP99 | Figure::RssPerSession => 0,
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
