//! Which numbers of a row have come.

/// The numbers that one client was given, from 1 on.
#[derive(Debug)]
pub(super) struct Tally {
    next: u32,
    /// What was passed over and hasn't come since. Empty, and without memory, if all is well.
    missing: Vec<u32>,
}

/// What a number is to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The one that was due.
    Next,
    /// So many before it are missing.
    Skips(u32),
    /// It was missing, and comes behind a later one.
    Late,
    /// It came before.
    Doubled,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { next: 1, missing: Vec::new() }
    }

    /// The number that is due.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn take(&mut self, number: u32) -> Verdict {
        if number < self.next {
            return match self.missing.iter().position(|missing| *missing == number) {
                Some(at) => {
                    self.missing.swap_remove(at);
                    Verdict::Late
                }
                None => Verdict::Doubled,
            };
        }
        let skipped = self.next..number;
        self.next = number + 1;
        if skipped.is_empty() {
            return Verdict::Next;
        }
        let count = skipped.len();
        self.missing.extend(skipped);
        Verdict::Skips(u32::try_from(count).expect("it is less than a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_judged_by_those_before_it() {
        let mut tally = Tally::new();
        for (number, verdict) in [
            (1, Verdict::Next),
            (2, Verdict::Next),
            (2, Verdict::Doubled),
            (5, Verdict::Skips(2)),
            (4, Verdict::Late),
            (4, Verdict::Doubled),
            (6, Verdict::Next),
            (3, Verdict::Late),
            (1, Verdict::Doubled),
        ] {
            assert_eq!(tally.take(number), verdict, "{number}");
        }
        assert_eq!((tally.next(), tally.missing), (7, Vec::new()));
    }
}
