//! Publish requests of one message each, over connections that are kept and pipeline, while nobody is subscribed.
//!
//! What a node does for a request is what it costs more than the same HTTP server with an empty handler.

use anyhow::Result;

use super::{Measured, Measuring, Plan, Unit};
use crate::cost::Meter;
use crate::load::ledger::Integrity;
use crate::load::pacing::Span;
use crate::load::requests::Requests;
use crate::load::{Counts, Waited};

/// How many at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish {
    /// Connections, each to a topic of its own.
    pub connections: usize,
    /// Requests under way on each.
    pub pipelined: usize,
}

impl Publish {
    /// Warms up and measures; says what came of all requests too.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter) -> Result<(Measured, Integrity)> {
        let mut requests = Requests::begin(&plan.manner, self.connections, self.pipelined)?;
        let (_, warmed) = requests.run(Span::Time(plan.warm_up))?;
        let measuring = Measuring::begin(meter, requests.counts())?;
        let (rounds, waited) = match warmed {
            Waited::Done => requests.run(plan.span)?,
            Waited::Stalled => (0, warmed),
        };
        let mut measured = measuring.end(requests.counts(), rounds)?;
        measured.unit = Unit::Request;
        measured.stalled = waited == Waited::Stalled || requests.finish()? == Waited::Stalled;
        Ok((measured, answers(requests.counts())))
    }
}

/// An answer is the receipt of a request.
fn answers(counts: Counts) -> Integrity {
    let Counts { messages, received, .. } = counts;
    Integrity { expected: messages, received, lost: messages - received, ..Integrity::default() }
}
