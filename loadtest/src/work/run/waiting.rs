//! Waiting for all holders, with an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::work::orders::State;

/// Waits for an answer of each holder, as long as sessions come on.
#[derive(Debug)]
pub struct Waiting {
    missing: Vec<bool>,
    last: State,
    changed: Instant,
    patience: Duration,
}

impl Waiting {
    /// Of `count` holders; nothing may stay as it is for longer than `patience`.
    pub fn new(count: usize, patience: Duration) -> Self {
        let (last, changed) = (State::default(), Instant::now());
        Self { missing: vec![true; count], last, changed, patience }
    }

    /// All have answered.
    pub fn is_over(&self) -> bool {
        !self.missing.contains(&true)
    }

    /// This one has answered.
    pub fn answered(&mut self, holder: usize) {
        self.missing[holder] = false;
    }

    /// Looks whether sessions have come on: attempts that fail are no progress.
    pub fn look(&mut self, state: &State) -> Result<()> {
        let counts = |state: &State| (state.open, state.opened, state.received);
        if counts(state) != counts(&self.last) {
            self.last = state.clone();
            self.changed = Instant::now();
        } else if self.changed.elapsed() > self.patience && !self.is_over() {
            bail!("nothing has changed for {:?}", self.patience);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_goes_on_while_sessions_come_on_and_until_all_have_answered() {
        let mut waiting = Waiting::new(2, Duration::ZERO);
        for received in 1..4 {
            waiting.look(&State { received, ..State::default() }).unwrap();
        }
        let stuck = State { received: 3, refused: 9, ..State::default() };
        assert!(waiting.look(&stuck).is_err());
        waiting.answered(1);
        waiting.answered(0);
        assert!(waiting.is_over() && waiting.look(&stuck).is_ok());
    }
}
