//! What publishing came to so far.

use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::batch::Batch;
use crate::load::clock;

/// Significant digits of times.
const DIGITS: u8 = 3;
/// Longest time that is told apart, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// What publishing came to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishFigures {
    /// Messages that were to be published.
    pub added: u64,
    /// Those that the server has confirmed.
    pub confirmed: u64,
    /// Requests sent, repeats counted: POSTs, or batches of commands in one write.
    pub requests: u64,
    /// Batches that failed wholly or in part, and connections that weren't had or were lost before a batch was sent.
    pub failed_requests: u64,
    /// Messages that were sent again although they may have been published, without a key to tell.
    pub doubtful: u64,
}

/// Figures, times, and whether anything goes on.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) figures: PublishFigures,
    /// Of messages that were due then, from when they were due until they were confirmed.
    times: Histogram<u64>,
    /// See `times`.
    window: Range<u64>,
    /// When something was confirmed last, or was added while there was nothing.
    progress: Instant,
    last_failure: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            figures: PublishFigures::default(),
            times: new_times(),
            window: 0..u64::MAX,
            progress: Instant::now(),
            last_failure: None,
        }
    }

    /// A message was added, while others were outstanding or not.
    pub(super) fn add(&mut self, first: bool) {
        self.figures.added += 1;
        if first {
            self.progress = Instant::now();
        }
    }

    /// Takes what became of messages of `batch`; if they are `keyed`, none is doubtful.
    pub(super) fn take_from(&mut self, batch: &mut Batch, keyed: bool) {
        let (before, now) = (self.figures.confirmed, clock::nanos());
        for due in batch.take_confirmed() {
            self.figures.confirmed += 1;
            if self.window.contains(&due) {
                self.times.saturating_record(now.saturating_sub(due));
            }
        }
        if self.figures.confirmed > before {
            self.progress = Instant::now();
        }
        let doubtful = batch.take_doubtful();
        self.figures.doubtful += if keyed { 0 } else { doubtful };
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.figures.failed_requests += 1;
        self.last_failure = Some(reason);
    }

    /// Why something failed last.
    pub(super) fn last_failure(&self) -> &str {
        self.last_failure.as_deref().unwrap_or("none, it just didn't answer")
    }

    /// What is left of the time in which something must be confirmed.
    pub(super) fn patience_left(&self, patience: Duration, now: Instant) -> Duration {
        (self.progress + patience).saturating_duration_since(now)
    }

    /// Only messages that are due from `now` on have times.
    pub(super) fn begin_window(&mut self, now: u64) {
        self.window = now..u64::MAX;
        self.times.reset();
    }

    /// Only those that are due before `now` too, whenever they are confirmed.
    pub(super) fn end_window(&mut self, now: u64) {
        self.window.end = now;
    }

    /// Times since the last call, in nanoseconds.
    pub(super) fn take_times(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.times, new_times())
    }
}

fn new_times() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, DIGITS).expect("bounds and digits are possible ones")
}

#[cfg(test)]
mod tests {
    use super::super::batch::Message;
    use super::*;

    /// Confirms messages that were due at these times.
    fn confirm(tally: &mut Tally, dues: &[u64]) {
        let mut batch = Batch::default();
        for due in dues {
            batch.push(Message { topic: 0, sequence: 0, due: *due });
        }
        batch.confirm_all();
        tally.take_from(&mut batch, true);
    }

    #[test]
    fn what_was_due_in_the_window_has_a_time_whenever_it_is_confirmed() {
        let mut tally = Tally::new();
        confirm(&mut tally, &[50, 60]);
        tally.begin_window(100);
        confirm(&mut tally, &[90, 99, 100]);
        tally.end_window(200);
        confirm(&mut tally, &[150, 160, 199, 200, 201]);
        assert_eq!((tally.take_times().len(), tally.figures.confirmed), (4, 10));
    }
}
