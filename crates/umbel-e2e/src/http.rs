//! A client of HTTP/1.1 that sends what it is told, byte by byte if need be.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::within;

/// One connection.
#[derive(Debug)]
pub struct HttpClient {
    stream: TcpStream,
    /// What was read behind the last answer.
    rest: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, as far as a length was given.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The `detail` of a problem document, whose form is checked.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.text()
        );
        let document = self.json();
        assert_eq!(document["status"], self.status);
        document["detail"].as_str().unwrap().to_owned()
    }
}

impl HttpClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("the connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Takes a connection over.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Connects with as small a receive buffer as the kernel gives, for clients that won't read.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let stream = within("the connection", socket.connect(address)).await.unwrap();
        Self::over(stream)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        within("the write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends bytes that the other side may refuse to read.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("the write", self.stream.write_all(bytes)).await
    }

    /// Sends a byte now and then, for as long as it takes until the other side says something or
    /// ends the connection.
    pub async fn trickle(&mut self, byte: u8, pace: Duration) {
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.rest) => {
                    let _ = read;
                    return;
                }
                // Fails once the other side is gone, which the read then shows.
                () = sleep(pace) => drop(self.stream.write_all(&[byte]).await),
            }
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket alone.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
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
        self.send(&request(method, path, headers, body)).await;
        self.answer().await
    }

    /// Reads the next answer; its body too if it has a length.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.rest.len() < length {
            assert!(self.read_more().await > 0, "the connection ended within a body: {answer:?}");
        }
        answer.body = self.rest.drain(..length).collect();
        answer
    }

    /// The next answer, if it comes within a moment.
    pub async fn answer_if_any(&mut self) -> Option<Answer> {
        let moment = std::time::Duration::from_millis(100);
        let mut byte = [0];
        match tokio::time::timeout(moment, self.stream.peek(&mut byte)).await {
            Ok(Ok(1..)) => Some(self.answer().await),
            _ => None,
        }
    }

    /// Reads the head of an answer, and nothing behind it.
    pub async fn head(&mut self) -> Answer {
        loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                let head: Vec<u8> = self.rest.drain(..end + 4).collect();
                return parse_head(std::str::from_utf8(&head[..end]).unwrap());
            }
            assert!(
                self.read_more().await > 0,
                "the connection ended within a head: {:?}",
                String::from_utf8_lossy(&self.rest)
            );
        }
    }

    /// Whether the connection ends without another byte.
    pub async fn ends(&mut self) -> bool {
        self.rest.is_empty() && self.read_more().await == 0
    }

    /// Takes the connection apart: the socket and what was read already.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.rest)
    }

    async fn read_more(&mut self) -> usize {
        let read = within("more of the answer", self.stream.read_buf(&mut self.rest)).await;
        // A reset ends a connection as well.
        read.unwrap_or(0)
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() {
        head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
    }
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub(crate) fn parse_head(head: &str) -> Answer {
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Answer {
        status: status.unwrap_or_else(|| panic!("no status in {status_line:?}")),
        headers: lines.map(header).collect(),
        body: Vec::new(),
    }
}
