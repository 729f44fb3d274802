//! The flags of `compare` and `report`.

use std::path::PathBuf;

use clap::Args;

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The first result: of a run, or a bench.json
    pub a: PathBuf,
    /// The second, of the same kind: each ratio is this one's figure divided by the first's
    pub b: PathBuf,
    /// Write a page with both beside each other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where results are: those of runs, bench.json, fleet.json, peers.json
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The page to write [default: report.html in that directory]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}
