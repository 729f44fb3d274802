//! The command line.

mod completions;
mod health;
mod help;
mod outcome;
mod publish;
mod subscribe;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Mistakes, Settings, Sources};
use crate::log::Log;
use crate::node::{Asked, Node};
use outcome::{EXIT_MISTAKES, exit_code, print};

/// One message in, every subscriber out: pub/sub fan-out over WebSocket and SSE.
#[derive(Debug, Parser)]
#[command(name = "umbel", version, args_conflicts_with_subcommands = true, after_help = help::UMBEL)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node; what `umbel` alone does too
    #[command(after_help = help::SERVE)]
    Serve(Serve),
    /// Publish messages
    Publish(publish::Publish),
    /// Print messages as they come
    Subscribe(subscribe::Subscribe),
    /// Ask a node whether it is live, or ready
    Health(health::Health),
    /// Say what is wrong with the settings, or what they are
    #[command(after_help = help::CHECK_CONFIG)]
    CheckConfig(Serve),
    /// Print every setting with its default, as a file for --config
    Reference(Reference),
    /// Print the functions that topics with history need in Redis
    #[command(after_help = help::REDIS_LIBRARY)]
    RedisLibrary,
    /// Print a script that completes command lines
    Completions(completions::Completions),
}

#[derive(Debug, Args)]
struct Reference {
    /// Print every metric and what it means instead, as a page
    #[arg(long)]
    metrics: bool,
}

/// The settings that one types by hand; `umbel reference` prints all.
#[derive(Debug, Args)]
struct Serve {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here for clients and publishers [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Listen here for operators: metrics and health [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// What carries messages between publishers and nodes [default: memory:]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// How many event loops, each on a thread of its own [default: one per core]
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(flags)) => serve(flags),
        Some(Command::Publish(flags)) => publish::run(flags),
        Some(Command::Subscribe(flags)) => subscribe::run(flags),
        Some(Command::Health(flags)) => health::run(flags),
        Some(Command::CheckConfig(flags)) => check_config(flags),
        Some(Command::Reference(Reference { metrics: true })) => {
            exit_code(print(&crate::admin::reference()))
        }
        Some(Command::Reference(_)) => exit_code(print(&config::reference())),
        Some(Command::RedisLibrary) => exit_code(print(umbel_broker::LIBRARY)),
        Some(Command::Completions(flags)) => completions::run(&flags),
    }
}

fn check_config(flags: Serve) -> ExitCode {
    let (settings, mistakes) = Settings::load(&flags.sources());
    if !mistakes.is_empty() {
        return tell(&mistakes);
    }
    exit_code(print(&settings.effective()))
}

fn serve(flags: Serve) -> ExitCode {
    let (settings, mut mistakes) = Settings::load(&flags.sources());
    let bound = Node::bind(settings, &mut mistakes);
    let Some(node) = bound.filter(|_| mistakes.is_empty()) else {
        return tell(&mistakes);
    };
    // Held to the end, so that the last lines are written.
    let log = match Log::start(node.settings()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("umbel: the log can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let node = node.with_log(&log);
    print!("{}", banner(&node));
    let mut signals = Signals::default();
    match node.run(async move || signals.next().await) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "The node has failed");
            ExitCode::FAILURE
        }
    }
}

impl Serve {
    fn sources(self) -> Sources {
        let flags = [
            ("--listen", "listen.http", self.listen),
            ("--admin", "listen.admin", self.admin),
            ("--broker", "broker.url", self.broker),
            ("--workers", "node.workers", self.workers),
        ];
        let given = flags.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value?)));
        Sources { file: self.config, environment: config::environment(), flags: given.collect() }
    }
}

fn tell(mistakes: &Mistakes) -> ExitCode {
    for mistake in mistakes.iter() {
        eprintln!("umbel: {mistake}");
    }
    ExitCode::from(EXIT_MISTAKES)
}

fn banner(node: &Node) -> String {
    let (http, admin) = (node.http_address(), node.admin_address());
    let (version, workers) = (env!("CARGO_PKG_VERSION"), node.worker_count());
    let broker = node.broker();
    let plural = if workers == 1 { "" } else { "s" };
    format!(
        "Umbel {version} listens on http://{http} with {workers} worker{plural}, broker {broker}\n\
         Watch it in a browser: http://{admin}/ (also /metrics /livez /readyz)\n\
         \n\
         Subscribe in a terminal:       curl -N http://{http}/topics/news\n\
         or in a browser's console:     new WebSocket('ws://{http}/topics/news').onmessage = m => console.log(m.data)\n\
         Publish:                       curl -d hello http://{http}/topics/news\n"
    )
}

/// The signals by which a process is asked to end. They are caught from the first call on.
#[derive(Debug, Default)]
struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    /// Whether SIGTERM came before.
    is_asked: bool,
}

impl Signals {
    /// What the next one asks for: SIGTERM comes from service managers, which wait, a second one from
    /// who doesn't any more; SIGINT from people, who don't like to.
    ///
    /// Cancel safe.
    async fn next(&mut self) -> Asked {
        let caught = |kind| signal(kind).expect("both can be caught on every Unix");
        let terminate = self.terminate.get_or_insert_with(|| caught(SignalKind::terminate()));
        let interrupt = self.interrupt.get_or_insert_with(|| caught(SignalKind::interrupt()));
        tokio::select! {
            _ = terminate.recv() => {
                let again = std::mem::replace(&mut self.is_asked, true);
                if again { Asked::Hurry } else { Asked::Drain }
            }
            _ = interrupt.recv() => {
                tracing::info!("Stopping");
                Asked::Stop
            }
        }
    }
}
