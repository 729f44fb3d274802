//! Messages at fixed times, in an open loop: how long until the last subscriber has each.
//!
//! Time runs from when a message was *due*. A message that goes out late, because the one before was still
//! being taken, counts its waiting too, so that a server that stalls can't hide it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Measured, Plan, measure};
use crate::cost::Meter;
use crate::load::pacing::{Schedule, Span};
use crate::load::recording::LastReceipts;
use crate::load::{Load, Waited, clock};

const TOPIC: usize = 0;
const SECOND: u64 = 1_000_000_000;
/// Time between the decision to begin and the first message.
const LEAD: u64 = SECOND / 100;

/// How many hear how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Sessions subscribed to the topic.
    pub subscribers: usize,
    /// Messages per second.
    pub per_second: u64,
}

impl Latency {
    /// Opens the sessions, warms up, measures.
    pub(super) fn run(&self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        ensure!(
            (1..=1000).contains(&self.per_second),
            "{} messages per second, from 1 to 1000 are possible",
            self.per_second
        );
        load.open(self.subscribers, |_| TOPIC)?;
        load.look_at_once();
        let (mut latency, mut hiccup) = (None, None);
        let mut measured = measure(plan, meter, load, |span, load| {
            let (count, watch) = (self.count(span), meter.watch_hiccups()?);
            let (receipts, waited) = self.messages(count, load)?;
            latency = Some(receipts.percentiles());
            hiccup = Some(watch.longest().as_secs_f64());
            Ok((count, waited))
        })?;
        measured.latency = latency;
        measured.hiccup_seconds = hiccup;
        Ok(measured)
    }

    fn count(&self, span: Span) -> u64 {
        match span {
            Span::Rounds(rounds) => rounds.max(1),
            Span::Time(time) => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                (millis.saturating_mul(self.per_second) / 1000).max(1)
            }
        }
    }

    fn messages(&self, count: u64, load: &mut Load) -> Result<(LastReceipts, Waited)> {
        let schedule = Schedule::new(clock::nanos() + LEAD, SECOND / self.per_second, count);
        let first = load.publisher().published(TOPIC);
        let mut receipts = LastReceipts::new(self.subscribers, first, count)?;
        let mut sent = 0;
        while sent < schedule.count() {
            let answered = load.wait_until(&mut receipts, |_, publisher| !publisher.waiting())?;
            if answered == Waited::Stalled {
                return Ok((receipts, answered));
            }
            let next = schedule.due_at(sent).saturating_sub(clock::nanos());
            load.wait_for(Instant::now() + Duration::from_nanos(next), &mut receipts)?;
            sent = post_due(&schedule, sent, load)?;
        }
        let waited = load.wait_until(&mut receipts, |receipts, publisher| {
            receipts.done() && !publisher.waiting()
        })?;
        Ok((receipts, waited))
    }
}

/// Posts all that is due; says how many have gone.
fn post_due(schedule: &Schedule, sent: u64, load: &mut Load) -> Result<u64> {
    let due = schedule.due(clock::nanos(), sent);
    for number in due.clone() {
        load.add(TOPIC, schedule.due_at(number));
    }
    if !due.is_empty() {
        load.post()?;
    }
    Ok(due.end)
}
