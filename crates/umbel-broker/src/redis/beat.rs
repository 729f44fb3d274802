//! When a link looks at its deadlines.
//!
//! Each second at least, when the next probe begins; four times as often while there is anything
//! that may be due in between. A node that has nothing to do is to cost next to nothing, and each
//! look is a timer of the runtime's, with several system calls.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How often deadlines are looked at while there are any.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// How often a probe begins.
const SECOND: Duration = Duration::from_secs(1);

/// The ticks of a link.
#[derive(Debug)]
pub(super) struct Beat {
    next: Pin<Box<Sleep>>,
    /// When the next full second begins.
    second: Instant,
}

impl Beat {
    /// The first tick comes at once, and is a full second's.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { next: Box::pin(sleep_until(now)), second: now }
    }

    /// Waits for the next tick. [`Beat::rest`] must follow, or there is another at once.
    ///
    /// Cancel safe.
    pub(super) async fn tick(&mut self) -> Instant {
        self.next.as_mut().await;
        Instant::now()
    }

    /// Whether a second has passed since this was so last.
    pub(super) fn is_full_second(&mut self, now: Instant) -> bool {
        let is_full = now >= self.second;
        if is_full {
            self.second = now + SECOND;
        }
        is_full
    }

    /// Nothing is to be looked at for a while: until the next second, or not for so long.
    pub(super) fn rest(&mut self, now: Instant, looks_again: bool) {
        let next = if looks_again { self.second.min(now + TICK) } else { self.second };
        self.next.as_mut().reset(next);
    }

    /// There is something to be looked at soon.
    pub(super) fn hurry(&mut self) {
        let soon = Instant::now() + TICK;
        if self.next.deadline() > soon {
            self.next.as_mut().reset(soon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the next tick comes, in milliseconds from `start`, and whether a second is full.
    async fn next(beat: &mut Beat, start: Instant, looks_again: bool) -> (u128, bool) {
        let now = beat.tick().await;
        let is_full = beat.is_full_second(now);
        beat.rest(now, looks_again);
        ((now - start).as_millis(), is_full)
    }

    #[tokio::test(start_paused = true)]
    async fn it_ticks_each_second_and_oftener_only_while_asked_to() {
        let start = Instant::now();
        let mut beat = Beat::start();
        assert_eq!(next(&mut beat, start, false).await, (0, true));
        assert_eq!(next(&mut beat, start, true).await, (1000, true));
        assert_eq!(next(&mut beat, start, true).await, (1250, false));
        assert_eq!(next(&mut beat, start, false).await, (1500, false));
        assert_eq!(next(&mut beat, start, false).await, (2000, true));
        beat.hurry();
        assert_eq!(next(&mut beat, start, false).await, (2250, false));
        tokio::time::sleep(Duration::from_millis(700)).await;
        beat.hurry();
        assert_eq!(next(&mut beat, start, false).await, (3000, true), "it isn't put off");
    }
}
