//! Publish requests for their own sake: connections that each keep a number of them under way.
//!
//! Nobody is subscribed and all requests of a connection are the same, so only their answers are checked: that each comes
//! and is good. What that is depends on the form of the requests.

mod form;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::pacing::Span;
use super::{BUFFER, Counts, GATHER, LOOK_UP, Manner, PLENTY, Patience, Waited};
use crate::interrupt;
use crate::os::poller::{Poller, Ready, timespec};
use crate::os::stream::Stream;
use crate::wire::message_id::MessageId;
pub use form::Form;

/// All connections and the loop that serves them.
pub struct Requests {
    poller: Poller,
    buffer: Box<[u8]>,
    connections: Vec<Connection>,
    patience: Duration,
    form: Form,
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
    form: Form,
    /// The id of the last message that was answered.
    last: Option<MessageId>,
}

impl Requests {
    /// Opens `connections`, each to a topic of its own, and sends `pipelined` requests of this form on each.
    pub fn begin(
        manner: &Manner,
        connections: usize,
        pipelined: usize,
        form: Form,
    ) -> Result<Self> {
        let (poller, mut payload) = (Poller::new()?, Vec::new());
        let address = form.address(&manner.target)?;
        manner.template()?.write(&mut payload, 0, 0);
        let mut all = Self {
            poller,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            connections: Vec::new(),
            patience: manner.patience,
            form,
            sent: 0,
            answered: 0,
            refill: true,
        };
        for number in 0..connections {
            let request = form.request(&manner.target, number, &payload)?;
            let stream = connect(address, manner.patience)?;
            let mut connection = Connection {
                stream,
                requests: request.repeat(pipelined),
                length: request.len(),
                form,
                last: None,
            };
            connection.stream.register(&all.poller, number as u64)?;
            connection.send(pipelined, &all.poller)?;
            all.sent += pipelined as u64;
            all.connections.push(connection);
        }
        Ok(all)
    }

    /// What was counted so far: the answer is the receipt of a message.
    pub fn counts(&self) -> Counts {
        let messages = self.form.messages() as u64;
        Counts {
            received: self.answered * messages,
            messages: self.sent * messages,
            posts: self.answered,
        }
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

fn connect(address: SocketAddr, patience: Duration) -> Result<Stream> {
    let stream = Stream::connect(address, patience);
    stream.with_context(|| format!("can't connect to {address}"))
}

impl Connection {
    fn send(&mut self, count: usize, poller: &Poller) -> Result<()> {
        self.stream.unsent().extend_from_slice(&self.requests[..count * self.length]);
        Ok(self.stream.flush(poller)?)
    }

    /// Takes in all that there is to read, through `buffer`; says how many answers were in it.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (form, last, mut answered) = (self.form, &mut self.last, 0);
        self.stream.receive(buffer, |bytes| -> Result<usize> {
            let mut taken = 0;
            while let Some(length) = form.take_answer(&bytes[taken..], last)? {
                taken += length;
                answered += 1;
            }
            Ok(taken)
        })?;
        Ok(answered)
    }
}
