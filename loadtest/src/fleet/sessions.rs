//! The sessions of one holder: opened at a pace, and counted, whatever becomes of them.
//!
//! A session that is refused or lost is an observation here, not an error. A slot costs some 100 bytes, and a buffer
//! of its own only while a message is cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::orders::{Opening, State};
use super::receipts::Tally;
use crate::load::clock;
use crate::load::ledger::Integrity;
use crate::load::session::{Check, Phase, Session};
use crate::load::target::{Target, topic_name};
use crate::os::poller::{Poller, Ready};
use crate::os::socket;
use crate::os::source_addresses::SourceAddresses;
use crate::wire::payload::{self, Template};
use crate::wire::subscribe::Subscribe;

/// All sessions have the same topic.
pub const TOPIC: usize = 0;

/// Sessions by their number, which is also the order in which they are begun.
#[derive(Debug)]
pub struct Sessions {
    opening: Opening,
    /// By segment, the request that opens a session.
    requests: Vec<Vec<u8>>,
    sources: SourceAddresses,
    slots: Vec<Option<Session>>,
    /// The number at which each segment ends.
    ends: Vec<usize>,
    began: Instant,
    on_their_way: usize,
    check: Check,
    state: State,
    /// Messages that are published, or about to be.
    published: u64,
    tally: Option<Tally>,
}

impl Sessions {
    /// None is begun yet.
    pub fn new(opening: Opening) -> Result<Self> {
        let first = opening.segments.first().context("there is nothing to open")?;
        let template = Template::new(opening.payload_bytes).context("the payload is too small")?;
        let subscribe = Subscribe::new(opening.dialect, &first.address.to_string());
        let sources = SourceAddresses::beginning_at(first.address, opening.first_source);
        let mut end = 0;
        let ends = opening.segments.iter().map(|segment| {
            end += segment.sessions;
            end
        });
        let ends: Vec<usize> = ends.collect();
        Ok(Self {
            requests: opening.segments.iter().map(|of| request(&opening, of.address)).collect(),
            sources,
            slots: Vec::with_capacity(end),
            ends,
            began: Instant::now(),
            on_their_way: 0,
            check: Check::new(subscribe, opening.dialect, template),
            state: State::default(),
            published: 0,
            tally: None,
            opening,
        })
    }

    /// How many there shall be.
    fn wanted(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// All were tried.
    pub fn are_opened(&self) -> bool {
        self.on_their_way == 0 && self.slots.len() == self.wanted()
    }

    /// How they are.
    pub fn state(&mut self) -> &State {
        self.state.pings = self.check.pings;
        &self.state
    }

    /// The message that is expected, or came last.
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Message `sequence` comes next, to all that are open.
    pub fn expect(&mut self, sequence: u64) -> Result<()> {
        self.published = sequence + 1;
        self.tally = Some(Tally::new(sequence, self.state.open)?);
        Ok(())
    }

    /// Begins those that are due.
    pub fn begin_due(&mut self, poller: &Poller) {
        let due = due_after(self.began.elapsed(), self.opening.per_second);
        let end = self.wanted().min(due);
        while self.slots.len() < end && self.on_their_way < self.opening.concurrency {
            let number = self.slots.len();
            self.on_their_way += 1;
            self.slots.push(None);
            if let Err(error) = self.begin(number, poller) {
                self.end(number, Phase::Connecting, &error);
            }
        }
    }

    fn begin(&mut self, number: usize, poller: &Poller) -> Result<()> {
        let address = self.opening.segments[self.segment_of(number)].address;
        let socket = socket::connect(address, self.sources.take()).context("it can't connect")?;
        poller.add_connection(&socket, number as u64)?;
        self.slots[number] = Some(Session::new(socket, TOPIC, self.published));
        self.request(number, poller)
    }

    /// Sends the request if the connection is up, as it is at once on loopback; else waits for that.
    fn request(&mut self, number: usize, poller: &Poller) -> Result<()> {
        let request = &self.requests[segment_of(&self.ends, number)];
        if let Some(session) = &mut self.slots[number]
            && !session.send_request(request)?
        {
            poller.watch_room(session.socket(), number as u64)?;
        }
        Ok(())
    }

    fn segment_of(&self, number: usize) -> usize {
        segment_of(&self.ends, number)
    }

    /// Lets the session of an event read.
    ///
    /// HOT PATH: once per session and batch.
    pub fn serve(&mut self, ready: Ready, poller: &Poller, buffer: &mut [u8]) {
        let number = usize::try_from(ready.token).unwrap_or(usize::MAX);
        // An event may still name a session that has ended since.
        let Some(Some(session)) = self.slots.get_mut(number) else {
            return;
        };
        let before = session.phase();
        let tally = &mut self.tally;
        let mut tell = |sequence, payload: &[u8]| {
            if let (Some(tally), Ok(stamp)) = (tally.as_mut(), payload::stamp(payload)) {
                tally.enter(sequence, clock::nanos().saturating_sub(stamp));
            }
        };
        let served = match before {
            Phase::Connecting => self.request(number, poller),
            _ => session.receive(buffer, &mut self.check, &mut tell),
        };
        let phase = self.slots[number].as_ref().map_or(before, Session::phase);
        if before != Phase::Open && phase == Phase::Open {
            self.on_their_way -= 1;
            self.state.open += 1;
        }
        if let Err(error) = served {
            self.end(number, phase, &error);
        }
    }

    #[cold]
    fn end(&mut self, number: usize, phase: Phase, error: &anyhow::Error) {
        let node = self.opening.segments[self.segment_of(number)].node;
        self.state.count_end(node, format!("{error:#}"));
        let session = self.slots[number].take();
        if phase != Phase::Open {
            self.on_their_way -= 1;
            self.state.refused += 1;
            return;
        }
        self.state.open -= 1;
        self.state.lost += 1;
        if let Some(session) = session {
            self.give_up(&session);
        }
    }

    fn give_up(&mut self, session: &Session) {
        let lost = session.lost(self.published);
        self.check.sums.expected += session.expected(self.published);
        self.check.sums.lost += lost;
        if let Some(tally) = self.tally.as_mut().filter(|_| lost > 0) {
            tally.give_up_one();
        }
    }

    /// Closes all; says what came of all messages.
    pub fn close(&mut self) -> Integrity {
        for session in std::mem::take(&mut self.slots).into_iter().flatten() {
            self.give_up(&session);
        }
        // None is begun any more.
        self.ends.clear();
        self.on_their_way = 0;
        self.state.open = 0;
        self.check.sums
    }
}

fn request(opening: &Opening, address: std::net::SocketAddr) -> Vec<u8> {
    let target = Target::of_server(address, opening.dialect);
    let mut request = Vec::new();
    let subscribe = Subscribe::new(opening.dialect, &target.subscribe.host);
    subscribe.write(&mut request, &target.path_of(&topic_name(TOPIC)));
    request
}

/// The segment of session `number`, given where segments end.
fn segment_of(ends: &[usize], number: usize) -> usize {
    ends.partition_point(|end| *end <= number)
}

/// How many are due by then. What is late isn't caught up at once: `concurrency` bounds it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that is rounded down"
)]
fn due_after(elapsed: Duration, per_second: f64) -> usize {
    (elapsed.as_secs_f64() * per_second) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::orders::Segment;
    use crate::wire::subscribe::Dialect;

    #[test]
    fn a_session_belongs_to_the_segment_that_ends_behind_it() {
        let found: Vec<_> = (0..6).map(|number| segment_of(&[2, 3, 6], number)).collect();
        assert_eq!(found, [0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn sessions_are_due_by_the_pace() {
        assert_eq!(due_after(Duration::ZERO, 10.0), 1);
        assert_eq!(due_after(Duration::from_secs(2), 10.0), 21);
    }

    #[test]
    fn a_refusal_is_counted_and_ends_nothing() {
        // Nobody listens on a port that was just given back.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (mut poller, mut buffer) = (Poller::new().unwrap(), vec![0; 4096]);
        let mut sessions = Sessions::new(Opening {
            dialect: Dialect::WebSocket,
            segments: vec![Segment { node: 5, address, sessions: 3 }],
            first_source: 9,
            per_second: 1e9,
            concurrency: 2,
            payload_bytes: 64,
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !sessions.are_opened() {
            assert!(Instant::now() < deadline, "{sessions:?}");
            sessions.begin_due(&poller);
            for index in 0..poller.wait(Some(Duration::from_millis(1))).unwrap() {
                sessions.serve(poller.ready(index), &poller, &mut buffer);
            }
        }
        let state = sessions.state().clone();
        assert_eq!((state.open, state.refused, state.lost, state.by_node[&5]), (0, 3, 0, 3));
        assert_eq!(sessions.close(), Integrity::default());
    }
}
