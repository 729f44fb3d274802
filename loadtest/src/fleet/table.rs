//! Results as the table that is printed and written to `fleet.md`.

use std::fmt::Write;

use super::float;
use super::receipts::Delivery;
use super::results::Results;

/// User memory of nodes by session, in bytes: the target.
const MEMORY_TARGET: f64 = 3.0 * 1024.0;
/// CPU of all nodes while sessions are idle, in cores for a million: the target, and the heartbeat that it is for.
const CPU_TARGET: f64 = 0.3;
const CPU_TARGET_HEARTBEAT: u32 = 60;
const MILLION: f64 = 1e6;

/// What must be known before the table is read.
pub fn preface(results: &Results) -> String {
    let machine = &results.machine;
    let descriptors = match results.descriptors {
        Some(limit) => format!("a process may have {limit} descriptors (ulimit -n)"),
        None => "descriptors aren't limited".to_owned(),
    };
    let env = results.node_env.iter().map(|(name, value)| format!("; {name}={value}"));
    format!(
        "# A fleet of {nodes} nodes with {sessions} {dialect} sessions\n\n\
         - Date: {date}, commit {commit}; node: {node}; load test {loadtest}; Redis {redis}\n\
         - Machine: {name}, {cpu}, {cores} cores, {memory} MiB, Linux {kernel}, TCP {tcp}\n\
         - Processes: {nodes} nodes of one worker each, {holders} holders with the clients' ends, one Redis, all on this \
           machine; {descriptors}\n\
         - Sessions: one topic for all; a silent one gets a ping after {heartbeat} s{env}\n\
         - Command: `{command}`\n\n\
         CPU is the processes' own time, in cores. Over loopback a node's send runs the client's TCP input, which is in \
         the node's time; softirqs of the whole machine are in the processes' times too where the kernel doesn't account \
         for interrupts apart. Memory of nodes is PSS, with all that they take without sessions. Kernel memory is of both \
         ends of each connection. Whatever else the machine did is in the figures of the machine.\n",
        nodes = results.nodes,
        sessions = results.sessions,
        dialect = results.dialect,
        date = machine.date,
        commit = machine.commit,
        node = machine.node,
        loadtest = machine.loadtest,
        redis = results.redis,
        name = machine.name,
        cpu = machine.cpu,
        cores = machine.cores,
        memory = machine.memory_mib,
        kernel = machine.kernel,
        tcp = machine.congestion_control,
        holders = results.holders,
        heartbeat = results.heartbeat_seconds,
        env = env.collect::<String>(),
        command = results.command.join(" "),
    )
}

/// The table, and what went wrong.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    text.push_str("| phase | figure | value | target | verdict |\n|---|---|---|---|---|\n");
    for Row { phase, figure, value, judged } in rows(results) {
        let (target, verdict) = match &judged {
            Some((target, true)) => (target.as_str(), "reached"),
            Some((target, false)) => (target.as_str(), "missed"),
            None => ("", ""),
        };
        let _ = writeln!(text, "| {phase} | {figure} | {value} | {target} | {verdict} |");
    }
    for problem in &results.problems {
        let _ = write!(text, "\nFailed: {problem}");
    }
    text
}

/// One figure of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When it was read.
    pub phase: &'static str,
    /// What it is.
    pub figure: String,
    /// How much.
    pub value: String,
    /// What was aimed at, and whether it was reached, if it is judged.
    pub judged: Option<(String, bool)>,
}

/// All figures, phase by phase.
pub fn rows(results: &Results) -> Vec<Row> {
    let mut table = Table::default();
    opening(&mut table, results);
    holding(&mut table, results);
    memory(&mut table, results);
    messages(&mut table, results);
    closing(&mut table, results);
    table.0
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn row(&mut self, phase: &'static str, figure: &str, value: &str) {
        self.add(phase, figure, value, None);
    }

    fn judged(
        &mut self,
        phase: &'static str,
        figure: &str,
        value: &str,
        target: &str,
        reached: bool,
    ) {
        self.add(phase, figure, value, Some((target.to_owned(), reached)));
    }

    fn add(
        &mut self,
        phase: &'static str,
        figure: &str,
        value: &str,
        judged: Option<(String, bool)>,
    ) {
        self.0.push(Row { phase, figure: figure.to_owned(), value: value.to_owned(), judged });
    }
}

fn opening(table: &mut Table, results: &Results) {
    let opened = &results.opened;
    let value = format!("{} in {:.1} s", opened.sessions, opened.seconds);
    let all = opened.sessions == results.sessions as u64;
    table.judged("open", "sessions opened", &value, &results.sessions.to_string(), all);
    let rate = format!("{:.0}/s of {}", opened.per_second, results.pace_per_second);
    table.row("open", "rate", &rate);
}

fn holding(table: &mut Table, results: &Results) {
    let (held, open) = (&results.held, float(results.opened.sessions.max(1)));
    let cpu = &held.cpu;
    let value = format!("{} in {:.0} s", held.lost, cpu.wall_seconds);
    table.judged("hold", "sessions lost", &value, "0", held.lost == 0);
    let million = cpu.nodes() / open * MILLION;
    let value = format!(
        "{} of a core ({} user, {} system); {} per million",
        percent(cpu.nodes()),
        percent(cpu.nodes_user),
        percent(cpu.nodes_system),
        percent(million)
    );
    if results.heartbeat_seconds == CPU_TARGET_HEARTBEAT {
        let target = format!("≤ {} per million", percent(CPU_TARGET));
        table.judged("hold", "CPU of all nodes", &value, &target, million <= CPU_TARGET);
    } else {
        table.row("hold", "CPU of all nodes", &value);
    }
    let due = open / f64::from(results.heartbeat_seconds);
    let value = format!("{:.0}/s, {due:.0}/s when evenly spread", held.heartbeats_per_second);
    table.row("hold", "heartbeats", &value);
    table.row("hold", "CPU of all holders", &percent(cpu.holders));
    table.row("hold", "CPU of Redis", &percent(cpu.redis));
    let value = format!(
        "{} of a core, in softirqs {}, stolen {}",
        percent(cpu.machine_busy),
        percent(cpu.machine_softirq),
        percent(cpu.machine_stolen)
    );
    table.row("hold", "the whole machine", &value);
}

fn memory(table: &mut Table, results: &Results) {
    let (memory, after) = (results.memory(), &results.after);
    let mib = |bytes: u64| format!("{:.1} MiB", float(bytes) / 1024.0 / 1024.0);
    let each = |bytes: f64| format!("{:.2} KiB", bytes / 1024.0);
    let value = format!(
        "{} ({} of it grew); in all {}, RSS {}",
        each(memory.nodes),
        each(memory.nodes_growth),
        mib(after.nodes.pss_bytes),
        mib(after.nodes.rss_bytes)
    );
    let target = format!("≤ {} per session", each(MEMORY_TARGET));
    table.judged(
        "hold",
        "memory of nodes per session",
        &value,
        &target,
        memory.nodes <= MEMORY_TARGET,
    );
    let value = format!("{}; in all {}", each(memory.holders_growth), mib(after.holders.pss_bytes));
    table.row("hold", "memory of holders per session", &value);
    table.row("hold", "memory of Redis", &mib(after.redis.pss_bytes));
    let kernel = &after.kernel;
    let value = format!(
        "{}; in all slabs {}, unreclaimable {}, TCP queues {}, page tables {}",
        each(memory.slab_growth),
        mib(kernel.slab_bytes),
        mib(kernel.unreclaimable_slab_bytes),
        mib(kernel.tcp_bytes),
        mib(kernel.page_table_bytes)
    );
    table.row("hold", "slabs of the whole machine, per session", &value);
    let value = memory.socket_growth.map_or("unknown to all but root".to_owned(), each);
    table.row("hold", "slabs of sockets per session, both ends", &value);
    let value =
        format!("{}; {} are left", each(memory.available_drop), mib(kernel.available_bytes));
    table.row("hold", "less memory available, per session", &value);
}

fn messages(table: &mut Table, results: &Results) {
    for (number, delivery) in results.deliveries.iter().enumerate() {
        let Delivery { received, missing, .. } = delivery;
        let value = format!(
            "{received} have it; first {}, p50 {}, p99 {}, last {}; {:.0} deliveries/s; TCP queues up to {:.0} MiB",
            millis(delivery.first_seconds),
            millis(delivery.p50_seconds),
            millis(delivery.p99_seconds),
            millis(delivery.last_seconds),
            delivery.per_second,
            float(delivery.tcp_bytes_peak) / 1024.0 / 1024.0
        );
        let name = format!("message {}", number + 1);
        table.judged("message", &name, &value, "all have it", *missing == 0);
    }
    if results.received() > 0 {
        let micros = results.node_seconds_of_messages * 1e6 / float(results.received());
        table.row("message", "CPU of all nodes per delivery", &format!("{micros:.2} µs"));
    }
}

fn closing(table: &mut Table, results: &Results) {
    let closed = &results.closed;
    let value = format!("{:.1} s until nodes counted {} open", closed.seconds, closed.left.open);
    table.row("close", "all sessions", &value);
    let integrity = &closed.integrity;
    let value = format!(
        "{} of {} received, {} lost, {} doubled, {} reordered, {} garbled; nodes count {} deliveries",
        integrity.received,
        integrity.expected,
        integrity.lost,
        integrity.doubled,
        integrity.reordered,
        integrity.garbled,
        closed.delivered
    );
    table.judged("close", "messages", &value, "each once", integrity.is_clean());
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}
