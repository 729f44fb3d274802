//! Whether the link can be relied on, for whoever asks from another thread.

use std::sync::{Mutex, MutexGuard};

/// The state of a link as publishers and readiness see it.
#[derive(Debug)]
pub(super) struct Status {
    /// Why it can't be relied on; `None` while the last probe came back.
    trouble: Mutex<Option<String>>,
}

impl Default for Status {
    fn default() -> Self {
        Self { trouble: Mutex::new(Some("Redis is not connected yet".to_owned())) }
    }
}

impl Status {
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Sets the state; whether that is news.
    pub(super) fn set(&self, trouble: Option<String>) -> bool {
        let mut state = self.lock();
        let news = *state != trouble;
        *state = trouble;
        news
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().expect("no code that can panic runs under this lock")
    }
}
