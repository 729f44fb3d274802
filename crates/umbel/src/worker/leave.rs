//! Moving sessions away: all of them when the node leaves, one by one when they have lasted long
//! enough.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
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

/// How often it is looked whether all are gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Worker {
    /// Moves all sessions away over a while, at once when the node hurries. Returns when none is left
    /// and all requests are answered.
    pub(super) async fn leave(self: &Rc<Self>, over: Duration, stages: Stages) {
        self.move_all(over, stages).await;
        while self.hub.borrow().session_count() > 0 || self.serves_requests() {
            sleep(LOOK_INTERVAL).await;
        }
    }

    fn serves_requests(&self) -> bool {
        self.connections.borrow().iter().any(|(_, connection)| connection.is_serving())
    }

    async fn move_all(&self, over: Duration, mut stages: Stages) {
        let mut left = self.sessions_to_move();
        let pace = pace(left.len(), over);
        let begun = Instant::now();
        let mut moved = 0;
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_hurried = tokio::select! {
                _ = steps.tick() => false,
                // An error says that the node is gone.
                _ = stages.wait_for(|stage| *stage >= Stage::Hurried) => true,
            };
            if is_hurried {
                let rest = over.saturating_sub(begun.elapsed());
                return self.move_now(left, rest).await;
            }
            let due = due(begun.elapsed(), pace, moved).min(left.len());
            moved += due;
            let now = left.split_off(left.len() - due);
            left.extend(self.move_some(now).await);
            if left.is_empty() {
                // Who came meanwhile, by a connection that was there before.
                left = self.sessions_to_move();
                if left.is_empty() {
                    return;
                }
            }
        }
    }

    /// In no order, so that no topic loses its audience at once.
    fn sessions_to_move(&self) -> Vec<SessionRef> {
        let hub = self.hub.borrow();
        let stays = |key| {
            let session = hub.get(key).filter(|session| !session.is_closing())?;
            Some(SessionRef { key, id: session.id })
        };
        let mut sessions: Vec<_> = hub.sessions().filter_map(stays).collect();
        fastrand::shuffle(&mut sessions);
        sessions
    }

    /// Moves these; gives back those that can't be moved yet.
    async fn move_some(&self, sessions: Vec<SessionRef>) -> Vec<SessionRef> {
        let mut later = Vec::new();
        for (count, session) in sessions.into_iter().enumerate() {
            if count % MOVES_PER_TURN == MOVES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let mut hub = self.hub.borrow_mut();
            let Some(state) = Worker::alive_mut(&mut hub, session) else {
                continue;
            };
            if state.is_busy || state.phase == Phase::Opening {
                later.push(session);
            } else {
                let after = fastrand::u64(RECONNECT_MILLIS);
                self.move_away(&mut hub, session.key, CloseReason::Moved, after);
            }
        }
        later
    }

    /// Moves all of these at once. They come back as far apart as they would have been moved.
    async fn move_now(&self, sessions: Vec<SessionRef>, over: Duration) {
        let spread = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(RECONNECT_MILLIS.end);
        for (count, session) in sessions.into_iter().enumerate() {
            if count % MOVES_PER_TURN == MOVES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let mut hub = self.hub.borrow_mut();
            if Worker::is_alive(&hub, session) {
                let after = fastrand::u64(RECONNECT_MILLIS.start..=spread);
                self.move_away(&mut hub, session.key, CloseReason::Moved, after);
            }
        }
    }

    /// Closes a session that has lasted as long as it may.
    pub(super) fn end_of_life(&self, hub: &mut Hub<Session>, key: SessionKey) {
        self.move_away(hub, key, CloseReason::Lifetime, fastrand::u64(RECONNECT_MILLIS));
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

/// How many more are to be moved by now.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "too many saturate, and that is all of them"
)]
fn due(elapsed: Duration, pace: f64, moved: usize) -> usize {
    if pace.is_infinite() {
        return usize::MAX;
    }
    ((elapsed.as_secs_f64() * pace).ceil() as usize).saturating_sub(moved)
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
    fn few_sessions_need_not_take_the_whole_time() {
        let pace = pace(10, Duration::from_secs(30));
        assert_eq!(due(Duration::from_secs(1), pace, 0), 10);
        assert_eq!(due(Duration::ZERO, super::pace(10, Duration::ZERO), 3), usize::MAX);
    }
}
