//! All figures of a run as one list, for tables and comparisons.

use super::number::{Unit, float};
use crate::work::result::{CostFigures, Distribution, MessageFigures, Run, SessionFigures};

/// Times in the order in which they are told; others follow.
const ORDER: [&str; 6] = ["delivery", "last_receipt", "replay", "back", "connect", "publish"];

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is about.
    pub group: &'static str,
    /// Its name within that.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// How much, if it is known.
    pub value: Option<f64>,
    /// Whether it is measured time or CPU, which differs from run to run.
    pub noisy: bool,
}

/// All but times.
pub fn figures(run: &Run) -> Vec<Figure> {
    let mut list = List { group: "sessions", figures: Vec::new() };
    sessions(&mut list, &run.sessions);
    list.group = "messages";
    messages(&mut list, &run.messages, run.seconds);
    list.group = "cost";
    cost(&mut list, &run.cost, run.seconds);
    list.figures
}

/// Times, in the order that readers expect.
pub fn times(run: &Run) -> Vec<(&str, &Distribution)> {
    let place = |name: &str| ORDER.iter().position(|other| *other == name).unwrap_or(ORDER.len());
    let mut times: Vec<_> = run.times.iter().map(|(name, times)| (name.as_str(), times)).collect();
    times.sort_by_key(|(name, _)| place(name));
    times
}

/// What is to be said about times that a reader looks for in vain.
pub fn about_times(run: &Run) -> Option<&'static str> {
    let text = "A closed loop: holders nap between looks, so that times of receipt aren't latencies, and aren't shown.";
    run.workload.is_closed_loop().then_some(text)
}

/// A distribution's name for people.
pub fn title(name: &str) -> String {
    name.replace('_', " ")
}

impl Distribution {
    /// Each named quantile, with its name.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("min", self.min_us),
            ("mean", self.mean_us),
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
            ("max", self.max_us),
        ]
    }
}

struct List {
    group: &'static str,
    figures: Vec<Figure>,
}

impl List {
    fn add(&mut self, name: &str, unit: Unit, value: Option<f64>, noisy: bool) {
        let value = value.filter(|value| value.is_finite());
        self.figures.push(Figure { group: self.group, name: name.to_owned(), unit, value, noisy });
    }

    fn count(&mut self, name: &str, count: u64) {
        self.add(name, Unit::Count, Some(float(count)), false);
    }

    fn measured(&mut self, name: &str, unit: Unit, value: Option<f64>) {
        self.add(name, unit, value, true);
    }

    fn seconds(&mut self, name: &str, seconds: Option<f64>) {
        self.measured(name, Unit::Time, seconds.map(|seconds| seconds * 1e6));
    }
}

fn sessions(list: &mut List, sessions: &SessionFigures) {
    list.count("wanted", sessions.wanted);
    list.count("open at the window's begin", sessions.opened);
    list.seconds("time to open them", Some(sessions.open_seconds));
    list.count("open at the end", sessions.open_at_end);
    list.count("connects", sessions.connects);
    list.count("refused", sessions.refused);
    list.count("lost", sessions.lost);
    list.count("cut by the load", sessions.cut);
    list.count("subscriptions changed", sessions.churned);
    list.count("never returned", sessions.never_returned);
    list.seconds("storm: time until all were back", sessions.back_seconds);
}

fn messages(list: &mut List, messages: &MessageFigures, seconds: f64) {
    list.count("published", messages.published);
    list.count("published in the window", messages.published_in_window);
    list.count("publish requests", messages.requests);
    list.count("failed publish requests", messages.failed_requests);
    list.count("sent again without a key", messages.doubtful);
    list.count("deliveries in the window", messages.deliveries);
    let rate = (seconds > 0.0).then(|| float(messages.deliveries) / seconds);
    list.measured("deliveries per second", Unit::PerSecond, rate);
    list.add("delivery ratio", Unit::Share, Some(messages.delivery_ratio), false);
    let integrity = &messages.integrity;
    list.count("expected since the start", integrity.expected);
    list.count("received", integrity.received);
    list.count("lost", integrity.lost);
    list.count("lost by those never away", messages.steady.lost);
    list.count("doubled", integrity.doubled);
    list.count("reordered", integrity.reordered);
    list.count("garbled", integrity.garbled);
    list.count("gaps told by servers", messages.gaps);
}

fn cost(list: &mut List, cost: &CostFigures, seconds: f64) {
    list.measured("servers' time per delivery", Unit::Time, cost.us_per_delivery);
    list.measured("servers' time per connect", Unit::Time, cost.us_per_connect);
    let each = cost.deliveries_per_core_second;
    list.measured("deliveries per core-second", Unit::Plain, each);
    list.seconds("servers' core, softirq included", cost.server_core_seconds);
    list.seconds("servers' processes", cost.server_process_seconds);
    list.seconds("Redis", cost.redis_seconds);
    list.seconds("load", Some(cost.load_seconds));
    list.seconds("softirqs of the machine", Some(cost.softirq_seconds));
    let server = cost.server_core_seconds.or(cost.server_process_seconds);
    let cores = server.filter(|_| seconds > 0.0).map(|server| server / seconds);
    list.measured("servers' cores", Unit::Cores, cores);
    list.add("servers' PSS per session", Unit::Bytes, cost.pss_bytes_per_session, false);
    list.add("servers' PSS", Unit::Bytes, cost.pss_bytes.map(float), false);
    list.add("servers' RSS", Unit::Bytes, cost.rss_bytes.map(float), false);
    list.add("socket queues of the machine", Unit::Bytes, Some(float(cost.socket_bytes)), false);
    let slabs = cost.socket_slab_bytes.map(float);
    list.add("socket slabs of the machine", Unit::Bytes, slabs, false);
    list.add("servers' descriptors", Unit::Count, cost.descriptors.map(float), false);
}
