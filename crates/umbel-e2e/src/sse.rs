//! A client of server-sent events.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use umbel_protocol::sse::{Event, EventParser};

use crate::body::Body;
use crate::{Answer, HttpClient, within};

/// An open stream.
#[derive(Debug)]
pub struct SseClient {
    stream: TcpStream,
    /// The head of the answer.
    pub head: Answer,
    body: Body,
    parser: EventParser,
    events: VecDeque<Event>,
}

impl SseClient {
    /// Opens a stream and waits for its first bytes, after which it is subscribed.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// The same with further headers.
    pub async fn open_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::over(HttpClient::connect(address).await, path, headers).await
    }

    /// Opens a stream over a connection.
    pub async fn over(mut client: HttpClient, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        client.send(&crate::http::request("GET", path, &headers, b"")).await;
        Self::after_request(client).await
    }

    /// Takes over a connection on which a stream was asked for.
    pub async fn after_request(mut client: HttpClient) -> Self {
        let head = client.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let body = Body::behind(&head);
        let (stream, rest) = client.into_parts();
        let mut opened =
            Self { stream, head, body, parser: EventParser::default(), events: VecDeque::new() };
        opened.take(&rest);
        while opened.parser.comments() == 0 {
            assert!(opened.read_more().await > 0, "the stream ended at once");
        }
        opened
    }

    /// Sends bytes, which nobody expects of a client of a stream.
    pub async fn send(&mut self, bytes: &[u8]) {
        within("the write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            assert!(self.read_more().await > 0, "the stream ended");
        }
    }

    /// The next event, or `None` if the stream ends before.
    pub async fn next_event(&mut self) -> Option<Event> {
        while self.events.is_empty() && self.read_more().await > 0 {}
        self.events.pop_front()
    }

    /// The data of the next event, which must be an unnamed one.
    pub async fn data(&mut self) -> String {
        let event = self.event().await;
        assert_eq!(event.name, "message", "{event:?}");
        event.data
    }

    /// What a browser would send when it comes back.
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// The reason of the next event, which must tell of a gap in a topic.
    pub async fn gap(&mut self, topic: &str) -> String {
        let event = self.event().await;
        assert_eq!(event.name, "umbel.gap", "{event:?}");
        let gap: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(gap["topic"], topic, "{gap}");
        gap["reason"].as_str().unwrap().to_owned()
    }

    /// The reconnection time that the stream has set.
    pub fn retry_millis(&self) -> Option<u64> {
        self.parser.retry_millis()
    }

    /// Waits for so many comments in all.
    pub async fn comments(&mut self, count: u64) {
        while self.parser.comments() < count {
            assert!(self.read_more().await > 0, "the stream ended");
        }
    }

    /// Whether the stream ends without another event.
    pub async fn ends(&mut self) -> bool {
        while self.read_more().await > 0 {}
        self.events.is_empty()
    }

    async fn read_more(&mut self) -> usize {
        if self.body.is_complete() {
            return 0;
        }
        let mut buffer = vec![0; 16 * 1024];
        let read = within("more of the stream", self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.take(&buffer[..read]);
        read
    }

    fn take(&mut self, bytes: &[u8]) {
        let body = self.body.feed(bytes);
        self.events.extend(self.parser.feed(&body));
    }
}
