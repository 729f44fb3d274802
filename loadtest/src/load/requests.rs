//! Publish requests for their own sake: connections that each keep a number of them under way.
//!
//! Nobody is subscribed and all requests are the same, so only their answers are checked: that each comes, and is 200.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::pacing::Span;
use super::target::topic_name;
use super::{BUFFER, Counts, GATHER, LOOK_UP, Manner, PLENTY, Patience, Waited};
use crate::interrupt;
use crate::os::poller::{Poller, Ready, timespec};
use crate::os::stream::Stream;
use crate::wire::response::{self, BodyLength};

/// All connections and the loop that serves them.
pub struct Requests {
    poller: Poller,
    buffer: Box<[u8]>,
    connections: Vec<Connection>,
    patience: Duration,
    sent: u64,
    answered: u64,
    /// Whether each answer makes room for another request.
    refill: bool,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// As many requests as may be under way, one behind the other.
    requests: Vec<u8>,
    /// Length of each.
    length: usize,
}

impl Requests {
    /// Opens `connections`, each to a topic of its own, and sends `pipelined` requests on each.
    pub fn begin(manner: &Manner, connections: usize, pipelined: usize) -> Result<Self> {
        let (poller, mut payload) = (Poller::new()?, Vec::new());
        manner.template()?.write(&mut payload, 0, 0);
        let mut all = Self {
            poller,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            connections: Vec::new(),
            patience: manner.patience,
            sent: 0,
            answered: 0,
            refill: true,
        };
        for number in 0..connections {
            let request = request(manner, number, &payload);
            let mut connection = Connection::open(manner, &request, pipelined)?;
            connection.stream.register(&all.poller, number as u64)?;
            connection.send(pipelined, &all.poller)?;
            all.sent += pipelined as u64;
            all.connections.push(connection);
        }
        Ok(all)
    }

    /// What was counted so far: a request is a message, and its answer the receipt.
    pub fn counts(&self) -> Counts {
        Counts { received: self.answered, messages: self.sent, posts: self.answered }
    }

    /// Serves the connections for `span`, whose rounds are as many answers as there are requests under way.
    pub fn run(&mut self, span: Span) -> Result<(u64, Waited)> {
        let (mut window, under_way) = (span.begin(), self.sent - self.answered);
        while window.another() {
            let goal = self.answered + under_way;
            if self.wait_until_answered(goal)? == Waited::Stalled {
                return Ok((window.rounds(), Waited::Stalled));
            }
        }
        Ok((window.rounds(), Waited::Done))
    }

    /// Sends no more, and waits for all answers that are still to come; says whether they came.
    pub fn finish(&mut self) -> Result<Waited> {
        self.refill = false;
        self.wait_until_answered(self.sent)
    }

    fn wait_until_answered(&mut self, goal: u64) -> Result<Waited> {
        let mut patience = Patience::new(self.patience);
        while self.answered < goal {
            self.turn()?;
            if patience.is_over(self.answered) {
                return Ok(Waited::Stalled);
            }
        }
        Ok(Waited::Done)
    }

    /// One look at the sockets, and a nap behind it as in every load.
    fn turn(&mut self) -> Result<()> {
        interrupt::check()?;
        let events = self.poller.wait(Some(LOOK_UP))?;
        for index in 0..events {
            let ready = self.poller.ready(index);
            self.serve(ready).with_context(|| format!("connection {}", ready.token))?;
        }
        if (1..PLENTY).contains(&events) {
            // Cut short by a signal, the nap has done its work too.
            let _ = rustix::thread::nanosleep(&timespec(GATHER));
        }
        Ok(())
    }

    fn serve(&mut self, ready: Ready) -> Result<()> {
        let connection = &mut self.connections[usize::try_from(ready.token)?];
        if ready.writable() {
            connection.stream.flush(&self.poller)?;
        }
        if ready.readable() {
            let answered = connection.receive(&mut self.buffer)?;
            self.answered += answered as u64;
            if self.refill {
                connection.send(answered, &self.poller)?;
                self.sent += answered as u64;
            }
        }
        Ok(())
    }
}

/// The request that connection `number` sends.
fn request(manner: &Manner, number: usize, payload: &[u8]) -> Vec<u8> {
    let target = &manner.target;
    let (path, host) = (target.path_of(&topic_name(number)), &target.subscribe.host);
    let length = payload.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), payload].concat()
}

impl Connection {
    fn open(manner: &Manner, request: &[u8], pipelined: usize) -> Result<Self> {
        let address = manner.target.subscribe.address;
        let stream = Stream::connect(address, manner.patience);
        Ok(Self {
            stream: stream.with_context(|| format!("can't connect to {address}"))?,
            requests: request.repeat(pipelined),
            length: request.len(),
        })
    }

    fn send(&mut self, count: usize, poller: &Poller) -> Result<()> {
        self.stream.unsent().extend_from_slice(&self.requests[..count * self.length]);
        Ok(self.stream.flush(poller)?)
    }

    /// Takes in all that there is to read, through `buffer`; says how many answers were in it.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut answered = 0;
        self.stream.receive(buffer, |bytes| -> Result<usize> {
            let mut taken = 0;
            while let Some(length) = take_answer(&bytes[taken..])? {
                taken += length;
                answered += 1;
            }
            Ok(taken)
        })?;
        Ok(answered)
    }
}

/// Length of the answer at the beginning of `bytes`, which must be a good one, or `None` while it is cut.
fn take_answer(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = response::parse(bytes)? else {
        return Ok(None);
    };
    ensure!(head.status == 200, "server answered a publish request with status {}", head.status);
    let BodyLength::Fixed(length) = head.body else {
        bail!("server's answer to a publish request has no length");
    };
    let end = head.taken + length;
    Ok((end <= bytes.len()).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_it_is_whole_and_good() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(take_answer(answer).unwrap(), Some(answer.len()));
        assert_eq!(take_answer(&answer[..answer.len() - 1]).unwrap(), None);
        for (bad, reason) in [
            ("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no length"),
        ] {
            let error = take_answer(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
