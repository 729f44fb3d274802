//! A collector of traces: as much of OTLP over HTTP as it takes to see what nodes export.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// It takes everything.
    Ok,
    /// It takes everything, after a while.
    After(Duration),
    /// It reads requests and says nothing, for ever.
    Never,
    /// It is busy for so many requests, and then takes everything.
    BusyFor(usize),
}

#[derive(Debug)]
struct Seen {
    answers: Answers,
    requests: AtomicUsize,
    spans: Mutex<Vec<SeenSpan>>,
}

/// A span as it was exported.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    /// Which node exported it, by its name.
    pub node: String,
    /// All of it.
    pub json: Value,
}

impl SeenSpan {
    /// A member that is text.
    pub fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap()
    }

    /// A time, in nanoseconds since 1970.
    pub fn nanos(&self, name: &str) -> u128 {
        self.text(name).parse().unwrap()
    }

    /// An attribute, as text.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let attributes = self.json["attributes"].as_array().unwrap();
        let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
        value["stringValue"].as_str().or(value["intValue"].as_str())
    }
}

impl Collector {
    /// Listens on a port of its own.
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen =
            Arc::new(Seen { answers, requests: AtomicUsize::new(0), spans: Mutex::default() });
        let mut serving = JoinSet::new();
        let known = seen.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, known.clone()));
            }
        });
        Self { address, seen, _serving: serving }
    }

    /// What `traces.endpoint` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// All that was exported so far.
    pub fn spans(&self) -> Vec<SeenSpan> {
        self.seen.spans.lock().unwrap().clone()
    }

    /// Waits until so many spans of a trace came, and gives these.
    pub async fn spans_of(&self, trace: &str, count: usize) -> Vec<SeenSpan> {
        crate::eventually("the spans", || async {
            let mut spans = self.spans();
            spans.retain(|span| span.text("traceId") == trace);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>) {
    let mut bytes = Vec::new();
    let body = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
            break body.to_owned();
        }
    };
    let before = seen.requests.fetch_add(1, Ordering::Relaxed);
    let status = match seen.answers {
        Answers::Never => std::future::pending().await,
        Answers::BusyFor(count) if before < count => "503 Service Unavailable",
        Answers::BusyFor(_) | Answers::Ok | Answers::After(_) => "200 OK",
    };
    if let Answers::After(span) = seen.answers {
        tokio::time::sleep(span).await;
    }
    if status == "200 OK" {
        seen.take(&body);
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
    // Whoever doesn't want the answer has gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

impl Seen {
    fn take(&self, body: &str) {
        let body: Value = serde_json::from_str(body).unwrap();
        let mut spans = self.spans.lock().unwrap();
        for resource in body["resourceSpans"].as_array().unwrap() {
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            let name = attributes.iter().find(|known| known["key"] == "service.instance.id");
            let node = name.unwrap()["value"]["stringValue"].as_str().unwrap().to_owned();
            for scope in resource["scopeSpans"].as_array().unwrap() {
                let all = scope["spans"].as_array().unwrap();
                spans.extend(
                    all.iter().map(|json| SeenSpan { node: node.clone(), json: json.clone() }),
                );
            }
        }
    }
}
