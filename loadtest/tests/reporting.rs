//! Results as their readers get them: `compare` and `report` as they are started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "reporting/runs.rs"]
mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use umbel_loadtest::work::result::Run;

/// A directory that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("umbel-report-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, run: &Run) -> PathBuf {
        self.write(name, &serde_json::to_string_pretty(run).unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn call(words: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_umbel-loadtest")).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn compare_tells_ratios_and_what_differs() {
    let directory = Directory::new("compare");
    let a = directory.put("a.json", &runs::run("fanout", "umbel 0.1.0", 1.0));
    let mut slower = runs::run("fanout", "umbel 0.1.0", 1.5);
    slower.machine.commit = "0123456789ab".to_owned();
    slower.workload.sessions.count = 2000;
    let b = directory.put("b.json", &slower);
    let page = directory.0.join("page.html");
    let output = call(&["compare".as_ref(), &a, &b, "--html".as_ref(), &page]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("differs: machine.commit: e554618e5546 / 0123456789ab"), "{said}");
    assert!(said.contains("differs: workload.sessions.count: 1000 / 2000"), "{said}");
    let line = said.lines().find(|line| line.contains("servers' time per delivery")).unwrap();
    assert!(line.ends_with("4.00 µs       6.00 µs     1.50"), "{line}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("machine.commit") && page.contains("Times by percentile: delivery"));
}

#[test]
fn compare_reads_benches_and_refuses_what_cannot_be_compared() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let bench = results.join("2026-11-21-vm/bench.json");
    let other = results.join("2026-11-26-vm-history/bench.json");
    let output = call(&["compare".as_ref(), &bench, &other]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("ratio to baseline"), "{said}");
    assert!(said.contains("differs: history: false / true"), "{said}");

    let directory = Directory::new("refused");
    let run = directory.put("a.json", &runs::run("fanout", "umbel", 1.0));
    let nothing = directory.write("b.json", "[]");
    for (b, why) in [(&bench, "the other of the cost bench"), (&nothing, "is neither")] {
        let output = call(&["compare".as_ref(), &run, b]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}

#[test]
fn report_makes_one_page_of_a_directory() {
    let directory = Directory::new("report");
    directory.put("fanout-umbel.json", &runs::run("fanout", "umbel 0.1.0", 1.0));
    directory.put("fanout-naive.json", &runs::run("fanout", "naive", 4.0));
    let mut missed = runs::run("latency", "umbel 0.1.0", 1.0);
    missed.verdicts[1].reached = false;
    directory.put("latency.json", &missed);
    directory.write("strange.json", "{\"a\": 1}");
    directory.write("peers.json", include_str!("reporting/peers.json"));
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    fs::copy(results.join("2026-11-26-vm-history/bench.json"), directory.0.join("bench.json"))
        .unwrap();
    for name in ["fleet.json", "fleet-25.json"] {
        fs::copy(results.join("2026-11-26-vm-fleet/fleet.json"), directory.0.join(name)).unwrap();
    }

    let output = call(&["report".as_ref(), &directory.0]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("strange.json is left out"), "{said}");
    let page = fs::read_to_string(directory.0.join("report.html")).unwrap();
    for place in ["scenario-1", "run-1", "run-2", "run-3", "bench", "fleet-1", "fleet-2", "peers"] {
        assert!(page.contains(&format!("id=\"{place}\"")), "{place}");
        assert!(page.contains(&format!("href=\"#{place}\"")), "{place}");
    }
    assert!(page.contains("strange.json is left out") && page.contains("✗ missed"));
}

#[test]
fn files_of_a_form_that_is_not_known_become_notes() {
    let directory = Directory::new("notes");
    directory.put("fanout.json", &runs::run("fanout", "umbel", 1.0));
    directory.write("peers.json", "{\"nats\": []}");
    directory.write("bench.json", "[1]");
    directory.write("fleet.json", "no JSON");
    let out = directory.0.join("out.html");
    let output = call(&["report".as_ref(), &directory.0, "--out".as_ref(), &out]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let page = fs::read_to_string(out).unwrap();
    for name in ["peers.json", "bench.json", "fleet.json"] {
        let note = format!("{name} is left out");
        assert!(said.contains(&note) && page.contains(&note), "{said}");
    }
    assert!(!directory.0.join("report.html").exists());
}

#[test]
fn report_fails_where_there_is_nothing() {
    let directory = Directory::new("nothing");
    let output = call(&["report".as_ref(), &directory.0]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("there are no results"));
}
