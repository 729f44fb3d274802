//! Publishers at a steady pace that lose nothing, and messages that say when they were published.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{Answer, within};

/// The clock of one test, which publishers and clients share.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

/// What a message of a [`Load`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// Its place in its topic; 1 is the first.
    pub number: u32,
    /// When its publisher first tried to publish it, in microseconds of the test's clock.
    pub published: u64,
}

/// A publisher for each of some topics, in a task of its own: at a steady pace, one message at a
/// time, each again and again until it is acknowledged, under a key that makes that harmless.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    repeats: Arc<AtomicU64>,
    tasks: JoinSet<(usize, u32)>,
}

/// One topic's publisher.
#[derive(Debug)]
struct Source {
    topic: usize,
    door: SocketAddr,
    clock: Clock,
    connection: Option<TcpStream>,
    repeats: Arc<AtomicU64>,
}

/// How long a publisher waits for an answer before it tries again.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long it waits between attempts.
const PAUSE: Duration = Duration::from_millis(50);

impl Clock {
    /// Starts a clock.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since its start.
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).expect("a test is shorter than an age")
    }
}

impl Numbered {
    /// Reads what a publisher wrote.
    pub fn parse(text: &str) -> Self {
        let (number, published) = text.split_once(' ').unwrap();
        Self { number: number.parse().unwrap(), published: published.parse().unwrap() }
    }

    fn text(self) -> String {
        format!("{} {}", self.number, self.published)
    }
}

impl Load {
    /// The name of a topic.
    pub fn topic(number: usize) -> String {
        format!("crowd.{number}")
    }

    /// Begins to publish to so many topics, so many messages a second to each, through these doors
    /// in turn.
    pub fn start(doors: &[SocketAddr], topics: usize, per_second: u32, clock: Clock) -> Self {
        let (stop, stopped) = watch::channel(false);
        let repeats = Arc::new(AtomicU64::new(0));
        let interval = Duration::from_secs(1) / per_second;
        let mut tasks = JoinSet::new();
        for topic in 0..topics {
            let door = doors[topic % doors.len()];
            let repeats = repeats.clone();
            let source = Source { topic, door, clock, connection: None, repeats };
            // Topics take turns, so that the load is even.
            let begin = interval * u32::try_from(topic).unwrap() / u32::try_from(topics).unwrap();
            tasks.spawn(source.run(begin, interval, stopped.clone()));
        }
        Self { stop, repeats, tasks }
    }

    /// How often a message was sent again.
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Waits for the last acknowledgements; gives how many messages each topic has.
    pub async fn stop(self) -> Vec<u32> {
        self.stop.send_replace(true);
        let mut counts = within("the publishers' end", self.tasks.join_all()).await;
        counts.sort_unstable();
        counts.into_iter().map(|(_, count)| count).collect()
    }
}

impl Source {
    async fn run(
        mut self,
        begin: Duration,
        interval: Duration,
        stopped: watch::Receiver<bool>,
    ) -> (usize, u32) {
        let start = Instant::now() + begin;
        let mut number = 0;
        loop {
            sleep_until(start + interval * number).await;
            if *stopped.borrow() {
                return (self.topic, number);
            }
            number += 1;
            let message = Numbered { number, published: self.clock.micros() };
            within("an acknowledgement", self.publish(message)).await;
        }
    }

    async fn publish(&mut self, message: Numbered) {
        let topic = Load::topic(self.topic);
        let key = format!("{topic}-{}", message.number);
        let headers = [("content-type", "text/plain"), ("idempotency-key", key.as_str())];
        let body = message.text();
        let path = format!("/topics/{topic}");
        let request = crate::http::request("POST", &path, &headers, body.as_bytes());
        while !self.is_acknowledged(&request).await {
            self.repeats.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    }

    async fn is_acknowledged(&mut self, request: &[u8]) -> bool {
        match timeout(ANSWER_WAIT, self.exchange(request)).await {
            Ok(Ok(answer)) => {
                // What doesn't pass by itself is the test's own mistake.
                assert!(matches!(answer.status, 200 | 500..), "{answer:?}");
                answer.status == 200
            }
            _ => false,
        }
    }

    /// One request and its answer. If it fails or is dropped, the next has another connection.
    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.door).await?,
        };
        connection.write_all(request).await?;
        let answer = read_answer(&mut connection).await?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

async fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = crate::http::find(&bytes, b"\r\n\r\n") {
            let head = crate::http::parse_head(std::str::from_utf8(&bytes[..end]).unwrap());
            let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Ok(Answer { body: bytes.split_off(end + 4), ..head });
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
