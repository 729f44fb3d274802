//! The task of a session: it waits for the client, and for room when a write was cut short.
//!
//! What the fan-out writes doesn't pass here. A session that is idle has this task parked on its
//! socket's readiness and nothing else.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use umbel_hub::Hub;
use umbel_protocol::websocket::{self, Opcode};

use super::commands::{self, CONTROL_HIGH_BYTES};
use super::incoming::{ClientFrame, Violation};
use super::{CloseReason, Phase, Role, Session, SessionRef};
use crate::worker::{Held, Limit, Worker};

/// Serves one session until it is gone. Owned by the worker's task group.
pub(crate) struct SessionTask {
    worker: Rc<Worker>,
    session: SessionRef,
    /// A command that waits, for the broker or an authorisation. Input rests meanwhile.
    running: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// How often a session's socket is read before others get their turn.
const READS_PER_TURN: usize = 4;

/// Whether a session is still there to go on with.
enum Alive {
    Yes,
    No,
}

impl SessionTask {
    /// Starts the task. `input` is what the client has sent already.
    pub(crate) fn spawn(worker: &Rc<Worker>, session: SessionRef, input: &[u8]) {
        if let Some(state) = Worker::alive_mut(&mut worker.hub.borrow_mut(), session)
            && state.role != Role::Sse
        {
            state.incoming.keep(input);
        }
        worker.tasks.spawn(Self { worker: worker.clone(), session, running: None });
    }

    fn poll_io(&mut self, context: &mut Context<'_>) -> Alive {
        if self.poll_write(context) == Poll::Ready(Err(())) {
            return Alive::No;
        }
        // A command may have waited for its replies to be taken, so it comes after the write.
        let goes_on = self.running.is_some() || self.has_left();
        self.poll_running(context);
        let mut alive = if goes_on { self.take_input(context, &[]) } else { Alive::Yes };
        for _ in 0..READS_PER_TURN {
            if matches!(alive, Alive::No) || self.rests() {
                return alive;
            }
            alive = match self.poll_read(context) {
                Poll::Ready(alive) => alive,
                Poll::Pending => return Alive::Yes,
            };
        }
        context.waker().wake_by_ref();
        alive
    }

    /// Goes on writing where a write was cut short. An error says that the session is gone.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let mut hub = self.worker.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, self.session) else {
            return Poll::Ready(Err(()));
        };
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        if state.blocked {
            std::task::ready!(state.wire.poll_writable(context));
            state.set_blocked(false, &self.worker.ledger, self.worker.socket_bytes);
            self.worker.flush(&mut hub, self.session.key);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether input or replies were left from an earlier turn. Most sessions have neither, and are
    /// woken by a pong.
    fn has_left(&self) -> bool {
        let mut hub = self.worker.hub.borrow_mut();
        let has_partial = Worker::alive_mut(&mut hub, self.session)
            .is_none_or(|state| state.incoming.has_partial());
        has_partial || hub.control_len(self.session.key) > 0
    }

    /// Whether input must wait: for a command, or until replies were read.
    fn rests(&self) -> bool {
        self.running.is_some() || {
            let hub = self.worker.hub.borrow();
            Worker::is_alive(&hub, self.session)
                && hub.control_len(self.session.key) > CONTROL_HIGH_BYTES
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Alive> {
        let worker = self.worker.clone();
        let mut buffer = worker.read_buffer.borrow_mut();
        let read = {
            let mut hub = worker.hub.borrow_mut();
            let Some(state) = Worker::alive_mut(&mut hub, self.session) else {
                return Poll::Ready(Alive::No);
            };
            std::task::ready!(state.wire.poll_read(context, &mut buffer))
        };
        Poll::Ready(match read {
            Ok(0) => self.ended(),
            Ok(bytes) => self.take_input(context, &buffer[..bytes]),
            Err(error) => self.failed(&error),
        })
    }

    fn ended(&self) -> Alive {
        let mut hub = self.worker.hub.borrow_mut();
        self.worker.remove(&mut hub, self.session.key, CloseReason::Lost);
        Alive::No
    }

    fn failed(&self, error: &io::Error) -> Alive {
        tracing::debug!(session = %self.session.id, %error, "Session's connection failed");
        self.ended()
    }

    /// Handles all that the client has said so far, then writes the replies at once.
    fn take_input(&mut self, context: &mut Context<'_>, mut input: &[u8]) -> Alive {
        let mut was_completed = false;
        while self.running.is_none() {
            let Some(said) = self.next_frame(&mut input) else {
                break;
            };
            was_completed = true;
            self.handle(said);
            self.poll_running(context);
        }
        let mut hub = self.worker.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, self.session) else {
            return Alive::No;
        };
        if !state.is_closing() {
            state.incoming.keep(input);
        }
        self.charge_input(state, was_completed);
        if state.charged.input > 0 && self.worker.is_over_share(Held::Input) {
            self.worker.close_largest_input(&mut hub);
            if !Worker::is_alive(&hub, self.session) {
                return Alive::No;
            }
        }
        if hub.control_len(self.session.key) > 0 {
            self.worker.flush(&mut hub, self.session.key);
        }
        if Worker::is_alive(&hub, self.session) { Alive::Yes } else { Alive::No }
    }

    fn next_frame(&self, input: &mut &[u8]) -> Option<Result<ClientFrame, Violation>> {
        let mut hub = self.worker.hub.borrow_mut();
        let state = Worker::alive_mut(&mut hub, self.session)?;
        if matches!(state.role, Role::Sse) {
            // Nothing is expected, so nothing is kept.
            *input = &[];
            return None;
        }
        let limit = state.role.max_message_bytes(&self.worker.limits);
        let mut parser = self.worker.frame_parser.borrow_mut();
        loop {
            let said = state.incoming.next(&mut parser, input, limit)?;
            match (&state.phase, &said) {
                // The answer to our close frame, or its peer's loss of patience: all is said.
                (Phase::Closing { .. }, Ok(ClientFrame::Close(_)) | Err(_)) => {
                    *input = &[];
                    drop(parser);
                    self.worker.remove(&mut hub, self.session.key, CloseReason::Client);
                    return None;
                }
                // What was under way when we closed.
                (Phase::Closing { .. }, Ok(_)) => {}
                _ => return Some(said),
            }
        }
    }

    fn handle(&mut self, said: Result<ClientFrame, Violation>) {
        let mut hub = self.worker.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, self.session) else {
            return;
        };
        let key = self.session.key;
        match (said, &state.role) {
            (Ok(ClientFrame::Text(text)), Role::Json) => {
                self.running =
                    Some(Box::pin(commands::execute(self.worker.clone(), self.session, text)));
            }
            (Ok(ClientFrame::Binary(_)), Role::Json) => {
                let text = "this dialect has text frames only";
                self.worker.close(&mut hub, key, CloseReason::Unsupported, text);
            }
            (Ok(frame @ (ClientFrame::Text(_) | ClientFrame::Binary(_))), _) => {
                self.running = Some(Box::pin(commands::publish_frame(
                    self.worker.clone(),
                    self.session,
                    frame,
                )));
            }
            (Ok(ClientFrame::Ping(payload)), _) => {
                websocket::write_frame(hub.control(key), Opcode::Pong, &payload);
            }
            (Ok(ClientFrame::Pong), _) => {}
            (Ok(ClientFrame::Close(code)), _) => self.worker.answer_close(&mut hub, key, code),
            (Err(Violation { code, reason }), _) => {
                if code == 1009 {
                    self.worker.metrics.limited.of(Limit::Size).add(1);
                }
                self.worker.close(&mut hub, key, CloseReason::of_violation(code), reason);
            }
        }
    }

    fn poll_running(&mut self, context: &mut Context<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.as_mut().poll(context).is_ready() {
            self.running = None;
        }
        let mut hub = self.worker.hub.borrow_mut();
        if let Some(state) = Worker::alive_mut(&mut hub, self.session) {
            state.is_busy = self.running.is_some();
        }
    }

    /// Takes note of what is kept, and since when. A frame that was completed makes the next one's time
    /// begin.
    fn charge_input(&self, state: &mut Session, was_completed: bool) {
        let kept = u32::try_from(state.incoming.kept_bytes()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut state.charged.input, kept);
        self.worker.ledger.change(Held::Input, before as usize, kept as usize);
        if kept == 0 {
            state.unfinished_since = None;
        } else if was_completed || state.unfinished_since.is_none() {
            state.unfinished_since = Some(self.worker.now());
            self.worker.watch_input(self.session, state);
        }
    }
}

impl Future for SessionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.get_mut().poll_io(context) {
            Alive::Yes => Poll::Pending,
            Alive::No => Poll::Ready(()),
        }
    }
}

impl Drop for SessionTask {
    /// A task that ends early, by a panic or with its worker, takes its session along.
    fn drop(&mut self) {
        if let Ok(mut hub) = self.worker.hub.try_borrow_mut()
            && Worker::is_alive(&hub, self.session)
        {
            self.worker.remove(&mut hub, self.session.key, CloseReason::Lost);
        }
    }
}

/// What the types of a hub and a reference to a session of it have in common.
impl Worker {
    pub(crate) fn is_alive(hub: &Hub<Session>, session: SessionRef) -> bool {
        hub.get(session.key).is_some_and(|state| state.id == session.id)
    }

    /// A session that is neither gone nor about to go.
    pub(crate) fn staying_mut(hub: &mut Hub<Session>, session: SessionRef) -> Option<&mut Session> {
        Self::alive_mut(hub, session).filter(|state| !state.is_closing())
    }

    pub(crate) fn alive_mut(hub: &mut Hub<Session>, session: SessionRef) -> Option<&mut Session> {
        hub.get_mut(session.key).filter(|state| state.id == session.id)
    }
}
