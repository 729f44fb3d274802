//! Clients of HTTP/2 by prior knowledge: one that behaves, of the `h2` crate, and one that sends
//! whatever frames it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use umbel_protocol::sse::{Event, EventParser};

use crate::{Answer, within};

/// One connection. Dropping it cuts it.
#[derive(Debug)]
pub struct Http2Client {
    requests: SendRequest<Bytes>,
    /// What reads and writes the socket; ends with the connection.
    driver: JoinSet<Result<(), h2::Error>>,
}

/// An SSE stream of a connection. Dropping it resets it.
#[derive(Debug)]
pub struct Http2Stream {
    /// The head of the answer.
    pub head: Answer,
    request: SendStream<Bytes>,
    body: RecvStream,
    parser: EventParser,
    events: VecDeque<Event>,
}

impl Http2Client {
    /// Connects, with much window for the connection and as little for a stream as RFC 9113
    /// section 6.9.2 says, so that one stream that isn't read takes nothing from others.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut builder = Builder::new();
        builder.initial_connection_window_size(1 << 30);
        Self::connect_with(address, &builder).await
    }

    /// Connects with settings of the test's own.
    pub async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = within("the connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, builder).await
    }

    /// Takes a connection over.
    pub async fn over(stream: TcpStream, builder: &Builder) -> Self {
        let (requests, connection) =
            within("the handshake", builder.handshake::<_, Bytes>(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Self { requests, driver }
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"").await
    }

    /// POST.
    pub async fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[("content-type", content_type)], body).await
    }

    /// Sends a request and reads its answer.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let (answer, mut request) = self.begin(method, path, headers, body.is_empty()).await;
        if !body.is_empty() {
            // The node may refuse it before it has all of it.
            let _ = request.send_data(Bytes::copy_from_slice(body), true);
        }
        let (mut head, mut body) = head_and_body(answer).await;
        while let Some(data) = within("more of the body", body.data()).await {
            let data = data.unwrap();
            let _ = body.flow_control().release_capacity(data.len());
            head.body.extend_from_slice(&data);
        }
        head
    }

    /// Begins a request, whose answer comes later and whose body may follow.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let ready = within("room for a stream", self.requests.clone().ready());
        ready.await.unwrap().send_request(request.body(()).unwrap(), ends).unwrap()
    }

    /// Opens an SSE stream and waits for its first bytes, after which it is subscribed.
    pub async fn sse(&mut self, path: &str) -> Http2Stream {
        self.sse_with(path, &[]).await
    }

    /// The same with further headers.
    pub async fn sse_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Http2Stream {
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        let (answer, request) = self.begin("GET", path, &headers, true).await;
        let (head, body) = head_and_body(answer).await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let (parser, events) = (EventParser::default(), VecDeque::new());
        let mut stream = Http2Stream { head, request, body, parser, events };
        while stream.parser.comments() == 0 {
            stream.read_more().await.unwrap().expect("the stream ended at once");
        }
        stream
    }

    /// How many streams the node allows at a time, and whether it takes WebSockets (RFC 8441).
    pub fn allowed(&self) -> (usize, bool) {
        (
            self.requests.current_max_send_streams(),
            self.requests.is_extended_connect_protocol_enabled(),
        )
    }

    /// Waits for the connection to end; an error says how.
    pub async fn ended(&mut self) -> Result<(), h2::Error> {
        within("the connection's end", self.driver.join_next()).await.unwrap().unwrap()
    }
}

impl Http2Stream {
    /// The next event.
    pub async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.read_more().await.unwrap().expect("the stream ended");
        }
    }

    /// The data of the next event, which must be an unnamed one.
    pub async fn data(&mut self) -> String {
        let event = self.event().await;
        assert_eq!(event.name, "message", "{event:?}");
        event.data
    }

    /// The reconnection time that the stream has set.
    pub fn retry_millis(&self) -> Option<u64> {
        self.parser.retry_millis()
    }

    /// Waits for so many comments in all.
    pub async fn comments(&mut self, count: u64) {
        while self.parser.comments() < count {
            self.read_more().await.unwrap().expect("the stream ended");
        }
    }

    /// Reads to the end of the stream and gives what it was reset with, if it was.
    pub async fn ends(&mut self) -> Option<Reason> {
        loop {
            match self.read_more().await {
                Ok(Some(())) => {}
                Ok(None) => return None,
                Err(error) => return error.reason(),
            }
        }
    }

    /// How many events are there that nobody has taken.
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Resets the stream.
    pub fn reset(&mut self) {
        self.request.send_reset(Reason::CANCEL);
    }

    async fn read_more(&mut self) -> Result<Option<()>, h2::Error> {
        let Some(data) = within("more of the stream", self.body.data()).await else {
            return Ok(None);
        };
        let data = data?;
        // A stream that has ended needs no window.
        let _ = self.body.flow_control().release_capacity(data.len());
        self.events.extend(self.parser.feed(&data));
        Ok(Some(()))
    }
}

async fn head_and_body(answer: ResponseFuture) -> (Answer, RecvStream) {
    let (head, body) = within("the answer", answer).await.unwrap().into_parts();
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let headers = head.headers.iter().map(header).collect();
    (Answer { status: head.status.as_u16(), headers, body: Vec::new() }, body)
}

/// A connection that sends what it is told.
#[derive(Debug)]
pub struct RawHttp2(TcpStream);

/// A frame (RFC 9113 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// What it is.
    pub kind: u8,
    /// What that means.
    pub flags: u8,
    /// Whose it is; 0 is the connection's.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl RawHttp2 {
    /// What every client begins with (RFC 9113 section 3.4).
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// Connects and sends nothing.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("the connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Connects and says what every client must.
    pub async fn open(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.send(Self::PREFACE).await;
        client.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"")).await;
        client
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.0
    }

    /// The socket alone.
    pub fn into_stream(self) -> TcpStream {
        self.0
    }

    /// The socket, for what changes it.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.0
    }

    /// Sends bytes as they are. The node may have closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = within("the write", self.0.write_all(bytes)).await;
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<RawFrame> {
        let mut head = [0; 9];
        within("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        within("a frame", self.0.read_exact(&mut payload)).await.ok()?;
        Some(RawFrame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of a kind.
    pub async fn frame_of(&mut self, kind: u8) -> Option<RawFrame> {
        loop {
            match self.frame().await {
                Some(frame) if frame.kind != kind => {}
                found => return found,
            }
        }
    }
}

impl RawFrame {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// `RST_STREAM`.
    pub const RESET: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// `WINDOW_UPDATE`.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;

    /// The frame's bytes.
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// HEADERS that end the stream: GET with more header lines.
    pub fn get(stream: u32, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        Self::bytes(Self::HEADERS, 0x05, stream, &Self::block(0x82, path, headers))
    }

    /// HEADERS behind which a body comes: POST with more header lines.
    pub fn post(stream: u32, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        Self::bytes(Self::HEADERS, 0x04, stream, &Self::block(0x83, path, headers))
    }

    /// The header block of a request; `method` is its place in the static table.
    pub fn block(method: u8, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        // The method and `:scheme: http`, then literals (RFC 7541 section 6.2.2 and appendix A).
        let mut block = vec![method, 0x86];
        for (name, value) in [&[(":path", path), (":authority", "localhost")], headers].concat() {
            block.push(0x00);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        block
    }

    /// The error code that GOAWAY carries behind the last stream (RFC 9113 section 6.8), and
    /// `RST_STREAM` alone.
    pub fn error_code(&self) -> u32 {
        let at = if self.kind == Self::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}
