//! Log lines on what may happen thousands of times a second.

use std::time::{Duration, Instant};

/// How often such a line is logged at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// Logs the first time and then once per interval; metrics count the rest.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    logged: Option<Instant>,
}

impl Seldom {
    pub(super) fn log(&mut self, log: impl FnOnce()) {
        if self.logged.is_none_or(|logged| logged.elapsed() > INTERVAL) {
            self.logged = Some(Instant::now());
            log();
        }
    }
}
