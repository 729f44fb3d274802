//! The beat of a worker: a timer of the kernel's that goes on by itself.
//!
//! One of the runtime's costs a worker that is idle five system calls and two wake-ups for each
//! tick: far deadlines are first put off to nearer ones, and each new deadline wakes the event loop
//! that has just been woken. This one costs a wake-up and a read. All a node does most of the time
//! is tick.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// Ticks at even intervals. None is left out: after a stall they come at once, and others get their turn
/// between any two.
#[derive(Debug)]
pub(super) struct Metronome {
    /// Read like a pipe: what the runtime has for other descriptors needs unsafe code.
    timer: pipe::Receiver,
    period: Duration,
    /// When the next tick is due.
    next: Instant,
    /// Ticks that are due already.
    owed: u64,
}

/// What the kernel gives: how often the timer has expired since the last read. There is room for
/// more, so that the runtime sees that there isn't more, and doesn't try.
const COUNT_BYTES: usize = size_of::<u64>();

impl Metronome {
    /// The first tick comes at once. It needs a runtime.
    pub(super) fn start(period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let every = Timespec::try_from(period).map_err(io::Error::other)?;
        let next = Instant::now();
        let beats = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &beats)?;
        Ok(Self { timer: pipe::Receiver::from_owned_fd_unchecked(timer)?, period, next, owed: 1 })
    }

    /// Waits for the next tick, and gives when it was due.
    ///
    /// Cancel safe: a tick that isn't given stays owed.
    pub(super) async fn tick(&mut self) -> io::Result<Instant> {
        if self.owed > 0 {
            tokio::task::yield_now().await;
        }
        while self.owed == 0 {
            let mut expired = [0; 2 * COUNT_BYTES];
            let read = self.timer.read(&mut expired).await?;
            if let Some(count) = expired[..read].first_chunk() {
                self.owed = u64::from_ne_bytes(*count);
            }
        }
        self.owed -= 1;
        let due = self.next;
        self.next += self.period;
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn ticks_come_at_even_intervals_and_none_is_left_out() {
        let start = Instant::now();
        let mut metronome = Metronome::start(PERIOD).unwrap();
        let first = metronome.tick().await.unwrap();
        assert!(first >= start && Instant::now() >= first);
        assert_eq!(metronome.tick().await.unwrap(), first + PERIOD);
        assert!(Instant::now() >= first + PERIOD, "it is waited for");
        // A stall.
        tokio::time::sleep(PERIOD * 5).await;
        for late in 2..7 {
            let due = tokio::time::timeout(PERIOD / 4, metronome.tick()).await;
            assert_eq!(due.expect("it is due already").unwrap(), first + PERIOD * late);
        }
    }

    #[tokio::test]
    async fn others_get_their_turn_between_ticks_that_are_late() {
        let mut metronome = Metronome::start(PERIOD).unwrap();
        metronome.owed = 4;
        for late in 0..4 {
            let mut tick = pin!(metronome.tick());
            let mut context = Context::from_waker(Waker::noop());
            assert!(tick.as_mut().poll(&mut context).is_pending(), "tick {late}");
            assert!(tick.as_mut().poll(&mut context).is_ready(), "tick {late}");
        }
    }
}
