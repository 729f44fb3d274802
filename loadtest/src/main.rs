//! `umbel-loadtest`: starts comparison servers, runs scenarios, compares nodes.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use umbel_loadtest::baseline::Baseline;
use umbel_loadtest::bench;
use umbel_loadtest::cli::{Cli, Command, CostArgs, ServeArgs, Server};
use umbel_loadtest::empty::Empty;
use umbel_loadtest::fleet;
use umbel_loadtest::interrupt;
use umbel_loadtest::naive::Naive;
use umbel_loadtest::os::stop::Stop;
use umbel_loadtest::os::{cores, descriptors};
use umbel_loadtest::report;
use umbel_loadtest::work;

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("umbel-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    descriptors::raise_limit().context("can't raise the limit of open descriptors")?;
    match command {
        Command::Serve(args) => serve(args),
        Command::Cost(args) => run_scenario(args),
        Command::Bench(args) => {
            interrupt::watch()?;
            bench::run(args)
        }
        Command::Fleet(args) => {
            interrupt::watch()?;
            fleet::run(args)
        }
        Command::Compare(args) => work::compare::run(args),
        Command::Report(args) => work::report::run(args),
        Command::Run(args) => {
            interrupt::watch()?;
            work::coordinator::run(args)
        }
        Command::Scenarios => list_scenarios(),
        Command::HoldWork => work::holder::run().map(|()| ExitCode::SUCCESS),
        Command::Hold => fleet::holder::run().map(|()| ExitCode::SUCCESS),
    }
}

/// Serves until a signal ends the process.
fn serve(args: &ServeArgs) -> Result<ExitCode> {
    let place = || format!("can't serve at {}", args.listen);
    let channels = args.channels()?;
    let keeps = args.keep.is_none() || args.server == Server::Baseline;
    ensure!(keeps, "only the baseline keeps messages: no other server has --keep");
    match args.server {
        Server::Baseline => {
            let server = Baseline::bind(args.listen).with_context(place)?;
            let server = match args.keep {
                None => server,
                Some(messages) => server.keeping(usize::try_from(messages)?),
            };
            match &channels {
                None => server,
                Some(channels) => server.fed_by(channels)?,
            }
            .run(&Stop::new()?)
        }
        Server::Naive => {
            let server = Naive::bind(args.listen).with_context(place)?;
            match channels {
                None => server,
                Some(channels) => server.fed_by(channels),
            }
            .run(std::future::pending())
        }
        Server::Empty => {
            ensure!(channels.is_none(), "the empty server does nothing: it needs no --redis");
            Empty::bind(args.listen).with_context(place)?.run(std::future::pending())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A run that isn't clean fails, whatever it measured.
fn run_scenario(args: &CostArgs) -> Result<ExitCode> {
    let plan = args.plan()?;
    plan.check()?;
    interrupt::watch()?;
    args.load_core.map(cores::pin_to).transpose()?;
    let outcome = plan.run()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("{}", report::table(&outcome));
    }
    Ok(if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list_scenarios() -> Result<ExitCode> {
    for scenario in work::scenario::built_in()? {
        println!("{:14} {}", scenario.name, scenario.about);
    }
    Ok(ExitCode::SUCCESS)
}
