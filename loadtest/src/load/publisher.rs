//! Publishes messages over one keep-alive HTTP connection.

use std::borrow::Cow;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

use crate::load::target::{Place, Target, topic_name};
use crate::os::poller::{Poller, Ready};
use crate::os::socket::{self, Moved};
use crate::wire::chunked::Dechunker;
use crate::wire::payload::Template;
use crate::wire::publish_line;
use crate::wire::response::{self, BodyLength, Head};

const READ: usize = 64 * 1024;
/// So many bytes of an answer are quoted when it is a refusal.
const QUOTED: usize = 200;

/// The publisher: at most one request is under way.
#[derive(Debug)]
pub struct Publisher {
    socket: OwnedFd,
    token: u64,
    head: String,
    template: Template,
    topics: Vec<Topic>,
    /// The lines of the next request.
    body: Vec<u8>,
    lines: usize,
    /// What the socket hasn't taken of the request under way.
    unsent: Vec<u8>,
    /// What has come of its answer.
    answer: Vec<u8>,
    waiting: bool,
    posts: u64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    published: u64,
}

impl Publisher {
    /// Connects to where `target` takes messages.
    pub fn connect(target: &Target, template: Template, patience: Duration) -> Result<Self> {
        let place = &target.publish;
        let connect = || -> std::io::Result<OwnedFd> {
            let stream = TcpStream::connect_timeout(&place.address, patience)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream.into())
        };
        Ok(Self {
            socket: connect()
                .with_context(|| format!("publisher can't connect to {}", place.address))?,
            token: 0,
            head: head_of(place),
            template,
            topics: Vec::new(),
            body: Vec::new(),
            lines: 0,
            unsent: Vec::new(),
            answer: Vec::new(),
            waiting: false,
            posts: 0,
        })
    }

    /// Adds its connection to `poller`.
    pub fn register(&mut self, poller: &Poller, token: u64) -> Result<()> {
        self.token = token;
        Ok(poller.add_connection(&self.socket, token)?)
    }

    /// A request is under way.
    pub fn waiting(&self) -> bool {
        self.waiting
    }

    /// Requests that were answered.
    pub fn posts(&self) -> u64 {
        self.posts
    }

    /// Messages published to `topic` so far.
    pub fn published(&self, topic: usize) -> u64 {
        self.topics.get(topic).map_or(0, |topic| topic.published)
    }

    /// Messages published to all topics so far.
    pub fn messages(&self) -> u64 {
        self.topics.iter().map(|topic| topic.published).sum()
    }
}

impl Publisher {
    /// Adds the next message of `topic`, sent at `nanos`, to the next request; says its number.
    pub fn add(&mut self, topic: usize, nanos: u64) -> u64 {
        while self.topics.len() <= topic {
            let name = topic_name(self.topics.len());
            self.topics.push(Topic { name, published: 0 });
        }
        let Topic { name, published } = &mut self.topics[topic];
        let (template, sequence) = (&mut self.template, *published);
        publish_line::write(&mut self.body, name, |out| {
            template.write(out, sequence, nanos);
        });
        *published += 1;
        self.lines += 1;
        sequence
    }

    /// Posts all messages that were added since the last request.
    pub fn post(&mut self, poller: &Poller) -> Result<()> {
        ensure!(!self.waiting, "a publish request is under way already");
        ensure!(
            (1..=publish_line::MAX_LINES).contains(&self.lines),
            "a publish request has {} lines, at most {} are allowed",
            self.lines,
            publish_line::MAX_LINES
        );
        self.waiting = true;
        self.lines = 0;
        let length = self.body.len();
        self.unsent.extend_from_slice(self.head.as_bytes());
        self.unsent.extend_from_slice(format!("{length}\r\n\r\n").as_bytes());
        self.unsent.append(&mut self.body);
        self.flush(poller)
    }

    fn flush(&mut self, poller: &Poller) -> Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match socket::send(&self.socket, &self.unsent)? {
            Moved::Bytes(sent) => drop(self.unsent.drain(..sent)),
            Moved::Later => {}
            Moved::Ended => bail!("server closed the publisher's connection"),
        }
        if !self.unsent.is_empty() {
            poller.watch_room(&self.socket, self.token)?;
        }
        Ok(())
    }

    /// Goes on after an event.
    pub fn serve(&mut self, ready: Ready, poller: &Poller) -> Result<()> {
        if ready.writable() {
            self.flush(poller)?;
        }
        if ready.readable() {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        loop {
            let kept = self.answer.len();
            self.answer.resize(kept + READ, 0);
            let moved = socket::receive(&self.socket, &mut self.answer[kept..])?;
            let read = if let Moved::Bytes(read) = moved { read } else { 0 };
            self.answer.truncate(kept + read);
            ensure!(moved != Moved::Ended, "server closed the publisher's connection");
            if read < READ {
                return self.take_answer();
            }
        }
    }

    fn take_answer(&mut self) -> Result<()> {
        let Some(head) = response::parse(&self.answer)? else {
            return Ok(());
        };
        let Some(body) = body_of(&head, &self.answer)? else {
            return Ok(());
        };
        check(head.status, &body)?;
        self.answer.clear();
        self.waiting = false;
        self.posts += 1;
        Ok(())
    }
}

/// The request up to the value of its last header, the content's length.
fn head_of(place: &Place) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\nContent-Length: ",
        place.path, place.host
    )
}

/// The body of a whole answer, or `None` while it is cut.
fn body_of<'a>(head: &Head, answer: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>> {
    match head.body {
        BodyLength::Fixed(length) => {
            Ok(answer.get(head.taken..head.taken + length).map(Into::into))
        }
        BodyLength::Chunked => {
            let (mut dechunker, mut body) = (Dechunker::default(), answer[head.taken..].to_vec());
            let length = dechunker.decode(&mut body)?;
            body.truncate(length);
            Ok(dechunker.finished().then_some(body.into()))
        }
        BodyLength::UntilClose => bail!("server's answer to a publish request has no length"),
    }
}

/// A message that isn't taken would look like a lost one.
fn check(status: u16, body: &[u8]) -> Result<()> {
    let error = memmem::find(body, b"\"error\":");
    if status == 200 && error.is_none() {
        return Ok(());
    }
    let start = error.map_or(0, |at| memchr::memrchr(b'\n', &body[..at]).map_or(0, |end| end + 1));
    let end = body.len().min(start + QUOTED);
    let quoted = String::from_utf8_lossy(&body[start..end]);
    bail!(
        "server refused messages with status {status}: {}",
        quoted.lines().next().unwrap_or("no reason given")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answer: &str) -> Result<Option<String>> {
        let head = response::parse(answer.as_bytes())?.unwrap();
        let body = body_of(&head, answer.as_bytes())?;
        Ok(body.map(|body| String::from_utf8_lossy(&body).into_owned()))
    }

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let fixed = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert_eq!(taken(&format!("{fixed}ab")).unwrap(), None);
        assert_eq!(taken(&format!("{fixed}abc")).unwrap().as_deref(), Some("abc"));
        assert_eq!(taken(chunked).unwrap(), None);
        assert_eq!(taken(&format!("{chunked}0\r\n\r\n")).unwrap().as_deref(), Some("abc"));
        assert!(taken("HTTP/1.1 200 OK\r\n\r\nabc").is_err());
    }

    #[test]
    fn a_refused_line_is_quoted() {
        assert!(check(200, b"{\"topic\":\"a\",\"id\":null}\n").is_ok());
        let refused = b"{\"topic\":\"a\",\"id\":null}\n{\"topic\":\"b\",\"error\":\"no\"}\n{}\n";
        let error = check(200, refused).unwrap_err().to_string();
        assert!(error.ends_with("200: {\"topic\":\"b\",\"error\":\"no\"}"), "{error}");
        let error = check(503, b"").unwrap_err().to_string();
        assert!(error.contains("503: no reason given"), "{error}");
    }
}
