//! From a request that was granted to an open session.

use std::rc::Rc;
use std::task::Waker;

use tokio::net::TcpStream;
use umbel_broker::Attachment;
use umbel_hub::OnSlow;
use umbel_protocol::{Dialect, EventName, SessionId, Topic};

use super::incoming::Incoming;
use super::{
    Charged, CloseReason, Phase, Role, Session, SessionBody, SessionRef, SessionTask, Stream, Wire,
};
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
    let session = worker.admit(Wire::Tcp(stream), &opening);
    worker.hold_all(session, &opening.topics).await;
    worker.greet(session, opening);
    SessionTask::spawn(worker, session, input);
}

/// Makes a session of an HTTP/2 stream: what the client gets is the body. A client that goes
/// before it is open takes the session along.
pub(crate) async fn open_stream(
    worker: &Rc<Worker>,
    stream: Rc<Stream>,
    opening: Opening,
) -> SessionBody {
    let session = worker.admit(Wire::H2(stream), &opening);
    let body = SessionBody::new(worker, session);
    worker.hold_all(session, &opening.topics).await;
    worker.greet(session, opening);
    body
}

/// A topic that a session is about to hold. While there is one, the worker stays attached to the
/// topic, although nobody may hold it yet; if then nobody does, it is left.
pub(super) struct Hold {
    worker: Rc<Worker>,
    topic: Topic,
    attachment: Option<Attachment>,
}

impl Hold {
    /// Attaches the worker to the topic.
    pub(super) fn begin(worker: &Rc<Worker>, topic: &Topic) -> Self {
        *worker.attaching.borrow_mut().entry(topic.clone()).or_default() += 1;
        let attachment = worker.broker.attach(worker.id, topic);
        Self { worker: worker.clone(), topic: topic.clone(), attachment: Some(attachment) }
    }

    /// The topic.
    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Waits for the broker, so that no message is missed from then on, and lets the session hold
    /// the topic, which it must not hold yet. A session that is gone meanwhile is passed over.
    pub(super) async fn complete(mut self, session: SessionRef, on_slow: OnSlow) {
        if let Some(attachment) = self.attachment.take() {
            attachment.confirmed().await;
        }
        let mut hub = self.worker.hub.borrow_mut();
        if Worker::is_alive(&hub, session) {
            hub.subscribe(session.key, &self.topic, on_slow)
                .expect("the caller has looked whether it holds the topic");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut attaching = self.worker.attaching.borrow_mut();
        let count = attaching.get_mut(&self.topic).expect("it was counted");
        *count -= 1;
        if *count > 0 {
            return;
        }
        attaching.remove(&self.topic);
        drop(attaching);
        if !self.worker.hub.borrow().holds_any(&self.topic) {
            self.worker.broker.detach(self.worker.id, &self.topic);
        }
    }
}

impl Worker {
    fn admit(&self, wire: Wire, opening: &Opening) -> SessionRef {
        let session = Session {
            id: opening.id,
            wire,
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

    async fn hold_all(self: &Rc<Self>, session: SessionRef, topics: &[(Topic, OnSlow)]) {
        // All at once: the broker confirms them in one go.
        let holds: Vec<_> = topics.iter().map(|(topic, _)| Hold::begin(self, topic)).collect();
        for (hold, (_, on_slow)) in holds.into_iter().zip(topics) {
            hold.complete(session, *on_slow).await;
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
