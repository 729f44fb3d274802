//! A WebSocket client that sends whatever bytes a test wants.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Answer, HttpClient, within};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocketClient {
    stream: TcpStream,
    /// The head of the answer to the handshake.
    pub head: Answer,
    received: Vec<u8>,
    /// How many bytes of `received` are frames that were given out.
    used: usize,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// 0x0
    Continuation = 0x0,
    /// 0x1
    Text = 0x1,
    /// 0x2
    Binary = 0x2,
    /// 0x8
    Close = 0x8,
    /// 0x9
    Ping = 0x9,
    /// 0xA
    Pong = 0xA,
}

/// A frame from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The code and reason of a close frame.
    #[track_caller]
    pub fn close(&self) -> (u16, &str) {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        let (code, reason) = self.payload.split_first_chunk().unwrap();
        (u16::from_be_bytes(*code), std::str::from_utf8(reason).unwrap())
    }
}

/// The headers of a handshake; the key is that of RFC 6455 section 1.3.
pub const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

impl WebSocketClient {
    /// Opens a WebSocket, after which it is subscribed to what the path names.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// The same with further headers.
    pub async fn open_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::handshake(HttpClient::connect(address).await, path, headers).await
    }

    /// Opens a WebSocket for a client that won't read: little fits between it and the node.
    pub async fn open_narrow(address: SocketAddr, path: &str) -> Self {
        Self::handshake(HttpClient::connect_narrow(address).await, path, &[]).await
    }

    /// The same, but `None` if the node doesn't let it in.
    pub async fn try_open_narrow(address: SocketAddr, path: &str) -> Option<Self> {
        let mut client = HttpClient::connect_narrow(address).await;
        client.send(&crate::http::request("GET", path, &HANDSHAKE, b"")).await;
        let head = client.answer().await;
        (head.status == 101).then(|| {
            let (stream, received) = client.into_parts();
            Self { stream, head, received, used: 0 }
        })
    }

    /// Opens a WebSocket over a connection.
    pub async fn over(client: HttpClient, path: &str) -> Self {
        Self::handshake(client, path, &[]).await
    }

    async fn handshake(mut client: HttpClient, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = [&HANDSHAKE[..], headers].concat();
        client.send(&crate::http::request("GET", path, &headers, b"")).await;
        Self::after_request(client).await
    }

    /// Takes over a connection on which a handshake was sent.
    pub async fn after_request(mut client: HttpClient) -> Self {
        let head = client.answer().await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let (stream, received) = client.into_parts();
        Self { stream, head, received, used: 0 }
    }

    /// The id that the node gave the session.
    pub fn session(&self) -> String {
        self.head.header("umbel-session").unwrap().to_owned()
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(true, Opcode::Text, text.as_bytes()).await;
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(true, Opcode::Binary, bytes).await;
    }

    /// Sends a frame, masked as a client must.
    pub async fn send_frame(&mut self, fin: bool, opcode: Opcode, payload: &[u8]) {
        self.send_raw(&masked_frame(fin, opcode as u8, payload)).await;
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        within("the write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends bytes that the other side may refuse to read.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("the write", self.stream.write_all(bytes)).await
    }

    /// The next frame, or `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse_frame(&self.received[self.used..]) {
                self.used += length;
                return Some(frame);
            }
            self.received.drain(..std::mem::take(&mut self.used));
            self.received.reserve(64 * 1024);
            let read = within("the next frame", self.stream.read_buf(&mut self.received)).await;
            if read.unwrap_or(0) == 0 {
                assert!(self.received.is_empty(), "the connection ended within a frame");
                return None;
            }
        }
    }

    /// The next message; pings are passed over.
    pub async fn message(&mut self) -> Frame {
        loop {
            match self.next().await {
                Some(frame) if frame.opcode == Opcode::Ping => {}
                Some(frame) => return frame,
                None => panic!("the connection ended"),
            }
        }
    }

    /// The next message, which must be text.
    pub async fn text(&mut self) -> String {
        let frame = self.message().await;
        assert_eq!(frame.opcode, Opcode::Text, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next message as JSON.
    pub async fn json(&mut self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a command and gives the next message as JSON.
    pub async fn command(&mut self, command: &serde_json::Value) -> serde_json::Value {
        self.send_text(&command.to_string()).await;
        self.json().await
    }

    /// Subscribes in the JSON dialect.
    pub async fn hold(&mut self, topic: &str) {
        let reply = self.command(&serde_json::json!({"op": "subscribe", "topic": topic})).await;
        assert_eq!(reply, serde_json::json!({"op": "subscribed", "topic": topic}));
    }

    /// Reads to the close frame, which must have this code, answers it, and checks that the
    /// connection ends. Messages before it are passed over. Gives the reason.
    pub async fn closed_with(&mut self, code: u16) -> String {
        loop {
            let frame = self.next().await.unwrap_or_else(|| {
                panic!("the connection ended without a close frame ({code} expected)")
            });
            if frame.opcode != Opcode::Close {
                continue;
            }
            let (got, reason) = frame.close();
            assert_eq!(got, code, "{reason}");
            let reason = reason.to_owned();
            let _ = self.try_send_raw(&masked_frame(true, 0x8, &code.to_be_bytes())).await;
            assert_eq!(self.next().await, None);
            return reason;
        }
    }

    /// Closes as a page's `close()` does, without a code, and reads to the end of the connection.
    pub async fn close(mut self) {
        self.send_frame(true, Opcode::Close, b"").await;
        while let Some(frame) = self.next().await {
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.payload, b"", "the answer repeats that there is no code");
            }
        }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The socket, for what changes it. Nothing that was received may wait to be given out.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        assert_eq!(self.used, self.received.len(), "all that was received was given out");
        &mut self.stream
    }

    /// The socket, to do to it what the client doesn't.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// A client's frame with any four bits as opcode (RFC 6455 section 5.2).
pub fn masked_frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![if fin { 0x80 } else { 0 } | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..65_536 => {
            frame.push(0x80 | 0x7e);
            frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 0x7f);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A whole server's frame at the beginning of `bytes`, and its length. The node never masks nor
/// fragments.
pub(crate) fn parse_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert_eq!(first & 0xf0, 0x80, "fin is set, reserved bits are not");
    assert_eq!(second & 0x80, 0, "a server doesn't mask");
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap()),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?.to_vec();
    let opcode = match first & 0x0f {
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        other => panic!("the node sent opcode {other:#x}"),
    };
    Some((Frame { opcode, payload }, header + length))
}
