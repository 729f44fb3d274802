//! Compares a node with the baseline, case by case, in alternating rounds of fresh processes.

pub mod arm;
pub mod case;
pub mod cases;
pub mod lab;
pub mod machine;
pub mod recorded;
pub mod redis;
pub mod results;
pub mod server;
mod settings;
pub mod spread;
pub mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{BenchArgs, Source};
use crate::interrupt;
use crate::os::cores::{self, Affinity};
use arm::{Arm, Sample};
use case::Case;
use lab::Lab;
use machine::Machine;
use results::{CaseResult, Results, Round};

/// Rounds of a full run, and of a quick one.
const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 3;
/// Every so many rounds the naive server is measured too: it only shows the distance.
const NAIVE_EVERY: usize = 3;

/// Runs all chosen cases; writes the results after each.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let cases = cases::select(&args.cases, args.quick, args.source, args.history)?;
    let machine = Machine::describe(&args.umbel)?;
    let out = out_directory(args, &machine)?;
    let mut lab = Lab::new(args, Affinity::of_this_thread()?, out.clone())?;
    cores::pin_to(args.load_core)?;
    let mut results = Results::new(machine, args);
    println!("{}", table::preface(&results));
    println!("{}", table::HEAD);
    for case in &cases {
        let result = measure(case, args, &mut lab)?;
        println!("{}", table::rows(&result));
        results.cases.push(result);
        results.write(&out)?;
    }
    println!("\nWritten to {}", out.display());
    Ok(if results.cases.iter().any(CaseResult::failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Results of a part of the cases, or of short windows, don't replace those of a full run.
fn out_directory(args: &BenchArgs, machine: &Machine) -> Result<PathBuf> {
    let part = if args.quick || !args.cases.is_empty() { "-partial" } else { "" };
    let source = match args.source {
        Source::Http => "",
        Source::Redis => "-redis",
    };
    let history = if args.history { "-history" } else { "" };
    let name = || format!("{}-{}{source}{history}{part}", machine.day(), machine.name);
    let default = || PathBuf::from("loadtest/results").join(name());
    let out = args.out.clone().unwrap_or_else(default);
    std::fs::create_dir_all(&out)
        .with_context(|| format!("can't make the directory {}", out.display()))?;
    Ok(out)
}

/// Runs the rounds of one case. A case that fails is told and the others go on; an interrupt ends all.
fn measure(case: &Case, args: &BenchArgs, lab: &mut Lab) -> Result<CaseResult> {
    let mut result = CaseResult::new(case);
    let rounds = args.rounds.unwrap_or(if args.quick { QUICK_ROUNDS } else { ROUNDS });
    for number in 0..rounds.min(case.most_rounds) {
        match round(case, number, lab) {
            Ok(round) => result.rounds.push(round),
            Err(error) => {
                interrupt::check()?;
                result.error = Some(format!("{error:#}"));
                break;
            }
        }
    }
    result.summarise(&case.beside);
    Ok(result)
}

/// One measurement of each arm, in an order that changes every round.
fn round(case: &Case, number: usize, lab: &mut Lab) -> Result<Round> {
    let mut measure = |arm: &Arm| -> Result<Sample> {
        let sample = lab.measure(case, arm);
        sample.with_context(|| format!("round {} of {}", number + 1, arm))
    };
    let node_first = number.is_multiple_of(2);
    let (node, against) = if node_first {
        let node = measure(&case.node)?;
        (node, measure(&case.against)?)
    } else {
        let against = measure(&case.against)?;
        (measure(&case.node)?, against)
    };
    let naive = case.naive.as_ref().filter(|_| number.is_multiple_of(NAIVE_EVERY));
    let naive = naive.map(measure).transpose()?;
    Ok(Round { node_first, node, against, naive })
}
