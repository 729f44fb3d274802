//! Distributions over a logarithmic axis of what is exceeded, so that the tail has as much room as the rest.

use super::chart::lines::{Lines, Series, X_PIXELS, Y_PIXELS};
use super::chart::scale::{Scale, Spacing};
use super::markup::Markup;
use super::number::{Unit, float};
use crate::work::result::Distribution;

/// Nines that the axis has at least and at most.
const LEAST_NINES: f64 = 2.0;
const MOST_NINES: f64 = 5.0;
/// Quantiles with a dot.
const DOTS: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A line for each of `distributions`.
pub fn chart(page: &mut Markup, title: &str, distributions: &[(String, &Distribution)]) {
    let series: Vec<_> = distributions.iter().map(|(name, times)| line(name, times)).collect();
    let all = || series.iter().flat_map(|series| &series.points);
    let nines = all().map(|(x, _)| *x).fold(LEAST_NINES, f64::max);
    let x = Scale::between(0.0, nines, X_PIXELS);
    let y = Scale::around(Spacing::Logarithmic, all().map(|(_, y)| *y), Y_PIXELS);
    let chart = Lines {
        title: title.to_owned(),
        x: (x, ticks(nines)),
        x_title: "percentile",
        y,
        unit: Unit::Time,
        series,
        events: Vec::new(),
    };
    chart.draw(page);
}

/// 50 %, 90 %, 99 % and so on as far as the axis goes.
fn ticks(nines: f64) -> Vec<(f64, String)> {
    let named = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
    let label = |quantile| Unit::Share.tick(quantile);
    let tick = |quantile: f64| (place(quantile, MOST_NINES), label(quantile));
    named.into_iter().map(tick).filter(|(place, _)| *place <= nines + 1e-6).collect()
}

/// How many nines a quantile has: 0.99 has two.
fn place(quantile: f64, most: f64) -> f64 {
    let exceeded = (1.0 - quantile).max(0.0);
    (-exceeded.log10()).clamp(0.0, most)
}

fn line<'a>(name: &'a str, times: &Distribution) -> Series<'a> {
    // One in so many is the rarest that the distribution can tell of.
    let most = float(times.count.max(1)).log10().clamp(0.0, MOST_NINES);
    let mut points: Vec<(f64, f64)> = times
        .curve
        .iter()
        .filter(|(quantile, micros)| quantile.is_finite() && *micros > 0.0)
        .map(|(quantile, micros)| (place(*quantile, most), *micros))
        .collect();
    if points.is_empty() && times.count > 0 {
        points = named(times).map(|(quantile, micros)| (place(quantile, most), micros)).collect();
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    // Of quantiles that the distribution can't tell apart the last is what it knows.
    points.dedup_by(|next, kept| (next.0 - kept.0).abs() < 1e-9);
    let known = named(times).filter(|(quantile, micros)| {
        DOTS.contains(quantile) && *micros > 0.0 && place(*quantile, MOST_NINES) <= most
    });
    let dots = known.map(|(quantile, micros)| {
        let what = format!("{name}, {}: {}", Unit::Share.show(quantile), Unit::Time.show(micros));
        (place(quantile, most), micros, what)
    });
    let dots = dots.collect();
    Series { name, points, dots }
}

fn named(times: &Distribution) -> impl Iterator<Item = (f64, f64)> {
    let tail = [(0.99, times.p99_us), (0.999, times.p999_us), (1.0, times.max_us)];
    [(0.0, times.min_us), (0.5, times.p50_us), (0.9, times.p90_us)].into_iter().chain(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_has_the_same_room() {
        for (quantile, expected) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.9999, 4.0), (1.0, 5.0)]
        {
            assert!((place(quantile, MOST_NINES) - expected).abs() < 1e-9, "{quantile}");
        }
        let labels: Vec<String> = ticks(3.2).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["50%", "90%", "99%", "99.9%"]);
    }

    #[test]
    fn a_line_ends_where_the_distribution_can_tell_no_more() {
        let curve = vec![(0.0, 1.0), (0.5, 2.0), (0.99, 5.0), (1.0, 9.0)];
        let times = Distribution { count: 1000, curve, ..Distribution::default() };
        let ends = |times: &Distribution| line("x", times).points.last().copied();
        assert_eq!(ends(&times), Some((3.0, 9.0)));
        let few = Distribution { count: 10, p50_us: 2.0, max_us: 7.0, ..Distribution::default() };
        assert_eq!(ends(&few), Some((1.0, 7.0)));
        assert_eq!(ends(&Distribution::default()), None);
    }
}
