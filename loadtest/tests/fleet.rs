//! Small fleets, of real nodes and a real Redis: what is expected is found, and so is what went wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// The node that cargo builds beside the tests, as an example of this package.
fn node() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    let node = program.with_file_name("examples").join("fleet_node");
    assert!(node.exists(), "{} is missing: cargo test --examples builds it", node.display());
    node
}

/// A running coordinator; killed when a test fails.
struct Fleet {
    coordinator: Child,
    said: Lines<BufReader<ChildStderr>>,
    out: PathBuf,
}

impl Fleet {
    fn start(test: &str, flags: &str) -> Self {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{test}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
        command.arg("fleet").arg("--umbel").arg(node()).arg("--out").arg(&out);
        command.args(flags.split_whitespace()).stdin(Stdio::null());
        let mut coordinator =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(coordinator.stderr.take().unwrap()).lines();
        Self { coordinator, said, out }
    }

    /// The next line that begins so. A coordinator that ends without it ends the wait.
    fn hear(&mut self, begin: &str) -> String {
        for line in self.said.by_ref() {
            let line = line.unwrap();
            if line.starts_with(begin) {
                return line;
            }
            eprintln!("{line}");
        }
        panic!("nothing was said that begins with {begin:?}");
    }

    /// The processes of nodes, and those of all others, once they run.
    fn processes(&mut self) -> (Vec<Pid>, Vec<Pid>) {
        let line = self.hear("Processes: nodes ");
        let (nodes, others) = line.split_once(", ").unwrap();
        (pids(nodes), pids(others))
    }

    /// Waits for the end; says whether it was a success, what was printed, and the results.
    fn end(mut self) -> (bool, String, Value) {
        let printed = std::io::read_to_string(self.coordinator.stdout.take().unwrap()).unwrap();
        let errors: Vec<String> = self.said.by_ref().map_while(Result::ok).collect();
        eprintln!("{printed}{}", errors.join("\n"));
        let status = self.coordinator.wait().unwrap();
        let results = std::fs::read_to_string(self.out.join("fleet.json")).unwrap_or_default();
        (status.success(), printed, serde_json::from_str(&results).unwrap_or_default())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // It has ended, or a test has failed; its holders end with their orders.
        let _ = self.coordinator.kill();
        let _ = self.coordinator.wait();
    }
}

fn pids(line: &str) -> Vec<Pid> {
    let numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    numbers.map(|number| Pid::from_raw(number.parse().unwrap()).unwrap()).collect()
}

fn are_gone(pids: &[Pid]) -> bool {
    pids.iter().all(|pid| test_kill_process(*pid).is_err())
}

#[test]
fn a_fleet_holds_all_sessions_and_all_have_each_message() {
    let mut fleet = Fleet::start(
        "whole",
        "--sessions 600 --nodes 3 --holders 3 --heartbeat 1 --hold 2 --messages 2 --pace 2000",
    );
    let (nodes, others) = fleet.processes();
    assert_eq!((nodes.len(), others.len()), (3, 4));
    let (success, printed, results) = fleet.end();
    assert!(success && results["problems"].as_array().unwrap().is_empty(), "{results}");
    assert!(are_gone(&nodes) && are_gone(&others));
    assert_eq!(results["opened"]["sessions"], 600);
    assert_eq!(results["held"]["lost"], 0);
    assert_eq!(results["counted_open"]["open"], 600.0);
    assert_eq!(results["closed"]["integrity"]["received"], 1200);
    assert_eq!(results["closed"]["left"]["opened"], 600.0);
    assert!(results["held"]["heartbeats_per_second"].as_f64().unwrap() > 0.0, "{results}");
    assert!(results["ends"]["pings"].as_u64().unwrap() > 0, "{results}");
    for delivery in results["deliveries"].as_array().unwrap() {
        assert_eq!((&delivery["nodes"], &delivery["received"]), (&3.into(), &600.into()));
        let time = |name: &str| delivery[name].as_f64().unwrap();
        assert!(time("first_seconds") > 0.0 && time("first_seconds") <= time("last_seconds"));
    }
    assert!(printed.contains("| message | message 2 | 600 have it; first "), "{printed}");
}

#[test]
fn sessions_of_a_killed_node_are_reported_as_lost() {
    let mut fleet = Fleet::start(
        "killed",
        "--sessions 300 --nodes 3 --holders 2 --hold 3 --messages 1 --pace 2000",
    );
    let (nodes, others) = fleet.processes();
    fleet.hear("300 sessions are open");
    kill_process(nodes[1], Signal::KILL).unwrap();
    let (success, printed, results) = fleet.end();
    assert!(!success);
    assert_eq!(results["ends"]["lost"], 100, "{results}");
    assert_eq!(results["ends"]["by_node"], serde_json::json!({ "1": 100 }));
    assert_eq!(results["nodes_ended"], serde_json::json!([1]));
    assert_eq!(results["deliveries"][0]["received"], 200);
    assert!(printed.contains("Failed: 100 sessions were lost: by node {1: 100}"), "{printed}");
    assert!(are_gone(&nodes) && are_gone(&others));
}

#[test]
fn the_other_transports_are_held_too() {
    for transport in ["sse", "json"] {
        let flags = "--sessions 60 --nodes 2 --holders 2 --hold 0 --messages 2 --transport";
        let (success, _, results) = Fleet::start(transport, &format!("{flags} {transport}")).end();
        assert!(success, "{transport}: {results}");
        assert_eq!(results["closed"]["integrity"]["received"], 120, "{transport}");
    }
}

#[test]
fn a_signal_ends_all_processes() {
    let mut fleet =
        Fleet::start("signal", "--sessions 60 --nodes 2 --holders 2 --hold 600 --messages 1");
    let (nodes, others) = fleet.processes();
    fleet.hear("60 sessions are open");
    kill_process(Pid::from_child(&fleet.coordinator), Signal::INT).unwrap();
    let (success, _, _) = fleet.end();
    assert!(!success);
    assert!(are_gone(&nodes) && are_gone(&others));
}

#[test]
fn what_the_machine_lacks_is_said_before_anything_starts() {
    let fleet = Fleet::start("refused", "--sessions 1000000000 --nodes 100000 --holders 100000");
    let mut said = fleet;
    let line = said.hear("- ");
    assert!(line.contains("is needed") || line.contains("takes"), "{line}");
    let line = said.hear("- ");
    assert!(line.contains("fewer sessions") || line.contains("sysctl -w"), "{line}");
    assert!(!said.end().0);
}
