//! One topic and all subscribed to it, in a closed loop: a round is posted when all have received the one before.
//!
//! At the borders of a window nothing is under way, so that all the cost in it belongs to its deliveries.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Measured, Plan, measure};
use crate::cost::Meter;
use crate::load::pacing::Span;
use crate::load::recording::AllReceived;
use crate::load::{Deaf, Load, Waited, clock};

/// The topic.
const TOPIC: usize = 0;

/// How many hear how much at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fanout {
    /// Sessions subscribed to the topic.
    pub subscribers: usize,
    /// Messages posted at once.
    pub at_hand: usize,
    /// How long to wait between rounds; none in the plain fan-out.
    pub pause: Duration,
}

impl Fanout {
    /// Opens the sessions, warms up, measures.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        load.open(self.subscribers, |_| TOPIC)?;
        measure(plan, meter, load, |span, load| self.rounds(span, load))
    }

    fn rounds(&self, span: Span, load: &mut Load) -> Result<(u64, Waited)> {
        let (mut all, mut window) = (AllReceived::default(), span.begin());
        while window.another() {
            if self.round(load, &mut all)? == Waited::Stalled {
                return Ok((window.rounds(), Waited::Stalled));
            }
            if !self.pause.is_zero() {
                load.wait_for(Instant::now() + self.pause, &mut Deaf)?;
            }
        }
        Ok((window.rounds(), Waited::Done))
    }

    fn round(&self, load: &mut Load, all: &mut AllReceived) -> Result<Waited> {
        let now = clock::nanos();
        let last = (0..self.at_hand).map(|_| load.add(TOPIC, now)).last();
        all.expect(last.unwrap_or(0), self.subscribers);
        load.post()?;
        load.wait_until(all, |all, publisher| all.done() && !publisher.waiting())
    }
}
