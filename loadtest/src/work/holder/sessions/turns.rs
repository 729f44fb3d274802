//! What time brings: returns, cuts, a storm, turns of the slow, and sessions whose turn it is to open.

use anyhow::{Context, Result, anyhow};

use super::{Sessions, Stage, Wave};
use crate::load::clock;
use crate::os::poller::Poller;
use crate::os::socket;
use crate::work::holder::pauses;
use crate::work::holder::slot::Phase;
use crate::work::holder::timers::Alarm;

/// Sessions begun, and connections closed, between two looks at the sockets: who reads meanwhile isn't to wait for
/// long.
const AT_A_TURN: usize = 8;

impl Sessions {
    /// Does what is due at `now`.
    pub(in crate::work::holder) fn work(&mut self, now: u64, poller: &Poller, buffer: &mut [u8]) {
        while let Some(timer) = self.timers.take_due(now) {
            let number = timer.session as usize;
            if self.slots[number].life == timer.life {
                self.ring(number, timer.alarm, now, poller, buffer);
            }
        }
        self.close_some();
        if self.churn.as_mut().is_some_and(|churn| churn.take(now)) {
            self.change_one(now, poller);
        }
        self.begin_some(now, poller);
    }

    /// When there is something to do next, if there is.
    pub(in crate::work::holder) fn next(&self) -> Option<u64> {
        let has_room = self.on_their_way < self.opening.sessions.concurrency;
        if self.storm.is_some() || (has_room && !self.waiting.is_empty()) {
            return Some(0);
        }
        let opens = (has_room && self.unopened < self.slots.len()).then(|| self.pace.next());
        let churn = self.churn.map(|churn| churn.next());
        [self.timers.next(), opens, churn].into_iter().flatten().min()
    }

    fn ring(&mut self, number: usize, alarm: Alarm, now: u64, poller: &Poller, buffer: &mut [u8]) {
        match (alarm, self.slots[number].phase) {
            (Alarm::Return, Phase::Waiting | Phase::Away) => {
                self.slots[number].phase = Phase::Waiting;
                self.wait_for_a_turn(number, now);
            }
            (Alarm::Cut, Phase::Open) if self.stage == Stage::Window => {
                self.count_cut(number);
                self.slots[number].go_silent();
                let away = self.opening.sessions.cut.map_or(0.0, |cut| cut.away_seconds);
                self.set(number, Alarm::Return, now + pauses::nanos(away));
            }
            (Alarm::Read, Phase::Open) => self.read_slowly(number, now, poller, buffer),
            (Alarm::GiveUp, Phase::Opening) => {
                let patience = self.opening.patience_seconds;
                self.end(number, &anyhow!("it wasn't open within {patience} s"));
            }
            _ => {}
        }
    }

    /// Closes an open session; it comes back.
    pub(super) fn cut(&mut self, number: usize) {
        self.count_cut(number);
        self.slots[number].close(Phase::Waiting);
    }

    fn count_cut(&mut self, number: usize) {
        self.state.cut += 1;
        self.state.open -= 1;
        self.slots[number].leave(clock::nanos());
    }

    /// Goes on with a storm. None comes back before all are closed.
    fn close_some(&mut self) {
        let Some(Wave { begun, next }) = self.storm else {
            return;
        };
        let steady = self.opening.sessions.storm.map_or(0, |storm| storm.steady);
        let end = self.slots.len().min(next + AT_A_TURN);
        for number in next..end {
            let closes = self.opening.first + number >= steady;
            if closes && self.slots[number].phase == Phase::Open {
                self.cut(number);
                self.wait_for_a_turn(number, begun);
            }
        }
        self.storm = (end < self.slots.len()).then_some(Wave { begun, next: end });
    }

    /// Begins sessions whose turn it is: those that come back before those that were never open.
    fn begin_some(&mut self, now: u64, poller: &Poller) {
        for _ in 0..AT_A_TURN {
            if self.storm.is_some() || self.on_their_way >= self.opening.sessions.concurrency {
                return;
            }
            let returns = self.waiting.pop_front();
            let mut opens = || self.unopened < self.slots.len() && self.pace.take(now);
            let number = match returns {
                Some(number) => number,
                None if opens() => {
                    self.unopened += 1;
                    self.unopened - 1
                }
                None => return,
            };
            self.on_their_way += 1;
            if let Err(error) = self.open(number, poller) {
                self.end(number, &error);
            }
        }
    }

    fn open(&mut self, number: usize, poller: &Poller) -> Result<()> {
        let now = clock::nanos();
        let slot = &mut self.slots[number];
        slot.phase = Phase::Opening;
        let place = (self.opening.first + number + slot.life as usize) % self.speeches.len();
        slot.place = u16::try_from(place)?;
        let address = self.opening.places[place].address;
        let socket = socket::connect(address, self.sources.take()).context("it can't connect")?;
        if slot.is_slow {
            socket::keep_buffer_small(&socket)?;
        }
        poller.add_connection(&socket, number as u64)?;
        slot.begin(socket, now);
        let mut spoken = std::mem::take(&mut slot.spoken);
        self.out.clear();
        self.speeches[place].greet(&mut spoken, &slot.wanted(), &mut self.out);
        slot.spoken = spoken;
        slot.send(&self.out, poller, number as u64)?;
        self.set(number, Alarm::GiveUp, now + pauses::nanos(self.opening.patience_seconds));
        Ok(())
    }
}
