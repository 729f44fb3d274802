//! Subscriptions to new topics as fast as possible, over connections that are open already.
//!
//! The time runs from the first command to the last confirmation. Afterwards, outside of the time, each topic gets a
//! message: a confirmation without a subscription would show as a loss.

use anyhow::Result;

use super::{Measured, Measuring, Plan, Unit};
use crate::cost::Meter;
use crate::load::ledger::Integrity;
use crate::load::members::{At, Members};

/// How many, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubscribeMany {
    /// Connections of a wave.
    pub sessions: usize,
    /// New topics of a wave, spread over its connections.
    pub topics: usize,
    /// Where to.
    pub at: At,
}

impl SubscribeMany {
    /// Runs waves and adds up what they took; those before stay subscribed.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter) -> Result<(Measured, Integrity)> {
        let mut members = Members::new(&plan.manner, self.at)?;
        let mut window = plan.span.begin();
        let mut sum: Option<Measured> = None;
        let mut integrity = Integrity::default();
        while window.another() {
            let wave = self.wave(meter, &mut members)?;
            match &mut sum {
                None => sum = Some(wave),
                Some(sum) => sum.add_wave(&wave),
            }
            integrity = members.prove()?;
        }
        Ok((sum.expect("a window has at least one round"), integrity))
    }

    fn wave(&self, meter: &Meter, members: &mut Members) -> Result<Measured> {
        members.open(self.sessions)?;
        let measuring = Measuring::begin(meter, members.counts())?;
        members.subscribe(self.sessions, self.topics)?;
        let mut measured = measuring.end(members.counts(), 1)?;
        measured.unit = Unit::Subscription;
        measured.units = self.topics as u64;
        Ok(measured)
    }
}
