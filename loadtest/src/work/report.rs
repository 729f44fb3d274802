//! What runs came to, for people: a table for the terminal, a page for everybody.
//!
//! The page is one file of HTML with its charts in it, without a script and without anything that it would fetch.
//! [`markup`] is the only part that writes text of others, and escapes all of it.

pub mod benched;
pub mod beside;
pub mod chart;
pub mod directory;
pub mod figures;
pub mod grid;
pub mod held;
pub mod markup;
pub mod number;
pub mod page;
pub mod peers;
pub mod percentiles;
pub mod ratios;
pub mod run;
#[cfg(test)]
#[path = "../../tests/reporting/runs.rs"]
pub(super) mod runs;
pub mod series;
pub mod table;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::compare::Comparison;
use super::result::Run;
use crate::bench::recorded::Recorded;
use crate::bench::spread::Verdict;
use crate::cli::ReportArgs;
use crate::fleet::results::Results;
use peers::Peers;
pub use table::table;

/// All that a page is made of.
#[derive(Debug, Default)]
pub struct Sources {
    /// Runs, in the order in which they are shown.
    pub runs: Vec<Run>,
    /// The cost bench.
    pub bench: Option<Recorded>,
    /// Fleets, in the order of their files' names.
    pub fleets: Vec<Results>,
    /// Other systems.
    pub peers: Option<Peers>,
    /// Two results against each other.
    pub comparison: Option<Comparison>,
    /// What couldn't be shown.
    pub notes: Vec<String>,
}

/// One target, for the list at the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of what.
    pub of: String,
    /// Where the page has it.
    pub place: String,
    /// What was aimed at.
    pub target: String,
    /// What came.
    pub found: String,
    /// Whether it was reached.
    pub verdict: Verdict,
}

impl Sources {
    /// Nothing to show.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.bench.is_none()
            && self.fleets.is_empty()
            && self.peers.is_none()
            && self.comparison.is_none()
    }
}

/// A page of `runs`.
pub fn html(runs: &[Run]) -> String {
    page::page("Load test", &Sources { runs: runs.to_vec(), ..Sources::default() })
}

/// `report`: a page of all results in a directory.
pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    let sources = directory::read(&args.directory)?;
    for note in &sources.notes {
        eprintln!("Note: {note}");
    }
    ensure!(!sources.is_empty(), "there are no results in {}", args.directory.display());
    let out = args.out.clone().unwrap_or_else(|| args.directory.join("report.html"));
    let name = args.directory.canonicalize().ok();
    let name = name.as_deref().and_then(|path| path.file_name());
    let name = name.map_or("results".into(), |name| name.to_string_lossy().into_owned());
    let page = page::page(&format!("Load test: {name}"), &sources);
    fs::write(&out, page).with_context(|| format!("can't write {}", out.display()))?;
    println!("Written to {}", out.display());
    Ok(ExitCode::SUCCESS)
}
