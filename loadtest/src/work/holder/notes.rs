//! The times that a holder notes.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::slot::Away;
use crate::work::orders::{Report, Times};
use crate::work::times::histogram;

/// Messages whose last receipt is noted.
const LAST_RECEIPTS: usize = 100_000;

/// One receipt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    /// When it was read; this and all times in nanoseconds of the clock.
    pub(super) at: u64,
    /// When the message was due.
    pub(super) due: u64,
    /// The message's number in its topic.
    pub(super) sequence: u64,
    /// When the session was away.
    pub(super) away: Away,
    /// Whether the session is one of those whose times tell of the server.
    pub(super) is_witness: bool,
}

/// Times since the window's begin. Messages count that were due in it, though they come behind its end: else the
/// slowest would be left out.
#[derive(Debug)]
pub(super) struct Notes {
    /// When the window began; before, nothing is noted but connects.
    begin: u64,
    end: u64,
    delivery: Histogram<u64>,
    replay: Histogram<u64>,
    connect: Histogram<u64>,
    back: Histogram<u64>,
    /// Connects before the window: told if there were none in it.
    first_connects: Histogram<u64>,
    last: Option<LastReceipts>,
}

impl Notes {
    /// Nothing yet; last receipts only if all have the same topic.
    pub(super) fn new(has_one_topic: bool) -> Result<Self> {
        Ok(Self {
            begin: u64::MAX,
            end: u64::MAX,
            delivery: histogram()?,
            replay: histogram()?,
            connect: histogram()?,
            back: histogram()?,
            first_connects: histogram()?,
            last: has_one_topic.then(LastReceipts::default),
        })
    }

    /// The window begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.begin = now;
        std::mem::swap(&mut self.first_connects, &mut self.connect);
        self.connect.reset();
        self.delivery.reset();
        self.replay.reset();
        self.back.reset();
        self.last = self.last.take().map(|_| LastReceipts::default());
    }

    /// It ends.
    pub(super) fn end(&mut self, now: u64) {
        self.end = now;
    }

    /// Whether receipts are noted.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.begin != u64::MAX
    }

    /// Enters a receipt.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub(super) fn enter(&mut self, receipt: Receipt) {
        let Receipt { at, due, sequence, away, is_witness } = receipt;
        if due < self.begin || due >= self.end {
            return;
        }
        let wanted = away.wanted.unwrap_or(away.since);
        if (away.since..away.until).contains(&due) {
            self.replay.saturating_record(at.saturating_sub(due.max(wanted)));
        } else if is_witness {
            let pause = if due < away.since { wanted.saturating_sub(away.since) } else { 0 };
            let nanos = at.saturating_sub(due).saturating_sub(pause);
            self.delivery.saturating_record(nanos);
            if let Some(last) = &mut self.last {
                last.enter(sequence, nanos);
            }
        }
    }

    /// Enters a subscription that is open at `now` and whose connect was begun then.
    pub(super) fn enter_connect(&mut self, begun: u64, now: u64) {
        if begun < self.end {
            self.connect.saturating_record(now.saturating_sub(begun));
        }
    }

    /// Enters a session that is open again at `now` and wanted to be since `wanted`.
    pub(super) fn enter_back(&mut self, wanted: u64, now: u64) {
        if (self.begin..self.end).contains(&wanted) {
            self.back.saturating_record(now.saturating_sub(wanted));
        }
    }

    /// Writes all into `report`.
    pub(super) fn tell(&self, report: &mut Report) {
        let connects = [&self.connect, &self.first_connects];
        let connects = connects.into_iter().find(|times| !times.is_empty());
        report.connect = connects.map(Times::of).unwrap_or_default();
        report.back = Times::of(&self.back);
        report.delivery = Times::of(&self.delivery);
        report.replay = Times::of(&self.replay);
        if let Some(last) = &self.last {
            report.first_sequence = last.first;
            report.last_receipts.clone_from(&last.nanos);
            report.last_receipts_cut = last.is_cut;
        }
    }
}

/// The longest time of each message; none of those that nobody had.
#[derive(Debug, Default)]
struct LastReceipts {
    first: u64,
    nanos: Vec<u64>,
    /// There was no room for some.
    is_cut: bool,
}

impl LastReceipts {
    #[inline]
    fn enter(&mut self, sequence: u64, nanos: u64) {
        let index = sequence.wrapping_sub(self.first);
        match usize::try_from(index).ok().and_then(|index| self.nanos.get_mut(index)) {
            Some(longest) => *longest = nanos.max(*longest),
            None => self.make_room(sequence, nanos),
        }
    }

    /// Mostly for the next message; the first to come needn't be the first of the window.
    #[cold]
    fn make_room(&mut self, sequence: u64, nanos: u64) {
        if self.nanos.is_empty() {
            self.first = sequence;
        }
        let first = self.first.min(sequence);
        let end = (self.first + self.nanos.len() as u64).max(sequence + 1);
        let Some(length) = usize::try_from(end - first).ok().filter(|it| *it <= LAST_RECEIPTS)
        else {
            self.is_cut = true;
            return;
        };
        let before = usize::try_from(self.first - first).unwrap_or(0);
        self.nanos.splice(..0, std::iter::repeat_n(0, before));
        self.nanos.resize(length, 0);
        self.first = first;
        self.enter(sequence, nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(due: u64, at: u64, sequence: u64) -> Receipt {
        Receipt { at, due, sequence, away: Away { until: 0, ..Away::default() }, is_witness: true }
    }

    fn told(notes: &Notes) -> Report {
        let mut report = Report::default();
        notes.tell(&mut report);
        report
    }

    #[test]
    fn what_was_due_in_the_window_counts_whenever_it_comes() {
        let mut notes = Notes::new(true).unwrap();
        assert!(!notes.is_on());
        notes.enter(receipt(90, 95, 0));
        notes.begin(100);
        notes.enter(receipt(99, 150, 1));
        notes.enter(receipt(100, 150, 2));
        notes.end(200);
        notes.enter(receipt(199, 299, 3));
        notes.enter(receipt(200, 299, 4));
        let report = told(&notes);
        assert_eq!(report.delivery, Times(vec![(50, 1), (100, 1)]));
        assert_eq!((report.first_sequence, report.last_receipts), (2, vec![50, 100]));
        assert_eq!(report.replay, Times::default());
    }

    #[test]
    fn what_was_due_while_away_counts_from_the_first_attempt_to_return() {
        let away = Away { since: 110, wanted: Some(130), until: 150 };
        let mut notes = Notes::new(true).unwrap();
        notes.begin(100);
        notes.enter(Receipt { away, ..receipt(120, 170, 1) });
        notes.enter(Receipt { away, ..receipt(145, 170, 2) });
        // It isn't open yet.
        notes.enter(Receipt { away: Away { until: u64::MAX, ..away }, ..receipt(149, 160, 2) });
        assert_eq!(told(&notes).replay, Times(vec![(11, 1), (25, 1), (40, 1)]));
        assert_eq!(told(&notes).delivery, Times::default());
        // What waited at the server as the connection ended; and what came later.
        notes.enter(Receipt { away, ..receipt(105, 170, 0) });
        notes.enter(Receipt { away, ..receipt(150, 180, 3) });
        notes.enter(Receipt { away, is_witness: false, ..receipt(150, 190, 4) });
        let report = told(&notes);
        assert_eq!(report.delivery, Times(vec![(30, 1), (45, 1)]));
        assert_eq!((report.first_sequence, report.last_receipts), (0, vec![45, 0, 0, 30]));
    }

    #[test]
    fn a_return_counts_from_when_it_was_wanted_whenever_it_comes() {
        let mut notes = Notes::new(false).unwrap();
        notes.enter_back(90, 95);
        notes.begin(100);
        notes.enter_back(99, 105);
        notes.enter_back(100, 110);
        notes.end(200);
        notes.enter_back(199, 260);
        notes.enter_back(200, 260);
        assert_eq!(told(&notes).back, Times(vec![(10, 1), (61, 1)]));
    }

    #[test]
    fn connects_of_the_window_are_told_or_else_the_first_ones() {
        let mut notes = Notes::new(false).unwrap();
        notes.enter_connect(0, 10);
        notes.begin(100);
        assert_eq!(told(&notes).connect, Times(vec![(10, 1)]));
        notes.enter_connect(110, 130);
        notes.end(200);
        notes.enter_connect(190, 230);
        notes.enter_connect(200, 230);
        assert_eq!(told(&notes).connect, Times(vec![(20, 1), (40, 1)]));
    }

    #[test]
    fn the_longest_receipt_is_kept_in_whatever_order_messages_come() {
        let mut last = LastReceipts::default();
        for (sequence, nanos) in [(5, 50), (7, 70), (5, 40), (7, 90), (3, 30)] {
            last.enter(sequence, nanos);
        }
        assert_eq!((last.first, last.nanos.as_slice()), (3, [30, 0, 50, 0, 90].as_slice()));
        last.enter(2 + LAST_RECEIPTS as u64, 1);
        assert_eq!((last.nanos.len(), last.is_cut), (LAST_RECEIPTS, false));
        last.enter(3 + LAST_RECEIPTS as u64, 1);
        assert_eq!((last.nanos.len(), last.is_cut), (LAST_RECEIPTS, true));
    }
}
