//! The files agree with each other.

use std::collections::HashSet;
use std::process::Command;

use crate::{deploy, expressions};

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap()
}

#[test]
fn the_dashboards_are_what_their_source_writes() {
    let checked = Command::new("/usr/bin/python3")
        .arg(deploy().join("grafana/dashboards.py"))
        .arg("--check")
        .output()
        .expect("python3 is installed (Debian: apt-get install python3)");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn every_alert_has_its_paragraph_and_every_paragraph_its_alert() {
    let (alerts, runbook) = (read("prometheus/umbel.alerts.yml"), read("prometheus/runbook.md"));
    let names: Vec<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let headings: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(names.iter().all(|name| headings.contains(name)), "{names:?} {headings:?}");
    assert!(headings.iter().all(|heading| names.contains(heading)), "{headings:?}");
    for name in names {
        let url = format!("runbook_url: deploy/prometheus/runbook.md#{}", name.to_lowercase());
        assert!(alerts.contains(&url), "{url}");
    }
}

#[test]
fn panels_that_the_runbook_names_exist_and_say_what_to_do() {
    let panels = expressions::panels();
    for (dashboard, panel) in &panels {
        let (title, said) = (&panel["title"], panel["description"].as_str().unwrap_or_default());
        assert!(said.len() > 30, "{dashboard}: {title} has no description");
    }
    let titles: HashSet<_> =
        panels.iter().map(|(_, panel)| panel["title"].as_str().unwrap()).collect();
    let runbook = read("prometheus/runbook.md");
    let (_, paragraphs) = runbook.split_once("## ").unwrap();
    let named: Vec<_> = paragraphs.split('*').skip(1).step_by(2).collect();
    assert!(named.len() > 20);
    for title in named {
        assert!(titles.contains(title), "the runbook names the panel {title:?}");
    }
}
