//! Who is let in: how many sessions there are, in all and of one address, and how fast connections
//! may come.
//!
//! One for all workers. Nothing here is on the way of a message: it is asked when a connection
//! comes and when a session begins or ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Limits;

/// What the node lets in.
#[derive(Debug)]
pub(crate) struct Admission {
    sessions: AtomicUsize,
    max_sessions: usize,
    /// Sessions by address; empty unless they are limited.
    addresses: Mutex<HashMap<AddressKey, usize>>,
    max_per_address: usize,
    farewells: AtomicUsize,
    /// Whether the node is about to leave.
    closed: AtomicBool,
    accepts: Pacer,
}

/// Why a session isn't let in. All of these pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The node has as many sessions as it may.
    Sessions,
    /// The client's address has.
    Address,
    /// The node is short of memory.
    Memory,
    /// The node leaves.
    Draining,
}

/// The place of one session. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    admission: Arc<Admission>,
    kind: SeatKind,
}

#[derive(Debug, Clone, Copy)]
enum SeatKind {
    Session,
    /// And one of its address.
    Counted(AddressKey),
    Farewell,
}

/// An address as sessions are counted by it: IPv4 as it is, of IPv6 the first half, since a /64 is
/// what one customer has. No address of IPv6 in use begins as an IPv4 one looks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AddressKey(u64);

/// How many clients at a time are let in only to be told with a close code why they can't stay.
/// Beyond that they get the bare status.
const MAX_FAREWELLS: usize = 1000;

impl Admission {
    /// `max_descriptors` is what the process may have: without one, a session can't be told no.
    pub(crate) fn new(limits: &Limits, max_descriptors: usize) -> Self {
        Self {
            sessions: AtomicUsize::new(0),
            max_sessions: limits.sessions.min(sessions_within(max_descriptors)),
            addresses: Mutex::default(),
            max_per_address: limits.sessions_per_address,
            farewells: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            accepts: Pacer::new(limits.accepts_per_second),
        }
    }

    /// How many sessions there may be.
    pub(crate) fn max_sessions(&self) -> usize {
        self.max_sessions
    }

    /// A place for a session of a client at `address`.
    pub(crate) fn seat(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Refusal> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        if !take_below(&self.sessions, self.max_sessions) {
            return Err(Refusal::Sessions);
        }
        // From here on it is given back.
        let mut seat = Seat { admission: self.clone(), kind: SeatKind::Session };
        if self.max_per_address != usize::MAX {
            let key = AddressKey::of(address);
            let mut addresses = self.addresses();
            let count = addresses.entry(key).or_default();
            if *count >= self.max_per_address {
                return Err(Refusal::Address);
            }
            *count += 1;
            seat.kind = SeatKind::Counted(key);
        }
        Ok(seat)
    }

    /// A place for a client that is to be told why it can't stay; `None` if too many are.
    pub(crate) fn farewell(self: &Arc<Self>) -> Option<Seat> {
        let has_room = take_below(&self.farewells, MAX_FAREWELLS);
        has_room.then(|| Seat { admission: self.clone(), kind: SeatKind::Farewell })
    }

    /// No session is let in from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// A connection was accepted, `now` in microseconds: how long no further one shall be.
    pub(crate) fn accepted(&self, now: u64) -> Duration {
        self.accepts.step(now)
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<AddressKey, usize>> {
        // Each change is one step, so a panic leaves nothing half done.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let admission = &self.admission;
        if let SeatKind::Farewell = self.kind {
            admission.farewells.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        admission.sessions.fetch_sub(1, Ordering::Relaxed);
        if let SeatKind::Counted(key) = self.kind {
            let mut addresses = admission.addresses();
            if let Some(count) = addresses.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&key);
                }
            }
        }
    }
}

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => {
                u64::try_from(address.to_bits() >> 64).expect("the upper half has 64 bits")
            }
        })
    }
}

/// Takes one if there are fewer than `limit`.
fn take_below(count: &AtomicUsize, limit: usize) -> bool {
    let more = |count| (count < limit).then(|| count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// How many sessions leave descriptors for the rest: connections that are none yet, the broker,
/// operators, files.
fn sessions_within(max_descriptors: usize) -> usize {
    max_descriptors.saturating_sub(64 + max_descriptors / 16).max(1)
}

/// Spaces steps evenly over all threads that take them.
///
/// It keeps the time at which the next step would be due if all came evenly. Who is ahead of it
/// waits; how long a wait lasts beyond its end doesn't lower the rate, up to [`SLACK_MICROS`].
#[derive(Debug)]
struct Pacer {
    interval_nanos: u64,
    /// In nanoseconds.
    next: AtomicU64,
}

/// How far ahead of their time steps may be: timers and busy threads are late by some
/// milliseconds. It is also what a burst may be more than the rate: 2 % of a second's.
const SLACK_MICROS: u64 = 20_000;

impl Pacer {
    /// `u32::MAX` a second is as many as there are.
    fn new(per_second: u32) -> Self {
        let interval_nanos = match per_second {
            u32::MAX => 0,
            _ => 1_000_000_000 / u64::from(per_second),
        };
        Self { interval_nanos, next: AtomicU64::new(0) }
    }

    /// A step was taken; how long the next one has to wait.
    fn step(&self, now_micros: u64) -> Duration {
        if self.interval_nanos == 0 {
            return Duration::ZERO;
        }
        let now = now_micros * 1000;
        let due = |next: u64| Some(next.max(now) + self.interval_nanos);
        let before = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due);
        let next = before.unwrap_or_default().max(now) + self.interval_nanos;
        let slack = (SLACK_MICROS * 1000).max(self.interval_nanos);
        Duration::from_nanos((next - now).saturating_sub(slack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use std::net::Ipv4Addr;

    fn admission(sessions: usize, per_address: usize) -> Arc<Admission> {
        let limits =
            Limits { sessions, sessions_per_address: per_address, ..Settings::default().limits };
        Arc::new(Admission::new(&limits, 1 << 20))
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seat_that_is_given_back_is_free_again() {
        let admission = admission(2, usize::MAX);
        let first = admission.seat(at("10.0.0.1")).unwrap();
        let _second = admission.seat(at("10.0.0.1")).unwrap();
        assert_eq!(admission.seat(at("10.0.0.2")).unwrap_err(), Refusal::Sessions);
        drop(first);
        assert!(admission.seat(at("10.0.0.2")).is_ok());
    }

    #[test]
    fn addresses_are_counted_apart_and_ipv6_by_its_first_half() {
        let admission = admission(100, 1);
        for (address, outcome) in [
            ("10.0.0.1", Ok(())),
            ("10.0.0.1", Err(Refusal::Address)),
            ("::ffff:10.0.0.1", Err(Refusal::Address)),
            ("10.0.0.2", Ok(())),
            ("2001:db8:0:1::1", Ok(())),
            ("2001:db8:0:1:ffff::2", Err(Refusal::Address)),
            ("2001:db8:0:2::1", Ok(())),
        ] {
            let seat = admission.seat(at(address));
            assert_eq!(seat.as_ref().map(drop).map_err(|refusal| *refusal), outcome, "{address}");
            std::mem::forget(seat);
        }
        assert_eq!(admission.sessions.load(Ordering::Relaxed), 4, "refused ones took no seat");
    }

    #[test]
    fn nothing_is_kept_of_addresses_that_are_gone() {
        let admission = admission(100, 2);
        let seats: Vec<_> =
            (0..50).map(|n| admission.seat(Ipv4Addr::from_bits(n).into()).unwrap()).collect();
        assert_eq!(admission.addresses().len(), 50);
        drop(seats);
        assert!(admission.addresses().is_empty());
    }

    #[test]
    fn a_node_that_leaves_lets_nobody_in() {
        let admission = admission(100, usize::MAX);
        admission.close();
        assert_eq!(admission.seat(at("10.0.0.1")).unwrap_err(), Refusal::Draining);
        assert!(admission.farewell().is_some(), "but says why");
    }

    #[test]
    fn sessions_leave_descriptors_for_the_rest() {
        let limits = Settings::default().limits;
        assert_eq!(Admission::new(&limits, 20_000).max_sessions(), 18_686);
        assert_eq!(Admission::new(&limits, 1 << 20).max_sessions(), limits.sessions);
        assert_eq!(Admission::new(&limits, 10).max_sessions(), 1);
    }

    /// How many steps threads take in a while, if each waits as it is told and `late` more.
    fn steps(per_second: u32, seconds: u64, threads: usize, late: u64) -> u64 {
        let pacer = Pacer::new(per_second);
        let mut due = vec![0; threads];
        let mut count = 0;
        loop {
            let next = due.iter_mut().min().expect("there are threads");
            let now = *next;
            if now > seconds * 1_000_000 {
                return count;
            }
            let wait = u64::try_from(pacer.step(now).as_micros()).unwrap();
            // Taking a step takes a moment too.
            *next = now + 5 + if wait > 0 { wait + late } else { 0 };
            count += 1;
        }
    }

    #[test]
    fn the_rate_holds_however_many_threads_share_it_and_however_late_they_are() {
        for (rate, threads, late) in
            [(500, 1, 0), (500, 2, 1000), (5000, 1, 2000), (5000, 8, 10_000), (20_000, 4, 5000)]
        {
            let taken = steps(rate, 10, threads, late);
            let expected = u64::from(rate) * 10;
            assert!(
                taken.abs_diff(expected) <= expected / 50,
                "{taken} of {expected} by {threads} threads, {late} late"
            );
        }
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let pacer = Pacer::new(u32::MAX);
        assert!((0..1000).all(|_| pacer.step(0).is_zero()));
    }
}
