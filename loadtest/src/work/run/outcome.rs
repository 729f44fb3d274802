//! What came of a run: holders' reports and the coordinator's notes put together.

use std::collections::BTreeMap;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::feeding::Feeding;
use super::float;
use super::notes::{Ended, Notes};
use super::plan::Plan;
use super::verdicts;
use crate::bench::machine::Machine;
use crate::crew::Kind;
use crate::load::ledger::Integrity;
use crate::work::orders::{Report, State, Times};
use crate::work::result::{CostFigures, Distribution, MessageFigures, Run, SessionFigures};
use crate::work::times::histogram;

/// Everything, with what was aimed at, as it came on `machine`.
pub fn of(plan: &Plan, machine: Machine, ended: Ended) -> Result<Run> {
    let Ended { notes, reports, mut feeding } = ended;
    let sums = Sums::of(&reports);
    let messages = messages(&notes, feeding.as_ref(), &sums);
    let mut times = BTreeMap::new();
    let mut enter = |name: &str, histogram: &Histogram<u64>| {
        if !histogram.is_empty() {
            times.insert(name.to_owned(), Distribution::of(histogram));
        }
    };
    if !plan.work.is_closed_loop() {
        enter("delivery", &put_together(&reports, |report| &report.delivery)?);
        enter("last_receipt", &last_receipts(&reports)?);
    }
    enter("connect", &put_together(&reports, |report| &report.connect)?);
    enter("back", &put_together(&reports, |report| &report.back)?);
    enter("replay", &put_together(&reports, |report| &report.replay)?);
    if let Some(feeding) = &mut feeding {
        enter("publish", &feeding.take_times());
    }
    let mut run = Run {
        scenario: plan.scenario.clone(),
        target: plan.target.clone(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine,
        workload: plan.work.clone(),
        seconds: notes.spent.map_or(0.0, |spent| spent.wall),
        cost: cost(plan, &notes, messages.deliveries),
        sessions: sessions(plan, &notes, &sums),
        messages,
        times,
        verdicts: Vec::new(),
        problems: notes.problems,
        series: notes.series.map(super::series::Series::into_moments).unwrap_or_default(),
    };
    run.problems.extend(doubts(&run.messages));
    let is_cut = reports.iter().any(|report| report.last_receipts_cut);
    if is_cut && !plan.work.is_closed_loop() {
        run.problems.push("there are more messages than last receipts are noted of".to_owned());
    }
    run.verdicts = verdicts::of(&run);
    Ok(run)
}

/// What holders counted, added up.
#[derive(Default)]
struct Sums {
    state: State,
    integrity: Integrity,
    steady: Integrity,
    gaps: u64,
    never_returned: u64,
}

impl Sums {
    fn of(reports: &[Report]) -> Self {
        let mut sums = Self::default();
        for report in reports {
            super::Holding::add(&mut sums.state, &report.state);
            sums.integrity += report.integrity;
            sums.steady += report.steady;
            sums.gaps += report.gaps;
            sums.never_returned += report.never_returned;
        }
        sums
    }
}

fn sessions(plan: &Plan, notes: &Notes, sums: &Sums) -> SessionFigures {
    let state = &sums.state;
    SessionFigures {
        wanted: plan.work.sessions.count as u64,
        opened: notes.opened,
        open_seconds: notes.open_seconds,
        open_at_end: state.open,
        connects: state.opened,
        refused: state.refused,
        lost: state.lost,
        cut: state.cut,
        churned: state.churned,
        never_returned: sums.never_returned,
        back_seconds: notes.back_seconds,
        reasons: state.reasons.clone(),
    }
}

/// Receipts of the window are those between the two times at which the servers' clocks were read: what came later was
/// also worked for later.
fn messages(notes: &Notes, feeding: Option<&Feeding>, sums: &Sums) -> MessageFigures {
    let (before, after) = (notes.before, notes.after);
    let figures = feeding.map(Feeding::figures).unwrap_or_default();
    let Integrity { expected, received, .. } = sums.integrity;
    MessageFigures {
        published: after.messages,
        published_in_window: after.messages - before.messages,
        requests: figures.requests,
        failed_requests: figures.failed_requests,
        doubtful: figures.doubtful,
        deliveries: after.received.saturating_sub(before.received),
        integrity: sums.integrity,
        steady: sums.steady,
        delivery_ratio: if expected == 0 { 1.0 } else { float(received) / float(expected) },
        gaps: sums.gaps,
    }
}

/// Doubles need not be the servers' if the load may have published something twice.
fn doubts(messages: &MessageFigures) -> Option<String> {
    let (doubled, doubtful) = (messages.integrity.doubled, messages.doubtful);
    let text = || {
        format!(
            "{doubtful} messages were sent again without a key though they may have been published: some of the \
             {doubled} doubled receipts may be the load's"
        )
    };
    (doubled > 0 && doubtful > 0).then(text)
}

fn cost(plan: &Plan, notes: &Notes, deliveries: u64) -> CostFigures {
    let (spent, held) = (notes.spent, notes.held);
    let pss = held.memory.map(|(_, pss)| pss);
    let us_per_delivery = spent.and_then(|spent| spent.us_per(deliveries));
    let sessions = float(plan.work.sessions.count as u64);
    CostFigures {
        server_process_seconds: spent.and_then(|spent| spent.servers),
        server_core_seconds: spent.and_then(|spent| spent.core),
        redis_seconds: spent.and_then(|spent| spent.redis),
        load_seconds: spent.map_or(0.0, |spent| spent.load),
        softirq_seconds: spent.map_or(0.0, |spent| spent.softirq),
        us_per_delivery,
        us_per_connect: notes.us_per_connect,
        deliveries_per_core_second: us_per_delivery.filter(|us| *us > 0.0).map(|us| 1e6 / us),
        rss_bytes: held.memory.map(|(rss, _)| rss),
        pss_bytes: pss,
        pss_bytes_per_session: pss
            .zip(notes.pss_before)
            .map(|(after, before)| (float(after) - float(before)) / sessions),
        socket_bytes: held.socket_bytes,
        socket_slab_bytes: held.socket_slab_bytes,
        descriptors: held.descriptors,
    }
}

fn put_together(reports: &[Report], times: fn(&Report) -> &Times) -> Result<Histogram<u64>> {
    let mut sum = histogram()?;
    for report in reports {
        times(report).add_to(&mut sum);
    }
    Ok(sum)
}

/// Of each message the longest time of all holders; none of those that nobody has.
fn last_receipts(reports: &[Report]) -> Result<Histogram<u64>> {
    let mut longest: BTreeMap<u64, u64> = BTreeMap::new();
    for report in reports {
        for (sequence, nanos) in (report.first_sequence..).zip(&report.last_receipts) {
            let entry = longest.entry(sequence).or_default();
            *entry = (*entry).max(*nanos);
        }
    }
    let mut sum = histogram()?;
    for nanos in longest.into_values().filter(|nanos| *nanos > 0) {
        sum.saturating_record(nanos);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_that_may_be_of_the_load_are_told() {
        let figures = |doubled, doubtful| {
            let integrity = Integrity { doubled, ..Integrity::default() };
            MessageFigures { doubtful, integrity, ..MessageFigures::default() }
        };
        assert_eq!(doubts(&figures(0, 3)), None);
        assert_eq!(doubts(&figures(3, 0)), None);
        let said = doubts(&figures(20, 3)).unwrap();
        assert!(said.starts_with("3 messages") && said.contains("20 doubled"), "{said}");
    }

    #[test]
    fn the_last_receiver_of_all_holders_counts() {
        let report = |first_sequence, last_receipts: &[u64]| Report {
            first_sequence,
            last_receipts: last_receipts.to_vec(),
            ..Report::default()
        };
        let reports = [report(5, &[100, 300]), report(6, &[200, 50, 0]), report(0, &[])];
        let times = last_receipts(&reports).unwrap();
        assert_eq!((times.len(), times.min(), times.max()), (3, 50, 300));
    }
}
