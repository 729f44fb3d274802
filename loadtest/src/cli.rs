//! The command line, and what becomes of it: after [`CostArgs::plan`] nothing reads a flag.

mod fleet;
mod report;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::channels::{Channels, PREFIX};
use crate::cost::history_reads::Witnesses;
use crate::load::Manner;
use crate::load::members::At;
use crate::load::pacing::Span;
use crate::load::requests::Form;
use crate::load::target::{Feed, Target};
use crate::scenario::fanout::Fanout;
use crate::scenario::idle::Idle;
use crate::scenario::latency::Latency;
use crate::scenario::publish::Publish;
use crate::scenario::resume::Resume;
use crate::scenario::storm::Storm;
use crate::scenario::subscribe_many::SubscribeMany;
use crate::scenario::throughput::Throughput;
use crate::scenario::unicast::Unicast;
use crate::scenario::{Plan, Scenario};
use crate::wire::subscribe::Dialect;
pub use fleet::{FleetArgs, Transport};
pub use report::{CompareArgs, ReportArgs};
pub use run::RunArgs;

/// Sessions that are being opened at a time.
pub const CONCURRENCY: usize = 128;
/// Size of each message.
pub const PAYLOAD_BYTES: usize = 128;
/// Time without any progress after which a run gives up.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Time between the bursts of 100.
pub const BURST_PAUSE: Duration = Duration::from_millis(20);
/// Messages per second of the latency scenario.
pub const PER_SECOND: u64 = 20;
/// Messages under way in the throughput scenario: some for each topic, so that a server that is behind can join them.
pub const UNDER_WAY: usize = 4000;
/// New topics of the subscribe-many scenario, and the sessions that subscribe to them.
pub const NEW_TOPICS: usize = 10_000;
/// See [`NEW_TOPICS`].
pub const MEMBERS: usize = 100;
/// Connections of the publish scenario, and the requests under way on each.
pub const PUBLISHERS: usize = 16;
/// See [`PUBLISHERS`].
pub const PIPELINED: usize = 32;
/// The same of the publish-batches scenario, and the messages of each request.
pub const PIPELINED_BATCHES: usize = 4;
/// See [`PIPELINED_BATCHES`].
pub const BATCH: usize = 100;
/// Messages that each session of the resume scenario missed.
pub const MISSED: usize = 100;

/// Measures what a fan-out server's core spends per delivery.
#[derive(Debug, Parser)]
#[command(name = "umbel-loadtest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start one of the servers that nodes are compared with
    Serve(ServeArgs),
    /// What one server spends on a scenario, with one thread as the load
    Cost(CostArgs),
    /// Compare a node with the other servers, case by case
    Bench(BenchArgs),
    /// Open very many sessions on a fleet of nodes, hold them, and publish to all
    Fleet(FleetArgs),
    /// Set two results against each other, figure by figure
    Compare(CompareArgs),
    /// Make one page of all results in a directory
    Report(ReportArgs),
    /// Run a scenario file against anything
    Run(Box<RunArgs>),
    /// List the scenarios that are built in
    Scenarios,
    /// Hold sessions for a fleet, by orders from the standard input
    #[command(hide = true)]
    Hold,
    /// Hold sessions for a scenario file's run, by orders from the standard input
    #[command(hide = true)]
    HoldWork,
}

/// A server to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Server {
    /// The bare floor: one epoll loop, one send per subscriber and batch
    Baseline,
    /// The usual design: hyper, a broadcast channel per topic, a task per session
    Naive,
    /// hyper with a handler that does nothing, for the publish scenario
    Empty,
}

/// Where the servers of a bench have their messages from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// POST, one JSON object per line
    Http,
    /// PUBLISH on a private redis-server
    Redis,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Which server
    pub server: Server,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Take messages from this Redis, redis://HOST:PORT, and not by POST
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// What stands before a topic's name in its Redis channel's
    #[arg(long, value_name = "TEXT", default_value = PREFIX)]
    pub prefix: String,
    /// Baseline: keep the last N messages of each topic for SSE sessions that come back with Last-Event-ID
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "redis")]
    pub keep: Option<u32>,
}

/// Names of the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// One topic, all subscribed to it, closed loop
    Fanout,
    /// The same, 100 messages at once, with pauses
    Burst,
    /// One subscriber for each topic, a number of messages under way
    Unicast,
    /// Sessions that hear nothing: memory of each
    Idle,
    /// Connects and subscriptions as fast as possible
    Storm,
    /// 20 messages a second: time to the last receipt
    Latency,
    /// One subscriber for each topic, as many messages as can be delivered
    Throughput,
    /// Sessions of the JSON dialect that subscribe to new topics as fast as possible
    SubscribeMany,
    /// Publish requests of one message each, pipelined, to nobody
    Publish,
    /// The same with many messages each, to topics with history
    PublishBatches,
    /// Sessions that come back at once to a topic with history, and get what they missed
    Resume,
}

/// `cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// Which scenario
    pub scenario: Name,
    /// Where sessions subscribe: ws://… is WebSocket, http://… is SSE; {topic} in the path stands for the topic.
    /// subscribe-many, and resume with ws://…: the JSON dialect at /ws; subscribe-many: or redis://HOST:PORT for Redis
    /// itself; publish: where to post
    #[arg(long, default_value = "ws://127.0.0.1:8080/topics/{topic}")]
    pub url: String,
    /// Where messages are published: posted to http://…, or by PUBLISH on redis://HOST:PORT [default: /publish on
    /// the same host]
    #[arg(long, value_name = "URL")]
    pub publish_url: Option<String>,
    /// What stands before a topic's name in its Redis channel's
    #[arg(long, value_name = "TEXT", default_value = PREFIX)]
    pub prefix: String,
    /// Publish at Redis by the node's function, so that topics keep history, and not by PUBLISH
    #[arg(long)]
    pub history: bool,
    /// Sessions [default: 1000; unicast, idle, storm and resume: 10000; subscribe-many: 100, at Redis 1; publish and
    /// publish-batches: 16]
    #[arg(long, value_name = "N")]
    pub subscribers: Option<usize>,
    /// Messages posted at once; of unicast and throughput: under way; of publish: requests under way on each connection
    /// [default: 1; burst: 100; unicast: 64; throughput: 4000; publish: 32; publish-batches: 4]
    #[arg(long, value_name = "K")]
    pub at_hand: Option<usize>,
    /// New topics of the subscribe-many scenario, spread over its sessions
    #[arg(long, value_name = "N", default_value_t = NEW_TOPICS)]
    pub topics: usize,
    /// Messages of each request of the publish-batches scenario
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    pub batch: usize,
    /// Messages that each session of the resume scenario missed
    #[arg(long, value_name = "N", default_value_t = MISSED)]
    pub missed: usize,
    /// The Redis that the node of the resume scenario reads from, redis://HOST:PORT, to count its reads there
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Where that node's /metrics are, to have its own count of them
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Messages per second of the latency scenario
    #[arg(long, value_name = "N", default_value_t = PER_SECOND)]
    pub rate: u64,
    /// Time to measure; of idle: to let the server settle
    #[arg(long, value_name = "S", default_value_t = 5.0, conflicts_with = "rounds")]
    pub seconds: f64,
    /// Rounds to measure instead: posts; of storm, subscribe-many and resume: waves; of latency: messages
    #[arg(long, value_name = "R")]
    pub rounds: Option<u64>,
    /// Time to run before that, unmeasured
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub warm_up_seconds: f64,
    /// Size of each message
    #[arg(long, value_name = "BYTES", default_value_t = PAYLOAD_BYTES)]
    pub payload: usize,
    /// Sessions that are being opened at a time
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY)]
    pub concurrency: usize,
    /// Time without any progress after which the run gives up
    #[arg(long, value_name = "S", default_value_t = PATIENCE.as_secs_f64())]
    pub patience_seconds: f64,
    /// The server's process, to read its cost; its core's too if it is pinned to one
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The core that the load runs on; it should not be the server's
    #[arg(long, value_name = "CORE")]
    pub load_core: Option<usize>,
    /// Print JSON, not a table
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The node to measure
    #[arg(long, value_name = "PATH")]
    pub umbel: PathBuf,
    /// Where the servers have their messages from
    #[arg(long, value_enum, default_value_t = Source::Http)]
    pub source: Source,
    /// Runs of each server in each case [default: 9; with --quick: 3]
    #[arg(long, value_name = "R")]
    pub rounds: Option<usize>,
    /// The node's topics keep history; with Redis its messages come by the function that gives them a place there
    #[arg(long)]
    pub history: bool,
    /// Short windows and few rounds, for a first look
    #[arg(long)]
    pub quick: bool,
    /// Only these cases; a name that ends in * stands for all that begin so [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub cases: Vec<String>,
    /// Where results are written [default: loadtest/results/DATE-MACHINE, with -redis and -history behind it if so]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A setting for the node's environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub node_env: Vec<(String, String)>,
    /// The core of the servers
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    pub server_core: usize,
    /// The core of the load, and of Redis
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub load_core: usize,
}

impl ServeArgs {
    /// Where the server's messages come from, if not by POST.
    pub fn channels(&self) -> Result<Option<Channels>> {
        self.redis.as_ref().map(|url| Channels::new(url, &self.prefix)).transpose()
    }
}

impl CostArgs {
    /// Checks the flags and makes one plan of them.
    pub fn plan(&self) -> Result<Plan> {
        ensure!(self.concurrency > 0, "--concurrency is 0, at least 1 is needed");
        Ok(Plan {
            manner: Manner {
                target: self.target()?,
                payload_bytes: self.payload,
                concurrency: self.concurrency,
                patience: seconds("--patience-seconds", self.patience_seconds)?,
            },
            scenario: self.scenario()?,
            span: match self.rounds {
                Some(rounds) => Span::Rounds(rounds),
                None => self.span()?,
            },
            warm_up: seconds("--warm-up-seconds", self.warm_up_seconds)?,
            server: self.pid,
        })
    }

    fn target(&self) -> Result<Target> {
        if self.is_at_redis() {
            let channels = Channels::new(&self.url, &self.prefix)?;
            return Ok(Target::of_server(channels.address, Dialect::WebSocket).fed_by(channels));
        }
        let mut target = Target::new(&self.url, self.publish_url.as_deref(), &self.prefix)?;
        if self.history {
            target = target.with_history();
            let placed = matches!(target.publish, Feed::RedisHistory(_));
            ensure!(placed, "--history needs --publish-url redis://…: who posts has no say in it");
        }
        let needs_json = self.scenario == Name::Resume && target.dialect == Dialect::WebSocket;
        Ok(if needs_json { target.in_json() } else { target })
    }

    /// Redis itself is what is measured.
    fn is_at_redis(&self) -> bool {
        self.scenario == Name::SubscribeMany && self.url.starts_with("redis://")
    }

    /// Waves are one unless more are asked for: their default isn't a time.
    fn span(&self) -> Result<Span> {
        let time = seconds("--seconds", self.seconds)?;
        let waves = matches!(self.scenario, Name::Storm | Name::SubscribeMany | Name::Resume);
        Ok(if waves { Span::Rounds(1) } else { Span::Time(time) })
    }

    fn scenario(&self) -> Result<Scenario> {
        let sessions = |default| self.subscribers.unwrap_or(default);
        let fanout = |at_hand, pause| Fanout {
            subscribers: sessions(1000),
            at_hand: self.at_hand.unwrap_or(at_hand),
            pause,
        };
        Ok(match self.scenario {
            Name::Fanout => Scenario::Fanout(fanout(1, Duration::ZERO)),
            Name::Burst => Scenario::Burst(fanout(100, BURST_PAUSE)),
            Name::Unicast => Scenario::Unicast(Unicast {
                topics: sessions(10_000),
                outstanding: self.at_hand.unwrap_or(64),
            }),
            Name::Idle => Scenario::Idle(Idle {
                sessions: sessions(10_000),
                settle: seconds("--seconds", self.seconds)?,
            }),
            Name::Storm => Scenario::Storm(Storm { sessions: sessions(10_000) }),
            Name::Latency => {
                Scenario::Latency(Latency { subscribers: sessions(1000), per_second: self.rate })
            }
            Name::Throughput => Scenario::Throughput(Throughput {
                topics: sessions(1000),
                outstanding: self.at_hand.unwrap_or(UNDER_WAY),
            }),
            Name::SubscribeMany => Scenario::SubscribeMany(self.subscribe_many()),
            Name::Publish => Scenario::Publish(Publish {
                connections: sessions(PUBLISHERS),
                pipelined: self.at_hand.unwrap_or(PIPELINED),
                form: Form::Single,
            }),
            Name::PublishBatches => Scenario::Publish(Publish {
                connections: sessions(PUBLISHERS),
                pipelined: self.at_hand.unwrap_or(PIPELINED_BATCHES),
                form: Form::Batch(self.batch),
            }),
            Name::Resume => Scenario::Resume(Resume {
                sessions: sessions(10_000),
                missed: self.missed,
                witnesses: self.witnesses()?,
            }),
        })
    }
}

impl CostArgs {
    fn subscribe_many(&self) -> SubscribeMany {
        let (at, sessions) = if self.is_at_redis() { (At::Redis, 1) } else { (At::Node, MEMBERS) };
        let sessions = self.subscribers.unwrap_or(sessions);
        SubscribeMany { sessions, topics: self.topics, at }
    }

    fn witnesses(&self) -> Result<Witnesses> {
        let redis = self.redis.as_ref().map(|url| Channels::new(url, &self.prefix)).transpose()?;
        Ok(Witnesses { redis: redis.map(|channels| channels.address), admin: self.admin })
    }
}

pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = in it")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn seconds(flag: &str, value: f64) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(value);
    ensure!(duration.is_ok(), "{flag} is {value}, which is no length of time");
    Ok(duration?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(flags: &str) -> Result<Plan> {
        let words = ["umbel-loadtest", "cost"].into_iter().chain(flags.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Cost(cost) => cost.plan(),
            other => panic!("{other:?} has another plan"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn scenarios_have_their_own_defaults() {
        let cases = [
            ("fanout", 1000),
            ("burst", 1000),
            ("unicast", 10_000),
            ("idle", 10_000),
            ("storm", 10_000),
            ("latency", 1000),
            ("throughput", 1000),
            ("subscribe-many", 100),
            ("publish", 16),
            ("publish-batches", 16),
            ("resume", 10_000),
        ];
        for (name, sessions) in cases {
            let scenario = plan(name).unwrap().scenario;
            assert_eq!((scenario.name(), scenario.sessions()), (name, sessions));
        }
        for waves in ["storm", "resume"] {
            assert_eq!(plan(waves).unwrap().span, Span::Rounds(1));
        }
        assert_eq!(plan("fanout --rounds 7").unwrap().span, Span::Rounds(7));
        assert_eq!(
            plan("fanout --seconds 1.5").unwrap().span,
            Span::Time(Duration::from_millis(1500))
        );
    }

    #[test]
    fn who_comes_back_speaks_json_or_sse() {
        let target = |flags: &str| plan(flags).unwrap().manner.target;
        assert_eq!(target("resume --url ws://127.0.0.1:1").dialect, Dialect::Json);
        assert_eq!(target("resume --url http://127.0.0.1:1").dialect, Dialect::Sse);
        assert_eq!(target("storm --url ws://127.0.0.1:1").dialect, Dialect::WebSocket);
        let placed = target("fanout --publish-url redis://127.0.0.1:1 --history").publish;
        assert!(matches!(placed, Feed::RedisHistory(_)), "{placed:?}");
        let asked = plan("resume --redis redis://127.0.0.1:1 --admin 127.0.0.1:2").unwrap();
        let Scenario::Resume(Resume { witnesses, .. }) = asked.scenario else {
            panic!("{asked:?}");
        };
        let ports = [witnesses.redis, witnesses.admin].map(|address| address.unwrap().port());
        assert_eq!(ports, [1, 2]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (flags, name) in [
            ("fanout --seconds=-1", "--seconds"),
            ("fanout --concurrency 0", "--concurrency"),
            ("fanout --url ftp://x", "ftp://x"),
            ("fanout --url redis://127.0.0.1", "redis://127.0.0.1"),
            ("fanout --publish-url redis://127.0.0.1/1", "redis://127.0.0.1/1"),
            ("fanout --history", "--history needs --publish-url redis://"),
            ("resume --redis http://127.0.0.1", "http://127.0.0.1"),
        ] {
            let error = plan(flags).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        for (flags, name) in [
            ("fanout --at-hand 1001", "1001 messages at once"),
            ("fanout --subscribers 0", "at least one session"),
            ("unicast --subscribers 10 --at-hand 11", "11 messages can't be under way on 10"),
            ("unicast --url ws://127.0.0.1/fixed", "no {topic}"),
            ("subscribe-many --topics 99", "99 topics can't be spread over 100 sessions"),
            ("throughput --at-hand 0", "at least one message must be under way"),
            ("publish --at-hand 0", "at least one request must be under way"),
            ("publish-batches --batch 1001", "1001 messages in a request"),
            ("resume --missed 0", "at least one message must be missed"),
            ("resume --rounds 2 --url http://127.0.0.1/fixed", "no {topic}"),
            ("idle --subscribers 100000000", "its limit (ulimit -n)"),
        ] {
            let error = plan(flags).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
