//! How often one place in the code may log.
//!
//! A general guard instead of care at each call: whatever a client does, one `warn!` gives so many
//! lines in a while, and then one that says how many more there were. Metrics count the rest.
//! `debug` and `trace` have no quota: who switches them on wants all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};

use super::format;

/// How many lines a place may log in one [`WINDOW`].
pub(super) const LINES: u32 = 10;

/// Counted from a place's first line.
const WINDOW: Duration = Duration::from_secs(10);

/// What each place has logged lately: as many as there are in the program, at most.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<Identifier, Quota>>);

#[derive(Debug)]
struct Quota {
    metadata: &'static Metadata<'static>,
    since: Instant,
    lines: u32,
    /// What wasn't logged and not told of so far.
    suppressed: u64,
    /// The message of the first of these.
    like: String,
    /// Whether some of these are of an earlier window.
    is_owed: bool,
}

/// What a place wanted to log beyond its quota.
#[derive(Debug)]
pub(super) struct Suppressed {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) count: u64,
    pub(super) like: String,
}

impl Quotas {
    /// Whether an event is within its place's quota.
    pub(super) fn allows(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut quotas = self.lock();
        let quota = quotas.entry(metadata.callsite()).or_insert_with(|| Quota::new(metadata, now));
        if quota.is_over(now) {
            (quota.since, quota.lines) = (now, 0);
            quota.is_owed = quota.suppressed > 0;
        }
        if quota.lines < LINES {
            quota.lines += 1;
            return true;
        }
        if quota.suppressed == 0 {
            quota.like = format::message(event);
        }
        quota.suppressed += 1;
        false
    }

    /// What was suppressed in windows that are over, or in all if these are the last lines. Places
    /// that are quiet again are forgotten.
    pub(super) fn sweep(&self, now: Instant, is_last: bool) -> Vec<Suppressed> {
        let mut told = Vec::new();
        self.lock().retain(|_, quota| {
            let is_over = is_last || quota.is_over(now);
            if quota.suppressed > 0 && (is_over || quota.is_owed) {
                let like = std::mem::take(&mut quota.like);
                let count = std::mem::take(&mut quota.suppressed);
                quota.is_owed = false;
                told.push(Suppressed { metadata: quota.metadata, count, like });
            }
            !is_over
        });
        told
    }

    /// Whether no place has logged lately. The first line of a place is within its quota.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Quota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota {
    fn new(metadata: &'static Metadata<'static>, now: Instant) -> Self {
        Self { metadata, since: now, lines: 0, suppressed: 0, like: String::new(), is_owed: false }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}
