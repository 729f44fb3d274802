//! What a crowd counts.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::client::End;
use super::tally::Verdict;

/// What is going on when a message comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but the load.
    Quiet,
    /// Nodes end and begin.
    Restarts,
    /// In any phase: the client wasn't in when the message was published. What it took is mostly
    /// the time for which the client was away.
    Resumed,
}

/// What clients were given, and how their connections ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came.
    pub delivered: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again.
    pub doubled: u64,
    /// Messages that came behind later ones.
    pub reordered: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Sessions that ended as a drain ends them: told to come back, and when, and then closed.
    pub moved: u64,
    /// WebSocket sessions that were closed with another code.
    pub closed: u64,
    /// Sessions that ended in order but without a word.
    pub silent: u64,
    /// Sessions whose connection failed: reset, mostly.
    pub resets: u64,
    /// Attempts that came to no session: refused connections, other statuses, ends before the answer.
    pub refused: u64,
}

/// How long messages took from publisher to client, the publisher's repeats included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Of how many messages.
    pub count: u64,
    /// Half of them took less.
    pub p50: Duration,
    /// One in a hundred took more.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// All that clients add to.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) counts: Counts,
    pub(super) samples: Vec<String>,
    pub(super) phase: Phase,
    /// When clients tried to come back.
    pub(super) returns: Vec<u64>,
    latencies: [Histogram<u64>; 3],
}

/// A second of the test's clock.
const SECOND: u64 = 1_000_000;

impl Figures {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new(3).expect("three digits are possible");
        Self {
            counts: Counts::default(),
            samples: Vec::new(),
            phase: Phase::Quiet,
            returns: Vec::new(),
            latencies: [histogram(), histogram(), histogram()],
        }
    }

    pub(super) fn delivered(&mut self, took: Duration, was_away: bool) {
        self.counts.delivered += 1;
        let phase = if was_away { Phase::Resumed } else { self.phase };
        let micros = u64::try_from(took.as_micros()).expect("a test is shorter than an age");
        self.latencies[phase as usize].record(micros).expect("the histogram grows");
    }

    pub(super) fn irregular(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Next => {}
            Verdict::Skips(count) => self.counts.lost += u64::from(count),
            Verdict::Doubled => self.counts.doubled += 1,
            Verdict::Late => {
                self.counts.lost -= 1;
                self.counts.reordered += 1;
            }
        }
    }

    pub(super) fn ended(&mut self, end: &End) {
        let counter = match end {
            End::Refused(_) => &mut self.counts.refused,
            End::Moved(_) => &mut self.counts.moved,
            End::Closed(_) => &mut self.counts.closed,
            End::Silent => &mut self.counts.silent,
            End::Failed(_) => &mut self.counts.resets,
        };
        *counter += 1;
    }

    pub(super) fn sample(&mut self, text: String) {
        if self.samples.len() < super::SAMPLES {
            self.samples.push(text);
        }
    }

    pub(super) fn latency(&self, phase: Phase) -> Latency {
        let histogram = &self.latencies[phase as usize];
        let quantile = |q| Duration::from_micros(histogram.value_at_quantile(q));
        Latency {
            count: histogram.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

/// How many of these times are in each second since then.
pub(super) fn by_second(times: &[u64], since: u64) -> Vec<u64> {
    let mut seconds = Vec::new();
    for second in times.iter().filter_map(|time| time.checked_sub(since)).map(|at| at / SECOND) {
        let second = usize::try_from(second).expect("a test is shorter than an age");
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    seconds
}

/// How many of these times are within one second at most, wherever that begins. Seconds of a clock
/// would cut a burst in two.
pub(super) fn worst_second(times: &[u64], since: u64) -> usize {
    let mut times: Vec<_> = times.iter().copied().filter(|time| *time >= since).collect();
    times.sort_unstable();
    let within =
        |(first, from): (usize, &u64)| times[first..].partition_point(|time| *time < from + SECOND);
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_second_begins_anywhere() {
        let times = [SECOND / 2, 2 * SECOND - 1, 2 * SECOND, 2 * SECOND + 5, 3 * SECOND - 1, 0];
        assert_eq!(worst_second(&times, 0), 3, "the window is open at its end");
        assert_eq!(worst_second(&times, 2 * SECOND + 1), 2);
        assert_eq!(worst_second(&[], 0), 0);
        assert_eq!(by_second(&times, 0), [2, 1, 3]);
        assert_eq!(by_second(&times, 2 * SECOND), [3]);
    }

    #[test]
    fn what_comes_late_was_not_lost() {
        let mut figures = Figures::new();
        figures.irregular(Verdict::Skips(2));
        figures.irregular(Verdict::Late);
        assert_eq!((figures.counts.lost, figures.counts.reordered), (1, 1));
    }
}
