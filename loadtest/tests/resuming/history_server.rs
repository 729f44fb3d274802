//! A small blocking server that keeps what is published and gives it to who comes back, in both dialects; it may do
//! one thing wrong.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use umbel_loadtest::wire::accept_key::accept_key;
use umbel_loadtest::wire::frame;
use umbel_loadtest::wire::message_id::MessageId;
use umbel_loadtest::wire::publish_line::{Line, Lines};

/// What it does wrong; the numbers are places among what a session missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The message that was seen comes again.
    Early,
    /// 2 isn't sent.
    Drop,
    /// 4 is sent twice.
    Double,
    /// 7 is sent before 6.
    Swap,
    /// A gap is told before all of it.
    Gap,
    /// Nothing is kept: messages have no ids.
    Forget,
    /// The publish request is refused.
    Refuse,
}

#[derive(Clone)]
struct Shared {
    fault: Fault,
    /// The messages of each topic; the first has offset 1.
    topics: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

/// Serves until the test's process ends; returns where.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared { fault, topics: Arc::default() };
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
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let head = read_head(stream)?;
            if head.starts_with("GET /ws ") {
                return self.json(stream, &head);
            }
            if let Some(path) = head.strip_prefix("GET /topics/") {
                let topic = path.split(' ').next().unwrap();
                self.event_stream(stream, topic, value_of(&head, "Last-Event-ID: "))?;
                // It stays open until the client goes.
                return stream.read_exact(&mut [0]);
            }
            let body = read(stream, value_of(&head, "Content-Length: ").parse().unwrap())?;
            stream.write_all(self.publish(&body).as_bytes())?;
        }
    }

    fn publish(&self, body: &[u8]) -> String {
        let mut topics = self.topics.lock().unwrap();
        let result = |line: Line<'_>| {
            let (topic, text) = (text(line.topic), text(line.text));
            let kept = topics.entry(topic.clone()).or_default();
            kept.push(text);
            let id = (self.fault != Fault::Forget).then(|| id(kept.len()));
            json!({ "topic": topic, "id": id }).to_string() + "\n"
        };
        let results: String = Lines::new(body).map(Result::unwrap).map(result).collect();
        let status = if self.fault == Fault::Refuse { "503 X" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{results}", results.len())
    }

    /// What a session gets that has seen the message of `seen` last: offset and text of each.
    fn missed(&self, topic: &str, seen: &str) -> Vec<(usize, String)> {
        let seen = usize::try_from(MessageId::parse(seen.as_bytes()).unwrap().offset).unwrap();
        let topics = self.topics.lock().unwrap();
        let all = topics[topic].iter().enumerate().map(|(place, text)| (place + 1, text.clone()));
        let mut missed: Vec<_> = all.filter(|(offset, _)| *offset > seen).collect();
        match self.fault {
            Fault::Early => missed.insert(0, (seen, topics[topic][seen - 1].clone())),
            Fault::Drop => drop(missed.remove(2)),
            Fault::Double => missed.insert(4, missed[4].clone()),
            Fault::Swap => missed.swap(6, 7),
            Fault::None | Fault::Gap | Fault::Forget | Fault::Refuse => {}
        }
        missed
    }

    fn event_stream(&self, mut stream: &TcpStream, topic: &str, seen: &str) -> io::Result<()> {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        write!(stream, "retry: 1\n\nid: {seen}\n\n")?;
        if self.fault == Fault::Gap {
            stream.write_all(b"id: 0000000000000001-1\nevent: umbel.gap\ndata: {}\n\n")?;
        }
        for (offset, text) in self.missed(topic, seen) {
            write!(stream, "id: {}\ndata: {text}\n\n", id(offset))?;
        }
        Ok(())
    }

    fn json(&self, mut stream: &TcpStream, head: &str) -> io::Result<()> {
        let key = accept_key(value_of(head, "Sec-WebSocket-Key: ").as_bytes());
        let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: ";
        stream.write_all(format!("{head}{}\r\n\r\n", text(&key)).as_bytes())?;
        say(stream, &json!({"op": "welcome", "session": "1", "heartbeat_seconds": 25}))?;
        let command: Value = serde_json::from_slice(&read_frame(stream)?)?;
        let [topic, seen] = ["topic", "after"].map(|name| command[name].as_str().unwrap());
        let recovered = self.fault != Fault::Gap;
        say(
            stream,
            &json!({"op": "subscribed", "topic": topic, "position": seen, "recovered": recovered}),
        )?;
        for (offset, text) in self.missed(topic, seen) {
            let id = id(offset);
            say(
                stream,
                &json!({"op": "message", "topic": topic, "message_id": id, "time": 1, "text": text}),
            )?;
        }
        // It stays open until the client goes.
        read_frame(stream).map(drop)
    }
}

fn id(offset: usize) -> String {
    MessageId { epoch: 1, offset: offset as u64 }.to_string()
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

/// The payload of a client's short frame, whose mask must be zero.
fn read_frame(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let head = read(stream, 2)?;
    assert_eq!((head[0], read(stream, 4)?), (0x81, vec![0; 4]));
    read(stream, usize::from(head[1] & 0x7F))
}

fn read(mut stream: &TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
