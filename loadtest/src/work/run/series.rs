//! A run second by second.

use std::time::Duration;

use super::float;
use crate::work::orders::State;
use crate::work::result::Moment;

const SECOND: Duration = Duration::from_secs(1);

/// Seconds so far.
#[derive(Debug)]
pub struct Series {
    moments: Vec<Moment>,
    last: Counts,
}

/// What counts up, at one time of the window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// The time.
    pub at: Duration,
    /// Messages published.
    pub published: u64,
    /// Messages received.
    pub received: u64,
    /// Connects.
    pub connects: u64,
    /// CPU of the servers.
    pub servers: Option<Duration>,
}

impl Counts {
    /// Those of holders, and what else is known.
    pub fn new(at: Duration, published: u64, state: &State, servers: Option<Duration>) -> Self {
        Self { at, published, received: state.received, connects: state.opened, servers }
    }
}

impl Series {
    /// The window begins with these counts.
    pub fn begin(counts: Counts) -> Self {
        Self { moments: Vec::new(), last: counts }
    }

    /// When the next second is over.
    pub fn due(&self) -> Duration {
        self.last.at + SECOND
    }

    /// A second is over.
    pub fn enter(&mut self, counts: Counts, open: u64) {
        let last = self.last;
        let seconds = counts.at.saturating_sub(last.at).as_secs_f64();
        let cores = counts
            .servers
            .zip(last.servers)
            .map(|(end, begin)| end.saturating_sub(begin).as_secs_f64() / seconds);
        self.moments.push(Moment {
            second: counts.at.as_secs_f64(),
            open,
            published: counts.published - last.published,
            received: counts.received.saturating_sub(last.received),
            connects: counts.connects.saturating_sub(last.connects),
            server_cores: cores.filter(|cores| cores.is_finite()),
        });
        self.last = counts;
    }

    /// How fast messages were received in the last second.
    pub fn rate(&self) -> f64 {
        self.moments.last().map_or(0.0, |moment| float(moment.received))
    }

    /// All of them.
    pub fn into_moments(self) -> Vec<Moment> {
        self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_what_came_in_it() {
        let counts = |seconds, received, millis| Counts {
            at: Duration::from_secs(seconds),
            published: received / 10,
            received,
            connects: 5,
            servers: Some(Duration::from_millis(millis)),
        };
        let mut series = Series::begin(counts(0, 100, 50));
        assert_eq!(series.due(), SECOND);
        series.enter(counts(1, 300, 300), 7);
        series.enter(counts(3, 300, 1300), 7);
        let moments = series.into_moments();
        assert_eq!((moments[0].received, moments[0].published, moments[0].open), (200, 20, 7));
        assert_eq!((moments[0].server_cores, moments[0].connects), (Some(0.25), 0));
        assert_eq!((moments[1].second, moments[1].server_cores), (3.0, Some(0.5)));
    }
}
