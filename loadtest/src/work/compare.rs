//! Two results against each other: `compare`.

pub mod benches;
pub mod differences;
pub mod runs;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::report::grid::{Cell, grid};
use super::report::markup::Markup;
use super::report::number::Unit;
use super::report::table::one_line;
use super::report::{Sources, directory, page};
use super::result::Run;
use crate::bench::recorded::Recorded;
use crate::cli::CompareArgs;
use differences::Difference;

/// Times and CPU that differ by less than this may well be the same.
const NOISE: f64 = 0.1;

/// Both results, figure by figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What both are.
    pub names: (String, String),
    /// Where their conditions differ.
    pub differences: Vec<Difference>,
    /// The figures that both have.
    pub rows: Vec<Row>,
}

/// One figure of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Of the first result.
    pub a: f64,
    /// Of the second.
    pub b: f64,
    /// Whether it is measured time or CPU.
    pub noisy: bool,
}

/// `compare`: prints it, and makes a page if asked for.
pub fn run(args: &CompareArgs) -> Result<ExitCode> {
    let (a, b) = (Kind::read(&args.a)?, Kind::read(&args.b)?);
    let (comparison, runs) = match (a, b) {
        (Kind::Run(a), Kind::Run(b)) => (runs::comparison(&a, &b), vec![*a, *b]),
        (Kind::Bench(a), Kind::Bench(b)) => (benches::comparison(&a, &b), Vec::new()),
        _ => bail!(
            "one of {} and {} is of a run, the other of the cost bench",
            args.a.display(),
            args.b.display()
        ),
    };
    print!("{}", comparison.text());
    if let Some(out) = &args.html {
        let sources = Sources { runs, comparison: Some(comparison), ..Sources::default() };
        let page = page::page("Load test: comparison", &sources);
        fs::write(out, page).with_context(|| format!("can't write {}", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file may be.
enum Kind {
    Run(Box<Run>),
    Bench(Box<Recorded>),
}

impl Kind {
    fn read(path: &Path) -> Result<Self> {
        let text = directory::text(path)?;
        let error = match serde_json::from_str(&text) {
            Ok(run) => return Ok(Self::Run(run)),
            Err(error) => error,
        };
        if let Ok(bench) = Recorded::parse(&text) {
            return Ok(Self::Bench(Box::new(bench)));
        }
        let what = "is neither the result of a run nor of the cost bench";
        Err(error).with_context(|| format!("{} {what}", path.display()))
    }
}

impl Row {
    /// The second divided by the first, if that is a number.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.b / self.a).filter(|ratio| ratio.is_finite())
    }

    /// What the ratio means: whether it may be noise.
    fn note(&self) -> &'static str {
        let within = self.ratio().is_some_and(|ratio| (ratio - 1.0).abs() < NOISE);
        if self.noisy && within { "within noise" } else { "" }
    }

    fn shown(&self) -> [String; 4] {
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        [self.unit.show(self.a), self.unit.show(self.b), ratio, self.note().to_owned()]
    }
}

impl Comparison {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "A  {}\nB  {}\n", one_line(&self.names.0), one_line(&self.names.1));
        for Difference { key, a, b } in &self.differences {
            let _ = writeln!(text, "differs: {key}: {} / {}", one_line(a), one_line(b));
        }
        let _ = writeln!(text, "{}", self.caution());
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let width = width.max(32);
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = &row.group;
                let head = one_line(group);
                let _ = writeln!(text, "\n{head:<width$}  {:>14}{:>14}{:>9}", "A", "B", "B/A");
            }
            let [a, b, ratio, note] = row.shown();
            let name = one_line(&row.name);
            let line = format!("  {name:<width$}{a:>14}{b:>14}{ratio:>9}  {note}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// For a page.
    pub fn section(&self, page: &mut Markup, place: &str) {
        page.within("section", &[("id", &place)], |page| {
            page.element("h2", &[], "Comparison");
            page.element("p", &[], format_args!("A: {}", self.names.0));
            page.element("p", &[], format_args!("B: {}", self.names.1));
            page.element("p", &[("class", &"note")], self.caution());
            if !self.differences.is_empty() {
                let row = |Difference { key, a, b }: &Difference| {
                    vec![Cell::text(key), Cell::text(a), Cell::text(b)]
                };
                let rows: Vec<_> = self.differences.iter().map(row).collect();
                grid(page, &["differs", "A", "B"], &rows);
            }
            let row = |row: &Row| {
                let [a, b, ratio, note] = row.shown();
                let [a, b, ratio] = [a, b, ratio].map(Cell::number);
                vec![Cell::text(&row.group), Cell::text(&row.name), a, b, ratio, Cell::text(note)]
            };
            let rows: Vec<_> = self.rows.iter().map(row).collect();
            grid(page, &["", "figure", "A", "B", "B/A", ""], &rows);
        });
    }

    fn caution(&self) -> &'static str {
        if self.differences.is_empty() {
            "Workload, machine and commit are the same."
        } else {
            "What differs above has a part in all ratios below."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(a: f64, b: f64, noisy: bool) -> [String; 4] {
        let text = String::new;
        Row { group: text(), name: text(), unit: Unit::Plain, a, b, noisy }.shown()
    }

    #[test]
    fn small_differences_of_what_is_measured_may_be_noise() {
        assert_eq!(row(1.0, 1.09, true)[2..], ["1.09", "within noise"]);
        assert_eq!(row(1.0, 0.91, true)[2..], ["0.91", "within noise"]);
        assert_eq!(row(1.0, 1.11, true)[2..], ["1.11", ""]);
        assert_eq!(row(1.0, 0.5, true)[2..], ["0.50", ""]);
        assert_eq!(row(100.0, 101.0, false)[2..], ["1.01", ""], "a count has no noise");
    }

    #[test]
    fn without_a_first_figure_there_is_no_ratio() {
        assert_eq!(row(0.0, 0.0, true), ["0", "0", "", ""]);
        assert_eq!(row(0.0, 5.0, false), ["0", "5.00", "", ""]);
    }
}
