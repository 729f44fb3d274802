//! Distributions of times: noted by each holder, put together and described by the coordinator.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::orders::Times;
use super::result::Distribution;

/// Three significant digits: less than the difference of any two runs.
const DIGITS: u8 = 3;
/// Ten minutes, in nanoseconds; what takes longer is entered as this.
const LONGEST: u64 = 600_000_000_000;
/// Points of a curve between each nine and the next: 0, 0.9, 0.99 and so on.
const POINTS: i32 = 10;

/// An empty histogram of nanoseconds. Enter by `saturating_record`.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LONGEST, DIGITS)?)
}

impl Times {
    /// All that was entered into `histogram`.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        Self(recorded.map(|at| (at.value_iterated_to(), at.count_at_value())).collect())
    }

    /// Enters all of them into `histogram`.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (nanos, count) in &self.0 {
            histogram.saturating_record_n(*nanos, *count);
        }
    }
}

impl Distribution {
    /// What was entered into `histogram`, which counts nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min_us: micros(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(histogram.max()),
            curve: quantiles(histogram.len()).map(|quantile| (quantile, at(quantile))).collect(),
        }
    }
}

/// Quantiles that show the tail of `count` times as large as the rest: evenly spread by the logarithm of what is above,
/// as long as more than one is, and the last.
fn quantiles(count: u64) -> impl Iterator<Item = f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let least = 1.0 / count.max(1) as f64;
    let above = (0..).map(|point| 10f64.powf(-f64::from(point) / f64::from(POINTS)));
    let below = above.take_while(move |above| *above > least).map(|above| 1.0 - above);
    below.chain((count > 0).then_some(1.0))
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_distribution_is_described_in_microseconds() {
        let mut times = histogram().unwrap();
        for time in 1..=1000 {
            times.record(time * 1000).unwrap();
        }
        let found = Distribution::of(&times);
        assert_eq!(found.count, 1000);
        for (found, expected) in [
            (found.min_us, 1.0),
            (found.mean_us, 500.5),
            (found.p50_us, 500.0),
            (found.p90_us, 900.0),
            (found.p99_us, 990.0),
            (found.p999_us, 999.0),
            (found.max_us, 1000.0),
        ] {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} is not {expected}");
        }
        assert_eq!(found.curve.len(), 31);
        assert_eq!(found.curve.last().map(|point| point.0), Some(1.0));
        assert!(found.curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    }

    #[test]
    fn nothing_is_described_as_nothing() {
        assert_eq!(Distribution::of(&histogram().unwrap()), Distribution::default());
    }

    #[test]
    fn what_takes_too_long_is_entered_as_the_longest() {
        let mut times = histogram().unwrap();
        Times(vec![(u64::MAX, 2)]).add_to(&mut times);
        assert_eq!(times.len(), 2);
        assert!(times.max() >= LONGEST);
    }

    proptest! {
        // Each looks through some ten thousand counts.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn times_come_back_as_they_were(entered in prop::collection::vec(0..LONGEST, 0..50)) {
            let mut times = histogram().unwrap();
            for nanos in entered {
                times.saturating_record(nanos);
            }
            let mut again = histogram().unwrap();
            Times::of(&times).add_to(&mut again);
            prop_assert_eq!(Times::of(&again), Times::of(&times));
        }
    }
}
