//! The fleet that the causes happen to, and what was seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use umbel_e2e::{Node, Prometheus, Proxy, Redis, World, eventually};

use crate::expressions::{Expression, STEP, numbers, panels};
use crate::{clients, rules};

/// Small budgets, so that clients are slow soon; a heartbeat for whoever hears nothing for a second.
const SETTINGS: &str = "
[node]
heartbeat_seconds = 1
[limits]
behind_bytes = 100000
socket_bytes = 16384
[broker]
check_seconds = 1
[[topics]]
match = 'live.*'
subscribe = 'anyone'
publish = 'anyone'
[[topics]]
match = 'drop.*'
subscribe = 'anyone'
publish = 'anyone'
on_slow = 'drop'
[[topics]]
match = 'value.*'
subscribe = 'anyone'
publish = 'anyone'
on_slow = 'latest'
[[topics]]
match = 'feed.*'
subscribe = 'anyone'
publish = 'anyone'
history = { messages = 20, seconds = 300 }
";

/// The smallest node that there may be.
const SMALL: &str = "
[node]
memory_mib = 64
[limits]
sessions = 100
socket_bytes = 620000
[[topics]]
match = 'flood'
subscribe = 'anyone'
publish = 'anyone'
on_slow = 'latest'
";

/// Two nodes on one Redis, the second behind a line that can fail; and a small one by itself.
pub(crate) struct Bed {
    pub(crate) redis: Redis,
    pub(crate) line: Proxy,
    pub(crate) first: World,
    pub(crate) second: World,
    pub(crate) small: World,
    pub(crate) prometheus: Arc<Prometheus>,
    /// What was told of alerts while they fired, by name.
    told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    /// Panels whose cause came at a time.
    expected: Vec<(&'static str, f64)>,
    _watch: JoinSet<()>,
    _load: JoinSet<()>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let redis = Redis::start(&[]).await;
        let line = Proxy::before(redis.port()).await;
        let drain = ("UMBEL_DRAIN__DRAIN_SECONDS", "1");
        let world =
            |url: &str| World::new().settings(SETTINGS).broker(url).environment(drain.0, drain.1);
        let first = world(&redis.url()).workers(2).start().await;
        let second = world(&format!("redis://{}", line.address())).start().await;
        let small = World::new().settings(SMALL).start().await;
        let targets = [("main", &first), ("main", &second), ("small", &small)];
        let targets = targets.map(|(cluster, world)| (cluster, world.node(0).admin()));
        let prometheus = Arc::new(Prometheus::start(&targets, &rules::impatient()).await);
        let doors: Vec<SocketAddr> = [&first, &second].map(|world| world.node(0).http()).into();
        let load = clients::load(&doors, 6);
        let told = Arc::default();
        let mut watch = JoinSet::new();
        watch.spawn(watch_alerts(Arc::clone(&prometheus), Arc::clone(&told)));
        let expected = Vec::new();
        let bed = Self {
            redis,
            line,
            first,
            second,
            small,
            prometheus,
            told,
            expected,
            _watch: watch,
            _load: load,
        };
        bed.prometheus
            .gives("sum(up) == 3 and on () cluster:umbel_deliveries_late:ratio_rate6h")
            .await;
        bed
    }

    /// The first node.
    pub(crate) fn node(&self) -> &Node {
        self.first.node(0)
    }

    /// The node behind the line.
    pub(crate) fn other(&self) -> &Node {
        self.second.node(0)
    }

    /// Says that a panel of the fleet shows something only from now on.
    pub(crate) fn moves(&mut self, panel: &'static str) {
        self.expected.push((panel, Prometheus::now()));
    }

    /// Waits until all these alerts fire, or have fired.
    pub(crate) async fn fire(&self, names: &[&str]) {
        for name in names {
            eventually(name, || async { self.has_fired(name).then_some(()) }).await;
        }
    }

    /// Whether an alert has fired.
    pub(crate) fn has_fired(&self, name: &str) -> bool {
        self.told.lock().unwrap().contains_key(name)
    }

    /// What the server calls the recorded series.
    pub(crate) async fn recording_rules(&self) -> Vec<Expression> {
        let rules = self.rules("record").await;
        assert!(rules.len() > 15);
        rules.into_iter().map(|name| Expression { place: "rule".into(), text: name }).collect()
    }

    async fn rules(&self, kind: &str) -> Vec<String> {
        let answer = self.prometheus.api(&format!("/api/v1/rules?type={kind}")).await;
        let groups = answer["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let name = |rule: &serde_json::Value| {
            assert_eq!(rule["health"], "ok", "{rule}");
            rule["name"].as_str().unwrap().to_owned()
        };
        rules.map(name).collect()
    }

    /// Alerts that never fired, and those that say something odd.
    pub(crate) async fn wrong_alerts(&self) -> Vec<String> {
        let told = self.told.lock().unwrap().clone();
        let names = self.rules("alert").await;
        assert!(names.len() > 20);
        let silent = names.iter().filter(|name| !told.contains_key(*name));
        let mut wrong: Vec<_> = silent.map(|name| format!("{name} never fired")).collect();
        for text in told.values().flatten() {
            if ["<no value>", "{{", "error", "NaN"].iter().any(|odd| text.contains(odd)) {
                wrong.push(text.clone());
            }
        }
        wrong
    }

    /// Panels that showed something before their cause, or not soon after it.
    pub(crate) async fn not_moved_by_their_cause(&self) -> Vec<String> {
        const BEFORE: f64 = 6.0;
        const AFTER: f64 = 12.0;
        let mut wrong = Vec::new();
        let panels = panels();
        for (title, at) in &self.expected {
            let is_it = |panel: &serde_json::Value| panel["title"] == *title;
            let (_, panel) = panels.iter().find(|(_, panel)| is_it(panel)).unwrap();
            let text = panel["targets"][0]["expr"].as_str().unwrap();
            let text = text.replace("$__rate_interval", "4s").replace("$cluster", ".*");
            let series =
                self.prometheus.range(&text, (at - BEFORE, at + AFTER), STEP).await.unwrap();
            let most = |is_in: &dyn Fn(f64) -> bool| {
                let values = series.iter().flat_map(numbers).filter(|(time, _)| is_in(*time));
                values.map(|(_, value)| value).fold(0.0, f64::max)
            };
            let (before, after) = (most(&|time| time <= *at), most(&|time| time > *at));
            if before > 0.0 || after <= 0.0 {
                wrong.push(format!("{title}: {before} before its cause and {after} after it"));
            }
        }
        wrong
    }
}

async fn watch_alerts(
    prometheus: Arc<Prometheus>,
    told: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
) {
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        pace.tick().await;
        let answer = prometheus.api("/api/v1/alerts").await;
        for alert in answer["alerts"].as_array().unwrap() {
            if alert["state"] == "firing" {
                let name = alert["labels"]["alertname"].as_str().unwrap().to_owned();
                let text = format!("{name}: {}", alert["annotations"]);
                told.lock().unwrap().entry(name).or_default().insert(text);
            }
        }
    }
}
