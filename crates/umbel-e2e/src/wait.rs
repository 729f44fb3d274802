//! Waiting, always with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take in a test. Far more than it does, also on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// The result of `future`, which must come within the deadline.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let Ok(value) = timeout(DEADLINE, future).await else {
            panic!("{what} did not happen within {DEADLINE:?} ({place})");
        };
        value
    }
}

/// Waits until `condition` gives a value. The last resort, for what can't be waited on, such as a
/// metric.
#[track_caller]
pub fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{what} did not happen within {DEADLINE:?} ({place})"
            );
            sleep(INTERVAL).await;
        }
    }
}

/// Looks again and again until `look` says true; after the deadline the last value is the error.
pub(crate) async fn poll_until<T, F>(look: impl FnMut() -> F) -> Result<(), T>
where
    F: Future<Output = (T, bool)>,
{
    poll_within(DEADLINE, look).await
}

/// The same with a deadline of its own.
pub(crate) async fn poll_within<T, F>(
    deadline: Duration,
    mut look: impl FnMut() -> F,
) -> Result<(), T>
where
    F: Future<Output = (T, bool)>,
{
    let start = Instant::now();
    loop {
        let (value, done) = look().await;
        if done {
            return Ok(());
        }
        if start.elapsed() > deadline {
            return Err(value);
        }
        sleep(INTERVAL).await;
    }
}
