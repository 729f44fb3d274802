//! Publish requests over connections that are kept and pipeline, while nobody is subscribed: of one message each, or of
//! many in a batch.
//!
//! What a node does for a request of one message is what it costs more than the same HTTP server with an empty handler.
//! A batch shows how many messages can be published at most; their topics keep history, so that each gets an id.

use anyhow::{Result, ensure};

use super::{Measured, Measuring, Plan, Unit};
use crate::cost::Meter;
use crate::load::ledger::Integrity;
use crate::load::pacing::Span;
use crate::load::requests::{Form, Requests};
use crate::load::{Counts, Waited};
use crate::wire::publish_line::MAX_LINES;

/// How many at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Publish {
    /// Connections, each to a topic of its own.
    pub connections: usize,
    /// Requests under way on each.
    pub pipelined: usize,
    /// What a request is.
    pub form: Form,
}

impl Publish {
    /// The scenario's name on the command line.
    pub(super) fn name(&self) -> &'static str {
        match self.form {
            Form::Single => "publish",
            Form::Batch(_) => "publish-batches",
        }
    }

    /// Topics that each have a URL of their own: those of batches are named in the bodies.
    pub(super) fn paths(&self) -> usize {
        match self.form {
            Form::Single => self.connections,
            Form::Batch(_) => 1,
        }
    }

    /// Whether it can be done at all.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.pipelined > 0, "at least one request must be under way");
        let messages = self.form.messages();
        ensure!(
            (1..=MAX_LINES).contains(&messages),
            "{messages} messages in a request, from 1 to {MAX_LINES} are possible"
        );
        Ok(())
    }

    /// Warms up and measures; says what came of all requests too.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter) -> Result<(Measured, Integrity)> {
        let mut requests =
            Requests::begin(&plan.manner, self.connections, self.pipelined, self.form)?;
        let (_, warmed) = requests.run(Span::Time(plan.warm_up))?;
        let measuring = Measuring::begin(meter, requests.counts())?;
        let (rounds, waited) = match warmed {
            Waited::Done => requests.run(plan.span)?,
            Waited::Stalled => (0, warmed),
        };
        let mut measured = measuring.end(requests.counts(), rounds)?;
        measured.unit = match self.form {
            Form::Single => Unit::Request,
            Form::Batch(_) => Unit::Message,
        };
        measured.stalled = waited == Waited::Stalled || requests.finish()? == Waited::Stalled;
        Ok((measured, answers(requests.counts())))
    }
}

/// An answer is the receipt of a message.
fn answers(counts: Counts) -> Integrity {
    let Counts { messages, received, .. } = counts;
    Integrity { expected: messages, received, lost: messages - received, ..Integrity::default() }
}
