//! Moving sessions away: all of them when the node leaves, one by one when they have lasted long
//! enough.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use umbel_hub::{Hub, SessionKey};

use super::Worker;
use crate::drain::{Stage, Stages};
use crate::session::{CloseReason, Phase, Session, SessionRef};

/// Sessions are moved in steps of this length, each a few.
const STEP: Duration = Duration::from_millis(20);

/// The slowest pace of a worker, in sessions per second: few sessions needn't take the whole
/// time, since few that come back are no burden to anybody.
const LEAST_PACE: f64 = 10.0;

/// How many sessions are moved before others get their turn. Each costs some writes.
const MOVES_PER_TURN: usize = 64;

/// When a client that was moved comes back, in milliseconds. They are spread already by the pace; but
/// a browser keeps to it until a stream says otherwise, also while nobody is there to come back to.
const RECONNECT_MILLIS: std::ops::Range<u64> = 250..2000;

/// How long it is waited for what a session has under way, when its time has come.
const PATIENCE: Duration = Duration::from_secs(2);

impl Worker {
    /// Moves all sessions away over a while, at once when the node hurries. Returns when none is left
    /// and all requests are answered.
    pub(super) async fn leave(self: &Rc<Self>, over: Duration, mut stages: Stages) {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut plan = MovePlan::new(self.sessions_to_move(), over);
        loop {
            tokio::select! {
                _ = steps.tick() => {}
                // An error says that the node is gone.
                _ = stages.wait_for(|stage| *stage >= Stage::Hurried), if !plan.is_hurried() => {
                    plan.hurry();
                }
            }
            self.move_due(&mut plan).await;
            if plan.left.is_empty() {
                // Who came meanwhile, by a connection that was there before.
                plan.left = self.sessions_to_move();
                if self.hub.borrow().session_count() == 0 && !self.serves_requests() {
                    return;
                }
            }
        }
    }

    fn serves_requests(&self) -> bool {
        self.connections.borrow().iter().any(|(_, connection)| connection.is_serving())
    }

    /// In no order, so that no topic loses its audience at once.
    fn sessions_to_move(&self) -> VecDeque<SessionRef> {
        let hub = self.hub.borrow();
        let stays = |key| {
            let session = hub.get(key).filter(|session| !session.is_closing())?;
            Some(SessionRef { key, id: session.id })
        };
        let mut sessions: Vec<_> = hub.sessions().filter_map(stays).collect();
        fastrand::shuffle(&mut sessions);
        sessions.into()
    }

    /// Moves those whose turn has come.
    async fn move_due(&self, plan: &mut MovePlan) {
        let reconnect = plan.reconnect();
        for count in 1..=plan.due() {
            if count % MOVES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
            let Some(session) = plan.left.pop_back() else {
                return;
            };
            let mut hub = self.hub.borrow_mut();
            match Worker::staying_mut(&mut hub, session) {
                None => {}
                // It is moved when that is done, so that its client gets to know.
                Some(state)
                    if state.phase == Phase::Opening || (state.is_busy && plan.has_patience()) =>
                {
                    plan.left.push_front(session);
                    continue;
                }
                Some(_) => {
                    let after = fastrand::u64(reconnect.clone());
                    self.move_away(&mut hub, session.key, CloseReason::Moved, after);
                }
            }
            plan.moved += 1;
        }
    }

    /// Closes a session that has lasted as long as it may.
    pub(super) fn end_of_life(&self, hub: &mut Hub<Session>, key: SessionKey) {
        self.move_away(hub, key, CloseReason::Lifetime, fastrand::u64(RECONNECT_MILLIS));
    }
}

/// Which sessions are to be moved, and when.
struct MovePlan {
    left: VecDeque<SessionRef>,
    moved: usize,
    /// In sessions per second.
    pace: f64,
    begun: Instant,
    over: Duration,
    /// Since when all move at once.
    hurried: Option<Instant>,
}

impl MovePlan {
    fn new(left: VecDeque<SessionRef>, over: Duration) -> Self {
        let pace = pace(left.len(), over);
        Self { left, moved: 0, pace, begun: Instant::now(), over, hurried: None }
    }

    fn is_hurried(&self) -> bool {
        self.hurried.is_some()
    }

    fn hurry(&mut self) {
        self.hurried = Some(Instant::now());
    }

    /// How many are to be moved now; those that can't be yet are tried once more at each step.
    fn due(&self) -> usize {
        let pace = if self.is_hurried() { f64::INFINITY } else { self.pace };
        due(self.begun.elapsed(), pace, self.moved).min(self.left.len())
    }

    /// When those moved now come back, in milliseconds: soon, since they are spread by the pace; but
    /// when all are moved at once, as far apart as they would have been.
    fn reconnect(&self) -> RangeInclusive<u64> {
        let (soonest, latest) = (RECONNECT_MILLIS.start, RECONNECT_MILLIS.end);
        let rest = self.hurried.map(|at| self.over.saturating_sub(at - self.begun));
        let rest = rest.map_or(0, |rest| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX));
        soonest..=latest.max(rest)
    }

    /// Whether it is still waited for what sessions have under way.
    fn has_patience(&self) -> bool {
        let end = self.hurried.unwrap_or(self.begun + self.over);
        Instant::now() < end + PATIENCE
    }
}

/// How many sessions are moved in a second.
#[allow(clippy::cast_precision_loss, reason = "sessions are counted in millions at most")]
fn pace(sessions: usize, over: Duration) -> f64 {
    if over.is_zero() {
        f64::INFINITY
    } else {
        (sessions as f64 / over.as_secs_f64()).max(LEAST_PACE)
    }
}

/// How many more are to be moved by now. After a stall it catches up at twice the pace at most, or
/// those who were moved would come back as a wave.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "too many saturate, and that is all of them"
)]
fn due(elapsed: Duration, pace: f64, moved: usize) -> usize {
    if pace.is_infinite() {
        return usize::MAX;
    }
    let most = (2.0 * pace * STEP.as_secs_f64()).ceil() as usize;
    ((elapsed.as_secs_f64() * pace).ceil() as usize).saturating_sub(moved).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_moved_evenly_over_the_time() {
        let over = Duration::from_secs(30);
        let pace = pace(10_000, over);
        let (mut moved, mut in_second) = (0, 0);
        for step in 0..1500 {
            let elapsed = STEP * step;
            let now = due(elapsed, pace, moved).min(10_000 - moved);
            moved += now;
            in_second += now;
            if step % 50 == 49 {
                assert!((325..=340).contains(&in_second), "{in_second} in second {}", step / 50);
                in_second = 0;
            }
        }
        assert!(moved > 9_990);
    }

    #[test]
    fn after_a_stall_it_catches_up_without_a_wave() {
        let pace = pace(10_000, Duration::from_secs(30));
        assert_eq!(due(Duration::from_secs(10), pace, 0), 14, "in 20 ms, of 3333");
    }

    #[test]
    fn few_sessions_need_not_take_the_whole_time() {
        let pace = pace(10, Duration::from_secs(30));
        assert_eq!(due(Duration::from_secs(1), pace, 9), 1);
        assert_eq!(due(Duration::from_secs(1), pace, 10), 0);
        assert_eq!(due(Duration::ZERO, super::pace(10, Duration::ZERO), 3), usize::MAX);
    }
}
