//! Where lines wait for the thread that writes them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much may wait, in bytes: some thousand lines. What comes beyond it is dropped.
pub(super) const CAPACITY: usize = 1 << 20;

/// A buffer that grew beyond this is given back.
const KEEP: usize = 64 << 10;

/// A bounded buffer of lines. To leave a line there takes a lock that nobody holds for longer than
/// it takes to copy a line.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    /// There is something to write, or the log ends.
    comes: Condvar,
    /// The writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The buffer that isn't in use.
    spare: Vec<u8>,
    is_closing: bool,
    has_ended: bool,
}

impl Pipe {
    /// Leaves a line; whether there was room.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > CAPACITY {
            return false;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.comes.notify_one();
        true
    }

    /// Waits for lines, perhaps for a while at most, and takes all there are; whether these are the
    /// last.
    pub(super) fn take(&self, patience: Option<Duration>) -> (Vec<u8>, bool) {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closing;
        let state = self.lock();
        let mut state = match patience {
            Some(patience) => {
                let waited = self.comes.wait_timeout_while(state, patience, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.comes.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
        };
        let spare = std::mem::take(&mut state.spare);
        (std::mem::replace(&mut state.waiting, spare), state.is_closing)
    }

    /// What was taken is written; its buffer is for the next lines.
    pub(super) fn wrote(&self, mut batch: Vec<u8>, is_last: bool) {
        batch.clear();
        batch.shrink_to(KEEP);
        let mut state = self.lock();
        state.spare = batch;
        state.has_ended = is_last;
        self.ended.notify_all();
    }

    /// Ends the log, and waits for a while until everything is written.
    pub(super) fn close(&self, deadline: Duration) {
        self.end();
        let writes = |state: &mut State| !state.has_ended;
        // What isn't written by then is lost: nobody reads it.
        drop(self.ended.wait_timeout_while(self.lock(), deadline, writes));
    }

    /// Has the writer end behind what was logged.
    pub(super) fn end(&self) {
        self.lock().is_closing = true;
        self.comes.notify_one();
    }

    /// What panicked meanwhile left whole lines.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
