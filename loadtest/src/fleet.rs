//! A fleet of nodes on one Redis that holds very many sessions: the machinery of the `million` scenario.
//!
//! The coordinator starts and owns all processes: Redis, nodes, and holders, which are this program too and have the
//! clients' ends, as a process may have only so many descriptors. All sessions have one topic. They are opened at a
//! pace, held, given messages, and closed; every one of them is accounted for.

pub mod holder;
pub mod nodes;
pub mod orders;
pub mod plan;
pub mod progress;
pub mod publisher;
pub mod reading;
pub mod receipts;
pub mod requirements;
pub mod results;
pub mod sessions;
pub mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::machine::Machine;
use crate::bench::redis::Redis;
use crate::cli::FleetArgs;
use crate::cost::kernel_memory::KernelMemory;
use crate::cost::socket_memory;
use crate::crew::{self, all};
use crate::load::ledger::Integrity;
use crate::os::descriptors;
use crate::os::source_addresses;
use nodes::{NodeCounts, Nodes};
use orders::{Order, Said, State};
use plan::Plan;
use progress::Progress;
use publisher::Publisher;
use reading::Processes;
use receipts::Delivery;
use requirements::{Given, RESERVE};
use results::{Closed, Held, Opened, Results};

/// Time before each message.
const PAUSE: Duration = Duration::from_millis(500);
/// Time for nodes to bring their counts up to date, and to notice that all their clients have gone.
const NOTICED: Duration = Duration::from_mins(1);
/// How often memory is looked at while sessions are opened, and nodes while they end.
const LOOK: Duration = Duration::from_millis(500);

/// Its holders.
type Crew = crew::Crew<Holding>;

/// What they are told and say.
struct Holding;

impl crew::Kind for Holding {
    const SUBCOMMAND: &'static str = "hold";
    type Order = Order;
    type Said = Said;
    type State = State;

    fn state(said: &Said) -> Option<&State> {
        match said {
            Said::State(state) | Said::Opened(state) | Said::Closed { state, .. } => Some(state),
            Said::Listening { .. } | Said::Received(_) => None,
        }
    }

    fn add(sum: &mut State, other: &State) {
        sum.add(other);
    }
}

/// Runs a fleet and writes its results; fails if any session was refused or lost, or missed a message.
pub fn run(args: &FleetArgs) -> Result<ExitCode> {
    let plan = Plan::new(args, descriptors::limit())?;
    let given = Given::read()?;
    let missing = given.missing_for(&plan.need());
    if !missing.is_empty() {
        bail!(
            "this machine isn't ready for {} sessions:\n- {}",
            plan.sessions,
            missing.join("\n- ")
        );
    }
    if let Some(hint) = given.hint_for(&plan.need()) {
        eprintln!("Note: {hint}");
    }
    let machine = Machine::describe(&args.umbel)?;
    let out = out_directory(args, &machine)?;
    let mut results = Results::new(machine, &plan, args);
    println!("{}", table::preface(&results));
    let logs = Logs::new(&out)?;
    let mut fleet = Fleet::start(plan, args, &logs.0)?;
    fleet.run(&mut results)?;
    let failed = !results.problems.is_empty();
    drop(fleet);
    println!("{}", table::text(&results));
    results.write(&out)?;
    println!("\nWritten to {}", out.display());
    if !failed {
        logs.remove();
        return Ok(ExitCode::SUCCESS);
    }
    println!("What the processes said is in {}", logs.0.display());
    Ok(ExitCode::FAILURE)
}

fn out_directory(args: &FleetArgs, machine: &Machine) -> Result<PathBuf> {
    let name = || format!("{}-{}-fleet", machine.day(), machine.name);
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("loadtest/results").join(name()));
    let made = std::fs::create_dir_all(&out);
    made.with_context(|| format!("can't make the directory {}", out.display()))?;
    Ok(out)
}

/// Where processes say what they have to say; it stays when something went wrong.
struct Logs(PathBuf);

impl Logs {
    fn new(out: &Path) -> Result<Self> {
        let path = out.join("logs");
        std::fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }

    fn remove(self) {
        // Nothing depends on it.
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// All that runs. Holders are ended first, then nodes, then Redis.
struct Fleet {
    crew: Crew,
    nodes: Nodes,
    redis: Redis,
    processes: Processes,
    plan: Plan,
    progress: Progress,
}

impl Fleet {
    fn start(plan: Plan, args: &FleetArgs, logs: &Path) -> Result<Self> {
        let redis = Redis::start(&logs.join("redis.log"))?;
        let nodes = Nodes::start(&plan, &args.umbel, &args.node_env, redis.channels(), logs);
        let nodes = nodes.with_context(|| format!("its output is in {}", logs.display()))?;
        let crew = Crew::start(plan.holders)?;
        let processes = Processes { nodes: nodes.pids(), holders: crew.pids(), redis: redis.pid() };
        let limit = nodes.counts()?.limit;
        ensure!(
            limit >= float(plan.sessions as u64),
            "all nodes together take {limit} sessions (umbel_sessions_limit), less than {}",
            plan.sessions
        );
        let progress = Progress::new();
        Ok(Self { crew, nodes, redis, processes, plan, progress })
    }

    /// All phases. What goes wrong with sessions is a result; what goes wrong with the test is an error.
    fn run(&mut self, results: &mut Results) -> Result<()> {
        let Processes { nodes, holders, redis } = &self.processes;
        eprintln!("Processes: nodes {}, holders {}, Redis {redis}", words(nodes), words(holders));
        let before = self.processes.holding()?;
        results.opened = self.open()?;
        self.progress.clear();
        let (open, hold) = (results.opened.sessions, self.plan.hold);
        eprintln!("{open} sessions are open; they are held for {hold:?}");
        results.held = self.hold()?;
        results.before = before;
        results.after = self.processes.holding()?;
        results.counted_open = self.nodes.counts()?;
        self.publish(results)?;
        let received = float(results.received());
        let delivered = self.counts_when(|counts| counts.delivered >= received)?.delivered;
        let began = Instant::now();
        let integrity = self.close()?;
        let left = self.counts_when(|counts| counts.open <= 0.0)?;
        let seconds = began.elapsed().as_secs_f64();
        results.closed = Closed { seconds, integrity, delivered, left };
        results.ends = self.crew.state();
        results.nodes_ended = self.nodes.ended();
        self.progress.clear();
        results.judge(&self.plan);
        Ok(())
    }

    fn open(&mut self) -> Result<Opened> {
        let addresses = self.nodes.addresses();
        let first = source_addresses::any();
        let began = Instant::now();
        for holder in 0..self.plan.holders {
            let opening = self.plan.opening(holder, &addresses, first)?;
            self.crew.order(holder, &Order::Open(opening))?;
        }
        let (progress, wanted) = (&mut self.progress, self.plan.sessions);
        let mut looked = Instant::now();
        let mut watch = |crew: &Crew| {
            let state = crew.state();
            let rate = progress.rate(state.open);
            progress.tell(|| {
                format!(
                    "opening: {} of {wanted} sessions, {rate:.0}/s, {}",
                    state.open,
                    ends(&state)
                )
            });
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                let left = KernelMemory::read()?.available_bytes;
                ensure!(
                    left > RESERVE,
                    "only {} MiB of memory are left with {} sessions open: the run ends before the machine does",
                    left >> 20,
                    state.open
                );
            }
            Ok(())
        };
        let pick = |said| matches!(said, Said::Opened(_)).then_some(());
        let patience = self.plan.patience;
        let answers = self.crew.answers(patience, pick, &mut watch)?;
        all(answers, "opened all their sessions", patience)?;
        let (seconds, state) = (began.elapsed().as_secs_f64(), self.crew.state());
        Ok(Opened {
            seconds,
            sessions: state.open,
            per_second: float(state.open) / seconds,
            refused: state.refused,
        })
    }

    fn hold(&mut self) -> Result<Held> {
        let counts = self.nodes.counts()?;
        let begin = self.processes.clocks()?;
        let end = Instant::now() + self.plan.hold;
        let progress = &mut self.progress;
        let mut watch = |crew: &Crew| {
            let state = crew.state();
            progress.tell(|| {
                let left = end.saturating_duration_since(Instant::now()).as_secs();
                format!("holding: {} sessions, {left} s to go, {}", state.open, ends(&state))
            });
            Ok(())
        };
        self.crew.listen_until(end, &mut watch)?;
        let cpu = self.processes.clocks()?.since(&begin);
        let heartbeats = self.nodes.counts()?.heartbeats - counts.heartbeats;
        Ok(Held {
            cpu,
            heartbeats_per_second: heartbeats / cpu.wall_seconds,
            lost: self.crew.state().lost,
        })
    }

    fn publish(&mut self, results: &mut Results) -> Result<()> {
        let mut publisher = Publisher::connect(self.redis.channels(), self.plan.payload_bytes)?;
        for sequence in 0..self.plan.messages {
            self.crew.listen_until(Instant::now() + PAUSE, &mut |_| Ok(()))?;
            let begin = self.processes.clocks()?;
            let delivery = self.deliver(&mut publisher, sequence)?;
            let cpu = self.processes.clocks()?.since(&begin);
            results.node_seconds_of_messages += cpu.nodes() * cpu.wall_seconds;
            results.deliveries.push(delivery);
        }
        Ok(())
    }

    /// Publishes one message and waits until all have it.
    fn deliver(&mut self, publisher: &mut Publisher, sequence: u64) -> Result<Delivery> {
        let patience = self.plan.patience;
        self.crew.order_all(&Order::Expect { sequence })?;
        let listening = |said| matches!(said, Said::Listening { .. }).then_some(());
        let answers = self.crew.answers(patience, listening, &mut |_| Ok(()))?;
        all(answers, "listened for a message", patience)?;
        let nodes = publisher.publish(sequence)?;
        let mut tcp_bytes_peak = 0;
        let progress = &mut self.progress;
        let mut watch = |_: &Crew| {
            progress.tell(|| format!("message {}: on its way", sequence + 1));
            tcp_bytes_peak = tcp_bytes_peak.max(socket_memory::read()?);
            Ok(())
        };
        let received = |said| match said {
            Said::Received(receipts) if receipts.sequence == sequence => Some(receipts),
            _ => None,
        };
        let mut answers = self.crew.answers(patience, received, &mut watch)?;
        // Where some lack it, what was received so far counts.
        for (holder, _) in answers.iter().enumerate().filter(|(_, answer)| answer.is_none()) {
            self.crew.order(holder, &Order::Report)?;
        }
        self.crew.answers_to(&mut answers, patience, received, &mut watch)?;
        let receipts = all(answers, "said who has a message", patience)?;
        Delivery::of(nodes, &receipts, tcp_bytes_peak)
    }

    /// What nodes count once they agree, or when they have had time enough to.
    fn counts_when(&mut self, agree: impl Fn(&NodeCounts) -> bool) -> Result<NodeCounts> {
        let deadline = Instant::now() + NOTICED;
        loop {
            let counts = self.nodes.counts()?;
            if agree(&counts) || Instant::now() > deadline {
                return Ok(counts);
            }
            self.crew.listen_until(Instant::now() + LOOK / 5, &mut |_| Ok(()))?;
        }
    }

    /// Closes all; says what came of all messages.
    fn close(&mut self) -> Result<Integrity> {
        let patience = self.plan.patience;
        self.crew.order_all(&Order::Close)?;
        let closed = |said| match said {
            Said::Closed { integrity, .. } => Some(integrity),
            _ => None,
        };
        let answers = self.crew.answers(patience, closed, &mut |_| Ok(()))?;
        let mut sum = Integrity::default();
        for integrity in all(answers, "closed their sessions", patience)? {
            sum += integrity;
        }
        Ok(sum)
    }
}

fn ends(state: &State) -> String {
    format!("{} refused, {} lost", state.refused, state.lost)
}

fn words(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
