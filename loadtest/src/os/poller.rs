//! One epoll instance and the events of its last wait.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Most events that one wait returns: enough to spread the cost of the call, small enough for the cache.
const EVENTS: usize = 1024;

/// Tells which descriptors became ready.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// One descriptor's readiness.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// What it was added under.
    pub token: u64,
    flags: EventFlags,
}

impl Ready {
    /// There is something to read, or the end, or an error that reading will tell.
    #[inline]
    pub fn readable(self) -> bool {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        self.flags.intersects(flags)
    }

    /// There is room to write, or an error that writing will tell.
    #[inline]
    pub fn writable(self) -> bool {
        let flags = EventFlags::OUT | EventFlags::HUP | EventFlags::ERR;
        self.flags.intersects(flags)
    }

    /// The other side sends no more, or the connection is gone.
    #[inline]
    pub fn ended(self) -> bool {
        self.flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }
}

impl Poller {
    /// An empty poller.
    pub fn new() -> io::Result<Self> {
        let none = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: vec![none; EVENTS] })
    }

    /// Adds a connection: each arrival of bytes is told once, and its end.
    ///
    /// Edges cost the least: the kernel doesn't look again at sockets that it has told of.
    pub fn add_connection(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        self.add(socket, token, EventFlags::IN | EventFlags::RDHUP | EventFlags::ET)
    }

    /// Also tells when the connection has room again; for one whose write fell short. There is no
    /// need to end it: the kernel tells of room only after it had none.
    pub fn watch_room(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::modify(&self.epoll, socket, EventData::new_u64(token), flags)?;
        Ok(())
    }

    /// Adds a descriptor that is told as long as it is readable.
    pub fn add_level(&self, descriptor: impl AsFd, token: u64) -> io::Result<()> {
        self.add(descriptor, token, EventFlags::IN)
    }

    fn add(&self, descriptor: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        epoll::add(&self.epoll, descriptor, EventData::new_u64(token), flags)?;
        Ok(())
    }

    /// Waits until something is ready or `timeout` is over; says how many events there are.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.epoll, self.events.as_mut_slice(), timeout.as_ref()) {
            Err(Errno::INTR) => Ok(0),
            waited => Ok(waited?),
        }
    }

    /// Event `index` of the last wait.
    #[inline]
    pub fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        Ready { token: event.data.u64(), flags: event.flags }
    }
}

/// The kernel's form of a duration.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::stop::Stop;

    #[test]
    fn a_wait_without_events_ends_at_its_timeout() {
        let mut poller = Poller::new().unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn what_is_ready_is_told_under_its_token() {
        let (mut poller, stop) = (Poller::new().unwrap(), Stop::new().unwrap());
        poller.add_level(&stop, 7).unwrap();
        stop.raise();
        assert_eq!(poller.wait(None).unwrap(), 1);
        let ready = poller.ready(0);
        assert_eq!((ready.token, ready.readable(), ready.writable()), (7, true, false));
    }
}
