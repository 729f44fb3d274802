//! All but some sessions come back at once: until when, and what that cost the servers.

use super::meter::Reading;
use super::plan::Plan;
use crate::work::orders::State;

/// A storm that has begun.
#[derive(Debug)]
pub struct Storm {
    begin: Reading,
    /// Connects at which all are back.
    wanted: u64,
    before: u64,
    sessions: u64,
    us_per_connect: Option<f64>,
    /// After how long all were back.
    back_seconds: Option<f64>,
}

impl Storm {
    /// It begins now, with sessions in this `state`.
    pub fn begin(plan: &Plan, steady: usize, state: &State, reading: Reading) -> Self {
        let sessions = plan.work.sessions.count;
        Self {
            begin: reading,
            wanted: state.opened + (sessions - steady) as u64,
            before: state.opened,
            sessions: sessions as u64,
            us_per_connect: None,
            back_seconds: None,
        }
    }

    /// Whether all are back that weren't at the last look.
    pub fn is_news(&self, state: &State) -> bool {
        self.back_seconds.is_none() && state.opened >= self.wanted && state.open >= self.sessions
    }

    /// All are back.
    pub fn end(&mut self, state: &State, reading: &Reading) {
        let spent = reading.since(&self.begin);
        self.back_seconds = Some(spent.wall);
        self.us_per_connect = spent.us_per(state.opened - self.before);
    }

    /// From its begin until all were back, in seconds: holders tell how they are four times a second. `None`: they
    /// aren't yet.
    pub fn back_seconds(&self) -> Option<f64> {
        self.back_seconds
    }

    /// What each connect cost.
    pub fn us_per_connect(&self) -> Option<f64> {
        self.us_per_connect
    }
}
