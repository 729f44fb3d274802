//! The subcommand `run`: a scenario, from its file to its result.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::report;
use super::result::Run;
use super::run::directory::Directory;
use super::run::plan::Plan;
use super::run::{course, outcome, verdicts};
use super::scenario::{FleetWork, Kind, Scenario};
use crate::bench::machine::Machine;
use crate::cli::{FleetArgs, PAYLOAD_BYTES, RunArgs, Transport};
use crate::fleet;
use crate::interrupt::Interrupted;

/// Patience of a fleet, as its own subcommand has it.
const FLEET_PATIENCE_SECONDS: f64 = 60.0;

/// Runs what `args` name; a run that misses one of its targets fails, whatever it measured.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let Scenario { name, kind, .. } = Scenario::read(&args.scenario, &args.set)?;
    match kind {
        Kind::Work(work) => run_work(&Plan::new(&name, *work, args)?, args),
        Kind::Fleet(work) => fleet::run(&fleet_args(&work, args)?),
    }
}

fn run_work(plan: &Plan, args: &RunArgs) -> Result<ExitCode> {
    plan.check_machine()?;
    // Before this thread is pinned: it counts the cores.
    let machine = Machine::describe(args.umbel.as_deref().unwrap_or(Path::new("")))?;
    let directory = Directory::make()?;
    let done = course::run(plan, &directory).and_then(|ended| outcome::of(plan, machine, ended));
    let run = match done {
        Ok(run) => run,
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => return Err(error.context(kept(directory))),
    };
    if let Some(path) = &args.out {
        write(path, &serde_json::to_string_pretty(&run)?)?;
    }
    if let Some(path) = &args.html {
        write(path, &report::html(std::slice::from_ref(&run)))?;
    }
    print(&run, args.json)?;
    if verdicts::all_reached(&run) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}", kept(directory));
    Ok(ExitCode::FAILURE)
}

fn kept(directory: Directory) -> String {
    format!("What servers said is in {}", directory.keep().display())
}

fn print(run: &Run, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(run)?);
    } else {
        print!("{}", report::table(run));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// The same flags as `fleet` has.
fn fleet_args(work: &FleetWork, args: &RunArgs) -> Result<FleetArgs> {
    let umbel = args.umbel.clone().context("a fleet is one of nodes: --umbel PATH is needed")?;
    let pinned = args.server_core.or(args.load_core).is_some();
    ensure!(!pinned, "a fleet has all cores: without --server-core and --load-core");
    ensure!(args.html.is_none() && !args.json, "a fleet's results have neither --html nor --json");
    Ok(FleetArgs {
        umbel,
        sessions: work.sessions,
        nodes: None,
        holders: None,
        transport: Transport::Websocket,
        heartbeat: work.heartbeat_seconds,
        pace: work.pace,
        hold: work.hold_seconds,
        messages: work.messages,
        payload: PAYLOAD_BYTES,
        patience_seconds: FLEET_PATIENCE_SECONDS,
        out: args.out.clone(),
        node_env: Vec::new(),
    })
}
