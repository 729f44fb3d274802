//! Times in which a core ran nothing, though something was to be run.
//!
//! Virtual machines are stopped now and then, for up to 0.1 s, and no counter of the guest shows it. One such time
//! is enough to spoil a 99th percentile. So a thread on each core sleeps for moments and looks how late it
//! wakes. It is for scenarios that leave the cores idle mostly: beside a busy server it would wait for its turn.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::os::cores;
use crate::os::poller::timespec;
use crate::os::stop::Stop;

const NAP: Duration = Duration::from_millis(5);

/// Watches cores until it is asked.
#[derive(Debug)]
pub struct HiccupWatch {
    stop: Stop,
    watchers: Vec<JoinHandle<Duration>>,
}

impl HiccupWatch {
    /// Begins to watch `watched`.
    pub fn on(watched: impl IntoIterator<Item = usize>) -> io::Result<Self> {
        let stop = Stop::new()?;
        let mut watch = Self { stop, watchers: Vec::new() };
        for core in watched {
            let stop = watch.stop.clone();
            let thread = std::thread::Builder::new().name("hiccups".to_owned());
            watch.watchers.push(thread.spawn(move || longest_on(core, &stop))?);
        }
        Ok(watch)
    }

    /// Ends the watch; says the longest time by which any watcher woke late.
    pub fn longest(self) -> Duration {
        self.stop.raise();
        let longest = self.watchers.into_iter().map(|watcher| watcher.join().unwrap_or_default());
        longest.max().unwrap_or_default()
    }
}

fn longest_on(core: usize, stop: &Stop) -> Duration {
    let mut longest = Duration::ZERO;
    if cores::pin_to(core).is_err() {
        return longest;
    }
    loop {
        let asleep = Instant::now();
        let stopped = poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&timespec(NAP)));
        longest = longest.max(asleep.elapsed().saturating_sub(NAP));
        if stopped.is_ok_and(|ready| ready > 0) {
            return longest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_when_it_is_asked() {
        let watch = HiccupWatch::on([0]).unwrap();
        assert!(watch.longest() < Duration::from_mins(1));
        assert_eq!(HiccupWatch::on([]).unwrap().longest(), Duration::ZERO);
    }
}
