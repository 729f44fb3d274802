//! One run, from the coordinator's side: servers and holders are started, sessions opened, messages published, things
//! made to fail, and everything noted.

pub mod backlog;
pub mod checks;
pub mod course;
pub mod directory;
pub mod faults;
pub mod feeding;
pub mod meter;
pub mod notes;
pub mod outcome;
pub mod plan;
pub mod receipts;
pub mod series;
pub mod servers;
pub mod storm;
pub mod verdicts;
pub mod waiting;

use super::orders::{Order, Said, State};
use crate::crew;

/// The holders of a run.
pub type Crew = crew::Crew<Holding>;

/// What they are told and say.
#[derive(Debug)]
pub struct Holding;

impl crew::Kind for Holding {
    const SUBCOMMAND: &'static str = "hold-work";
    type Order = Order;
    type Said = Said;
    type State = State;

    fn state(said: &Said) -> Option<&State> {
        match said {
            Said::State(state) | Said::Told(state) | Said::Opened(state) => Some(state),
            Said::Report(report) => Some(&report.state),
            Said::Reached => None,
        }
    }

    fn add(sum: &mut State, other: &State) {
        sum.open += other.open;
        sum.opened += other.opened;
        sum.received += other.received;
        sum.refused += other.refused;
        sum.lost += other.lost;
        sum.cut += other.cut;
        sum.churned += other.churned;
        for (reason, count) in &other.reasons {
            *sum.reasons.entry(reason.clone()).or_default() += count;
        }
    }
}

/// A count as a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
