//! A run's figures against what was aimed at.

use crate::work::file::{Targets, Workload};
use crate::work::result::{Run, Verdict};

/// Everything that is judged: that nothing was lost, doubled, changed or out of order, that sessions stayed or came
/// back, and what the file aims at.
pub fn of(run: &Run) -> Vec<Verdict> {
    let Targets {
        delivery_ratio,
        delivery_p99_ms,
        last_receipt_p99_ms,
        replay_p99_ms,
        never_returned,
        lost_sessions,
        pss_bytes_per_session,
        // Of several runs.
        of_baseline: _,
    } = run.workload.targets;
    let integrity = &run.messages.integrity;
    let mut verdicts = Vec::new();
    let ratio = delivery_ratio.unwrap_or(1.0);
    if ratio < 1.0 {
        verdicts.push(at_least("delivery ratio", run.messages.delivery_ratio, ratio));
        verdicts.push(count("lost by those never away", run.messages.steady.lost, 0));
    } else {
        verdicts.push(count("lost", integrity.lost, 0));
    }
    verdicts.push(count("doubled", integrity.doubled, 0));
    verdicts.push(count("reordered", integrity.reordered, 0));
    verdicts.push(count("garbled", integrity.garbled, 0));
    let bound = never_returned.unwrap_or(0);
    verdicts.push(count("sessions that never came back", run.sessions.never_returned, bound));
    let bound = lost_sessions.or_else(|| all_stay(&run.workload).then_some(0));
    verdicts.extend(bound.map(|bound| count("sessions lost", run.sessions.lost, bound)));
    for (name, bound) in [
        ("delivery", delivery_p99_ms),
        ("last_receipt", last_receipt_p99_ms),
        ("replay", replay_p99_ms),
    ] {
        let found = run.times.get(name).map(|times| times.p99_us / 1e3);
        verdicts.extend(bound.map(|bound| at_most(&format!("{name} p99, ms"), found, bound)));
    }
    let found = run.cost.pss_bytes_per_session;
    let pss = pss_bytes_per_session.map(|bound| at_most("PSS per session, bytes", found, bound));
    verdicts.extend(pss);
    verdicts
}

/// Whether a server has no reason to end a session: it may do so when it drains, or when one reads too slowly. What the
/// load cuts isn't counted as lost.
fn all_stay(work: &Workload) -> bool {
    work.faults.is_empty() && work.sessions.slow.is_none()
}

fn count(what: &str, found: u64, bound: u64) -> Verdict {
    Verdict {
        target: format!("{what}: at most {bound}"),
        found: found.to_string(),
        reached: found <= bound,
    }
}

fn at_least(what: &str, found: f64, bound: f64) -> Verdict {
    let target = format!("{what}: at least {bound}");
    Verdict { target, found: format!("{found:.6}"), reached: found >= bound }
}

/// What wasn't measured isn't reached.
fn at_most(what: &str, found: Option<f64>, bound: f64) -> Verdict {
    Verdict {
        target: format!("{what}: at most {bound}"),
        found: found.map_or_else(|| "not measured".to_owned(), |found| format!("{found:.2}")),
        reached: found.is_some_and(|found| found <= bound),
    }
}

/// Whether all was reached, and nothing else went wrong.
pub fn all_reached(run: &Run) -> bool {
    run.verdicts.iter().all(|verdict| verdict.reached) && run.problems.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::report::runs;

    /// The verdict about lost sessions of a run that lost two.
    fn about_lost_sessions(change: impl FnOnce(&mut Workload)) -> Option<bool> {
        let mut run = runs::run("fanout", "umbel", 1.0);
        run.sessions.lost = 2;
        run.workload.faults.clear();
        change(&mut run.workload);
        let verdicts = of(&run);
        let verdict = verdicts.iter().find(|it| it.target.starts_with("sessions lost"));
        verdict.map(|verdict| verdict.reached)
    }

    #[test]
    fn sessions_may_be_lost_only_where_something_fails_or_the_file_says_so() {
        assert_eq!(about_lost_sessions(|_| ()), Some(false));
        assert_eq!(about_lost_sessions(|work| work.targets.lost_sessions = Some(2)), Some(true));
        let faults = runs::run("fanout", "umbel", 1.0).workload.faults;
        assert_eq!(about_lost_sessions(|work| work.faults.clone_from(&faults)), None);
        let slow = crate::work::file::Slow { share: 0.1, bytes_per_second: 1 };
        assert_eq!(about_lost_sessions(|work| work.sessions.slow = Some(slow)), None);
    }

    #[test]
    fn bounds_are_reached_by_what_equals_them() {
        assert!(count("x", 3, 3).reached && !count("x", 4, 3).reached);
        assert!(at_least("x", 0.5, 0.5).reached && !at_least("x", 0.49, 0.5).reached);
        assert!(at_most("x", Some(2.0), 2.0).reached && !at_most("x", Some(2.01), 2.0).reached);
        assert!(!at_most("x", None, 2.0).reached);
    }
}
