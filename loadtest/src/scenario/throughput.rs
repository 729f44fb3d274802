//! As many messages as can be delivered: topics with one subscriber each, messages to all of them in turn.
//!
//! A bounded number is under way, so that what isn't delivered isn't published either. A message is under way until its
//! subscriber has it. Other than in `unicast` a topic may have several, so that a server that falls behind can
//! send more at once.

use anyhow::Result;

use super::{Measured, Plan, measure};
use crate::cost::Meter;
use crate::load::pacing::Span;
use crate::load::recording::Received;
use crate::load::{Load, Waited, clock};
use crate::wire::publish_line::MAX_LINES;

/// How many topics, and how busy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Topics, each with one session.
    pub topics: usize,
    /// Most messages under way.
    pub outstanding: usize,
}

impl Throughput {
    /// Opens the sessions, warms up, measures.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        load.open(self.topics, |session| session)?;
        let mut received = Received::default();
        measure(plan, meter, load, |span, load| self.rounds(span, load, &mut received))
    }

    /// A round is one request, which has all messages that there is room for; after the last one waits until
    /// nothing is under way.
    fn rounds(
        &self,
        span: Span,
        load: &mut Load,
        received: &mut Received,
    ) -> Result<(u64, Waited)> {
        let mut window = span.begin();
        while window.another() {
            self.post(load, received)?;
            let waited = load.wait_until(received, |received, publisher| {
                !publisher.waiting() && self.room(publisher.messages(), received) > 0
            })?;
            if waited == Waited::Stalled {
                return Ok((window.rounds(), waited));
            }
        }
        let waited = load.wait_until(received, |received, publisher| {
            !publisher.waiting() && received.count() == publisher.messages()
        })?;
        Ok((window.rounds(), waited))
    }

    /// How many more may be under way.
    fn room(&self, published: u64, received: &Received) -> usize {
        let under_way = published - received.count();
        self.outstanding.saturating_sub(usize::try_from(under_way).unwrap_or(usize::MAX))
    }

    fn post(&self, load: &mut Load, received: &Received) -> Result<()> {
        let (now, published) = (clock::nanos(), load.publisher().messages());
        let room = self.room(published, received).min(MAX_LINES);
        for number in published..published + room as u64 {
            let topic = number % self.topics as u64;
            load.add(usize::try_from(topic)?, now);
        }
        load.post()
    }
}
