//! What fails meanwhile, by the clock of the window.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::servers::Servers;
use crate::work::file::{Fault, What};

/// Faults that are to come, or under way.
#[derive(Debug)]
pub struct Faults {
    /// By time.
    steps: VecDeque<Step>,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    at: Duration,
    what: What,
    /// It comes back, and doesn't fail.
    back: bool,
}

impl Faults {
    /// Those of a file; a server that was asked to end has the patience to do so.
    pub fn new(faults: &[Fault], patience: Duration) -> Self {
        let both = |fault: &Fault| {
            let at = Duration::from_secs_f64(fault.at_seconds);
            let back = at + Duration::from_secs_f64(fault.away_seconds);
            let step = |at, back| Step { at, what: fault.what, back };
            [step(at, false), step(back, true)]
        };
        let mut steps: Vec<Step> = faults.iter().flat_map(both).collect();
        steps.sort_by_key(|step| step.at);
        Self { steps: steps.into(), patience }
    }

    /// Nothing is to come or under way.
    pub fn are_over(&self) -> bool {
        self.steps.is_empty()
    }

    /// When the next step is due.
    pub fn due(&self) -> Option<Duration> {
        self.steps.front().map(|step| step.at)
    }

    /// Does what is due at `now`; what waits for something is tried again at the next call.
    pub fn turn(&mut self, now: Duration, servers: &mut Servers) -> Result<()> {
        while let Some(step) = self.steps.front().filter(|step| step.at <= now) {
            if !step.back {
                servers.fail(step.what)?;
            } else if !servers.restore(step.what)? {
                let waited = now.saturating_sub(step.at);
                ensure!(
                    waited < self.patience,
                    "a node was asked to end, and hasn't within {waited:?}"
                );
                break;
            }
            self.steps.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_the_order_of_their_times() {
        let fault = |what, at_seconds, away_seconds| Fault { what, at_seconds, away_seconds };
        let faults = Faults::new(
            &[fault(What::KillNode, 5.0, 0.0), fault(What::PauseRedis, 1.0, 2.5)],
            Duration::ZERO,
        );
        let steps: Vec<_> =
            faults.steps.iter().map(|step| (step.at.as_millis(), step.what, step.back)).collect();
        let expected = [
            (1000, What::PauseRedis, false),
            (3500, What::PauseRedis, true),
            (5000, What::KillNode, false),
            (5000, What::KillNode, true),
        ];
        assert_eq!(steps, expected);
        assert_eq!(faults.due(), Some(Duration::from_secs(1)));
    }
}
