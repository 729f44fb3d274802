//! One session: its connection, if it has one, and what it has received over all of them.
//!
//! An idle one costs some 250 bytes, the list of one topic included; what is cut or unsent costs only while it is.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};

use super::subscription::Subscription;
use crate::os::poller::Poller;
use crate::os::socket::{self, Moved};
use crate::work::speech::{Spoken, Wanted};

/// How long messages of a topic may come after it was left, in nanoseconds.
const ON_ITS_WAY: u64 = 5_000_000_000;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no connection: it waits for its turn, or pauses after a failure.
    Waiting,
    /// Its connection was cut; it stays away for a while.
    Away,
    /// Its connection is begun.
    Opening,
    /// Its topics are subscribed.
    Open,
}

/// When a session was away, in nanoseconds of the clock. One that was never open has been away since 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    /// Its connection ended.
    pub(super) since: u64,
    /// It wanted to come back.
    pub(super) wanted: Option<u64>,
    /// It was open again.
    pub(super) until: u64,
}

impl Default for Away {
    fn default() -> Self {
        Self { since: 0, wanted: None, until: u64::MAX }
    }
}

/// One session.
pub(super) struct Slot {
    socket: Option<OwnedFd>,
    /// That of a connection which went silent: the server isn't told before the session is back.
    silent: Option<OwnedFd>,
    /// What the socket hasn't taken yet.
    unsent: Vec<u8>,
    pub(super) spoken: Spoken,
    /// By topic number, in rising order.
    pub(super) subscriptions: Box<[Subscription]>,
    /// Topics that it left on this connection, and when: what was on its way may still come.
    pub(super) left: Vec<(usize, u64)>,
    /// When the connection was begun.
    pub(super) begun: u64,
    /// Its last absence.
    pub(super) away: Away,
    /// How many connections have ended.
    pub(super) life: u32,
    /// Where the connection goes, by its number.
    pub(super) place: u16,
    pub(super) phase: Phase,
    /// Attempts that failed in a row.
    pub(super) failures: u8,
    /// It has been open since the first opening.
    pub(super) is_steady: bool,
    /// It reads slowly while it is open.
    pub(super) is_slow: bool,
    /// Its times tell of the server: it reads at once, and no storm takes it.
    pub(super) is_witness: bool,
}

impl Slot {
    /// A session that wants these topics, and has no connection yet.
    pub(super) fn new(topics: &[usize], is_slow: bool, is_witness: bool) -> Self {
        Self {
            socket: None,
            silent: None,
            unsent: Vec::new(),
            spoken: Spoken::default(),
            subscriptions: topics.iter().map(|at| Subscription::from_the_start(*at)).collect(),
            left: Vec::new(),
            begun: 0,
            away: Away::default(),
            life: 0,
            place: 0,
            phase: Phase::Waiting,
            failures: 0,
            is_steady: false,
            is_slow,
            is_witness,
        }
    }

    /// It has a connection from `now` on.
    pub(super) fn begin(&mut self, socket: OwnedFd, now: u64) {
        (self.socket, self.begun, self.phase) = (Some(socket), now, Phase::Opening);
    }

    /// All it wants is subscribed; returns when it wanted to come back, if it was away.
    pub(super) fn enter(&mut self, now: u64) -> Option<u64> {
        (self.phase, self.failures, self.away.until) = (Phase::Open, 0, now);
        self.silent = None;
        self.away.wanted.filter(|_| self.was_open())
    }

    /// It has been open once.
    pub(super) fn was_open(&self) -> bool {
        self.away.since > 0
    }

    /// It is no more open, as of `now`.
    pub(super) fn leave(&mut self, now: u64) {
        self.away = Away { since: now, wanted: None, until: u64::MAX };
    }

    /// It wants to come back from `now` on, if it didn't already.
    pub(super) fn want(&mut self, now: u64) {
        self.away.wanted.get_or_insert(now);
    }

    /// Says no more and reads no more, as who lost its network; the socket is closed when the session is open again.
    pub(super) fn go_silent(&mut self) {
        self.silent = self.socket.take();
        self.close(Phase::Away);
    }

    /// Drops the connection without a word.
    pub(super) fn close(&mut self, phase: Phase) {
        (self.socket, self.unsent, self.spoken) = (None, Vec::new(), Spoken::default());
        self.left = Vec::new();
        self.life = self.life.wrapping_add(1);
        self.phase = phase;
        self.is_steady = false;
    }

    /// Its connection's socket.
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// What it wants, from where it was.
    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        let each = self.subscriptions.iter();
        each.map(|of| Wanted { topic: of.topic, after: of.place() }).collect()
    }

    /// Takes another subscription for the one of `index`, which is returned, at `now`.
    pub(super) fn replace(&mut self, index: usize, by: Subscription, now: u64) -> Subscription {
        let left = std::mem::replace(&mut self.subscriptions[index], by);
        self.left.retain(|(_, at)| is_on_its_way(*at, now));
        self.left.push((left.topic, now));
        self.subscriptions.sort_unstable_by_key(|of| of.topic);
        left
    }

    /// Begins all subscriptions anew, as another session would; those so far are returned.
    pub(super) fn renew(&mut self) -> Box<[Subscription]> {
        let topics = self.subscriptions.iter().map(|of| of.topic);
        let anew = topics.map(Subscription::from_now_on).collect();
        std::mem::replace(&mut self.subscriptions, anew)
    }

    /// Sends `bytes` behind what is unsent; what the socket doesn't take is sent when `poller` tells of room.
    pub(super) fn send(&mut self, bytes: &[u8], poller: &Poller, token: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.unsent.extend_from_slice(bytes);
        self.flush(poller, token)
    }

    /// Sends what is unsent, as far as the socket takes it.
    pub(super) fn flush(&mut self, poller: &Poller, token: u64) -> Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let socket = self.socket.as_ref().context("it has no connection")?;
        match socket::send(socket, &self.unsent)? {
            Moved::Bytes(sent) if sent == self.unsent.len() => self.unsent = Vec::new(),
            Moved::Bytes(sent) => {
                self.unsent.drain(..sent);
                poller.watch_room(socket, token)?;
            }
            Moved::Later => poller.watch_room(socket, token)?,
            Moved::Ended => bail!("server closed its connection"),
        }
        Ok(())
    }
}

/// Whether messages of a topic that was left at `at` may still come at `now`.
pub(super) fn is_on_its_way(at: u64, now: u64) -> bool {
    now < at + ON_ITS_WAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_takes_little() {
        // The allocator adds 16 bytes to the list.
        let bytes = size_of::<Slot>() + size_of::<Subscription>() + 16;
        assert!(bytes < 300, "{bytes}");
    }

    #[test]
    fn a_return_is_wanted_since_the_first_attempt_whatever_becomes_of_it() {
        let mut slot = Slot::new(&[0], false, true);
        slot.want(5);
        assert_eq!(slot.enter(10), None, "it was never open before");
        slot.leave(20);
        slot.want(30);
        slot.close(Phase::Waiting);
        slot.want(40);
        assert_eq!(slot.enter(50), Some(30));
        assert_eq!(slot.away, Away { since: 20, wanted: Some(30), until: 50 });
    }

    #[test]
    fn subscriptions_stay_in_order() {
        let mut slot = Slot::new(&[1, 5, 9], false, true);
        assert_eq!(slot.replace(2, Subscription::from_now_on(3), 7).topic, 9);
        assert_eq!(slot.left, [(9, 7)]);
        let topics = |slot: &Slot| slot.wanted().iter().map(|of| of.topic).collect::<Vec<_>>();
        assert_eq!(topics(&slot), [1, 3, 5]);
        assert_eq!(slot.renew().len(), 3);
        assert_eq!(topics(&slot), [1, 3, 5]);
    }
}
