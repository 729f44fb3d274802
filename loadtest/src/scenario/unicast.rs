//! Many topics with one subscriber each, in a closed loop of a fixed number of messages under way.
//!
//! A message is under way until its subscriber has it. Whenever no publish request is, all that are free at that
//! time are posted as one; how many that are depends on the server, so the result has the number of
//! requests.

use anyhow::Result;

use super::{Measured, Plan, measure};
use crate::cost::Meter;
use crate::load::pacing::Span;
use crate::load::recording::FreeTopics;
use crate::load::{Load, Waited, clock};

/// How many topics, and how busy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unicast {
    /// Topics, each with one session.
    pub topics: usize,
    /// Messages under way.
    pub outstanding: usize,
}

impl Unicast {
    /// Opens the sessions, warms up, measures.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        load.open(self.topics, |session| session)?;
        let mut free = FreeTopics::new(self.topics);
        measure(plan, meter, load, |span, load| self.rounds(span, load, &mut free))
    }

    /// A round is one request; after the last one waits until nothing is under way.
    fn rounds(&self, span: Span, load: &mut Load, free: &mut FreeTopics) -> Result<(u64, Waited)> {
        let mut window = span.begin();
        while window.another() {
            self.post(load, free)?;
            let idle = self.topics - self.outstanding;
            let waited = load
                .wait_until(free, |free, publisher| free.count() > idle && !publisher.waiting())?;
            if waited == Waited::Stalled {
                return Ok((window.rounds(), waited));
            }
        }
        let waited = load.wait_until(free, |free, _| free.count() == self.topics)?;
        Ok((window.rounds(), waited))
    }

    fn post(&self, load: &mut Load, free: &mut FreeTopics) -> Result<()> {
        let now = clock::nanos();
        while free.count() > self.topics - self.outstanding
            && let Some(topic) = free.take()
        {
            load.add(topic, now);
        }
        load.post()
    }
}
