//! A small blocking server of the JSON dialect, which may do one thing wrong.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use umbel_loadtest::wire::accept_key::accept_key;
use umbel_loadtest::wire::frame;
use umbel_loadtest::wire::publish_line::Lines;

/// What it does wrong with topic `bench.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is confirmed but not subscribed.
    Forget,
    /// It isn't confirmed.
    Silent,
    /// It is confirmed twice.
    Twice,
    /// It is refused.
    Refuse,
}

const TOPIC: &str = "bench.7";

#[derive(Clone)]
struct Shared {
    fault: Fault,
    sessions: Arc<Mutex<HashMap<String, TcpStream>>>,
}

/// Serves until the test's process ends; returns where.
pub(crate) fn start(fault: Fault) -> SocketAddr {
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
    address
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let head = read_head(stream)?;
            if head.starts_with("GET /ws ") {
                return self.session(stream, &head);
            }
            let length = value_of(&head, "Content-Length: ").parse().unwrap();
            self.publish(&read(stream, length)?)?;
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }

    fn publish(&self, body: &[u8]) -> io::Result<()> {
        let sessions = self.sessions.lock().unwrap();
        for line in Lines::new(body) {
            let line = line.unwrap();
            let (topic, text) = (text(line.topic), text(line.text));
            if let Some(session) = sessions.get(&topic) {
                say(session, &json!({"op": "message", "topic": topic, "time": 1, "text": text}))?;
            }
        }
        Ok(())
    }

    fn session(&self, stream: &TcpStream, head: &str) -> io::Result<()> {
        let key = accept_key(value_of(head, "Sec-WebSocket-Key: ").as_bytes());
        let accept = text(&key);
        let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: ";
        (&*stream).write_all(format!("{head}{accept}\r\n\r\n").as_bytes())?;
        say(stream, &json!({"op": "welcome", "session": "1", "heartbeat_seconds": 25}))?;
        loop {
            let command: Value = serde_json::from_slice(&read_frame(stream)?)?;
            for topic in command["topics"].as_array().unwrap() {
                self.subscribe(stream, topic["topic"].as_str().unwrap())?;
            }
        }
    }

    fn subscribe(&self, stream: &TcpStream, topic: &str) -> io::Result<()> {
        let fault = if topic == TOPIC { self.fault } else { Fault::None };
        if fault != Fault::Forget {
            self.sessions.lock().unwrap().insert(topic.to_owned(), stream.try_clone()?);
        }
        let subscribed = json!({"op": "subscribed", "topic": topic});
        match fault {
            Fault::None | Fault::Forget => say(stream, &subscribed),
            Fault::Silent => Ok(()),
            Fault::Twice => say(stream, &subscribed).and_then(|()| say(stream, &subscribed)),
            Fault::Refuse => {
                say(stream, &json!({"op": "error", "code": "forbidden", "message": "no such luck"}))
            }
        }
    }
}

fn say(mut stream: &TcpStream, object: &Value) -> io::Result<()> {
    let mut out = Vec::new();
    frame::write_text(&mut out, object.to_string().as_bytes());
    stream.write_all(&out)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value_of<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

fn read_head(stream: &TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(stream, 1)?);
    }
    Ok(text(&head))
}

/// The payload of a client's frame, whose mask must be zero.
fn read_frame(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let head = read(stream, 2)?;
    let length = match head[1] & 0x7F {
        126 => u16::from_be_bytes(read(stream, 2)?.try_into().unwrap()).into(),
        short => usize::from(short),
    };
    assert_eq!((head[0], read(stream, 4)?), (0x81, vec![0; 4]));
    read(stream, length)
}

fn read(mut stream: &TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
