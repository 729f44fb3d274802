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
    back: bool,
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
            back: false,
        }
    }

    /// Whether all are back that weren't at the last look.
    pub fn is_news(&self, state: &State) -> bool {
        !self.back && state.opened >= self.wanted && state.open >= self.sessions
    }

    /// All are back.
    pub fn end(&mut self, state: &State, reading: &Reading) {
        self.back = true;
        self.us_per_connect = reading.since(&self.begin).us_per(state.opened - self.before);
    }

    /// Whether all are back.
    pub fn is_over(&self) -> bool {
        self.back
    }

    /// What each connect cost.
    pub fn us_per_connect(&self) -> Option<f64> {
        self.us_per_connect
    }
}
