//! A small blocking server that speaks the surface and does one thing wrong.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use umbel_loadtest::wire::accept_key::accept_key;
use umbel_loadtest::wire::publish_line::Lines;
use umbel_loadtest::wire::{event_stream, frame};

/// What it does wrong in each publish request; the numbers are places in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// 2 isn't sent.
    Drop,
    /// 4 is sent twice.
    Double,
    /// 7 is sent before 6.
    Swap,
    /// 5 has a changed byte.
    Garble,
    /// The last isn't sent.
    DropLast,
    /// All sessions are closed.
    Close,
    /// The request is refused.
    Refuse,
}

/// Serves until the test's process ends.
pub(crate) struct FaultyServer {
    address: SocketAddr,
}

#[derive(Clone)]
struct Shared {
    fault: Fault,
    sessions: Arc<Mutex<Vec<Session>>>,
}

struct Session {
    socket: TcpStream,
    websocket: bool,
}

impl FaultyServer {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { fault, sessions: Arc::default() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // Clients that leave end their thread with an error; that is as it should be.
                std::thread::spawn(move || shared.serve(&stream?));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let (head, body) = read_request(stream)?;
            if head.starts_with("POST") {
                self.publish(stream, &body)?;
            } else {
                self.subscribe(stream, &head)?;
            }
        }
    }

    fn subscribe(&self, mut stream: &TcpStream, head: &str) -> io::Result<()> {
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let mut sessions = self.sessions.lock().unwrap();
        sessions.push(Session { socket: stream.try_clone()?, websocket: key.is_some() });
        match key {
            Some(key) => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: ")?;
                stream.write_all(&accept_key(key.as_bytes()))?;
                stream.write_all(b"\r\n\r\n")
            }
            None => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        }
    }

    fn publish(&self, mut stream: &TcpStream, body: &[u8]) -> io::Result<()> {
        if self.fault == Fault::Refuse {
            return stream.write_all(b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nnot today");
        }
        let lines = Lines::new(body).map(|line| line.unwrap().text.to_vec());
        let messages = self.fault.applied_to(lines.collect());
        for session in self.sessions.lock().unwrap().iter() {
            if self.fault == Fault::Close {
                session.socket.shutdown(Shutdown::Both)?;
            } else {
                (&session.socket).write_all(&session.encode(&messages))?;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
}

impl Fault {
    fn applied_to(self, mut messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self {
            Self::None | Self::Close | Self::Refuse => {}
            Self::Drop => drop(messages.remove(2)),
            Self::Double => messages.insert(4, messages[4].clone()),
            Self::Swap => messages.swap(6, 7),
            Self::Garble => messages[5][60] = b'!',
            Self::DropLast => drop(messages.pop()),
        }
        messages
    }
}

impl Session {
    fn encode(&self, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            if self.websocket {
                frame::write_text(&mut bytes, message);
            } else {
                event_stream::write_message(&mut bytes, message);
            }
        }
        bytes
    }
}

/// Head and body of the next request.
fn read_request(mut stream: &TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
