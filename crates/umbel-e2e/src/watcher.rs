//! Clients that come back whenever they are cut, and what they must have been given.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use umbel_protocol::sse::EventParser;
use umbel_protocol::{MessageId, Position};

use crate::{HANDSHAKE, eventually, masked_frame};

/// How a watcher is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As a browser's `EventSource`.
    Sse,
    /// By the JSON dialect.
    Json,
}

/// One thing that a watcher was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A message.
    Message(MessageId, String),
    /// Messages are missing up to there.
    Gap(String, Position),
}

/// A client of one topic with history, in a task of its own.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    hops: watch::Sender<usize>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    topic: String,
    way: Way,
    nodes: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where it began, once it was in.
    start: Option<Position>,
    /// Where it comes back to.
    last: Option<Position>,
    seen: Vec<Seen>,
    connects: u64,
}

/// How long a watcher waits between attempts.
const PAUSE: Duration = Duration::from_millis(30);

impl Watcher {
    /// Begins to watch a topic at the first of these nodes; returns once it is in.
    pub async fn start(nodes: &[SocketAddr], topic: &str, way: Way) -> Self {
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            way,
            nodes: nodes.to_vec(),
            state: Mutex::default(),
        });
        let (hops, at) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(run(shared.clone(), at));
        let watcher = Self { shared, hops, _task: task };
        eventually("the watcher's first connection", || async { watcher.place() }).await;
        watcher
    }

    /// Cuts its connection; it comes back to the next node.
    pub fn hop(&self) {
        self.hops.send_modify(|at| *at += 1);
    }

    /// How often it connected.
    pub fn connects(&self) -> u64 {
        self.shared.lock().connects
    }

    /// Everything that it was given so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// The reasons of the gaps that it was told of.
    pub fn gaps(&self) -> Vec<String> {
        let reason = |seen: Seen| match seen {
            Seen::Gap(reason, _) => Some(reason),
            Seen::Message(..) => None,
        };
        self.seen().into_iter().filter_map(reason).collect()
    }

    /// Waits until it has this message, or more.
    pub async fn has(&self, text: &str) {
        let found = crate::wait::poll_until(|| async {
            let state = self.shared.lock();
            let is_it = |seen: &Seen| matches!(seen, Seen::Message(_, got) if got == text);
            (state.seen.last().cloned(), state.seen.iter().rev().any(is_it))
        });
        if let Err(last) = found.await {
            panic!("{text:?} did not come, the last is {last:?}");
        }
    }

    /// Checks that nothing was lost, doubled or out of place without a word: what it was given is
    /// one row behind its start and behind each gap, and whatever was published and isn't there
    /// lies within a gap. Gives how many messages it has.
    pub fn check(&self, record: &Record) -> usize {
        let state = self.shared.lock();
        let start = state.start.expect("it was in");
        let texts = record.texts();
        let mut last = start;
        let mut gaps = Vec::new();
        let mut got = HashSet::new();
        for seen in &state.seen {
            match seen {
                Seen::Gap(_, position) => {
                    gaps.push((last, *position));
                    last = *position;
                }
                Seen::Message(id, text) => {
                    assert_eq!(id.offset, last.offset() + 1, "{id} behind {last}");
                    let same = last.goes_on_in(id.epoch);
                    assert!(same, "{id} behind {last} without a word");
                    if let Some(expected) = texts.get(id) {
                        assert_eq!(text, expected, "of {id}");
                    }
                    assert!(got.insert(*id), "{id} came twice, behind the gaps {gaps:?}");
                    last = (*id).into();
                }
            }
        }
        let before = |id: &MessageId| {
            start.0.is_some_and(|start| start.epoch == id.epoch && start.offset >= id.offset)
        };
        let behind_all = |id: &MessageId| {
            last.0.is_some_and(|last| last.epoch == id.epoch && last.offset < id.offset)
        };
        for id in texts.keys().filter(|id| !got.contains(id) && !before(id)) {
            assert!(!behind_all(id), "{id} never came, the last is {last}");
            let told = gaps.iter().any(|(from, to)| is_between(*id, *from, *to));
            assert!(told, "{id} is missing without a word: {:?}, gaps {gaps:?}", self.shared.way);
        }
        got.len()
    }

    fn place(&self) -> Option<()> {
        self.shared.lock().start.map(drop)
    }
}

/// Whether a message may lie between two places.
fn is_between(id: MessageId, from: Position, to: Position) -> bool {
    let of = |position: Position| position.0.filter(|known| known.epoch == id.epoch);
    match (of(from), of(to)) {
        (Some(from), Some(to)) => (from.offset + 1..=to.offset).contains(&id.offset),
        (Some(from), None) => id.offset > from.offset,
        (None, Some(to)) => id.offset <= to.offset,
        // A life of the topic that nobody came to know.
        (None, None) => true,
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, position: Option<Position>) {
        let mut state = self.lock();
        state.connects += 1;
        if let Some(position) = position {
            state.start.get_or_insert(position);
            state.last.get_or_insert(position);
        }
    }

    fn take(&self, seen: Seen) {
        let mut state = self.lock();
        state.last = Some(match &seen {
            Seen::Message(id, _) => (*id).into(),
            Seen::Gap(_, position) => *position,
        });
        state.seen.push(seen);
    }
}

async fn run(shared: Arc<Shared>, mut hops: watch::Receiver<usize>) {
    loop {
        let node = shared.nodes[*hops.borrow_and_update() % shared.nodes.len()];
        tokio::select! {
            // However it ends, it comes back.
            _ = connection(&shared, node) => sleep(PAUSE).await,
            hopped = hops.changed() => if hopped.is_err() {
                return;
            },
        }
    }
}

async fn connection(shared: &Shared, node: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(node).await?;
    let last = shared.lock().last;
    match shared.way {
        Way::Sse => sse(shared, &mut stream, last).await,
        Way::Json => json_session(shared, &mut stream, last).await,
    }
}

async fn sse(
    shared: &Shared,
    stream: &mut TcpStream,
    last: Option<Position>,
) -> std::io::Result<()> {
    let place = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
    let head = format!(
        "GET /topics/{} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{place}\r\n",
        shared.topic
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    let end = read_head(stream, &mut bytes, "HTTP/1.1 200").await?;
    let mut parser = EventParser::default();
    let mut rest = bytes.split_off(end);
    let mut is_in = false;
    loop {
        let events = parser.feed(&rest);
        if !is_in && !parser.last_event_id().is_empty() {
            is_in = true;
            let place = events.first().map_or(parser.last_event_id(), |_| parser.last_event_id());
            // Before any event the id is where the stream begins.
            if events.is_empty() || last.is_some() {
                shared.begin(place.parse().ok());
            } else {
                shared.begin(None);
            }
        }
        for event in events {
            let position: Position = event.id.parse().unwrap();
            shared.take(match &*event.name {
                "umbel.gap" => {
                    let gap: Value = serde_json::from_str(&event.data).unwrap();
                    Seen::Gap(gap["reason"].as_str().unwrap().to_owned(), position)
                }
                _ => Seen::Message(position.0.unwrap(), event.data),
            });
        }
        rest = read_some(stream).await?;
    }
}

async fn json_session(
    shared: &Shared,
    stream: &mut TcpStream,
    last: Option<Position>,
) -> std::io::Result<()> {
    let mut head = "GET /ws HTTP/1.1\r\nhost: x\r\n".to_owned();
    for (name, value) in HANDSHAKE {
        head.extend([name, ": ", value, "\r\n"]);
    }
    stream.write_all((head + "\r\n").as_bytes()).await?;
    let command = match last {
        Some(last) => json!({"op": "subscribe", "topic": shared.topic, "after": last.to_string()}),
        None => json!({"op": "subscribe", "topic": shared.topic}),
    };
    stream.write_all(&masked_frame(true, 1, command.to_string().as_bytes())).await?;
    let mut bytes = Vec::new();
    let end = read_head(stream, &mut bytes, "HTTP/1.1 101").await?;
    bytes.drain(..end);
    loop {
        while let Some((payload, used)) = text_frame(&bytes) {
            if let Some(payload) = payload {
                take_object(shared, &serde_json::from_slice(&payload).unwrap());
            }
            bytes.drain(..used);
        }
        bytes.extend(read_some(stream).await?);
    }
}

fn take_object(shared: &Shared, object: &Value) {
    let position = |name: &str| object[name].as_str().and_then(|text| text.parse().ok());
    match object["op"].as_str().unwrap() {
        "subscribed" => shared.begin(position("position")),
        "gap" => {
            let reason = object["reason"].as_str().unwrap().to_owned();
            // Without a place: the broker couldn't say where the topic stands.
            if let Some(position) = position("position") {
                shared.take(Seen::Gap(reason, position));
            }
        }
        "message" => {
            let text = object["text"].as_str().unwrap().to_owned();
            let id: Position = position("message_id").expect("it has a place");
            shared.take(Seen::Message(id.0.unwrap(), text));
        }
        "welcome" => {}
        other => panic!("{other}: {object}"),
    }
}

/// The payload of the first frame if it is text, and the frame's length.
fn text_frame(bytes: &[u8]) -> Option<(Option<Vec<u8>>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap()),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    Some(((first & 0x0f == 1).then(|| payload.to_vec()), header + length))
}

async fn read_head(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    expected: &str,
) -> std::io::Result<usize> {
    loop {
        if let Some(end) = crate::http::find(bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]);
            if head.starts_with(expected) {
                return Ok(end + 4);
            }
            return Err(std::io::Error::other(head.into_owned()));
        }
        bytes.extend(read_some(stream).await?);
    }
}

async fn read_some(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 64 * 1024];
    let read = stream.read(&mut bytes).await?;
    bytes.truncate(read);
    if read == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// What publishers were told was published.
#[derive(Debug, Default)]
pub struct Record(Mutex<Vec<(MessageId, String)>>);

impl Record {
    /// Everything so far, by id.
    pub fn texts(&self) -> HashMap<MessageId, String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes note of one.
    pub fn add(&self, id: &str, text: &str) {
        self.0.lock().unwrap().push((id.parse().unwrap(), text.to_owned()));
    }
}

/// A publisher in a task of its own: at a steady pace, until it is told to stop. What isn't
/// acknowledged isn't recorded, and not sent again.
#[derive(Debug)]
pub struct Publisher {
    stop: watch::Sender<bool>,
    task: JoinSet<u64>,
}

/// How long a publisher waits for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(12);

impl Publisher {
    /// Publishes numbered texts, each behind `name`, to topics in turn, so many a second.
    pub fn start(
        node: SocketAddr,
        topics: &[&str],
        name: &str,
        per_second: u32,
        records: Vec<Arc<Record>>,
    ) -> Self {
        assert_eq!(topics.len(), records.len(), "a record for each topic");
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(publish(node, topics, name.to_owned(), per_second, records, stopped));
        Self { stop, task }
    }

    /// Waits for the last answer; gives how many were sent.
    pub async fn stop(mut self) -> u64 {
        self.stop.send_replace(true);
        let sent = crate::within("the publisher's end", self.task.join_next()).await;
        sent.expect("it is one task").unwrap()
    }
}

async fn publish(
    node: SocketAddr,
    topics: Vec<String>,
    name: String,
    per_second: u32,
    records: Vec<Arc<Record>>,
    stopped: watch::Receiver<bool>,
) -> u64 {
    let start = Instant::now();
    let mut number = 0;
    while !*stopped.borrow() {
        let due = Duration::from_secs(1) * u32::try_from(number).unwrap() / per_second;
        tokio::time::sleep_until(start + due).await;
        // All that is due by now goes in one request, in order.
        let behind = start.elapsed().as_secs_f64() * f64::from(per_second);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = (behind as u64).saturating_sub(number).clamp(1, 200);
        let texts: Vec<_> = (number..number + count).map(|n| format!("{name}{n}")).collect();
        let place = |at: u64| usize::try_from(at).unwrap() % topics.len();
        let lines: Vec<_> = (number..number + count)
            .zip(&texts)
            .map(|(at, text)| json!({"topic": topics[place(at)], "text": text}).to_string())
            .collect();
        let body = lines.join("\n");
        if let Ok(Ok(results)) = timeout(ANSWER_WAIT, post(node, &body)).await {
            for ((at, text), result) in (number..number + count).zip(&texts).zip(results) {
                if let Some(id) = result["id"].as_str() {
                    records[place(at)].add(id, text);
                }
            }
        }
        number += count;
    }
    number
}

async fn post(node: SocketAddr, body: &str) -> std::io::Result<Vec<Value>> {
    let mut stream = TcpStream::connect(node).await?;
    let head = format!(
        "POST /publish HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Ok(Vec::new());
    }
    Ok(body.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}
