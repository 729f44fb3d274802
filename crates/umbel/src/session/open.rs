//! From a request that was granted to an open session.

use std::rc::Rc;
use std::task::Waker;

use tokio::net::TcpStream;
use umbel_hub::OnSlow;
use umbel_protocol::{Dialect, EventName, SessionId, Topic};

use super::incoming::Incoming;
use super::{Charged, CloseReason, Phase, Role, Session, SessionRef, SessionTask, Wire};
use crate::worker::Worker;

/// What the handshake agreed on.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) id: SessionId,
    pub(crate) dialect: Dialect,
    pub(crate) role: Role,
    pub(crate) topics: Vec<(Topic, OnSlow)>,
    /// The name of SSE events of messages that have none.
    pub(crate) default_event: Option<EventName>,
    /// The head of the answer and what comes before any message.
    pub(crate) greeting: Vec<u8>,
    /// Set when the client is let in only to be told with a close code why it can't stay.
    pub(crate) refusal: Option<(CloseReason, String)>,
}

/// Makes a session of a connection. `input` is what the client sent behind its request.
pub(crate) async fn open(worker: &Rc<Worker>, stream: TcpStream, input: &[u8], opening: Opening) {
    let session = worker.admit(stream, &opening);
    for (topic, on_slow) in &opening.topics {
        worker.hold(session, topic, *on_slow).await;
    }
    worker.greet(session, opening);
    SessionTask::spawn(worker, session, input);
}

impl Worker {
    fn admit(&self, stream: TcpStream, opening: &Opening) -> SessionRef {
        let session = Session {
            id: opening.id,
            wire: Wire::Tcp(stream),
            waker: None::<Waker>,
            incoming: Incoming::default(),
            role: opening.role.clone(),
            phase: Phase::Opening,
            blocked: false,
            last_written: self.now(),
            charged: Charged::default(),
        };
        let mut hub = self.hub.borrow_mut();
        let key = hub.open(opening.id, opening.dialect, session);
        if let Some(name) = &opening.default_event {
            hub.set_default_event(key, name);
        }
        drop(hub);
        self.metrics.session_opened(opening.dialect.into());
        SessionRef { key, id: opening.id }
    }

    /// Lets a session hold a topic: at the broker first, so that no message is missed from then
    /// on.
    pub(crate) async fn hold(&self, session: SessionRef, topic: &Topic, on_slow: OnSlow) {
        let held = self.hub.borrow().holds_any(topic);
        if !held {
            self.broker.attach(self.id, topic).await;
        }
        let mut hub = self.hub.borrow_mut();
        if Worker::is_alive(&hub, session) {
            hub.subscribe(session.key, topic, on_slow)
                .expect("the caller has looked whether it holds the topic");
        }
    }

    fn greet(&self, session: SessionRef, opening: Opening) {
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return;
        };
        state.phase = Phase::Open;
        *hub.control(session.key) = opening.greeting;
        self.start_heartbeat(session);
        match opening.refusal {
            Some((reason, text)) => self.close(&mut hub, session.key, reason, &text),
            None => self.flush(&mut hub, session.key, self.clock.micros()),
        }
    }
}
