//! The program as its users start it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use umbel_loadtest::bench::redis::Redis;

/// A comparison server, ended when it is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    fn start(name: &str, flags: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
        command.args(["serve", name, "--listen", &address.to_string()]).args(flags);
        let running = Self { child: command.spawn().unwrap(), address };
        let deadline = Instant::now() + Duration::from_secs(10);
        // Not too often: a socket that is connected to a port where nobody listens may get that very
        // port as its own, be connected to itself, and keep the server from it.
        while !TcpStream::connect(address).is_ok_and(|stream| !is_its_own_peer(&stream)) {
            assert!(Instant::now() < deadline, "{name} doesn't listen");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        running
    }

    fn run(&self, flags: &str) -> Output {
        let url = format!("ws://{}", self.address);
        let pid = self.child.id().to_string();
        run(&format!("{flags} --url {url} --pid {pid}"))
    }
}

fn is_its_own_peer(stream: &TcpStream) -> bool {
    stream.local_addr().ok() == stream.peer_addr().ok()
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn run(flags: &str) -> Output {
    call(&format!("cost {flags}"))
}

fn call(flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
    command.args(flags.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_run_prints_a_table_or_json() {
    for name in ["baseline", "naive"] {
        let running = Served::start(name, &[]);
        let flags = "fanout --subscribers 10 --at-hand 4 --rounds 5 --warm-up-seconds 0";
        let table = running.run(flags);
        let text = String::from_utf8_lossy(&table.stdout);
        assert!(table.status.success() && text.contains("deliveries"), "{table:?}");
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

#[test]
fn messages_come_from_redis_under_any_prefix() {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redis-command-line.log");
    let redis = Redis::start(&log).unwrap();
    let url = redis.channels().url();
    for name in ["baseline", "naive"] {
        let running = Served::start(name, &["--redis", &url, "--prefix", "x:"]);
        let flags = "fanout --subscribers 10 --rounds 5 --warm-up-seconds 0";
        let clean = running.run(&format!("{flags} --publish-url {url}/ --prefix x:"));
        assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stderr));
        let other = running.run(&format!("{flags} --publish-url {url}"));
        let error = String::from_utf8_lossy(&other.stderr);
        assert!(!other.status.success() && error.contains("without subscribers"), "{error}");
    }
    let raw = run(&format!("subscribe-many --topics 100 --url {url}"));
    let table = String::from_utf8_lossy(&raw.stdout);
    assert!(raw.status.success() && table.contains("µs/subscription"), "{table}");
}

#[test]
fn who_comes_back_to_the_floor_is_counted() {
    let running = Served::start("baseline", &["--keep", "20"]);
    let (url, pid) = (format!("http://{}", running.address), running.child.id());
    let resumed = run(&format!("resume --subscribers 10 --missed 20 --url {url} --pid {pid}"));
    let table = String::from_utf8_lossy(&resumed.stdout);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    for line in ["µs/resume", "server's peak RSS, KiB", "RSS per session"] {
        assert!(table.contains(line), "{table}");
    }
    let batches = run(&format!("publish-batches --rounds 3 --batch 7 --url {url}"));
    let table = String::from_utf8_lossy(&batches.stdout);
    assert!(batches.status.success() && table.contains("messages per second"), "{table}");
}

#[test]
fn a_server_without_its_redis_does_not_start() {
    for (flags, reason) in [
        ("baseline --redis redis://127.0.0.1:9", "baseline can't connect to Redis at 127.0.0.1:9"),
        ("naive --redis redis://127.0.0.1:9", "naive can't connect to Redis at 127.0.0.1:9"),
        ("baseline --redis http://127.0.0.1:9", "doesn't begin with redis://"),
        ("empty --redis redis://127.0.0.1:9", "needs no --redis"),
        ("naive --keep 9", "only the baseline keeps messages"),
        ("baseline --keep 9 --redis redis://127.0.0.1:9", "cannot be used with"),
        ("baseline --keep 0", "0 is not in 1.."),
    ] {
        let output = call(&format!("serve {flags} --listen 127.0.0.1:0"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(reason), "{error}");
    }
}

#[test]
fn a_bench_knows_which_cases_a_source_has() {
    for (source, case, other) in
        [("http", "throughput", "publish"), ("redis", "publish", "throughput")]
    {
        let output = call(&format!("bench --umbel /nonexistent --source {source} --cases {case}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&format!("there is no case {case}")), "{error}");
        assert!(error.contains(other), "{error}");
    }
    let output = call("bench --umbel /nonexistent --cases resume");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("there is no case resume"), "{error}");
    let output = call("bench --umbel /nonexistent --cases nothing --history");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("resume, resume-json"), "{error}");
}
