//! What a scenario must not say: numbers that mean nothing, and combinations that can't be.

use anyhow::{Context, Result, bail, ensure};

use super::plan::Source;
use crate::cli::Server;
use crate::wire::payload::MIN_BYTES;
use crate::work::file::{By, Fault, Pace, Transport, What, Workload};
use crate::work::script::Script;
use crate::work::shape::Shape;

/// Times are added to a clock of nanoseconds.
const LONGEST_SECONDS: f64 = 1e7;
/// The first of a rate is to come within the time that somebody would wait for it.
const LEAST_RATE: f64 = 0.001;
/// Far more than one process publishes or opens.
const MOST_RATE: f64 = 1e7;
/// Far more than the descriptors and ports of a machine are enough for.
const MOST_SESSIONS: usize = 10_000_000;
/// Each holder or node is a process.
const MOST_PROCESSES: usize = 256;
/// The coordinator counts messages by topic, and holders are told all counts at the end.
const MOST_TOPICS: usize = 10_000_000;
/// Topics of a session are compared with each other.
const MOST_PER_SESSION: usize = 10_000;
/// Messages of a round or request: they wait in the coordinator's memory.
const MOST_AT_HAND: usize = 1_000_000;
/// What a server takes as one message at most, and more.
const MOST_PAYLOAD_BYTES: usize = 1 << 20;

/// Checks each number for itself.
pub fn numbers(work: &Workload) -> Result<()> {
    let Workload { servers, sessions, topics, window, .. } = work;
    from_one("servers.nodes", servers.nodes, MOST_PROCESSES)?;
    from_one("sessions.count", sessions.count, MOST_SESSIONS)?;
    from_one("sessions.concurrency", sessions.concurrency, MOST_SESSIONS)?;
    from_one("sessions.processes", sessions.processes.unwrap_or(1), MOST_PROCESSES)?;
    from_one("topics.per_session", topics.per_session, MOST_PER_SESSION)?;
    rate("sessions.open_per_second", sessions.open_per_second)?;
    match topics.shape {
        Shape::One | Shape::Each => {}
        Shape::Rooms { members } => from_one("topics.shape.rooms.members", members, usize::MAX)?,
        Shape::Zipf { topics: count, exponent } => {
            from_one("topics.shape.zipf.topics", count, MOST_TOPICS)?;
            not_below_zero("topics.shape.zipf.exponent", exponent)?;
        }
    }
    let count = topics.shape.topic_count(sessions.count, topics.per_session);
    ensure!(
        count <= MOST_TOPICS,
        "topics.shape and topics.per_session make {count} topics, at most {MOST_TOPICS} can be counted"
    );
    if let Some(slow) = sessions.slow {
        let share = slow.share;
        ensure!((0.0..=1.0).contains(&share), "sessions.slow.share is {share}, not from 0 to 1");
        ensure!(slow.bytes_per_second > 0, "sessions.slow.bytes_per_second is 0: nothing is read");
    }
    if let Some(cut) = sessions.cut {
        above_zero("sessions.cut.every_seconds", cut.every_seconds)?;
        not_below_zero("sessions.cut.away_seconds", cut.away_seconds)?;
    }
    if let Some(churn) = sessions.churn {
        rate("sessions.churn.per_second", churn.per_second)?;
    }
    if let Some(publish) = work.publish {
        from_one("publish.batch", publish.batch, MOST_AT_HAND)?;
        let bytes = publish.payload_bytes;
        ensure!(
            (MIN_BYTES..=MOST_PAYLOAD_BYTES).contains(&bytes),
            "publish.payload_bytes is {bytes}, not from {MIN_BYTES} (for number and time) to {MOST_PAYLOAD_BYTES}"
        );
    }
    match work.pace {
        Pace::Open { per_second } => rate("pace.open.per_second", per_second)?,
        Pace::Closed { at_hand, pause_seconds } => {
            from_one("pace.closed.at_hand", at_hand, MOST_AT_HAND)?;
            not_below_zero("pace.closed.pause_seconds", pause_seconds)?;
        }
    }
    above_zero("window.seconds", window.seconds)?;
    not_below_zero("window.warm_up_seconds", window.warm_up_seconds)?;
    above_zero("window.patience_seconds", window.patience_seconds)
}

/// Checks what is said against what else is said, and what it is said of.
pub fn together(work: &Workload, source: &Source, script: Option<&Script>) -> Result<()> {
    let Workload { sessions, topics, .. } = work;
    ensure!(
        topics.per_session == 1 || sessions.transport == Transport::Json,
        "topics.per_session is {}: sessions have several topics with sessions.transport = \"json\" only",
        topics.per_session
    );
    if let Shape::Zipf { topics: count, .. } = topics.shape {
        let each = topics.per_session;
        ensure!(each <= count, "topics.per_session is {each}, but there are {count} topics");
    }
    let resumes = matches!(sessions.transport, Transport::Json | Transport::Sse | Transport::Poll);
    ensure!(
        resumes || !sessions.resume,
        "sessions.resume needs sessions.transport = \"json\", \"sse\" or \"poll\": others name no place"
    );
    if let Some(storm) = sessions.storm {
        let (steady, count) = (storm.steady, sessions.count);
        ensure!(steady < count, "sessions.storm.steady is {steady} of {count}: nobody is left");
        within(work, "sessions.storm.at_seconds", storm.at_seconds)?;
    }
    for (number, fault) in work.faults.iter().enumerate() {
        let Fault { at_seconds, away_seconds, .. } = *fault;
        not_below_zero(&format!("faults.{number}.away_seconds"), away_seconds)?;
        within(work, &format!("faults.{number}.at_seconds"), at_seconds)?;
        let back = at_seconds + away_seconds;
        within(work, &format!("faults.{number}: at_seconds + away_seconds"), back)?;
    }
    closed(work)?;
    ensure!(
        (sessions.transport == Transport::Script) <= script.is_some(),
        "sessions.transport is \"script\": --script FILE is needed"
    );
    publishing(work, source, script)?;
    match source {
        Source::Umbel(_) => started(work),
        Source::Comparison(server) => {
            started(work)?;
            comparison(work, *server)
        }
        Source::Running(_) => {
            let none = work.faults.is_empty();
            ensure!(
                none,
                "faults need servers that the run starts: --umbel or --server, not --url"
            );
            Ok(())
        }
    }
}

/// A closed loop waits until all have everything.
fn closed(work: &Workload) -> Result<()> {
    let Workload { sessions, targets, .. } = work;
    if !work.is_closed_loop() {
        return Ok(());
    }
    ensure!(
        targets.delivery_p99_ms.or(targets.last_receipt_p99_ms).is_none(),
        "with pace.closed times of receipt aren't measured: targets.delivery_p99_ms and targets.last_receipt_p99_ms \
         need pace.open"
    );
    ensure!(
        sessions.churn.is_none(),
        "with pace.closed all sessions are waited for, but with sessions.churn it isn't known who has which topic: use pace.open"
    );
    let leaves = sessions.cut.is_some() || sessions.storm.is_some() || !work.faults.is_empty();
    ensure!(
        sessions.resume || !leaves,
        "with pace.closed all sessions are waited for, but those that come back after a cut, a storm or a fault miss \
         messages: use sessions.resume or pace.open"
    );
    Ok(())
}

fn publishing(work: &Workload, source: &Source, script: Option<&Script>) -> Result<()> {
    let Some(publish) = work.publish else {
        return Ok(());
    };
    let has_redis = match source {
        Source::Running(running) => running.redis.is_some(),
        Source::Umbel(_) | Source::Comparison(_) => work.servers.redis,
    };
    match publish.by {
        By::Redis | By::History => ensure!(
            has_redis,
            "publish.by needs Redis: servers.redis = true, or --redis beside --url"
        ),
        By::Script => ensure!(
            script.is_some_and(|script| script.publishing().is_some()),
            "publish.by is \"script\": --script FILE is needed, and must say how to publish"
        ),
        By::Post | By::Session => {}
    }
    Ok(())
}

/// Servers that are started.
fn started(work: &Workload) -> Result<()> {
    let servers = &work.servers;
    ensure!(
        servers.nodes == 1 || servers.redis,
        "servers.nodes is {}: several share messages with servers.redis = true only",
        servers.nodes
    );
    let of_redis = |fault: &Fault| matches!(fault.what, What::RestartRedis | What::PauseRedis);
    ensure!(
        servers.redis || !work.faults.iter().any(of_redis),
        "a fault of Redis needs servers.redis = true"
    );
    ensure!(
        work.sessions.transport != Transport::Script,
        "sessions.transport is \"script\": that is for systems that run already (--url)"
    );
    Ok(())
}

/// What the comparison servers can't do.
fn comparison(work: &Workload, server: Server) -> Result<()> {
    let transport = work.sessions.transport;
    let lacks = if !matches!(transport, Transport::WebSocket | Transport::Sse) {
        "sessions.transport other than \"websocket\" and \"sse\""
    } else if work.sessions.resume {
        "sessions.resume"
    } else if work.servers.redis && work.publish.is_some_and(|publish| publish.by != By::Redis) {
        "servers.redis with publish.by other than \"redis\""
    } else if work.publish.is_some_and(|publish| matches!(publish.by, By::History | By::Session)) {
        "publish.by of its own"
    } else {
        return Ok(());
    };
    bail!("--server {server:?}: comparison servers have no {lacks}")
}

fn within(work: &Workload, name: &str, value: f64) -> Result<()> {
    not_below_zero(name, value)?;
    let seconds = work.window.seconds;
    ensure!(value <= seconds, "{name} is {value}, but the window ends after {seconds} seconds");
    Ok(())
}

fn from_one(name: &str, value: usize, most: usize) -> Result<()> {
    ensure!(value > 0, "{name} is 0, at least 1 is needed");
    ensure!(value <= most, "{name} is {value}, at most {most} are possible");
    Ok(())
}

/// So often in a second.
fn rate(name: &str, value: f64) -> Result<()> {
    above_zero(name, value)?;
    ensure!(
        (LEAST_RATE..=MOST_RATE).contains(&value),
        "{name} is {value}, not from {LEAST_RATE} to {MOST_RATE}"
    );
    Ok(())
}

fn above_zero(name: &str, value: f64) -> Result<()> {
    not_below_zero(name, value)?;
    ensure!(value > 0.0, "{name} is 0, more is needed");
    Ok(())
}

fn not_below_zero(name: &str, value: f64) -> Result<()> {
    let sound = (0.0..=LONGEST_SECONDS).contains(&value);
    sound
        .then_some(())
        .with_context(|| format!("{name} is {value}, not from 0 to {LONGEST_SECONDS}"))
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};
    use crate::work::run::plan::Plan;
    use crate::work::scenario::{Kind, Scenario, built_in};

    /// What becomes of such flags of `run`.
    pub(in crate::work::run) fn plan(flags: &str) -> anyhow::Result<Plan> {
        let words = ["umbel-loadtest", "run"].into_iter().chain(flags.split_whitespace());
        let Command::Run(args) = Cli::try_parse_from(words)?.command else {
            panic!("it is a run");
        };
        let Scenario { name, kind: Kind::Work(work), .. } =
            Scenario::read(&args.scenario, &args.set)?
        else {
            panic!("it has sessions");
        };
        Plan::new(&name, *work, &args)
    }

    #[test]
    fn what_is_built_in_can_be_run_with_a_node() {
        for Scenario { name, kind, .. } in built_in().unwrap() {
            if matches!(kind, Kind::Work(_)) {
                assert_eq!(plan(&format!("{name} --umbel x")).unwrap().scenario, name);
            }
        }
    }

    #[test]
    fn what_can_be_run_against_others_is() {
        for flags in [
            "fanout --server baseline",
            "fanout --server naive --set servers.redis=true --set publish.by=redis",
            "fanout --url ws://127.0.0.1:1 --url ws://127.0.0.1:2/x?t={topic}",
            "fanout --url http://127.0.0.1:1 --set sessions.transport=sse --redis redis://127.0.0.1:1 --set publish.by=redis",
        ] {
            plan(flags).unwrap();
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (flags, reason) in [
            ("--umbel x --set sessions.count=0", "sessions.count is 0"),
            ("--umbel x --set pace.open.per_second=0", "pace.open.per_second is 0"),
            ("--umbel x --set pace.open.per_second=-1", "pace.open.per_second is -1"),
            ("--umbel x --set window.seconds=nan", "window.seconds is NaN"),
            ("--umbel x --set publish.payload_bytes=9", "publish.payload_bytes is 9"),
            ("--umbel x --set topics.per_session=2", "with sessions.transport = \"json\" only"),
            ("--umbel x --set sessions.resume=true", "sessions.resume needs"),
            ("--umbel x --set sessions.churn.per_second=5", "use pace.open"),
            ("--umbel x --set targets.delivery_p99_ms=5", "need pace.open"),
            (
                "--umbel x --set sessions.cut={every_seconds=1,away_seconds=1}",
                "use sessions.resume or pace.open",
            ),
            ("--umbel x --set sessions.storm={at_seconds=1,steady=1000}", "nobody is left"),
            ("--umbel x --set sessions.storm={at_seconds=99,steady=1}", "the window ends after"),
            (
                "--umbel x --set sessions.slow={share=2,bytes_per_second=1}",
                "sessions.slow.share is 2",
            ),
            ("--umbel x --set sessions.transport=script", "--script FILE is needed"),
            ("--umbel x --set servers.nodes=2", "servers.redis = true only"),
            ("--umbel x --set publish.by=redis", "publish.by needs Redis"),
            ("--umbel x --set publish.by=script", "must say how to publish"),
            ("--umbel x --set servers.nodes=0", "servers.nodes is 0"),
            ("--umbel x --set sessions.count=100000000000", "at most 10000000 are possible"),
            ("--umbel x --set sessions.processes=257", "sessions.processes is 257"),
            ("--umbel x --set pace.open.per_second=1e-300", "pace.open.per_second is 0.000"),
            ("--umbel x --set sessions.open_per_second=1e-9", "sessions.open_per_second is 0.0"),
            ("--umbel x --set publish.payload_bytes=10000000000000", "to 1048576"),
            ("--umbel x --set pace.closed.at_hand=1000001", "pace.closed.at_hand is 1000001"),
            (
                "--umbel x --set topics.shape={zipf={topics=10000001,exponent=1}}",
                "topics.shape.zipf.topics is 10000001",
            ),
            (
                "--umbel x --set sessions.transport=json --set topics.per_session=10001",
                "topics.per_session is 10001",
            ),
            (
                "--umbel x --set sessions.transport=json --set topics.shape=each --set topics.per_session=10000 \
                 --set sessions.count=10000000",
                "make 100000000000 topics",
            ),
            ("--umbel x --server-core 1 --load-core 1", "each needs its own"),
            (
                "--umbel x --set pace.open.per_second=1 --set faults=[{what='restart-redis',at_seconds=1}]",
                "a fault of Redis needs",
            ),
            (
                "--url ws://127.0.0.1:1 --set pace.open.per_second=1 --set faults=[{what='kill-node',at_seconds=1}]",
                "faults need servers",
            ),
            ("--url http://127.0.0.1:1", "doesn't begin with ws://"),
            ("--url ftp://x", "URL ftp://x"),
            (
                "--server naive --set sessions.transport=json",
                "comparison servers have no sessions.transport",
            ),
            ("--server baseline --set servers.redis=true", "servers.redis with publish.by"),
            ("--server empty", "has no sessions"),
            ("", "required"),
            ("--umbel x --url ws://x", "cannot be used with"),
            ("--umbel x --pid 1", "--url"),
        ] {
            let error = format!("{:#}", plan(&format!("fanout {flags}")).unwrap_err());
            assert!(error.contains(reason), "{flags}: {error}");
        }
    }
}
