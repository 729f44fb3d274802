//! A node process.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{DEADLINE, Http2Client, HttpClient, Metrics, SseClient, WebSocketClient, within};

/// What clients may hold of a node.
const HOLDINGS: [&str; 13] = [
    "umbel_connections_open",
    "umbel_sessions_open{transport=\"websocket\"}",
    "umbel_sessions_open{transport=\"sse\"}",
    "umbel_subscriptions",
    "umbel_topics",
    "umbel_log_bytes",
    "umbel_held_bytes{by=\"mailbox\"}",
    "umbel_held_bytes{by=\"input\"}",
    "umbel_held_bytes{by=\"control\"}",
    "umbel_held_bytes{by=\"bodies\"}",
    "umbel_held_bytes{by=\"connections\"}",
    "umbel_held_bytes{by=\"streams\"}",
    "umbel_held_bytes{by=\"replays\"}",
];

/// A running node.
#[derive(Debug)]
pub struct Node {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    /// Kept open: a node whose output nobody reads would be stopped by its own banner.
    _stdout: BufReader<ChildStdout>,
    log: Arc<Mutex<String>>,
    _log_task: JoinSet<()>,
    _file: Option<SettingsFile>,
    options: NodeOptions,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub(crate) struct NodeOptions {
    pub(crate) address: IpAddr,
    pub(crate) workers: usize,
    pub(crate) settings: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) broker: Option<String>,
    /// Whether its standard error is a pipe that nobody reads.
    pub(crate) has_deaf_log: bool,
    /// Whether its ports are still free when it has been away for a while.
    pub(crate) has_lasting_ports: bool,
}

impl Default for NodeOptions {
    /// One worker, so that what a test sees is the same on every machine, and a node that leaves at
    /// once. What a test sets itself comes later and wins.
    fn default() -> Self {
        let at_once = ["UMBEL_DRAIN__PAUSE_SECONDS", "UMBEL_DRAIN__DRAIN_SECONDS"];
        let environment = at_once.map(|name| (name.to_owned(), "0".to_owned()));
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            workers: 1,
            settings: String::new(),
            environment: environment.into(),
            broker: None,
            has_deaf_log: false,
            has_lasting_ports: false,
        }
    }
}

/// The program run with arguments of the test's own, to its end.
#[derive(Debug)]
pub struct ConfiguredNode;

/// A file of settings that goes away with the test.
#[derive(Debug)]
struct SettingsFile(PathBuf);

impl SettingsFile {
    fn new(text: &str) -> Self {
        let name = format!("umbel-e2e-{}-{:016x}.toml", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The binary that cargo built beside this test.
pub(crate) fn program() -> Command {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(|deps| deps.parent()).unwrap();
    let mut command = Command::new(directory.join("node-under-test"));
    // What the developer's shell or the machine has set is not part of the test. The filter is the
    // program's own.
    command.env_clear().env("RUST_LOG", "info,h2=error").kill_on_drop(true);
    command
}

impl ConfiguredNode {
    /// Runs the program and gives its exit code, its output and its errors. `file` is handed to it
    /// as `--config umbel.toml`, relative to its working directory, so that messages show just the
    /// name.
    pub async fn run(
        arguments: &[&str],
        environment: &[(&str, &str)],
        file: Option<&str>,
    ) -> (i32, String, String) {
        let directory = std::env::temp_dir().join(format!(
            "umbel-e2e-{}-{:016x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        std::fs::create_dir(&directory).unwrap();
        let mut command = program();
        command.args(arguments).envs(environment.iter().copied()).current_dir(&directory);
        if let Some(text) = file {
            std::fs::write(directory.join("umbel.toml"), text).unwrap();
            command.args(["--config", "umbel.toml"]);
        }
        let output = within("the program's end", command.output()).await.unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

impl Node {
    pub(crate) async fn start(options: &NodeOptions) -> Self {
        let port = if options.has_lasting_ports { lasting_port } else { || 0 };
        let http = (options.address, port()).into();
        Self::start_at(options, http, (Ipv4Addr::LOCALHOST, port()).into()).await
    }

    /// Ends the process and starts another on the same ports.
    pub async fn restart(&mut self) {
        self.signal("TERM");
        assert_eq!(self.exit_code().await, Some(0));
        self.start_again().await;
    }

    /// Starts another process on the ports of this one, which has ended.
    pub async fn start_again(&mut self) {
        *self = Self::start_at(&self.options, self.http, self.admin).await;
        self.wait_until_ready().await;
    }

    async fn start_at(options: &NodeOptions, http: SocketAddr, admin: SocketAddr) -> Self {
        let mut command = program();
        let file = (!options.settings.is_empty()).then(|| SettingsFile::new(&options.settings));
        if let Some(SettingsFile(path)) = &file {
            command.arg("--config").arg(path);
        }
        command.envs(options.environment.iter().cloned());
        command.args(["--listen", &http.to_string(), "--admin", &admin.to_string()]);
        command.args(["--workers", &options.workers.to_string()]);
        if let Some(url) = &options.broker {
            command.args(["--broker", url]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::default();
        let mut log_task = JoinSet::new();
        if !options.has_deaf_log {
            log_task.spawn(keep_log(child.stderr.take().unwrap(), Arc::clone(&log)));
        }
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let http = within("the node's banner", address_in_line(&mut stdout)).await;
        let admin = within("the node's banner", address_in_line(&mut stdout)).await;
        let options = options.clone();
        Self { child, http, admin, _stdout: stdout, log, _log_task: log_task, _file: file, options }
    }

    /// What `/readyz` says: its status and text.
    pub async fn readiness(&self) -> (u16, String) {
        let answer = HttpClient::connect(self.admin).await.get("/readyz").await;
        (answer.status, answer.text())
    }

    /// Waits until it is unready, and gives why.
    pub async fn becomes_unready(&self) -> String {
        crate::eventually("unreadiness", || async {
            let (status, text) = self.readiness().await;
            (status == 503).then_some(text)
        })
        .await
    }

    /// Waits until it is ready.
    pub async fn wait_until_ready(&self) {
        crate::eventually("readiness", || async {
            (self.readiness().await.0 == 200).then_some(())
        })
        .await;
    }

    /// Where clients and publishers find it.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where operators find it.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// A plain WebSocket on a topic.
    pub async fn subscribe(&self, topic: &str) -> WebSocketClient {
        WebSocketClient::open(self.http, &format!("/topics/{topic}")).await
    }

    /// A plain WebSocket on a topic that is soon blocked unless the test reads from it.
    pub async fn subscribe_without_reading(&self, topic: &str) -> WebSocketClient {
        WebSocketClient::open_narrow(self.http, &format!("/topics/{topic}")).await
    }

    /// A session of the JSON dialect, behind its welcome.
    pub async fn json(&self) -> WebSocketClient {
        let mut client = WebSocketClient::open(self.http, "/ws").await;
        assert_eq!(client.json().await["op"], "welcome");
        client
    }

    /// An SSE stream.
    pub async fn sse(&self, path: &str) -> SseClient {
        SseClient::open(self.http, path).await
    }

    /// A connection for requests.
    pub async fn client(&self) -> HttpClient {
        HttpClient::connect(self.http).await
    }

    /// A connection for requests over HTTP/2.
    pub async fn http2(&self) -> Http2Client {
        Http2Client::connect(self.http).await
    }

    /// Publishes text with a request of its own.
    pub async fn publish(&self, topic: &str, text: &str) {
        let answer = self
            .client()
            .await
            .post(&format!("/topics/{topic}"), "text/plain", text.as_bytes())
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Its metrics as they are now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.metrics_text().await)
    }

    /// The same as Prometheus gets them.
    pub async fn metrics_text(&self) -> String {
        let answer = HttpClient::connect(self.admin).await.get("/metrics").await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Waits until a metric has a value. Workers hand theirs over four times a second.
    #[track_caller]
    pub fn metric_becomes(&self, series: &str, expected: f64) -> impl Future<Output = ()> {
        self.metric(series, format!("{expected}"), move |value| (value - expected).abs() < 1e-9)
    }

    /// Waits until a metric is above a value.
    #[track_caller]
    pub fn metric_exceeds(&self, series: &str, bound: f64) -> impl Future<Output = ()> {
        self.metric(series, format!("above {bound}"), move |value| value > bound)
    }

    /// Waits until a metric has a value that it may take longer to reach than anything else.
    #[track_caller]
    pub fn metric_becomes_within(
        &self,
        deadline: Duration,
        series: &str,
        expected: f64,
    ) -> impl Future<Output = ()> {
        let is_wanted = move |value: f64| (value - expected).abs() < 1e-9;
        self.metric_within(deadline, series, format!("{expected}"), is_wanted)
    }

    /// Waits until no client holds anything of it any more: no connection, session, topic or byte.
    #[track_caller]
    pub fn is_left_empty(&self) -> impl Future<Output = ()> {
        self.is_left_empty_within(DEADLINE)
    }

    /// The same, where it may take longer than anything else.
    #[track_caller]
    pub fn is_left_empty_within(&self, deadline: Duration) -> impl Future<Output = ()> {
        // Counted just before a worker hands over what it holds, so that two more say that this
        // was after now.
        const TICKS: &str = "umbel_event_loop_lag_seconds_count";
        let place = std::panic::Location::caller();
        async move {
            let ticks = self.metrics().await.value(TICKS);
            let seen = crate::wait::poll_within(deadline, || async {
                let metrics = self.metrics().await;
                let held = HOLDINGS.map(|series| (series, metrics.value(series)));
                let left: Vec<_> = held.into_iter().filter(|(_, value)| *value != 0.0).collect();
                let is_empty = left.is_empty() && metrics.value(TICKS) >= ticks + 2.0;
                (left, is_empty)
            });
            if let Err(left) = seen.await {
                panic!("the node still holds {left:?} ({place})");
            }
        }
    }

    #[track_caller]
    fn metric(
        &self,
        series: &str,
        wanted: String,
        is_wanted: impl Fn(f64) -> bool,
    ) -> impl Future<Output = ()> {
        self.metric_within(DEADLINE, series, wanted, is_wanted)
    }

    #[track_caller]
    fn metric_within(
        &self,
        deadline: Duration,
        series: &str,
        wanted: String,
        is_wanted: impl Fn(f64) -> bool,
    ) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let seen = crate::wait::poll_within(deadline, || async {
                let value = self.metrics().await.value(series);
                (value, is_wanted(value))
            });
            if let Err(last) = seen.await {
                panic!("{series} is {last}, not {wanted} ({place})");
            }
        }
    }

    /// Waits until it has logged a line with this in it, and gives how many such lines there are.
    pub async fn logs(&self, text: &str) -> usize {
        crate::eventually("the log line", || async {
            let log = self.log.lock().unwrap();
            let count = log.lines().filter(|line| line.contains(text)).count();
            (count > 0).then_some(count)
        })
        .await
    }

    /// What it has logged so far, a line each.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().unwrap().lines().map(str::to_owned).collect()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the process to end by itself and gives its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        within("the node's exit", self.child.wait()).await.unwrap().code()
    }

    /// The same for a process that may take longer than anything else in a test, by its settings.
    pub async fn exit_code_before(&mut self, limit: Duration) -> Option<i32> {
        let exit = timeout(limit, self.child.wait()).await;
        exit.unwrap_or_else(|_| panic!("the node runs on after {limit:?}")).unwrap().code()
    }
}

/// A free port below those that kernels give to whoever asks for any, or connects.
fn lasting_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).find(is_free).unwrap()
}

/// Keeps what a node logs, and shows it where the test's own output goes. Ends with the node.
async fn keep_log(stderr: ChildStderr, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{line}");
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}

/// The address of the first URL in the next line that has one.
async fn address_in_line(stdout: &mut BufReader<ChildStdout>) -> SocketAddr {
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).await.unwrap() == 0 {
            let mut rest = String::new();
            let _ = stdout.read_to_string(&mut rest).await;
            panic!("the node ended before it listened: {rest}");
        }
        if let Some((_, url)) = line.split_once("http://") {
            let end = url
                .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
                .unwrap_or(url.len());
            return url[..end].parse().unwrap();
        }
    }
}
