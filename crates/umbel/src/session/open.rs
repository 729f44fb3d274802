//! From a request that was granted to an open session.

use std::rc::Rc;
use std::task::Waker;

use tokio::net::TcpStream;
use umbel_protocol::{After, CompositeTopics, Dialect, EventName, SessionId, Topic, sse};

use super::incoming::Incoming;
use super::{
    Beginning, Charged, CloseReason, From, Granted, Hold, Phase, Role, Session, SessionBody,
    SessionRef, SessionTask, Stream, Wire,
};
use crate::admission::Seat;
use crate::worker::{Resumed, Worker};

/// What the handshake agreed on.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) id: SessionId,
    pub(crate) dialect: Dialect,
    pub(crate) role: Role,
    pub(crate) topics: Vec<Granted>,
    /// Over which topics an SSE session has one cursor, if they are several.
    pub(crate) composite: Option<(Box<[Topic]>, CompositeTopics)>,
    /// The name of SSE events of messages that have none.
    pub(crate) default_event: Option<EventName>,
    /// The head of the answer and what comes before any message.
    pub(crate) greeting: Vec<u8>,
    /// What comes behind the place where the session begins.
    pub(crate) hello: Vec<u8>,
    /// Set when the client is let in only to be told with a close code why it can't stay.
    pub(crate) refusal: Option<(CloseReason, String)>,
    /// Its place among the node's sessions, until the session has it.
    pub(crate) seat: Option<Seat>,
    /// When the first byte of its connection came or, if others were asked on it before, its request;
    /// by the node's clock, in microseconds.
    pub(crate) began: u64,
}

/// Makes a session of a connection. `input` is what the client sent behind its request.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    stream: TcpStream,
    input: &[u8],
    mut opening: Opening,
) {
    let session = worker.admit(Wire::Tcp(stream), &mut opening);
    let begun = worker.hold_all(session, &opening.topics).await;
    worker.greet(session, opening, &begun);
    SessionTask::spawn(worker, session, input);
}

/// Makes a session of an HTTP/2 stream: what the client gets is the body. A client that goes
/// before it is open takes the session along.
pub(crate) async fn open_stream(
    worker: &Rc<Worker>,
    stream: Rc<Stream>,
    mut opening: Opening,
) -> SessionBody {
    let session = worker.admit(Wire::H2(stream), &mut opening);
    let body = SessionBody::new(worker, session);
    let begun = worker.hold_all(session, &opening.topics).await;
    worker.greet(session, opening, &begun);
    body
}

impl Worker {
    fn admit(&self, wire: Wire, opening: &mut Opening) -> SessionRef {
        let session = Session {
            id: opening.id,
            wire,
            waker: None::<Waker>,
            incoming: Incoming::default(),
            role: opening.role.clone(),
            phase: Phase::Opening,
            blocked: false,
            is_busy: false,
            unfinished_since: None,
            has_input_timer: false,
            expires: self.expiry(),
            published_until: 0,
            _seat: opening.seat.take().expect("it has one until it is admitted"),
            last_written: self.now(),
            charged: Charged::default(),
            catch_ups: None,
        };
        let mut hub = self.hub.borrow_mut();
        let key = hub.open(opening.id, opening.dialect, session);
        if let Some(name) = &opening.default_event {
            hub.set_default_event(key, name);
        }
        if let Some((topics, names)) = &opening.composite {
            hub.set_composite(key, topics.clone(), names.clone());
        }
        drop(hub);
        self.metrics.session_opened(opening.dialect.into());
        SessionRef { key, id: opening.id }
    }

    async fn hold_all(self: &Rc<Self>, session: SessionRef, topics: &[Granted]) -> Vec<Beginning> {
        // All at once: the broker confirms them in one go.
        let begin = |granted: &Granted| Hold::begin(self, &granted.topic, granted.history);
        let holds: Vec<_> = topics.iter().map(begin).collect();
        let mut beginnings = Vec::with_capacity(topics.len());
        for (hold, granted) in holds.into_iter().zip(topics) {
            beginnings.push(hold.complete(session, granted).await);
        }
        beginnings
    }

    fn greet(&self, session: SessionRef, opening: Opening, begun: &[Beginning]) {
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return;
        };
        state.phase = Phase::Open;
        let expires = state.expires;
        let key = session.key;
        let mut greeting = opening.greeting;
        let begun = || opening.topics.iter().zip(begun);
        for (granted, beginning) in begun() {
            self.count_resume(granted, beginning);
            if let Some(position) = beginning.position {
                hub.set_position(key, &granted.topic, position);
            }
        }
        if opening.composite.is_some() {
            hub.write_cursor(key, &mut greeting);
            greeting.push(b'\n');
        } else if opening.dialect == Dialect::Sse
            && let Some(position) = begun().find_map(|(_, beginning)| beginning.position)
        {
            // A block without data: it fires no event, but is where the client comes back to.
            sse::write_id(&mut greeting, |out| position.write(out));
            greeting.push(b'\n');
        }
        greeting.extend(opening.hello);
        *hub.control(key) = greeting;
        for (granted, beginning) in begun() {
            if let Some(reason) = beginning.gap {
                self.tell_gap(&mut hub, key, &granted.topic, reason, beginning.position);
            }
        }
        self.start_heartbeat(session, expires);
        if let Some((reason, text)) = opening.refusal {
            return self.close(&mut hub, key, reason, &text);
        }
        let now = self.clock.micros();
        let handshake = self.metrics.handshake_seconds.of(opening.dialect.into());
        handshake.observe(now.saturating_sub(opening.began), 1);
        self.flush(&mut hub, key);
    }

    /// Takes note of how a session fares that named where it goes on.
    pub(super) fn count_resume(&self, granted: &Granted, beginning: &Beginning) {
        let outcome = match (granted.from, beginning.recovered) {
            (From::After(After::Position(_)), Some(true)) => Resumed::Recovered,
            (From::After(After::Position(_)) | From::UnknownCursor, _) => Resumed::Gap,
            _ => return,
        };
        self.metrics.resumes.of(outcome).add(1);
    }
}
