//! Changing what is logged while the node runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use super::LogFilter;

/// What of the log can be changed.
#[derive(Debug)]
pub(crate) struct Control {
    handle: Handle<EnvFilter, Registry>,
    state: Mutex<InForce>,
    /// Another filter was set.
    changed: Notify,
}

/// Which filter holds, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) filter: LogFilter,
    /// What holds again afterwards, and when.
    pub(crate) then: Option<(LogFilter, Instant)>,
}

impl Control {
    pub(super) fn new(handle: Handle<EnvFilter, Registry>, filter: LogFilter) -> Self {
        Self { handle, state: Mutex::new(InForce { filter, then: None }), changed: Notify::new() }
    }

    /// Which filter holds now.
    pub(crate) fn in_force(&self) -> InForce {
        self.lock().clone()
    }

    /// Sets the filter: for a span, after which the one comes back that was to stay, or to stay.
    pub(crate) fn set(&self, filter: LogFilter, span: Option<Duration>) -> InForce {
        let mut state = self.lock();
        let stays = match state.then.take() {
            Some((stays, _)) => stays,
            None => state.filter.clone(),
        };
        state.then = span.map(|span| (stays, Instant::now() + span));
        state.filter = filter;
        self.changed.notify_one();
        self.enforce(&state, || {
            tracing::info!(
                filter = state.filter.as_str(),
                seconds = span.map(|span| span.as_secs()),
                "Log filter set by the admin listener"
            );
        });
        state.clone()
    }

    /// Goes back to the filter that was to stay whenever it is time. Never returns. One may do it
    /// at a time.
    ///
    /// Cancel safe: what is due is looked up anew.
    pub(crate) async fn revert_in_time(&self) {
        loop {
            // A copy: the lock isn't held while it waits.
            let due = self.lock().then.as_ref().map(|(_, at)| *at);
            let passed = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => self.revert_if_due(),
                () = self.changed.notified() => {}
            }
        }
    }

    /// Goes back to the filter that was to stay, if it is time.
    fn revert_if_due(&self) {
        let mut state = self.lock();
        let is_due = state.then.as_ref().is_some_and(|(_, at)| *at <= Instant::now());
        if is_due && let Some((filter, _)) = state.then.take() {
            state.filter = filter;
            self.enforce(&state, || {
                tracing::info!(filter = state.filter.as_str(), "Log filter is back");
            });
        }
    }

    /// Has the filter hold. What tells of it does so before, or after if the filter that held lets
    /// nothing be told: also one that silences the log leaves a trace.
    fn enforce(&self, state: &InForce, tell: impl Fn()) {
        let is_heard = tracing::enabled!(tracing::Level::INFO);
        if is_heard {
            tell();
        }
        self.handle.reload(state.filter.build()).expect("the log lives as long as the process");
        if !is_heard {
            tell();
        }
    }

    fn lock(&self) -> MutexGuard<'_, InForce> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::reload;

    fn filter(text: &str) -> LogFilter {
        LogFilter::parse(text).unwrap()
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_filter_that_is_set_meanwhile() {
        let (_layer, handle) = reload::Layer::<_, Registry>::new(filter("info").build());
        let control = Control::new(handle, filter("info"));
        let sets = async {
            // Now it is waited for nothing, and then for an hour.
            tokio::task::yield_now().await;
            control.set(filter("trace"), Some(Duration::from_hours(1)));
            tokio::task::yield_now().await;
            control.set(filter("debug"), Some(Duration::from_millis(10)));
            while control.in_force().then.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let deadline = Duration::from_secs(10);
        tokio::select! {
            () = control.revert_in_time() => unreachable!("it never returns"),
            within = tokio::time::timeout(deadline, sets) => within.expect("it comes back"),
        }
        assert_eq!(control.in_force().filter, filter("info"));
    }

    #[test]
    fn after_a_while_the_filter_that_was_to_stay_comes_back() {
        let (_layer, handle) = reload::Layer::<_, Registry>::new(filter("info").build());
        let control = Control::new(handle, filter("info"));
        control.set(filter("debug"), Some(Duration::from_hours(1)));
        control.revert_if_due();
        assert_eq!(control.in_force().filter, filter("debug"));
        // Another one meanwhile: not that one comes back.
        control.set(filter("trace"), Some(Duration::ZERO));
        control.revert_if_due();
        assert_eq!(control.in_force().filter, filter("info"));
        control.set(filter("debug"), Some(Duration::ZERO));
        control.set(filter("warn"), None);
        control.revert_if_due();
        assert_eq!(control.in_force().filter, filter("warn"));
    }
}
