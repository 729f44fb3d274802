//! Figures as people read them: three significant digits, with the unit that fits.

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things in a second.
    PerSecond,
    /// Microseconds, shown in the unit that fits.
    Time,
    /// Bytes, shown in the unit that fits.
    Bytes,
    /// A part of a whole, from 0 to 1.
    Share,
    /// Processor cores.
    Cores,
    /// Nothing but a number.
    Plain,
}

impl Unit {
    /// `value` with its unit.
    pub fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return "unknown".to_owned();
        }
        match self {
            Self::Count => grouped(&format!("{value:.0}")),
            Self::PerSecond => format!("{}/s", significant(value)),
            Self::Time => scaled(value, &TIMES, significant),
            Self::Bytes => scaled(value, &SIZES, significant),
            Self::Share => percent(value),
            Self::Cores | Self::Plain => significant(value),
        }
    }

    /// `value` at an axis: as short as it goes.
    pub fn tick(self, value: f64) -> String {
        match self {
            Self::Time => scaled(value, &TIMES, shortest),
            Self::Bytes => scaled(value, &SIZES, shortest),
            Self::Share => percent(value).replace(' ', ""),
            _ => scaled(value, &THOUSANDS, shortest).replace(' ', ""),
        }
    }
}

const TIMES: [(f64, &str); 4] = [(1e6, "s"), (1e3, "ms"), (1.0, "µs"), (1e-3, "ns")];
const SIZES: [(f64, &str); 4] =
    [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];
const THOUSANDS: [(f64, &str); 4] = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];

/// `value` in the largest unit of which there is at least one, else in the smallest.
fn scaled(value: f64, units: &[(f64, &str)], number: fn(f64) -> String) -> String {
    let base = units.iter().find(|(_, name)| matches!(*name, "µs" | "B" | ""));
    let fitting = if value == 0.0 { base } else { None };
    let fitting = fitting.or_else(|| units.iter().find(|(size, _)| value.abs() >= *size));
    let (size, name) = fitting.or(units.last()).copied().unwrap_or((1.0, ""));
    format!("{} {name}", number(value / size)).trim_end().to_owned()
}

/// Three significant digits; whole numbers from 100 on have all of theirs.
pub fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 | 100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ => 4,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// At most three decimals, and no zeros at their end.
fn shortest(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Rounded down, so that only what is whole is shown as whole.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", (share * 1e6 + 1e-6).floor() / 1e4);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A comma between each three digits before the point.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A count for what reckons in fractions.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_unit_that_fits() {
        for (unit, value, shown) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 999.0, "999"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, -1000.0, "-1,000"),
            (Unit::PerSecond, 81789.8, "81,790/s"),
            (Unit::Time, 0.0, "0 µs"),
            (Unit::Time, 0.25, "250 ns"),
            (Unit::Time, 1.234, "1.23 µs"),
            (Unit::Time, 12_345.0, "12.3 ms"),
            (Unit::Time, 12_345_678.0, "12.3 s"),
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::Bytes, 512.0, "512 B"),
            (Unit::Bytes, 1536.0, "1.50 KiB"),
            (Unit::Bytes, 3.0 * 1_048_576.0, "3.00 MiB"),
            (Unit::Share, 1.0, "100 %"),
            (Unit::Share, 0.999_999_9, "99.9999 %"),
            (Unit::Share, 0.5, "50 %"),
            (Unit::Cores, 0.1234, "0.123"),
            (Unit::Plain, 0.012_345, "0.0123"),
            (Unit::Plain, f64::NAN, "unknown"),
            (Unit::Time, f64::INFINITY, "unknown"),
        ] {
            assert_eq!(unit.show(value), shown, "{unit:?} {value}");
        }
    }

    #[test]
    fn ticks_are_short() {
        for (unit, value, shown) in [
            (Unit::Time, 1000.0, "1 ms"),
            (Unit::Time, 0.0, "0 µs"),
            (Unit::Time, 2e6, "2 s"),
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 2500.0, "2.5k"),
            (Unit::PerSecond, 1e6, "1M"),
            (Unit::Cores, 0.5, "0.5"),
            (Unit::Bytes, 2048.0, "2 KiB"),
            (Unit::Share, 0.999, "99.9%"),
        ] {
            assert_eq!(unit.tick(value), shown, "{unit:?} {value}");
        }
    }
}
