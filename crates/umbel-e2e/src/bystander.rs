//! Healthy clients beside hostile ones.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{Http2Client, Http2Stream, HttpClient, Node, SseClient, WebSocketClient, within};

/// How many messages are published at a time.
const ROUND: u64 = 10;

/// How long the publisher rests, so that it is no flood of its own.
const PACE: Duration = Duration::from_millis(5);

/// Sessions that are given messages all the while, and miss none of them.
///
/// A task of its own publishes and reads, over every transport; it fails as soon as a message is
/// missing, comes twice or out of order, or doesn't come at all.
#[derive(Debug)]
pub struct Bystander {
    stop: watch::Sender<bool>,
    watching: JoinSet<()>,
}

/// Who is given the messages.
#[derive(Debug)]
struct Audience {
    publisher: HttpClient,
    plain: WebSocketClient,
    sse: SseClient,
    stream: Http2Stream,
    _http2: Http2Client,
    published: u64,
}

impl Bystander {
    /// The rule that the sessions need where there are rules.
    pub const RULE: &str =
        "[[topics]]\nmatch = \"bystander\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n";

    /// Opens the sessions and begins.
    pub async fn beside(node: &Node) -> Self {
        let mut audience = Audience::of(node).await;
        audience.round().await;
        let (stop, stopped) = watch::channel(false);
        let mut watching = JoinSet::new();
        watching.spawn(audience.watch(stopped));
        Self { stop, watching }
    }

    /// Publishes once more and checks that every session was given everything. The sessions end.
    pub async fn noticed_nothing(mut self) {
        self.stop.send_replace(true);
        within("the bystander's last messages", self.watching.join_next()).await.unwrap().unwrap();
    }
}

impl Audience {
    async fn of(node: &Node) -> Self {
        let mut http2 = node.http2().await;
        Self {
            publisher: node.client().await,
            plain: node.subscribe("bystander").await,
            sse: node.sse("/topics/bystander").await,
            stream: http2.sse("/topics/bystander").await,
            _http2: http2,
            published: 0,
        }
    }

    async fn watch(mut self, stopped: watch::Receiver<bool>) {
        let mut is_last = false;
        while !is_last {
            is_last = *stopped.borrow();
            self.round().await;
            sleep(PACE).await;
        }
        self.plain.close().await;
    }

    /// Publishes some messages, of which every session must be given each, in order.
    async fn round(&mut self) {
        let numbers = self.published..self.published + ROUND;
        let mut lines = String::new();
        for number in numbers.clone() {
            let message = json!({"topic": "bystander", "text": number.to_string()});
            writeln!(lines, "{message}").unwrap();
        }
        let answer =
            self.publisher.post("/publish", "application/x-ndjson", lines.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for number in numbers {
            let expected = number.to_string();
            assert_eq!(self.plain.text().await, expected, "over WebSocket");
            assert_eq!(self.sse.data().await, expected, "over SSE");
            assert_eq!(self.stream.data().await, expected, "over HTTP/2");
        }
        self.published += ROUND;
    }
}
