//! Medians and quartiles, and the verdict that they allow.

use serde::{Deserialize, Serialize};

use super::case::Target;
use super::results::Sides;

/// The middle of some figures and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// A quarter of the figures is at most this.
    pub lower_quartile: f64,
    /// Half of them.
    pub median: f64,
    /// Three quarters of them.
    pub upper_quartile: f64,
}

/// Whether a target is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The median is.
    Reached,
    /// Three quarters of the rounds aren't.
    Missed,
    /// The rounds disagree.
    Undecided,
    /// There is no target.
    Unjudged,
}

impl Spread {
    /// Of `figures`, if there are any.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            lower_quartile: at(&sorted, 1)?,
            median: at(&sorted, 2)?,
            upper_quartile: at(&sorted, 3)?,
        })
    }
}

/// The figure that `quarters` of four are below, between neighbours where it falls between them.
fn at(sorted: &[f64], quarters: usize) -> Option<f64> {
    let place = (sorted.len().checked_sub(1)?) * quarters;
    let (index, rest) = (place / 4, place % 4);
    let below = sorted[index];
    let above = sorted.get(index + 1).unwrap_or(&below);
    let share = [0.0, 0.25, 0.5, 0.75][rest];
    Some(below + (above - below) * share)
}

impl Verdict {
    /// On a target, given the figure and the ratio.
    pub fn on(target: Target, sides: &Sides) -> Self {
        match target {
            Target::Ratio(limit) => Self::on_most(limit, &sides.ratio),
            Target::Absolute(limit) => Self::on_most(limit, &sides.node),
            Target::RatioAtLeast(limit) => Self::on_least(limit, &sides.ratio),
            Target::AtLeast(limit) => Self::on_least(limit, &sides.node),
            Target::None => Self::Unjudged,
        }
    }

    /// On a figure that is to be `limit` at most.
    pub(crate) fn on_most(limit: f64, spread: &Spread) -> Self {
        if spread.median <= limit {
            Self::Reached
        } else if spread.lower_quartile > limit {
            Self::Missed
        } else {
            Self::Undecided
        }
    }

    fn on_least(limit: f64, spread: &Spread) -> Self {
        if spread.median >= limit {
            Self::Reached
        } else if spread.upper_quartile < limit {
            Self::Missed
        } else {
            Self::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let expected = |lower_quartile, median, upper_quartile| {
            Some(Spread { lower_quartile, median, upper_quartile })
        };
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), expected(3.0, 3.0, 3.0));
        assert_eq!(spread(&[5.0, 1.0, 3.0, 2.0, 4.0]), expected(2.0, 3.0, 4.0));
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0]), expected(1.75, 2.5, 3.25));
    }

    #[test]
    fn a_verdict_needs_agreement() {
        let verdict = |target: Target, figures: &[f64]| {
            let ratio = Spread::of(figures.iter().copied()).unwrap();
            let node = Spread::of(figures.iter().map(|figure| figure * 10.0)).unwrap();
            Verdict::on(target, &Sides { node, against: ratio, naive: None, ratio })
        };
        for target in [Target::Ratio(1.5), Target::Absolute(15.0)] {
            assert_eq!(verdict(target, &[1.0, 1.4, 9.0]), Verdict::Reached);
            assert_eq!(verdict(target, &[1.5, 1.5, 1.5]), Verdict::Reached);
            assert_eq!(verdict(target, &[1.6, 1.7, 1.8]), Verdict::Missed);
            assert_eq!(verdict(target, &[1.0, 1.6, 1.8]), Verdict::Undecided);
        }
        for target in [Target::RatioAtLeast(1.5), Target::AtLeast(15.0)] {
            assert_eq!(verdict(target, &[0.1, 1.6, 1.7]), Verdict::Reached);
            assert_eq!(verdict(target, &[1.5, 1.5, 1.5]), Verdict::Reached);
            assert_eq!(verdict(target, &[1.2, 1.3, 1.4]), Verdict::Missed);
            assert_eq!(verdict(target, &[1.2, 1.4, 2.0]), Verdict::Undecided);
        }
        assert_eq!(verdict(Target::None, &[9.0]), Verdict::Unjudged);
    }
}
