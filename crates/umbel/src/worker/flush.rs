//! Writing to sessions, and ending them.

use umbel_broker::Reader;
use umbel_hub::{Hub, Left, OnSlow, SessionKey, Verdict, Wait};
use umbel_metrics::{LabelSet, Transport};
use umbel_protocol::websocket::{self, Opcode};
use umbel_protocol::{After, Dialect, GapReason, Topic, sse};

use super::labels::Policy;
use super::{Held, Timer, Worker};
use crate::session::{CatchUp, CloseReason, Hold, Phase, Role, Session, SessionRef, Written};
use crate::wheel::Tick;

/// How long a client may take to read the rest and answer the close frame.
const CLOSE_SECONDS: u32 = 5;

/// How many sessions of a worker are closed in a second because they may have missed messages.
const CLOSES_PER_SECOND: usize = 100;

/// How many pieces of history a session is written before others get their turn.
const PIECES_PER_TURN: u32 = 4;

impl Worker {
    /// Writes what is due to a session.
    pub(crate) fn flush(&self, hub: &mut Hub<Session>, key: SessionKey) {
        self.write_out(hub, key);
        self.observe_waits(hub);
    }

    /// Records how long what was written since the last time had been on its way.
    pub(super) fn observe_waits(&self, hub: &mut Hub<Session>) {
        let mut now = None;
        while let Some(Wait { published, tag, dialect, writes }) = hub.take_wait() {
            let now = *now.get_or_insert_with(|| self.clock.micros());
            let of_transport = &self.metrics.delivery_seconds[Transport::from(dialect).index()];
            of_transport[tag.index()].observe(now.saturating_sub(published), writes);
        }
    }

    /// Writes what is due to a session. [`Worker::observe_waits`] must follow.
    ///
    /// HOT PATH: once per session and batch; one system call if the socket takes everything.
    pub(super) fn write_out(&self, hub: &mut Hub<Session>, key: SessionKey) {
        let mut pieces = 0;
        loop {
            let session = hub.get(key).expect("only open sessions are flushed");
            if session.blocked || session.phase == Phase::Opening {
                return self.hold_to_budget(hub, key);
            }
            let written = if hub.is_composite(key) {
                hub.render(key);
                hub.get(key).expect("it was there a moment ago").wire.write(hub.pending(key))
            } else {
                session.wire.write(hub.pending(key))
            };
            match written {
                Ok(Written::Bytes(bytes)) => self.wrote(hub, key, bytes),
                Ok(Written::Nothing) => {
                    hub.advance(key, 0);
                }
                Ok(Written::Blocked) => return self.block(hub, key),
                Ok(Written::Told) => return self.pace.step(),
                Err(_) => return self.remove(hub, key, CloseReason::Lost),
            }
            if hub.is_drained(key) {
                let session = hub.get(key).expect("it was written to a moment ago");
                if session.is_at_rest() || !self.drained(hub, key) {
                    return;
                }
                pieces += 1;
                if pieces == PIECES_PER_TURN {
                    return Worker::pause(hub, key);
                }
            }
        }
    }

    /// Has the session's task go on, after others had their turn.
    fn pause(hub: &mut Hub<Session>, key: SessionKey) {
        let session = hub.get_mut(key).expect("it was written to a moment ago");
        session.blocked = true;
        if let Some(waker) = &session.waker {
            waker.wake_by_ref();
        }
    }

    #[allow(clippy::inline_always, reason = "a call costs 50 of the 880 instructions per write")]
    #[inline(always)]
    pub(super) fn wrote(&self, hub: &mut Hub<Session>, key: SessionKey, bytes: usize) {
        hub.advance(key, bytes);
        hub.count_write(bytes);
        let now = self.now();
        let session = hub.get_mut(key).expect("it was written to a moment ago");
        session.last_written = now;
    }

    /// All is written; whether there is more by now.
    pub(super) fn drained(&self, hub: &mut Hub<Session>, key: SessionKey) -> bool {
        self.discharge_control(hub, key);
        let session = hub.get(key).expect("it was written to a moment ago");
        match session.phase {
            Phase::Open if session.catch_ups.is_some() => return self.catch_up(hub, key),
            Phase::Opening | Phase::Open => {}
            // The client has said goodbye and heard ours: the server closes first (RFC 6455
            // section 7.1.1).
            Phase::Closing { reason: CloseReason::Client, .. } => {
                self.remove(hub, key, CloseReason::Client)
            }
            Phase::Closing { .. } => session.wire.finish(),
        }
        false
    }

    /// The socket is full: the session's task waits for room, and the session is held to its
    /// budget.
    fn block(&self, hub: &mut Hub<Session>, key: SessionKey) {
        let session = hub.get_mut(key).expect("it was written to a moment ago");
        session.set_blocked(true, &self.ledger, self.socket_bytes);
        if let Some(waker) = &session.waker {
            let mut context = std::task::Context::from_waker(waker);
            if session.wire.poll_writable(&mut context).is_ready() {
                waker.wake_by_ref();
            }
        }
        self.hold_to_budget(hub, key);
    }

    pub(super) fn hold_to_budget(&self, hub: &mut Hub<Session>, key: SessionKey) {
        let gaps = hub.gaps();
        let verdict = hub.enforce(key);
        self.metrics.gaps.of(GapReason::Slow).add(hub.gaps() - gaps);
        self.charge_control(hub, key);
        let (policy, gap) = match verdict {
            Verdict::Within => return,
            Verdict::Moved { gap, left } => {
                let drops = gap || !left.is_empty();
                self.read_on(hub, key, left);
                (if drops { OnSlow::Drop } else { OnSlow::Latest }, gap)
            }
            Verdict::Disconnect => (OnSlow::Disconnect, false),
        };
        self.metrics.slow_consumers.of(Policy(policy)).add(1);
        if policy == OnSlow::Disconnect {
            self.close(hub, key, CloseReason::Slow, "further behind than allowed");
        } else if gap {
            self.close_if_missed(hub, key);
        }
    }

    /// Closes a session that missed messages, if it would rather be closed than go on; whether it
    /// would.
    pub(super) fn close_if_missed(&self, hub: &mut Hub<Session>, key: SessionKey) -> bool {
        let session = hub.get(key).expect("it was told of a gap a moment ago");
        let wants_close = matches!(session.role, Role::Plain { close_on_gap: true, .. });
        if wants_close {
            self.close(hub, key, CloseReason::Gap, "messages were lost");
        }
        wants_close
    }

    /// Has a session that was too far behind get what it lacks from history, once it reads again.
    fn read_on(&self, hub: &mut Hub<Session>, key: SessionKey, left: Vec<Left>) {
        for Left { topic, terms, after, .. } in left {
            let history = self.door.history(&topic);
            let hold = Hold::begin(&self.rc(), &topic, history);
            let reader = Reader::new(topic, After::Position(after));
            let session = hub.get_mut(key).expect("only open sessions are held to their budget");
            session.catch_ups.get_or_insert_default().push(CatchUp::new(hold, reader, terms));
        }
    }

    fn charge_control(&self, hub: &mut Hub<Session>, key: SessionKey) {
        let waiting = u32::try_from(hub.control_len(key)).unwrap_or(u32::MAX);
        let session = hub.get_mut(key).expect("only open sessions are charged");
        let before = std::mem::replace(&mut session.charged.control, waiting);
        self.ledger.change(Held::Control, before as usize, waiting as usize);
    }

    /// Takes note that no control frames wait any more.
    pub(super) fn discharge_control(&self, hub: &mut Hub<Session>, key: SessionKey) {
        let session = hub.get_mut(key).expect("only open sessions are charged");
        if session.charged.control > 0 {
            let before = std::mem::take(&mut session.charged.control);
            self.ledger.change(Held::Control, before as usize, 0);
        }
    }

    /// Ends a session from this side: no message follows, the client is told why and has a few
    /// seconds to take it in.
    pub(crate) fn close(
        &self,
        hub: &mut Hub<Session>,
        key: SessionKey,
        reason: CloseReason,
        text: &str,
    ) {
        let code = reason.code();
        self.begin_close(hub, key, reason, |dialect, out| match dialect {
            Dialect::Plain | Dialect::Json => websocket::write_close(out, code, text),
            Dialect::Sse => {}
        });
    }

    /// Ends a session that shall come back, perhaps at another node, after so many milliseconds.
    pub(crate) fn move_away(
        &self,
        hub: &mut Hub<Session>,
        key: SessionKey,
        reason: CloseReason,
        reconnect_after: u64,
    ) {
        let code = reason.code();
        if hub.get(key).is_some_and(|session| !session.blocked) {
            // What it is due already it gets.
            self.flush(hub, key);
        }
        if hub.get(key).is_none() {
            return;
        }
        self.begin_close(hub, key, reason, |dialect, out| {
            dialect.write_moving(out, reconnect_after);
            match dialect {
                Dialect::Plain | Dialect::Json => websocket::write_close(out, code, "reconnect"),
                Dialect::Sse => {}
            }
        });
    }

    /// Answers a client's close frame with its own code (RFC 6455 section 5.5.1).
    pub(crate) fn answer_close(&self, hub: &mut Hub<Session>, key: SessionKey, code: Option<u16>) {
        self.begin_close(hub, key, CloseReason::Client, |_, out| match code {
            Some(code) => websocket::write_close(out, code, ""),
            None => websocket::write_frame(out, Opcode::Close, &[]),
        });
    }

    fn begin_close(
        &self,
        hub: &mut Hub<Session>,
        key: SessionKey,
        reason: CloseReason,
        write_last: impl FnOnce(Dialect, &mut Vec<u8>),
    ) {
        let dialect = hub.dialect(key);
        let session = hub.get_mut(key).expect("only open sessions are closed");
        match session.phase {
            Phase::Closing { .. } => return,
            // The head of its answer isn't written, so that there is nothing to say it by.
            Phase::Opening => return self.remove(hub, key, reason),
            Phase::Open => {}
        }
        let deadline = self.now().plus_seconds(CLOSE_SECONDS);
        session.phase = Phase::Closing { reason, deadline };
        let id = session.id;
        self.metrics.sessions_closed.of(reason).add(1);
        tracing::debug!(session = %id, ?reason, "Session closes");
        self.wheel.borrow_mut().insert(Timer::Session(SessionRef { key, id }), deadline);
        drop(session.catch_ups.take());
        hub.leave_all(key, |topic| self.left(topic));
        write_last(dialect, hub.control(key));
        self.flush(hub, key);
    }

    /// Takes a session out at once: its connection is gone, or all is said.
    pub(crate) fn remove(&self, hub: &mut Hub<Session>, key: SessionKey, reason: CloseReason) {
        let transport = hub.dialect(key).into();
        let mut session = hub.close(key, |topic| self.left(topic));
        session.set_blocked(false, &self.ledger, self.socket_bytes);
        self.metrics.session_gone(transport);
        if !session.is_closing() {
            self.metrics.sessions_closed.of(reason).add(1);
        }
        self.ledger.change(Held::Input, session.charged.input as usize, 0);
        self.ledger.change(Held::Control, session.charged.control as usize, 0);
        session.wire.cut();
        if let Some(waker) = session.waker {
            waker.wake();
        }
    }

    /// Sends a silent session a sign of life, which also finds out whether it still has one.
    pub(crate) fn heartbeat(&self, hub: &mut Hub<Session>, key: SessionKey) {
        if !hub.is_drained(key) {
            // What waits to be written will do.
            return;
        }
        self.metrics.heartbeats.add(1);
        match hub.dialect(key) {
            Dialect::Plain | Dialect::Json => {
                websocket::write_frame(hub.control(key), Opcode::Ping, &[]);
            }
            Dialect::Sse => sse::write_comment(hub.control(key), "heartbeat"),
        }
        self.flush(hub, key);
    }

    /// Has those sessions of a topic closed that would rather be closed than miss a message, a few
    /// at a time: all of them will be back at once.
    pub(crate) fn close_on_gap(&self, hub: &Hub<Session>, topic: &Topic) {
        let mut wheel = self.wheel.borrow_mut();
        let now = wheel.now();
        let wants_close = |key: SessionKey| {
            let session = hub.get(key).expect("subscribers are open sessions");
            let wants = matches!(session.role, Role::Plain { close_on_gap: true, .. });
            wants.then_some(SessionRef { key, id: session.id })
        };
        for (place, session) in
            hub.subscribers(topic, Dialect::Plain).filter_map(wants_close).enumerate()
        {
            let seconds = u32::try_from(place / CLOSES_PER_SECOND).unwrap_or(u32::MAX);
            let due = now.plus_seconds(seconds);
            wheel.insert(Timer::Gap(session, due), due);
        }
    }

    /// Closes a session whose turn has come.
    pub(super) fn gap_timer(&self, session: SessionRef, due: Tick) {
        if self.now() < due {
            return self.wheel.borrow_mut().insert(Timer::Gap(session, due), due);
        }
        let mut hub = self.hub.borrow_mut();
        if Worker::is_alive(&hub, session) {
            self.close(&mut hub, session.key, CloseReason::Gap, "messages were lost");
        }
    }

    /// Nobody is about to hold this topic any more.
    pub(crate) fn leave_unless_held(&self, topic: &Topic) {
        match self.hub.try_borrow() {
            Ok(hub) if hub.holds_any(topic) => {}
            Ok(_) => self.left(topic),
            // Whoever changes the hub now may be about to let it be held.
            Err(_) => self.loose.borrow_mut().push(topic.clone()),
        }
    }

    /// Looks again at topics whose last holder went while the hub was changed.
    pub(super) fn leave_loose(&self) {
        for topic in std::mem::take(&mut *self.loose.borrow_mut()) {
            self.leave_unless_held(&topic);
        }
    }

    /// No subscription of this topic is left in this worker.
    pub(crate) fn left(&self, topic: &Topic) {
        if !self.attaching.borrow().contains_key(topic) {
            self.broker.detach(self.id, topic);
        }
    }
}
