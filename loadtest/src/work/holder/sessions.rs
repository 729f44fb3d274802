//! The sessions of one holder: opened at a pace, cut, changed, and brought back, whatever becomes of them.
//!
//! That a session is refused or lost is an observation here, not an error.

mod churn;
mod sockets;
mod turns;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use super::dues::Dues;
use super::hearing::Hearing;
use super::pauses::{self, Budget};
use super::rate::Rate;
use super::slot::{Phase, Slot};
use super::timers::{Alarm, Timer, Timers};
use crate::fleet::orders::count_reason;
use crate::load::clock;
use crate::load::ledger::Integrity;
use crate::os::source_addresses::SourceAddresses;
use crate::wire::payload::Template;
use crate::work::file::Churn;
use crate::work::orders::{Opening, Report, State};
use crate::work::script::Script;
use crate::work::shape::{Shape, Spread};
use crate::work::speech::Speech;

/// What is to be done beside listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Open all.
    Opening,
    /// Cut and change.
    Window,
    /// Bring back who is away.
    Ending,
}

/// A storm that is closing sessions.
#[derive(Debug, Clone, Copy)]
struct Wave {
    /// When it was ordered.
    begun: u64,
    /// It closes from this number on.
    next: usize,
}

/// Sessions by their number, counted from the holder's first.
pub(super) struct Sessions {
    opening: Opening,
    spread: Spread,
    /// By place.
    speeches: Vec<Speech>,
    sources: SourceAddresses,
    slots: Vec<Slot>,
    stage: Stage,
    /// The pace of the first opening, and the number of the next session of it.
    pace: Rate,
    unopened: usize,
    /// Those that come back, in the order of their turn.
    waiting: VecDeque<usize>,
    on_their_way: usize,
    churn: Option<Rate>,
    budget: Option<Budget>,
    storm: Option<Wave>,
    timers: Timers,
    hearing: Hearing,
    state: State,
    most_open: u64,
    random: Rng,
    out: Vec<u8>,
}

impl Sessions {
    /// None is begun yet.
    pub(super) fn new(opening: Opening) -> Result<Self> {
        let sessions = &opening.sessions;
        let template = Template::new(opening.payload_bytes).context("the payload is too small")?;
        let script = opening.script.as_deref().map(Script::parse).transpose()?;
        let first = opening.places.first().context("there is no place to connect to")?;
        ensure!(u16::try_from(opening.places.len()).is_ok(), "there are too many places");
        let speech = |place| {
            Speech::new(sessions.transport, place, script.as_ref(), &template, sessions.resume)
        };
        let spread = opening.topics.shape.over(sessions.count, opening.topics.per_session);
        let slot = |number: usize| {
            let is_slow = sessions.slow.is_some_and(|slow| pauses::is_slow(slow, number));
            let stays = sessions.storm.is_none_or(|storm| number < storm.steady);
            Slot::new(&spread.topics_of(number), is_slow, stays && !is_slow)
        };
        let slots = (opening.first..opening.first + opening.count).map(slot).collect();
        let now = clock::nanos();
        let changes = sessions.churn.is_some();
        let has_one_topic = opening.topics.shape == Shape::One && opening.topics.per_session == 1;
        Ok(Self {
            speeches: opening.places.iter().map(speech).collect::<Result<_>>()?,
            sources: SourceAddresses::beginning_at(first.address, opening.first_source),
            slots,
            stage: Stage::Opening,
            pace: Rate::new(share(sessions.open_per_second, &opening), now),
            unopened: 0,
            waiting: VecDeque::new(),
            on_their_way: 0,
            churn: None,
            budget: sessions.slow.map(Budget::of),
            storm: None,
            timers: Timers::default(),
            hearing: Hearing::new(template, sessions.resume, has_one_topic, changes)?,
            state: State::default(),
            most_open: 0,
            random: Rng::with_seed(opening.first as u64),
            out: Vec::new(),
            spread,
            opening,
        })
    }

    /// How they are.
    pub(super) fn state(&mut self) -> &State {
        self.state.received = self.hearing.sums.received;
        &self.state
    }

    /// Messages received since the start, doubles left out.
    pub(super) fn received(&self) -> u64 {
        self.hearing.sums.received
    }

    /// As many as have ever been open at a time.
    pub(super) fn most_open(&self) -> u64 {
        self.most_open
    }

    /// Time without progress after which something is given up.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_nanos(pauses::nanos(self.opening.patience_seconds))
    }

    fn dues(&self) -> &Dues {
        &self.hearing.dues
    }

    /// All are open.
    pub(super) fn are_open(&self) -> bool {
        self.state.open == self.slots.len() as u64
    }
}

/// This holder's share of a rate that is for all.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(per_second: f64, opening: &Opening) -> f64 {
    per_second / opening.holders.max(1) as f64
}

/// What orders say.
impl Sessions {
    /// The window begins.
    pub(super) fn begin(&mut self) {
        let now = clock::nanos();
        self.stage = Stage::Window;
        self.hearing.notes.begin(now);
        let rate = |churn: Churn| Rate::new(share(churn.per_second, &self.opening), now);
        self.churn = self.opening.sessions.churn.filter(|it| it.per_second > 0.0).map(rate);
        let Some(cut) = self.opening.sessions.cut else {
            return;
        };
        for number in 0..self.slots.len() {
            if self.slots[number].phase == Phase::Open {
                let pause = pauses::before_first_cut(cut, &mut self.random);
                self.set(number, Alarm::Cut, now + pause);
            }
        }
    }

    /// All but the steady ones are closed, and come back.
    pub(super) fn storm(&mut self) {
        self.storm = Some(Wave { begun: clock::nanos(), next: 0 });
    }

    /// The window is over.
    pub(super) fn finish(&mut self) {
        let now = clock::nanos();
        self.stage = Stage::Ending;
        self.hearing.notes.end(now);
        self.churn = None;
        for number in 0..self.slots.len() {
            match self.slots[number].phase {
                Phase::Away => {
                    self.slots[number].close(Phase::Waiting);
                    self.wait_for_a_turn(number, now);
                }
                Phase::Open if self.slots[number].is_slow => self.set(number, Alarm::Read, now),
                _ => {}
            }
        }
    }

    /// Some may get what they lack, given how many messages each topic has had.
    pub(super) fn lack_something(&self, published: &[u64]) -> bool {
        let mut all = self.slots.iter().flat_map(|slot| &slot.subscriptions);
        all.any(|of| of.lacks(count(published, of.topic), self.dues()))
    }

    /// Some lack the end of what was published.
    pub(super) fn lack_the_last(&self, published: &[u64]) -> bool {
        let mut all = self.slots.iter().flat_map(|slot| &slot.subscriptions);
        all.any(|of| of.lacks_the_last(count(published, of.topic)))
    }

    /// What came of it all.
    pub(super) fn report(&mut self, published: &[u64]) -> Report {
        let (mut integrity, mut steady) = (self.hearing.sums, Integrity::default());
        for slot in &self.slots {
            let mut own = Integrity::default();
            for of in &slot.subscriptions {
                of.judge(count(published, of.topic), self.dues(), &mut own);
            }
            integrity += own;
            if slot.is_steady {
                steady += own;
            }
        }
        steady.received = steady.expected - steady.lost;
        let mut report = Report {
            state: self.state().clone(),
            integrity,
            steady,
            gaps: self.hearing.gaps,
            never_returned: self.slots.len() as u64 - self.state.open,
            ..Report::default()
        };
        self.hearing.notes.tell(&mut report);
        report
    }
}

fn count(published: &[u64], topic: usize) -> u64 {
    published.get(topic).copied().unwrap_or(0)
}

/// What becomes of sessions.
impl Sessions {
    /// A session is open.
    fn enter(&mut self, number: usize, now: u64) {
        let slot = &mut self.slots[number];
        let wanted = slot.enter(now);
        slot.is_steady = self.stage == Stage::Opening && !slot.was_open();
        let (begun, is_slow) = (slot.begun, slot.is_slow);
        self.on_their_way -= 1;
        self.state.open += 1;
        self.state.opened += 1;
        self.most_open = self.most_open.max(self.state.open);
        if self.opening.sessions.churn.is_some() {
            slot.subscriptions.iter_mut().for_each(|of| of.confirm(now));
        }
        self.hearing.notes.enter_connect(begun, now);
        if let Some(wanted) = wanted {
            self.hearing.notes.enter_back(wanted, now);
        }
        if let Some(cut) = self.opening.sessions.cut.filter(|_| self.stage == Stage::Window) {
            let pause = pauses::before_cut(cut, &mut self.random);
            self.set(number, Alarm::Cut, now + pause);
        }
        if let Some(budget) = self.budget.filter(|_| is_slow) {
            self.set(number, Alarm::Read, now + budget.every);
        }
    }

    /// A session was refused or lost; it comes back.
    #[cold]
    fn end(&mut self, number: usize, reason: &anyhow::Error) {
        count_reason(&mut self.state.reasons, format!("{reason:#}"));
        let now = clock::nanos();
        let slot = &mut self.slots[number];
        let pause = if slot.phase == Phase::Open {
            slot.leave(now);
            self.state.open -= 1;
            self.state.lost += 1;
            pauses::after_loss(&mut self.random)
        } else {
            self.on_their_way -= 1;
            self.state.refused += 1;
            slot.failures = slot.failures.saturating_add(1);
            pauses::after_refusal(slot.failures, &mut self.random)
        };
        slot.close(Phase::Waiting);
        self.set(number, Alarm::Return, now + pause);
    }

    /// A session wants to come back since `since`.
    fn wait_for_a_turn(&mut self, number: usize, since: u64) {
        self.slots[number].want(since);
        self.waiting.push_back(number);
    }

    fn set(&mut self, number: usize, alarm: Alarm, due: u64) {
        let session = u32::try_from(number).expect("a process has far fewer sessions");
        self.timers.set(Timer { due, session, life: self.slots[number].life, alarm });
    }
}
