//! The files of `deploy/` agree with the program and with each other. What the image is and does is
//! tried by `make image-test`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use umbel_e2e::{ConfiguredNode, promtool};

/// A file of `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// A program's end, with what it said if it isn't there.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program}: {error} (`make tools` installs it)"))
}

#[track_caller]
fn succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
}

/// A file of YAML, with what it names once and uses often in its places.
fn yaml(name: &str) -> Value {
    const PROGRAM: &str =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    // Debian's docker-compose brings what this imports.
    let output = run("/usr/bin/python3", &["-c", PROGRAM, path(name).to_str().unwrap()]);
    succeeded(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The services that `compose.yaml` makes of the project's own image.
fn nodes(compose: &Value) -> Vec<(&String, &Value)> {
    let services = compose["services"].as_object().unwrap();
    services.iter().filter(|(_, service)| service["build"].is_object()).collect()
}

/// The variables that the image sets.
fn variables_of_the_image() -> Vec<(String, String)> {
    let file = read("Dockerfile").replace("\\\n", "");
    let line = file.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let pairs = line.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What `umbel check-config` says of a file, where the image's variables are set.
async fn settings_in_effect(file: &str) -> String {
    let variables = variables_of_the_image();
    let variables: Vec<_> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let (code, output, errors) =
        ConfiguredNode::run(&["check-config"], &variables, Some(file)).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    output
}

/// The value of the first setting with this name.
fn setting<'o>(output: &'o str, name: &str) -> &'o str {
    let of_line = |line: &'o str| line.strip_prefix(name)?.trim_start().strip_prefix('=');
    let value = output.lines().find_map(of_line).unwrap();
    value.split('#').next().unwrap().trim()
}

/// The value of a line `name=value`.
fn in_unit(name: &str) -> String {
    let unit = read("systemd/umbel.service");
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap().to_owned()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

#[test]
fn the_compose_file_fits_its_schema() {
    let check = |file: &str| run("docker-compose", &["-f", file, "config", "--quiet"]);
    let file = path("compose.yaml");
    succeeded(&check(file.to_str().unwrap()));
    // The same with a mistake isn't taken.
    let wrong = std::env::temp_dir().join(format!("umbel-e2e-compose-{}.yaml", std::process::id()));
    std::fs::write(&wrong, read("compose.yaml").replace("read_only:", "readonly:")).unwrap();
    let refused = check(wrong.to_str().unwrap());
    std::fs::remove_file(&wrong).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("'readonly'"), "{refused:?}");
}

#[test]
fn every_service_is_contained_and_every_file_that_it_mounts_is_there() {
    let compose = yaml("compose.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        // A node's is in its image.
        assert!(service["healthcheck"].is_object() || service["build"].is_object(), "{name}");
        for mount in service["volumes"].as_array().unwrap() {
            let (from, to) = mount.as_str().unwrap().split_once(':').unwrap();
            if from.starts_with('.') {
                assert!(path(from).is_file(), "{name} mounts {from}, which isn't a file");
                assert!(to.ends_with(":ro"), "{name} can write {from}");
            } else {
                assert!(compose["volumes"][from].is_object(), "{from}");
            }
        }
    }
}

#[tokio::test]
async fn the_nodes_of_the_compose_file_have_what_their_settings_ask_for() {
    let compose = yaml("compose.yaml");
    let settings = settings_in_effect(&read("compose/umbel.toml")).await;
    let nodes = nodes(&compose);
    assert_eq!(nodes.len(), 3);
    for (name, node) in nodes {
        let grace = node["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
        assert!(number(grace) > number(setting(&settings, "deadline_seconds")), "{name}");
        let descriptors = node["ulimits"]["nofile"]["hard"].as_u64().unwrap();
        assert!(descriptors > number(setting(&settings, "sessions")) + 1000, "{name}");
        assert_eq!(node["hostname"], **name);
        assert_eq!(node["networks"], serde_json::json!(["front", "back"]));
    }
    let front = &compose["networks"]["front"]["ipam"]["config"][0]["subnet"];
    assert_eq!(setting(&settings, "trusted_proxies"), format!("[{front}]"));
    assert!(compose["services"]["redis"].is_object());
    assert_eq!(setting(&settings, "url"), "\"redis://redis:6379\"");
}

#[test]
fn the_load_balancer_of_the_compose_file_knows_the_nodes_and_its_ports() {
    let compose = yaml("compose.yaml");
    let settings = read("proxies/haproxy.cfg");
    for (name, _) in nodes(&compose) {
        assert!(settings.contains(&format!("server {name} ")), "{name}");
    }
    for port in compose["services"]["haproxy"]["ports"].as_array().unwrap() {
        let inner = port.as_str().unwrap().rsplit(':').next().unwrap();
        assert!(settings.contains(&format!("bind :{inner}")), "{port}");
    }
}

#[tokio::test]
async fn prometheus_of_the_compose_file_finds_its_rules_and_the_nodes() {
    let compose = yaml("compose.yaml");
    // As it is in the container.
    let folder = std::env::temp_dir().join(format!("umbel-e2e-mounted-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for mount in compose["services"]["prometheus"]["volumes"].as_array().unwrap() {
        let mut fields = mount.as_str().unwrap().split(':');
        let (from, to) = (fields.next().unwrap(), fields.next().unwrap());
        if let Some(name) = to.strip_prefix("/etc/prometheus/") {
            std::fs::copy(path(from), folder.join(name)).unwrap();
        }
    }
    let file = folder.join("prometheus.yml");
    let (code, said) = promtool(&["check", "config", file.to_str().unwrap()], b"").await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(code == 0 && said.contains("2 rule files found"), "{said}");
    let scraped = yaml("compose/prometheus.yml");
    let targets = &scraped["scrape_configs"][0]["static_configs"][0]["targets"];
    let named = nodes(&compose).into_iter().map(|(name, _)| format!("{name}:9464"));
    assert_eq!(*targets, serde_json::json!(named.collect::<Vec<_>>()));
}

#[test]
fn grafana_of_the_compose_file_has_the_provisioned_data_source_at_another_place() {
    let provisioned = yaml("grafana/provisioning/datasources/prometheus.yaml");
    let mut composed = yaml("compose/datasource.yaml");
    assert_eq!(composed["datasources"][0]["url"], "http://prometheus:9090");
    composed["datasources"][0]["url"] = provisioned["datasources"][0]["url"].clone();
    assert_eq!(composed, provisioned);
    let provider = yaml("grafana/provisioning/dashboards/umbel.yaml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap();
    for name in ["umbel-fleet.json", "umbel-node.json"] {
        let mount = format!("./grafana/{name}:{folder}/{name}:ro");
        assert!(read("compose.yaml").contains(&mount), "{mount}");
    }
}

#[tokio::test]
async fn the_image_is_of_this_version_and_listens_where_it_says() {
    let file = read("Dockerfile");
    let version = concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n");
    assert!(file.contains(version), "{version}");
    let settings = settings_in_effect(&read("compose/umbel.toml")).await;
    let port = |name| setting(&settings, name).trim_matches('"').rsplit(':').next().unwrap();
    assert!(file.contains(&format!("EXPOSE {} {}\n", port("http"), port("admin"))));
    // The check has its own deadline before the engine's, so that it can say what it waited for.
    assert!(file.contains("--timeout=5s ") && file.contains("CMD [\"/umbel\", \"health\"]"));
    let (_, help, _) = ConfiguredNode::run(&["health", "--help"], &[], None).await;
    assert!(help.contains("[default: 3]"), "{help}");
}

#[tokio::test]
async fn the_unit_is_one_that_systemd_takes_and_leaves_time_to_leave() {
    let folder = std::env::temp_dir().join(format!("umbel-e2e-unit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("umbel.service");
    let file = file.to_str().unwrap();
    // The program isn't installed here.
    let unit = read("systemd/umbel.service").replace("=/usr/local/bin/umbel ", "=/bin/true ");
    let verify = |text: &str| {
        std::fs::write(file, text).unwrap();
        run("systemd-analyze", &["verify", "--recursive-errors=no", file])
    };
    let verified = verify(&unit);
    // It only warns of what it doesn't know.
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    // In tenths; without any of its restrictions a unit has 96.
    let security = ["security", "--offline=true", "--threshold=12", file];
    let judged = run("systemd-analyze", &security);
    let wrong = verify(&unit.replace("ProtectSystem=strict", "ProtectSytem=strict"));
    std::fs::remove_dir_all(&folder).unwrap();
    succeeded(&judged);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("ProtectSytem"), "{wrong:?}");

    let settings = settings_in_effect(&read("compose/umbel.toml")).await;
    let deadline = number(setting(&settings, "deadline_seconds"));
    assert!(number(&in_unit("TimeoutStopSec")) > deadline);
    assert!(number(&in_unit("LimitNOFILE")) > number(setting(&settings, "sessions")) + 1000);
}

#[test]
fn the_kernel_has_the_settings_that_are_set() {
    let mut found = 0;
    for line in read("sysctl.d/90-umbel.conf").lines() {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (key, may_be_absent) = match key.trim().strip_prefix('-') {
            Some(key) => (key, true),
            None => (key.trim(), false),
        };
        let now = std::fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/")));
        let Ok(now) = now else {
            assert!(may_be_absent, "this kernel has no {key}");
            continue;
        };
        let numbers = |text: &str| text.split_whitespace().map(number).collect::<Vec<_>>();
        assert_eq!(numbers(value).len(), numbers(&now).len(), "{key}");
        found += 1;
    }
    assert!(found >= 8, "only {found}");
}
