//! What servers haven't delivered yet when the window ends: who falls behind an open loop did less work than was asked
//! for, and what it costs then tells nothing.

use super::float;
use super::notes::Marks;
use crate::work::file::{Pace, Workload};

/// What may be missing of the receipts that were due in the window.
const PART: f64 = 0.01;
/// The last messages are under way when the window ends: what is due in so many seconds may be missing in any case.
const UNDER_WAY_SECONDS: f64 = 0.5;

/// What is wrong with what was expected and received up to the window's begin and end, if anything is. Nothing is said
/// where sessions leave or read slowly: it isn't known then who is to have what by when.
pub fn problem(work: &Workload, before: Marks, after: Marks) -> Option<String> {
    let Workload { sessions, faults, pace, window, .. } = work;
    let leave = sessions.cut.is_some() || sessions.storm.is_some() || sessions.churn.is_some();
    let stay = !leave && sessions.slow.is_none() && faults.is_empty();
    if !stay || matches!(pace, Pace::Closed { .. }) {
        return None;
    }
    let due = after.expected - before.expected;
    let missing = after.expected.saturating_sub(after.received);
    let part = PART.max(UNDER_WAY_SECONDS / window.seconds);
    let text = || {
        format!(
            "{missing} receipts were missing when the window ended, in which {due} were due: servers or load can't \
             keep up with this pace"
        )
    };
    (float(missing) > float(due) * part).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(missing: u64, seconds: f64, change: impl FnOnce(&mut Workload)) -> Option<String> {
        let text = "about = ''\n[sessions]\ncount = 1\n[pace.open]\nper_second = 1.0\n";
        let mut work: Workload = toml::from_str(text).unwrap();
        work.window.seconds = seconds;
        change(&mut work);
        let before = Marks { messages: 1, expected: 1000, received: 990 };
        let after = Marks { messages: 2, expected: 11_000, received: 11_000 - missing };
        problem(&work, before, after)
    }

    #[test]
    fn who_falls_behind_an_open_loop_is_named() {
        assert_eq!(missing(100, 100.0, |_| ()), None);
        let said = missing(101, 100.0, |_| ()).unwrap();
        assert!(said.starts_with("101 receipts were missing") && said.contains("10000"), "{said}");
        assert_eq!(missing(500, 10.0, |_| ()), None);
        assert!(missing(501, 10.0, |_| ()).is_some());
    }

    #[test]
    fn nobody_is_behind_where_sessions_leave_or_are_waited_for() {
        let closed = |work: &mut Workload| {
            work.pace = Pace::Closed { at_hand: 1, pause_seconds: 0.0 };
        };
        assert_eq!(missing(5000, 100.0, closed), None);
        let slow = crate::work::file::Slow { share: 0.1, bytes_per_second: 1 };
        assert_eq!(missing(5000, 100.0, |work| work.sessions.slow = Some(slow)), None);
    }
}
