//! Scenario files, run end to end with very few sessions: nodes, holders and Redis are real.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use umbel_loadtest::bench::server::{Program, Server};

const HISTORY: &str = r#"
[[topics]]
match = "**"
subscribe = "anyone"
publish = "anyone"
history = { messages = 1000, seconds = 60 }
"#;

/// The node that cargo builds beside the tests, as an example of this package.
fn node() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    let node = program.with_file_name("examples").join("fleet_node");
    assert!(node.exists(), "{} is missing: cargo test --examples builds it", node.display());
    node
}

/// Writes a scenario file.
fn file(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("work-{name}.toml"));
    std::fs::write(&path, format!("about = 'a test'\n{text}")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(scenario: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    // What servers say stays there when something is missed.
    command.env("TMPDIR", env!("CARGO_TARGET_TMPDIR"));
    command.args(["run", scenario]).args(flags).stdin(Stdio::null()).output().unwrap()
}

/// The result of a run that reaches everything.
fn result(scenario: &str, flags: &[&str]) -> Value {
    let node = node();
    let is_named = flags.iter().any(|flag| ["--server", "--url"].contains(flag));
    let started = if is_named { vec![] } else { vec!["--umbel", node.to_str().unwrap()] };
    let output = run(scenario, &[&started, flags, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{scenario}: {said}\n{printed}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(result: &Value, pointer: &str) -> u64 {
    let found = result.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("{pointer} of {result}"))
}

fn error(scenario: &str, flags: &[&str]) -> String {
    let output = run(scenario, flags);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SHORT: [&str; 4] = ["--set", "window.seconds=0.5", "--set", "window.warm_up_seconds=0.1"];

#[test]
fn a_closed_loop_counts_every_delivery_of_its_window() {
    let flags =
        [&SHORT[..], &["--set", "sessions.count=50", "--set", "sessions.processes=2"]].concat();
    let flags = [&flags[..], &["--set", "pace.closed.at_hand=4"]].concat();
    for server in [&[][..], &["--server", "baseline"], &["--server", "naive"]] {
        let found = result("fanout", &[&flags, server].concat());
        let published = number(&found, "/messages/published_in_window");
        assert!(published > 0 && published.is_multiple_of(4), "{found}");
        assert_eq!(number(&found, "/messages/deliveries"), published * 50);
        assert_eq!(number(&found, "/messages/integrity/lost"), 0);
        assert_eq!(number(&found, "/sessions/opened"), 50);
        assert!(found["cost"]["server_process_seconds"].is_number(), "{found}");
        let times = found["times"].as_object().unwrap();
        assert_eq!(times.keys().collect::<Vec<_>>(), ["connect", "publish"]);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_whatever_the_transport() {
    for transport in ["sse", "json", "poll"] {
        let name = format!("open-{transport}");
        let text = format!(
            "[servers]\nsettings = '''{HISTORY}'''\n[sessions]\ncount = 20\ntransport = '{transport}'\n\
             resume = {}\n[topics]\nshape = {{ rooms = {{ members = 5 }} }}\n[publish]\n\
             [pace.open]\nper_second = 100\n[window]\nseconds = 1\nwarm_up_seconds = 0.1\n",
            transport == "poll"
        );
        let found = result(&file(&name, &text), &[]);
        let published = number(&found, "/messages/published_in_window");
        assert!((95..=105).contains(&published), "{found}");
        assert_eq!(number(&found, "/messages/integrity/lost"), 0);
        assert_eq!(found["scenario"], format!("work-{name}"));
        assert!(number(&found, "/times/publish/count") > 0, "{found}");
    }
}

#[test]
fn what_comes_after_the_window_is_no_delivery_of_it() {
    let text = "[servers]\nredis = true\n[sessions]\ncount = 20\n[publish]\nby = 'redis'\n\
                [pace.open]\nper_second = 100\n[window]\nseconds = 1\nwarm_up_seconds = 0.1\n\
                [[faults]]\nwhat = 'pause-redis'\nat_seconds = 0.4\naway_seconds = 0.6\n";
    let found = result(&file("late", text), &[]);
    let due = 20 * number(&found, "/messages/published_in_window");
    let deliveries = number(&found, "/messages/deliveries");
    assert!((due / 10..due * 6 / 10).contains(&deliveries), "{deliveries} of {due}: {found}");
    assert_eq!(number(&found, "/messages/integrity/lost"), 0);
    // The slowest are confirmed behind the end.
    let published = number(&found, "/messages/published_in_window");
    let timed = number(&found, "/times/publish/count");
    assert!(published.abs_diff(timed) <= 2, "{timed} of {published}: {found}");
}

#[test]
fn who_is_cut_off_comes_back_and_has_everything() {
    let text = format!(
        "[servers]\nsettings = '''{HISTORY}'''\n[sessions]\ncount = 30\ntransport = 'json'\nresume = true\n\
         [sessions.cut]\nevery_seconds = 0.5\naway_seconds = 0.1\n[publish]\n[pace.open]\nper_second = 50\n\
         [window]\nseconds = 1.5\nwarm_up_seconds = 0.1\n[targets]\ndelivery_ratio = 1.0\nreplay_p99_ms = 5000\n"
    );
    let found = result(&file("cut", &text), &[]);
    assert!(number(&found, "/sessions/cut") > 20, "{found}");
    assert!(number(&found, "/times/replay/count") > 0, "{found}");
    assert_eq!(number(&found, "/sessions/open_at_end"), 30);
}

#[test]
fn a_node_that_restarts_loses_nothing() {
    let flags = [
        "--set",
        "sessions.count=50",
        "--set",
        "topics.shape=one",
        "--set",
        "window.seconds=3",
        "--set",
        "window.warm_up_seconds=0.1",
        "--set",
        "faults.0.at_seconds=0.5",
        "--set",
        "pace.open.per_second=50",
    ];
    let found = result("deploy", &flags);
    assert!(number(&found, "/sessions/connects") >= 75, "{found}");
    assert_eq!(number(&found, "/messages/integrity/lost"), 0);
}

#[test]
fn a_storm_is_over_when_all_are_back() {
    let flags = [
        "--set",
        "sessions.count=60",
        "--set",
        "sessions.storm.steady=10",
        "--set",
        "sessions.processes=2",
        "--set",
        "sessions.storm.at_seconds=0.5",
        "--set",
        "window.seconds=2",
        "--set",
        "servers.nodes=2",
        "--set",
        "window.warm_up_seconds=0.1",
        "--set",
        "topics.shape=one",
        "--set",
        "targets.delivery_p99_ms=20000",
    ];
    let found = result("storm", &flags);
    assert_eq!(number(&found, "/sessions/connects"), 110);
    let back = found["sessions"]["back_seconds"].as_f64().unwrap();
    assert!((0.0..1.6).contains(&back), "{found}");
    assert_eq!(number(&found, "/times/back/count"), 50);
    let steady = |what| number(&found, &format!("/messages/steady/{what}"));
    assert!(steady("expected") >= 100, "{found}");
    assert_eq!((steady("received"), steady("lost")), (steady("expected"), 0));
    let verdicts = found["verdicts"].as_array().unwrap();
    assert!(verdicts.iter().any(|it| it["target"] == "lost by those never away: at most 0"));
    assert!(found["cost"]["us_per_connect"].as_f64().unwrap() >= 0.0, "{found}");
}

#[test]
fn a_missed_target_fails_the_run_and_is_written_down() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("work-missed");
    let (json, html) = (out.with_extension("json"), out.with_extension("html"));
    let node = node();
    let mut flags = vec!["--umbel", node.to_str().unwrap()];
    flags.extend(["--out", json.to_str().unwrap(), "--html", html.to_str().unwrap()]);
    flags.extend(SHORT);
    flags.extend(["--set", "sessions.count=5", "--set", "targets.delivery_p99_ms=0"]);
    flags.extend(["--set", "pace={open={per_second=50}}"]);
    let output = run("fanout", &flags);
    assert!(!output.status.success(), "{output:?}");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let verdicts = written["verdicts"].as_array().unwrap();
    let missed: Vec<_> = verdicts.iter().filter(|verdict| verdict["reached"] == false).collect();
    assert_eq!(missed.len(), 1, "{verdicts:?}");
    assert!(missed[0]["target"].as_str().unwrap().starts_with("delivery p99"), "{missed:?}");
    assert!(std::fs::read_to_string(html).unwrap().contains("fanout"));
}

#[test]
fn what_is_wrong_with_file_or_flags_is_named() {
    let bad = file("bad", "[sessions]\ncount = 1\n[window]\nsecond = 1\n");
    let said = error(&bad, &["--umbel", "x"]);
    for part in ["work-bad.toml", "line 5", "`second`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = error("fanout", &["--umbel", "x", "--set", "sessions.number=1"]);
    assert!(said.contains("sessions.number") && said.contains("unknown field"), "{said}");
    let said = error("fanout", &["--umbel", "/nonexistent"]);
    assert!(said.contains("can't start /nonexistent"), "{said}");
    let said = error(
        "fanout",
        &[
            "--url",
            "ws://127.0.0.1:9",
            "--set",
            "window.patience_seconds=0.5",
            "--set",
            "sessions.count=2",
        ],
    );
    assert!(said.contains("0 of 2 sessions are open"), "{said}");
    let said = error("million", &["--url", "ws://127.0.0.1:9"]);
    assert!(said.contains("--umbel PATH is needed"), "{said}");
}

#[test]
fn servers_that_run_already_are_loaded_and_read() {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("work-running.log");
    let program = Program::node(&node(), Some(1), &[], None, None).unwrap();
    let server = Server::start(program, &log, || Ok(())).unwrap();
    let (url, pid) =
        (format!("ws://{}/topics/{{topic}}", server.address()), server.pid().to_string());
    let flags = ["--url", &url, "--pid", &pid, "--name", "other", "--set", "sessions.count=10"];
    let found = result("fanout", &[&flags[..], &SHORT].concat());
    assert_eq!(found["target"], "other");
    assert!(found["cost"]["pss_bytes"].as_u64().unwrap() > 0, "{found}");
    assert!(!server.ends_within(Duration::ZERO), "it isn't the run's to end");
}

#[test]
fn a_signal_ends_all_processes() {
    let node = node();
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    command.args(["run", "idle", "--umbel", node.to_str().unwrap(), "--set", "window.seconds=600"]);
    command.args(["--set", "sessions.count=10", "--set", "sessions.processes=2"]);
    let mut coordinator = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&coordinator);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut children = Vec::new();
    while children.len() < 3 {
        assert!(Instant::now() < deadline, "{children:?}");
        std::thread::park_timeout(Duration::from_millis(20));
        children = children_of(pid);
    }
    kill_process(pid, Signal::INT).unwrap();
    let said = std::io::read_to_string(coordinator.stderr.take().unwrap()).unwrap();
    assert!(!coordinator.wait().unwrap().success());
    assert!(said.contains("interrupted by a signal"), "{said}");
    assert!(children.iter().all(|child| test_kill_process(*child).is_err()), "{children:?}");
}

/// The node and the holders of a coordinator.
fn children_of(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    numbers.map(|number| Pid::from_raw(number).unwrap()).collect()
}
