//! The bare floor of a fan-out server: the denominator of every ratio.
//!
//! One thread, one epoll loop. All messages at hand, which are all lines of all publish requests that were
//! readable in one turn of the loop, or all that Redis had sent, are framed once into one buffer per topic; each
//! subscriber is sent that buffer by exactly one `send`. Nothing is lost: what a socket doesn't take is kept and
//! sent when it has room. There are no limits, no timers, no metrics and no forgiveness of unusual requests,
//! because a floor has none.
//!
//! If told to, it keeps the last messages of each topic framed for SSE: who comes back is sent the head of its answer and
//! all that it missed, a slice of what is kept, by one `send` too.

mod answer;
mod kept;
mod link;
mod peers;
mod request;
mod topics;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::channels::Channels;
use crate::os::poller::{Poller, Ready};
use crate::os::socket::{self, Moved};
use crate::os::stop::Stop;
use crate::wire::frame;
use crate::wire::message_id::MessageId;
use link::{Arrival, Link};
use peers::{Peers, Slot};
use request::Request;
use topics::{Framing, Topics};

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const LINK: u64 = u64::MAX - 2;
/// All reads go through one buffer; a publish request of 1000 common lines fits.
const BUFFER: usize = 256 * 1024;

/// A bound baseline server; [`Baseline::run`] is its life.
#[derive(Debug)]
pub struct Baseline {
    listener: OwnedFd,
    link: Option<Link>,
    keep: Option<usize>,
}

impl Baseline {
    /// Binds `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        Ok(Self { listener, link: None, keep: None })
    }

    /// Takes messages from Redis and not by POST; connects to it.
    pub fn fed_by(self, channels: &Channels) -> Result<Self> {
        let link = Link::connect(channels);
        let link = link.with_context(|| format!("baseline can't connect to {channels}"))?;
        Ok(Self { link: Some(link), ..self })
    }

    /// Keeps the last `messages` of each topic for SSE sessions that come back.
    #[must_use]
    pub fn keeping(self, messages: usize) -> Self {
        Self { keep: Some(messages), ..self }
    }

    /// The address that it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        socket::local_address(&self.listener)
    }

    /// Serves until `stop` is raised.
    pub fn run(self, stop: &Stop) -> io::Result<()> {
        let poller = Poller::new()?;
        poller.add_level(&self.listener, LISTENER)?;
        poller.add_level(stop, STOP)?;
        let mut link = self.link;
        if let Some(link) = &mut link {
            link.register(&poller, LINK)?;
        }
        let mut serving = Serving {
            listener: self.listener,
            link,
            poller,
            peers: Peers::default(),
            topics: Topics::keeping(self.keep),
            answered: Vec::new(),
        };
        let mut buffer = vec![0; BUFFER];
        while serving.turn(&mut buffer)? {}
        Ok(())
    }
}

/// All that the loop works on.
struct Serving {
    listener: OwnedFd,
    link: Option<Link>,
    poller: Poller,
    peers: Peers,
    topics: Topics,
    /// Peers whose answer waits for the fan-out of this turn.
    answered: Vec<Slot>,
}

impl Serving {
    /// One turn: take in all that is readable, then fan out, then answer. False ends the loop.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        for index in 0..self.poller.wait(None)? {
            let ready = self.poller.ready(index);
            match ready.token {
                STOP => return Ok(false),
                LISTENER => self.accept_all(buffer)?,
                LINK => self.read_link(buffer)?,
                _ => self.serve(ready, buffer)?,
            }
        }
        self.fan_out()?;
        self.answer()?;
        if let Some(link) = &mut self.link {
            link.flush(&self.poller)?;
        }
        self.peers.end_turn();
        Ok(true)
    }

    fn accept_all(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(socket) = socket::accept(&self.listener)? {
            let slot = self.peers.add(socket);
            // The request is mostly there already: to read before polling saves an event.
            self.read(slot, buffer)?;
            if let Some(peer) = self.peers.get(slot) {
                self.poller.add_connection(&peer.socket, slot as u64)?;
            }
        }
        Ok(())
    }

    fn serve(&mut self, ready: Ready, buffer: &mut [u8]) -> io::Result<()> {
        let slot = usize::try_from(ready.token).map_err(io::Error::other)?;
        if ready.writable() {
            self.flush(slot)?;
        }
        if ready.readable() {
            self.read(slot, buffer)?;
        }
        Ok(())
    }
}

impl Serving {
    /// Takes in what Redis has sent. Who waited for a confirmation is answered in this turn, behind which the first
    /// messages go.
    fn read_link(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let (topics, answered) = (&mut self.topics, &mut self.answered);
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.read(buffer, |arrival| match arrival {
            Arrival::Message { topic, payload } => {
                topics.publish(topic, payload);
            }
            Arrival::Confirmed(number) => answered.extend(topics.subscribers(number)),
        })
    }

    /// Reads until the socket is empty, which a read that doesn't fill the buffer proves.
    fn read(&mut self, slot: Slot, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(peer) = self.peers.get(slot) {
            match socket::receive(&peer.socket, buffer)? {
                Moved::Bytes(read) => {
                    self.take_in(slot, &buffer[..read]);
                    if read < buffer.len() {
                        break;
                    }
                }
                Moved::Later => break,
                Moved::Ended => self.remove(slot),
            }
        }
        Ok(())
    }

    /// Subscribers have nothing to say but that they close; all else is requests.
    fn take_in(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if peer.subscriber.is_some() {
            if bytes[0] & 0x0F == frame::CLOSE {
                self.remove(slot);
            }
        } else if peer.unread.is_empty() {
            let taken = self.take_requests(slot, bytes);
            self.keep_unread(slot, bytes[taken..].to_vec());
        } else {
            let mut whole = std::mem::take(&mut peer.unread);
            whole.extend_from_slice(bytes);
            let taken = self.take_requests(slot, &whole);
            whole.drain(..taken);
            self.keep_unread(slot, whole);
        }
    }

    fn keep_unread(&mut self, slot: Slot, unread: Vec<u8>) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.unread = unread;
        }
    }

    /// Acts on the whole requests in `bytes`; says how many bytes they took.
    fn take_requests(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some((request, length)) = request::parse(&bytes[taken..]) {
            taken += length;
            self.act(slot, &request);
        }
        taken
    }

    fn act(&mut self, slot: Slot, request: &Request<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        match request {
            Request::WebSocket { topic, key } => {
                answer::upgrade(&mut peer.unsent, key);
                return self.subscribe(slot, topic, Framing::WebSocket, None);
            }
            Request::Sse { topic, after } => {
                answer::event_stream(&mut peer.unsent);
                return self.subscribe(slot, topic, Framing::Sse, *after);
            }
            Request::Publish { .. } if self.link.is_some() => {
                peer.refuse(&"this baseline takes its messages from Redis");
            }
            Request::Publish { body } => match self.topics.publish_all(body) {
                Ok(results) => answer::results(&mut peer.unsent, results),
                Err(error) => peer.refuse(&error),
            },
            Request::Unknown => peer.refuse(&"the baseline knows no such request"),
        }
        self.answered.push(slot);
    }

    /// Makes the peer a subscriber. Its answer waits until nothing that is published can be missed.
    fn subscribe(&mut self, slot: Slot, topic: &[u8], framing: Framing, after: Option<MessageId>) {
        let place = self.topics.subscribe(topic, framing, slot);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.subscriber = Some(place);
            if let Some(id) = after {
                peer.unsent.extend_from_slice(self.topics.missed(place.topic, id));
            }
        }
        if self.link.as_mut().is_none_or(|link| link.hold(place.topic, topic)) {
            self.answered.push(slot);
        }
    }
}

impl Serving {
    /// Sends each subscriber of the topics at hand all that is new, in one call.
    ///
    /// HOT PATH: the loop within it runs once per subscriber and batch.
    fn fan_out(&mut self) -> io::Result<()> {
        let (peers, poller) = (&mut self.peers, &self.poller);
        self.topics.fan_out(|slot, batch| peers.send(slot, batch, poller))?;
        self.remove_gone();
        Ok(())
    }

    /// Publishers are answered after the fan-out, so that a publisher that waits for its answer finds
    /// its messages delivered.
    fn answer(&mut self) -> io::Result<()> {
        while let Some(slot) = self.answered.pop() {
            self.flush(slot)?;
        }
        Ok(())
    }

    fn flush(&mut self, slot: Slot) -> io::Result<()> {
        self.peers.flush(slot, &self.poller)?;
        self.remove_gone();
        Ok(())
    }

    fn remove_gone(&mut self) {
        while let Some(slot) = self.peers.next_gone() {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: Slot) {
        let subscriber = self.peers.remove(slot).and_then(|peer| peer.subscriber);
        let moved = subscriber.and_then(|place| self.topics.unsubscribe(place));
        if let Some((slot, place)) = moved {
            self.peers.move_subscriber(slot, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread::JoinHandle;

    struct Running {
        address: SocketAddr,
        stop: Stop,
        thread: Option<JoinHandle<io::Result<()>>>,
    }

    impl Running {
        fn start() -> Self {
            Self::run(Baseline::bind("127.0.0.1:0".parse().unwrap()).unwrap())
        }

        fn run(server: Baseline) -> Self {
            let (address, stop) = (server.address().unwrap(), Stop::new().unwrap());
            let watched = stop.clone();
            let thread = std::thread::spawn(move || server.run(&watched));
            Self { address, stop, thread: Some(thread) }
        }

        /// Sends `request` and reads until the answer's head and `expect` were read.
        fn ask(&self, request: &str, expect: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            read_until(&mut stream, expect.as_bytes());
            stream
        }

        fn publish(&self, body: &str, expect: &str) -> TcpStream {
            let length = body.len();
            self.ask(
                &format!("POST /publish HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"),
                expect,
            )
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.raise();
            let thread = self.thread.take().expect("taken here only");
            thread.join().unwrap().unwrap();
        }
    }

    fn read_until(stream: &mut TcpStream, expect: &[u8]) {
        let mut read = Vec::new();
        while !read.ends_with(expect) {
            let mut byte = [0];
            let all = stream.read_exact(&mut byte);
            all.unwrap_or_else(|error| panic!("{error} after {}", read.escape_ascii()));
            read.extend(byte);
        }
    }

    const UPGRADE: &str = "GET /topics/a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    const STREAM: &str = "GET /topics/a HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n";

    #[test]
    fn both_dialects_hear_all_lines_of_a_request() {
        let server = Running::start();
        let mut websocket = server.ask(UPGRADE, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
        let mut sse = server.ask(STREAM, ": open\n\n");
        let body = "{\"topic\":\"a\",\"text\":\"one\"}\n{\"topic\":\"a\",\"text\":\"two\"}\n";
        server.publish(body, "{\"topic\":\"a\",\"id\":null}\n");
        read_until(&mut websocket, b"\x81\x03one\x81\x03two");
        read_until(&mut sse, b"data: one\n\ndata: two\n\n");
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_and_then_what_comes() {
        let server = Baseline::bind("127.0.0.1:0".parse().unwrap()).unwrap().keeping(10);
        let server = Running::run(server);
        let line = |text: &str| format!("{{\"topic\":\"a\",\"text\":\"{text}\"}}\n");
        let id = |offset: u64| MessageId { epoch: 1, offset };
        server.publish(
            &["one", "two", "three"].map(line).concat(),
            &format!("{{\"topic\":\"a\",\"id\":\"{}\"}}\n", id(3)),
        );
        let request = format!("GET /topics/a HTTP/1.1\r\nLast-Event-ID: {}\r\n\r\n", id(1));
        let block = |offset, text| format!("id: {}\ndata: {text}\n\n", id(offset));
        let missed = [block(2, "two"), block(3, "three")].concat();
        let mut back = server.ask(&request, &format!("\r\n\r\n: open\n\n{missed}"));
        server.publish(&line("four"), "\"}\n");
        read_until(&mut back, block(4, "four").as_bytes());
    }

    #[test]
    fn a_request_cut_in_two_is_put_together() {
        let server = Running::start();
        let mut stream = server.ask(&STREAM[..20], "");
        stream.write_all(&STREAM.as_bytes()[20..]).unwrap();
        read_until(&mut stream, b": open\n\n");
    }

    #[test]
    fn a_line_of_another_form_is_answered_400_and_the_connection_closed() {
        let server = Running::start();
        let mut stream =
            server.publish("{}", "line 1 isn't {\"topic\":\"…\",\"text\":\"…\"} without escapes");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_subscriber_that_left_does_not_disturb_the_others() {
        let server = Running::start();
        let first = server.ask(STREAM, ": open\n\n");
        let mut second = server.ask(STREAM, ": open\n\n");
        drop(first);
        for _ in 0..3 {
            server.publish("{\"topic\":\"a\",\"text\":\"hi\"}", "null}\n");
            read_until(&mut second, b"data: hi\n\n");
        }
    }

    #[test]
    fn what_a_slow_reader_does_not_take_is_kept() {
        let server = Running::start();
        let mut slow = server.ask(STREAM, ": open\n\n");
        let text = "x".repeat(60_000);
        let body = format!("{{\"topic\":\"a\",\"text\":\"{text}\"}}\n").repeat(50);
        for _ in 0..10 {
            server.publish(&body, "null}\n");
        }
        server.publish("{\"topic\":\"a\",\"text\":\"end\"}", "null}\n");
        let mut read = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while !read.ends_with(b"data: end\n\n") {
            let part = slow.read(&mut buffer).unwrap();
            read.extend_from_slice(&buffer[..part]);
        }
        assert_eq!(read.len(), 500 * (60_000 + 8) + "data: end\n\n".len());
    }
}
