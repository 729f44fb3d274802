//! Runs made by hand.

use std::collections::BTreeMap;

use umbel_loadtest::bench::machine::Machine;
use umbel_loadtest::load::ledger::Integrity;
use umbel_loadtest::work::file::Workload;
use umbel_loadtest::work::result::{
    CostFigures, Distribution, MessageFigures, Moment, Run, SessionFigures, Verdict,
};

/// Where all of them were.
pub(crate) fn machine() -> Machine {
    let text = |text: &str| text.to_owned();
    Machine {
        name: text("vm"),
        cpu: text("AMD EPYC"),
        cores: 2,
        memory_mib: 24_105,
        kernel: text("6.18.44"),
        congestion_control: text("bbr"),
        date: text("2026-11-26T12:00:00Z"),
        commit: text("e554618e5546"),
        node: text("umbel 0.1.0"),
        loadtest: text("0.1.0"),
    }
}

/// What they did.
pub(crate) fn workload() -> Workload {
    toml::from_str(
        "about = 'All have one topic, and get each message.'\n\
         targets = { delivery_p99_ms = 50.0 }\n\
         faults = [{ what = 'restart-redis', at_seconds = 6.0, away_seconds = 2.0 }]\n\
         [sessions]\ncount = 1000\ntransport = 'json'\n\
         [publish]\nby = 'history'\n[pace.open]\nper_second = 100.0\n",
    )
    .unwrap()
}

/// Times around `micros`, with a tail.
pub(crate) fn distribution(micros: f64, count: u64) -> Distribution {
    let quantiles = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99999, 1.0];
    let at = |quantile: f64| micros * (1.0 + 0.5 * (1.0 / (1.000_001 - quantile)).ln());
    Distribution {
        count,
        min_us: micros,
        mean_us: micros * 1.6,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
        curve: quantiles.iter().map(|quantile| (*quantile, at(*quantile))).collect(),
    }
}

fn moments(slow: f64) -> Vec<Moment> {
    let moment = |second: u32| {
        let away = (6..8).contains(&second);
        Moment {
            second: f64::from(second),
            open: if away { 640 } else { 1000 },
            published: 100,
            received: if away { 40_000 } else { 100_000 + u64::from(second) * 137 },
            connects: if second == 8 { 360 } else { 0 },
            server_cores: Some(0.4 * slow + f64::from(second % 3) * 0.02),
        }
    };
    (0..20).map(moment).collect()
}

/// A run whose times and CPU are `slow` times those of the fastest.
pub(crate) fn run(scenario: &str, target: &str, slow: f64) -> Run {
    let integrity = Integrity { expected: 2_100_000, received: 2_100_000, ..Integrity::default() };
    let sessions = SessionFigures {
        wanted: 1000,
        opened: 1000,
        open_seconds: 0.62,
        open_at_end: 1000,
        connects: 1360,
        lost: 360,
        reasons: BTreeMap::from([("closed with 1012: restart".to_owned(), 360)]),
        ..SessionFigures::default()
    };
    let messages = MessageFigures {
        published: 2100,
        published_in_window: 2000,
        requests: 2000,
        deliveries: 2_000_000,
        integrity,
        delivery_ratio: 1.0,
        ..MessageFigures::default()
    };
    let cost = CostFigures {
        server_process_seconds: Some(7.1 * slow),
        server_core_seconds: Some(8.0 * slow),
        load_seconds: 6.0,
        softirq_seconds: 1.5,
        us_per_delivery: Some(4.0 * slow),
        deliveries_per_core_second: Some(250_000.0 / slow),
        rss_bytes: Some(14 << 20),
        pss_bytes: Some(12 << 20),
        pss_bytes_per_session: Some(1228.8),
        socket_bytes: 1 << 20,
        descriptors: Some(1019),
        ..CostFigures::default()
    };
    let verdict = |target: &str, found: &str| Verdict {
        target: target.to_owned(),
        found: found.to_owned(),
        reached: true,
    };
    let times =
        [("delivery", 100.0, 1_000_000), ("last_receipt", 900.0, 2000), ("publish", 60.0, 2000)];
    Run {
        scenario: scenario.to_owned(),
        target: target.to_owned(),
        command: format!("umbel-loadtest run {scenario}.toml --umbel target/release/umbel"),
        machine: machine(),
        workload: workload(),
        seconds: 20.0,
        sessions,
        messages,
        times: times
            .into_iter()
            .map(|(name, micros, count)| (name.to_owned(), distribution(micros * slow, count)))
            .collect(),
        cost,
        series: moments(slow),
        verdicts: vec![
            verdict("delivery ratio at least 1", "1"),
            verdict("delivery p99 at most 50 ms", "0.33 ms"),
        ],
        problems: Vec::new(),
    }
}
