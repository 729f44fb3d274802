//! Sessions that were away and come back at once: each must get all that it missed, in order and once.
//!
//! The messages are published before, to a topic with history that nobody is subscribed to. Time and cost run from the
//! first connect until the last session has its last message. Each wave has a topic of its own, which the server knows
//! only from its history.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::idle::Growth;
use super::{Measured, Measuring, Plan, Unit};
use crate::cost::Meter;
use crate::cost::history_reads::Witnesses;
use crate::load::recording::Received;
use crate::load::{Absence, Deaf, Load, Waited, clock};
use crate::wire::publish_line::MAX_LINES;

/// Time after the last message in which one that comes twice would come.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How many, and what they missed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resume {
    /// Sessions of a wave.
    pub sessions: usize,
    /// Messages that each of them missed.
    pub missed: usize,
    /// Who knows how often history was read.
    pub witnesses: Witnesses,
}

impl Resume {
    /// Runs waves and adds up what they cost. The sessions of the last stay.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        let mut window = plan.span.begin();
        let mut sum: Option<Measured> = None;
        while sum.as_ref().is_none_or(|sum| !sum.stalled) && window.another() {
            load.close();
            let topic = sum.as_ref().map_or(0, |sum| sum.rounds);
            let wave = self.wave(meter, load, usize::try_from(topic)?)?;
            match &mut sum {
                None => sum = Some(wave),
                Some(sum) => sum.add_wave(&wave),
            }
        }
        Ok(sum.expect("a window has at least one round"))
    }

    fn wave(&self, meter: &Meter, load: &mut Load, topic: usize) -> Result<Measured> {
        let absence = self.publish(load, topic)?;
        let (held, reads) = (meter.holding()?, self.witnesses.read()?);
        let measuring = Measuring::begin(meter, load.counts())?;
        let waited = self.come_back(load, absence)?;
        let mut measured = measuring.end(load.counts(), 1)?;
        measured.unit = Unit::Resume;
        measured.units = self.sessions as u64;
        measured.stalled = waited == Waited::Stalled;
        measured.growth = held
            .zip(meter.holding()?)
            .map(|(before, after)| Growth::between(&before, &after, self.sessions));
        measured.reads = Some(self.witnesses.read()?.since(reads));
        load.wait_for(Instant::now() + AFTERMATH, &mut Deaf)?;
        let notices = load.integrity().notices;
        ensure!(
            notices == 0,
            "the server told its sessions {notices} times of something else than messages"
        );
        Ok(measured)
    }

    /// Opens all sessions; waits until each has as many messages as it missed.
    fn come_back(&self, load: &mut Load, absence: Absence) -> Result<Waited> {
        let mut received = Received::default();
        load.open_again(self.sessions, absence, &mut received)?;
        let all = (self.sessions * self.missed) as u64;
        load.wait_until(&mut received, |received, _| received.count() >= all)
    }

    /// Publishes a message that all have seen, and behind it those that they missed.
    fn publish(&self, load: &mut Load, topic: usize) -> Result<Absence> {
        post(load, topic, 1)?;
        let seen = load.publisher().last_id();
        let seen = seen.context("a message got no id: its topic keeps no history")?;
        let first_missed = load.publisher().published(topic);
        let mut left = self.missed;
        while left > 0 {
            let some = left.min(MAX_LINES);
            post(load, topic, some)?;
            left -= some;
        }
        Ok(Absence { topic, seen, first_missed })
    }
}

/// Publishes `messages` in one request; waits for the answer.
fn post(load: &mut Load, topic: usize, messages: usize) -> Result<()> {
    let now = clock::nanos();
    for _ in 0..messages {
        load.add(topic, now);
    }
    load.post()?;
    let answered = load.wait_until(&mut Deaf, |_, publisher| !publisher.waiting())?;
    ensure!(answered == Waited::Done, "a publish request isn't answered");
    Ok(())
}
