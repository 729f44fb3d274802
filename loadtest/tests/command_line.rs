//! The program as its users start it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A comparison server, ended when it is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    fn start(name: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
        command.args(["serve", name, "--listen", &address.to_string()]);
        let running = Self { child: command.spawn().unwrap(), address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{name} doesn't listen");
            std::thread::yield_now();
        }
        running
    }

    fn run(&self, flags: &str) -> Output {
        let url = format!("ws://{}", self.address);
        let pid = self.child.id().to_string();
        run(&format!("{flags} --url {url} --pid {pid}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn run(flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    let command = command.arg("run").args(flags.split_whitespace());
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_run_prints_a_table_or_json() {
    for name in ["baseline", "naive"] {
        let running = Served::start(name);
        let flags = "fanout --subscribers 10 --at-hand 4 --rounds 5 --warm-up-seconds 0";
        let table = running.run(flags);
        let text = String::from_utf8_lossy(&table.stdout);
        assert!(table.status.success() && text.contains("deliveries"), "{text}");
        let json = running.run(&format!("{flags} --json"));
        let outcome: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&outcome["units"], &outcome["integrity"]["lost"]), (&200.into(), &0.into()));
        assert!(outcome["cost"]["server_process_seconds"].is_number(), "{outcome}");
    }
}

#[test]
fn a_run_without_a_server_names_the_address() {
    let output = run("fanout --url ws://127.0.0.1:9");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("can't connect to 127.0.0.1:9"), "{error}");
}
