//! The tick of a worker: deadlines, heartbeats, and what is only worth doing now and then.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use umbel_hub::Skipped;
use umbel_metrics::LabelSet;

use super::labels::Skip;
use super::metronome::Metronome;
use super::{Held, Timer, Worker};
use crate::session::{CloseReason, Phase, Session, SessionRef};
use crate::wheel::{TICK_MILLIS, Tick};

/// How many timers are served before others get their turn. Each may cost a write.
const TIMERS_PER_TURN: usize = 64;

/// What is not needed at every tick is done at every fourth, once a second.
const TICKS_PER_SECOND: u32 = 1000 / TICK_MILLIS;

/// How long a client may take for a frame, as for a request's body.
const FRAME_SECONDS: u32 = 30;

/// What tokio calls a worker: an event loop on one thread has one.
const THE_ONLY_WORKER: usize = 0;

/// The beat that the worker's wheel turns to.
pub(super) fn metronome() -> io::Result<Metronome> {
    Metronome::start(Duration::from_millis(TICK_MILLIS.into()))
}

/// Turns the worker's wheel. Returns if its beat fails.
pub(super) async fn tick(worker: &Rc<Worker>, mut metronome: Metronome) -> io::Error {
    let mut counts = (0..TICKS_PER_SECOND).cycle();
    loop {
        // Every tick is one turn of the wheel, also of those that come at once after a stall.
        let scheduled = match metronome.tick().await {
            Ok(scheduled) => scheduled,
            Err(error) => return error,
        };
        worker.observe_lag(scheduled.elapsed());
        worker.mind_memory();
        worker.export();
        if counts.next() == Some(0) {
            worker.every_second(scheduled);
        }
        worker.retry_waiting();
        worker.leave_loose();
        worker.serve_timers().await;
    }
}

impl Worker {
    async fn serve_timers(&self) {
        let fired = self.wheel.borrow_mut().advance();
        for (count, timer) in fired.into_iter().enumerate() {
            if count % TIMERS_PER_TURN == TIMERS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            match timer {
                Timer::Session(session) => self.session_timer(session),
                Timer::Input(session) => self.input_timer(session),
                Timer::Gap(session, due) => self.gap_timer(session, due),
                Timer::Connection(connection) => {
                    if let Some(due) = connection.check_deadline(self.now()) {
                        self.wheel.borrow_mut().insert(Timer::Connection(connection), due);
                    }
                }
            }
        }
    }

    fn session_timer(&self, session: SessionRef) {
        let now = self.now();
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return;
        };
        let due = match state.phase {
            // Closing inserted a timer of its own; this may be the heartbeat's.
            Phase::Closing { reason, deadline } if now >= deadline => {
                return self.remove(&mut hub, session.key, reason);
            }
            Phase::Closing { .. } => return,
            Phase::Open if now >= state.expires && !state.is_busy => {
                return self.end_of_life(&mut hub, session.key);
            }
            Phase::Opening | Phase::Open => {
                next_look(now, state.last_written, self.heartbeat_seconds)
            }
        };
        let is_silent = due.is_none();
        let next = due.unwrap_or_else(|| now.plus_seconds(self.heartbeat_seconds));
        self.wheel.borrow_mut().insert(Timer::Session(session), next.min(state.expires));
        if is_silent {
            self.heartbeat(&mut hub, session.key);
        }
    }

    /// Ends a session whose client has begun a frame and doesn't finish it.
    fn input_timer(&self, session: SessionRef) {
        let now = self.now();
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::staying_mut(&mut hub, session) else {
            return;
        };
        match state.unfinished_since {
            Some(since) if state.charged.input > 0 => {
                let due = since.plus_seconds(FRAME_SECONDS);
                if now < due {
                    return self.wheel.borrow_mut().insert(Timer::Input(session), due);
                }
                let text = "a frame took more than 30 s";
                self.close(&mut hub, session.key, CloseReason::Protocol, text);
            }
            _ => state.has_input_timer = false,
        }
    }

    /// Has a session whose client has begun a frame looked at in time.
    pub(crate) fn watch_input(&self, session: SessionRef, state: &mut Session) {
        if !std::mem::replace(&mut state.has_input_timer, true) {
            let due = self.now().plus_seconds(FRAME_SECONDS);
            self.wheel.borrow_mut().insert(Timer::Input(session), due);
        }
    }

    /// Puts a session's first heartbeat somewhere into its period, so that those who came together
    /// are not served together for ever.
    /// One that expires earlier is looked at then.
    pub(crate) fn start_heartbeat(&self, session: SessionRef, expires: Tick) {
        let seconds = fastrand::u32(self.heartbeat_seconds.div_ceil(2)..=self.heartbeat_seconds);
        let mut wheel = self.wheel.borrow_mut();
        let due = wheel.now().plus_seconds(seconds).min(expires);
        wheel.insert(Timer::Session(session), due);
    }

    fn observe_lag(&self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.metrics.loop_lag_seconds.observe(micros, 1);
        self.lag_peak.observe(lag);
        self.metrics.last_tick_micros.set(self.clock.micros());
    }

    /// Hands the hub's counts to the metrics.
    pub(crate) fn export(&self) {
        let hub = self.hub.borrow();
        let tally = hub.tally();
        let metrics = &self.metrics;
        for (cells, counted) in metrics.by_rule.iter().zip(&tally.by_tag) {
            cells.fanned_out.set(counted.fanned_out);
            cells.expected.set(counted.expected);
            cells.delivered.set(counted.delivered);
        }
        metrics
            .deliveries_pending
            .set_count(usize::try_from(tally.in_flight()).unwrap_or(usize::MAX));
        metrics.replayed.set(tally.replayed);
        metrics.writes.set(tally.writes);
        metrics.sent_bytes.set(tally.written_bytes);
        metrics.base64.set(tally.base64);
        for reason in Skipped::ALL {
            metrics.deliveries_skipped.of(Skip(reason)).set(tally.skipped[reason.index()]);
        }
        metrics.log_bytes.set_count(tally.log_bytes);
        metrics.subscriptions.set_count(hub.subscription_count());
        metrics.topics.set_count(hub.topic_count());
        for held in Held::ALL {
            metrics.held_bytes[held.index()].set_count(self.held(*held));
        }
        metrics.tasks.set_count(self.tasks.live());
        let runtime = self.runtime.metrics();
        let busy = runtime.worker_total_busy_duration(THE_ONLY_WORKER).as_micros();
        metrics.busy_micros.set(u64::try_from(busy).unwrap_or(u64::MAX));
        metrics.queue.set_count(runtime.global_queue_depth());
        metrics.parks.set(runtime.worker_park_count(THE_ONLY_WORKER));
    }

    /// `scheduled` is when that was to be.
    fn every_second(&self, scheduled: Instant) {
        let mut hub = self.hub.borrow_mut();
        self.furthest.observe(hub.take_furthest());
        self.metrics.furthest_bytes.set_count(self.furthest.get());
        self.metrics.loop_lag_peak.set(self.lag_peak.get().as_secs_f64());
        self.furthest.age();
        self.lag_peak.age();
        hub.shrink();
        self.segments.borrow_mut().tend();
        // One worker does it for all.
        if self.id.index() == 0 {
            self.broker.tend();
            if self.canary {
                // That its sender was late is part of what it shows.
                let late = u64::try_from(scheduled.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.broker.release_canary(self.clock.micros().saturating_sub(late));
            }
        }
    }
}

/// When to look at a session again that wasn't silent for so long; `None`: it was, and is to have a heartbeat.
///
/// One message to all is written to all at the same time. If they all were due a heartbeat later, a node would have to write to
/// all of them again within one tick, so each is due some time in the last quarter.
fn next_look(now: Tick, last_written: Tick, heartbeat_seconds: u32) -> Option<Tick> {
    let (earliest, latest) = (
        last_written.plus_quarters(heartbeat_seconds, 3),
        last_written.plus_quarters(heartbeat_seconds, 4),
    );
    (now < earliest).then(|| earliest.random_up_to(latest))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn those_who_got_the_same_message_are_due_at_different_times() {
        let (written, seconds) = (Tick::default().plus_seconds(100), 60);
        let looks: HashSet<_> =
            (0..10_000).map(|_| next_look(written, written, seconds).unwrap()).collect();
        assert!(looks.len() > 50, "{} ticks", looks.len());
        for look in looks {
            assert!(look >= written.plus_seconds(45) && look <= written.plus_seconds(60));
            assert_eq!(next_look(look, written, seconds), None, "it is silent then");
        }
        assert_ne!(next_look(written.plus_seconds(44), written, seconds), None);
    }
}
