//! From values to places on an axis, and where its ticks are.

/// What is as large has no place: it could no longer be reckoned with.
const BEYOND: f64 = 1e100;

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Evenly.
    Linear,
    /// By their logarithm: only what is above zero has a place.
    Logarithmic,
}

/// One axis: from values to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    spacing: Spacing,
    least: f64,
    most: f64,
    pixels: (f64, f64),
}

/// Ticks that an axis has at most, or so.
const TICKS: f64 = 5.0;
/// The most over the least up to which there are ticks between decades.
const FEW_DECADES: f64 = 300.0;
/// What an axis spans at most: more than times have, and few enough ticks.
const DECADES: f64 = 15.0;

impl Scale {
    /// An axis on which all of `values` have a place, with ends that are ticks. What isn't a number that can be reckoned with
    /// has none.
    pub fn around(spacing: Spacing, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let fits = |value: &f64| match spacing {
            Spacing::Linear => value.abs() < BEYOND,
            Spacing::Logarithmic => (1.0 / BEYOND..BEYOND).contains(value),
        };
        let (least, most) =
            values.filter(fits).fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let (least, most) = if least <= most { (least, most) } else { (1.0, 1.0) };
        let (least, most) = match spacing {
            Spacing::Linear => linear_ends(least, most),
            Spacing::Logarithmic => logarithmic_ends(least, most),
        };
        Self { spacing, least, most, pixels }
    }

    /// From `least` to `most`, whatever the values are.
    pub fn between(least: f64, most: f64, pixels: (f64, f64)) -> Self {
        let most = if most > least { most } else { least + 1.0 };
        Self { spacing: Spacing::Linear, least, most, pixels }
    }

    /// Where `value` is; what is beyond an end is at that end.
    pub fn at(&self, value: f64) -> f64 {
        let value = if value.is_finite() { value.clamp(self.least, self.most) } else { self.least };
        let share = match self.spacing {
            Spacing::Linear => (value - self.least) / (self.most - self.least),
            Spacing::Logarithmic => (value / self.least).log10() / (self.most / self.least).log10(),
        };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Values with a line and a label.
    pub fn ticks(&self) -> Vec<f64> {
        match self.spacing {
            Spacing::Linear => self.linear_ticks(),
            Spacing::Logarithmic => self.logarithmic_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let step = step(self.most - self.least);
        let first = (self.least / step).ceil();
        let ticks = (0..=u8::MAX).map(|index| (first + f64::from(index)) * step);
        ticks.take_while(|tick| *tick <= self.most + step * 1e-9).collect()
    }

    fn logarithmic_ticks(&self) -> Vec<f64> {
        let (from, to) = (decade(self.least), decade(self.most));
        let few = self.most / self.least <= FEW_DECADES;
        let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ticks = (from..=to)
            .flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
        let inside = (self.least * 0.999)..=(self.most * 1.001);
        ticks.filter(|tick| inside.contains(tick)).collect()
    }
}

/// From zero, or below, to a whole number of steps.
fn linear_ends(least: f64, most: f64) -> (f64, f64) {
    let (least, most) = (least.min(0.0), most.max(0.0));
    let step = step(most - least);
    let (least, most) = ((least / step).floor() * step, (most / step).ceil() * step);
    (least, if most > least { most } else { least + step })
}

/// From a 1, 2 or 5 to one.
fn logarithmic_ends(least: f64, most: f64) -> (f64, f64) {
    let least = least.max(most / 10_f64.powf(DECADES));
    let power = |value: f64| 10_f64.powi(decade(value));
    let below = [5.0, 2.0, 1.0].into_iter().map(|factor| factor * power(least));
    let above = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power(most));
    let below = { below }.find(|tick| *tick <= least * 1.001).unwrap_or(least);
    let above = { above }.find(|tick| *tick >= most * 0.999 && *tick > below * 1.001);
    (below, above.unwrap_or(below * 10.0))
}

/// 1, 2 or 5 times a power of ten, so that a span has about as many steps as ticks.
fn step(span: f64) -> f64 {
    if !(1.0 / BEYOND..).contains(&span) {
        return 1.0;
    }
    let rough = span / TICKS;
    let power = 10_f64.powi(decade(rough));
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

#[expect(clippy::cast_possible_truncation, reason = "exponents of finite numbers are small")]
fn decade(value: f64) -> i32 {
    value.log10().floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIXELS: (f64, f64) = (0.0, 100.0);

    fn ticks(spacing: Spacing, values: &[f64]) -> Vec<f64> {
        let rounded = |tick: f64| (tick * 1e6).round() / 1e6;
        let scale = Scale::around(spacing, values.iter().copied(), PIXELS);
        scale.ticks().into_iter().map(rounded).collect()
    }

    #[test]
    fn ticks_are_where_readers_expect_them() {
        let linear = |values| ticks(Spacing::Linear, values);
        assert_eq!(linear(&[3.0, 97.0]), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear(&[0.42]), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(linear(&[]), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(linear(&[0.0]), linear(&[]));
        let logarithmic = |values| ticks(Spacing::Logarithmic, values);
        assert_eq!(logarithmic(&[3.0, 80.0]), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(logarithmic(&[1.0, 1e4]), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(logarithmic(&[7.0, 0.0, f64::NAN]), [5.0, 10.0]);
    }

    #[test]
    fn values_are_between_the_ends() {
        let scale = Scale::around(Spacing::Logarithmic, [1.0, 100.0].into_iter(), PIXELS);
        let near = |value, pixel: f64| assert!((scale.at(value) - pixel).abs() < 1e-9, "{value}");
        near(1.0, 0.0);
        near(10.0, 50.0);
        near(100.0, 100.0);
        near(1e9, 100.0);
        near(0.0, 0.0);
        near(f64::NAN, 0.0);
    }

    proptest! {
        #[test]
        fn every_value_has_a_place_and_ticks_are_few(
            values in proptest::collection::vec(proptest::num::f64::ANY, 0..20),
            logarithmic: bool,
        ) {
            let spacing = if logarithmic { Spacing::Logarithmic } else { Spacing::Linear };
            let scale = Scale::around(spacing, values.iter().copied(), PIXELS);
            let ticks = scale.ticks();
            prop_assert!((1..=20).contains(&ticks.len()), "{:?}", ticks);
            for value in values.into_iter().chain(ticks) {
                prop_assert!((0.0..=100.0).contains(&scale.at(value)), "{}", value);
            }
        }
    }
}
