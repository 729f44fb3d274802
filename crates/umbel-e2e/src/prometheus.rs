//! A Prometheus server of the test's own, that scrapes nodes and evaluates rules.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{eventually, within};

/// A running `prometheus` on a port of its own. Ended when dropped, with all it stored.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

/// A series of an answer: its labels as Prometheus writes them, and its values over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name and labels, as JSON.
    pub labels: Value,
    /// Seconds since 1970, and the value, which may not be a number.
    pub values: Vec<(f64, f64)>,
}

/// What it serves at `/user`: the dashboards and their preview.
const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/grafana");

/// How often nodes are scraped and rules evaluated.
const INTERVAL: &str = "500ms";

impl Prometheus {
    /// Starts a server that scrapes these nodes, each of a cluster, by these files of rules (name and
    /// text), and waits until it is ready.
    pub async fn start(targets: &[(&str, SocketAddr)], rules: &[(&str, String)]) -> Self {
        // Free a moment ago; nobody else on the machine is likely to take it meanwhile.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let name = format!("umbel-e2e-prometheus-{:016x}", fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        for (name, text) in rules {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let names: Vec<_> = rules.iter().map(|(name, _)| *name).collect();
        std::fs::write(directory.join("prometheus.yml"), config(targets, &names)).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--web.listen-address={address}"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--storage.tsdb.retention.time=1h", "--log.level=warn"])
            .arg(format!("--web.user-assets={ASSETS}"))
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .expect("prometheus is installed (Debian: apt-get install prometheus)");
        let mut prometheus = Self { child, address, directory };
        eventually("Prometheus", || {
            let ended = prometheus.child.try_wait().unwrap();
            let log = prometheus.directory.join("log");
            async move {
                assert!(ended.is_none(), "{}", std::fs::read_to_string(log).unwrap());
                let answer = fetch(address, "GET", "/-/ready", "").await.ok()?;
                answer.starts_with("HTTP/1.0 200").then_some(())
            }
        })
        .await;
        prometheus
    }

    /// What an expression gives now, or why it gives nothing.
    pub async fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let body = form(&[("query", expression)]);
        self.ask("/api/v1/query", &body).await.map(|data| series(&data))
    }

    /// What an expression gave between two times, at each of so many seconds.
    pub async fn range(
        &self,
        expression: &str,
        (from, to): (f64, f64),
        step: f64,
    ) -> Result<Vec<Series>, String> {
        let (from, to, step) = (from.to_string(), to.to_string(), step.to_string());
        let body = form(&[("query", expression), ("start", &from), ("end", &to), ("step", &step)]);
        self.ask("/api/v1/query_range", &body).await.map(|data| series(&data))
    }

    /// The data of another page of its API, such as `/api/v1/rules`.
    pub async fn api(&self, path: &str) -> Value {
        let answer = within("Prometheus", fetch(self.address, "GET", path, "")).await.unwrap();
        data(&answer).unwrap()
    }

    /// Waits until an expression gives something.
    pub async fn gives(&self, expression: &str) {
        eventually(expression, || async {
            let given = self.query(expression).await.unwrap();
            (!given.is_empty()).then_some(())
        })
        .await;
    }

    /// Where browsers find it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The time as it counts it.
    pub fn now() -> f64 {
        let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_secs_f64()
    }

    async fn ask(&self, path: &str, body: &str) -> Result<Value, String> {
        data(&within("Prometheus", fetch(self.address, "POST", path, body)).await.unwrap())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn config(targets: &[(&str, SocketAddr)], rules: &[&str]) -> String {
    let rules = serde_json::to_string(rules).unwrap();
    let mut text = format!(
        "global: {{ scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL} }}\n\
         rule_files: {rules}\n\
         scrape_configs:\n- job_name: umbel\n  static_configs:\n"
    );
    for (cluster, address) in targets {
        let line = format!("  - {{ targets: ['{address}'], labels: {{ cluster: {cluster} }} }}\n");
        text.push_str(&line);
    }
    text
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// One request, by HTTP/1.0 so that the answer is neither chunked nor followed by another.
async fn fetch(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn data(answer: &str) -> Result<Value, String> {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut body: Value = serde_json::from_str(body).map_err(|_| answer.to_owned())?;
    match body["status"].as_str() {
        Some("success") => Ok(body["data"].take()),
        _ => Err(body["error"].to_string()),
    }
}

fn series(data: &Value) -> Vec<Series> {
    let point = |pair: &Value| {
        let value = pair[1].as_str().unwrap().parse().unwrap();
        (pair[0].as_f64().unwrap(), value)
    };
    let one = |series: &Value| {
        let values = match series.get("values") {
            Some(values) => values.as_array().unwrap().iter().map(point).collect(),
            None => vec![point(&series["value"])],
        };
        Series { labels: series["metric"].clone(), values }
    };
    match data["resultType"].as_str() {
        Some("matrix" | "vector") => data["result"].as_array().unwrap().iter().map(one).collect(),
        _ => vec![Series { labels: Value::Null, values: vec![point(&data["result"])] }],
    }
}
