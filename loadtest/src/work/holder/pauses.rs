//! How long sessions wait, and how much the slow ones read: drawn from a seed, so that a run can be repeated.

use fastrand::Rng;

use crate::work::file::{Cut, Slow};
use crate::work::shape::{mixed, unit};

const SECOND: f64 = 1e9;
/// The pauses of those who were refused, in seconds: doubled each time, and each drawn from its half to its whole.
const FIRST_RETRY: f64 = 0.2;
const LONGEST_RETRY: f64 = 2.0;
/// Bounds of the pause of those whom the server ended.
const RETURN: (f64, f64) = (0.1, 1.0);
/// Slow sessions read so often, but not for fewer bytes.
const READ_EVERY: f64 = 0.1;
const LEAST_READ: f64 = 64.0;
/// Keeps the draw of slow sessions apart from that of their topics.
const SLOW: u64 = 0x510_5EED;

/// Nanoseconds of `seconds`; none of what is no time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded")]
pub(super) fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND).clamp(0.0, 1e18) as u64
}

/// Before the next attempt of a session that was refused `failures` times in a row.
pub(super) fn after_refusal(failures: u8, random: &mut Rng) -> u64 {
    let longest = FIRST_RETRY * f64::from(1u32 << failures.saturating_sub(1).min(10));
    nanos(longest.min(LONGEST_RETRY) * between(random, 0.5, 1.0))
}

/// Before the return of a session that the server ended.
pub(super) fn after_loss(random: &mut Rng) -> u64 {
    nanos(between(random, RETURN.0, RETURN.1))
}

/// Before the first cut, counted from the begin of them all.
pub(super) fn before_first_cut(cut: Cut, random: &mut Rng) -> u64 {
    nanos(cut.every_seconds * random.f64())
}

/// Before a later cut, counted from the return.
pub(super) fn before_cut(cut: Cut, random: &mut Rng) -> u64 {
    nanos(cut.every_seconds * between(random, 0.5, 1.5))
}

fn between(random: &mut Rng, least: f64, most: f64) -> f64 {
    least + (most - least) * random.f64()
}

/// Whether session `number` of the run is one of those that read slowly.
pub(super) fn is_slow(slow: Slow, number: usize) -> bool {
    unit(mixed(number as u64 ^ SLOW)) < slow.share
}

/// What a slow session reads at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// So many bytes at most.
    pub(super) bytes: usize,
    /// So often, in nanoseconds.
    pub(super) every: u64,
}

impl Budget {
    /// What keeps to `slow`. What isn't used isn't kept.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a count of bytes, rounded down"
    )]
    pub(super) fn of(slow: Slow) -> Self {
        let per_second = slow.bytes_per_second.max(1) as f64;
        let bytes = (per_second * READ_EVERY).max(LEAST_READ).floor();
        Self { bytes: bytes as usize, every: nanos(bytes / per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn seconds(nanos: u64) -> f64 {
        Duration::from_nanos(nanos).as_secs_f64()
    }

    fn drawn(mut draw: impl FnMut(&mut Rng) -> u64) -> (f64, f64, f64) {
        let mut random = Rng::with_seed(7);
        let drawn: Vec<f64> = (0..2000).map(|_| seconds(draw(&mut random))).collect();
        let (least, most) = drawn
            .iter()
            .fold((f64::MAX, 0f64), |(least, most), time| (least.min(*time), most.max(*time)));
        (least, drawn.iter().sum::<f64>() / 2000.0, most)
    }

    #[test]
    fn first_cuts_are_spread_and_later_ones_keep_their_distance() {
        let cut = Cut { every_seconds: 10.0, away_seconds: 1.0 };
        let (least, mean, most) = drawn(|random| before_first_cut(cut, random));
        assert!(least < 0.1 && most > 9.9 && most < 10.0, "{least} {most}");
        assert!((4.7..5.3).contains(&mean), "{mean}");
        let (least, mean, most) = drawn(|random| before_cut(cut, random));
        assert!((5.0..5.1).contains(&least) && (14.9..15.0).contains(&most), "{least} {most}");
        assert!((9.7..10.3).contains(&mean), "{mean}");
    }

    #[test]
    fn pauses_of_the_refused_grow_to_two_seconds() {
        for (failures, least, most) in
            [(1, 0.1, 0.2), (2, 0.2, 0.4), (9, 1.0, 2.0), (255, 1.0, 2.0)]
        {
            let (found, _, longest) = drawn(|random| after_refusal(failures, random));
            assert!(found >= least && found < least * 1.01, "{failures}: {found}");
            assert!(longest <= most && longest > most * 0.99, "{failures}: {longest}");
        }
        let (least, _, most) = drawn(after_loss);
        assert!(least >= 0.1 && most <= 1.0 && most > 0.98, "{least} {most}");
    }

    #[test]
    fn a_tenth_is_about_a_tenth_and_always_the_same() {
        let slow = Slow { share: 0.1, bytes_per_second: 1 };
        let slow_ones = |share| (0..10_000).filter(|n| is_slow(Slow { share, ..slow }, *n)).count();
        assert!((900..1100).contains(&slow_ones(0.1)), "{}", slow_ones(0.1));
        assert_eq!((slow_ones(0.0), slow_ones(1.0)), (0, 10_000));
    }

    #[test]
    fn slow_ones_read_no_more_than_their_rate() {
        for bytes_per_second in [0, 1, 100, 1000, 12_345, 1 << 30] {
            let budget = Budget::of(Slow { share: 1.0, bytes_per_second });
            let bytes = f64::from(u32::try_from(budget.bytes).unwrap());
            let rate = bytes / seconds(budget.every);
            let wanted = f64::from(u32::try_from(bytes_per_second.max(1)).unwrap());
            assert!((rate / wanted - 1.0).abs() < 1e-6, "{bytes_per_second}: {budget:?}");
            assert!(budget.every >= nanos(0.099), "{bytes_per_second}: {budget:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        assert_eq!([nanos(-1.0), nanos(f64::NAN), nanos(0.5)], [0, 0, 500_000_000]);
    }
}
