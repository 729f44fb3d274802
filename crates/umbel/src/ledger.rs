//! What a worker's clients hold in memory besides the logs, counted in bytes.
//!
//! One ledger per worker. Long-lived holders are charged through a [`Charge`], which gives back
//! what it holds when it is dropped, so that no path of an error can forget it.

use std::cell::Cell;
use std::rc::Rc;

use umbel_metrics::LabelSet;

use crate::worker::Held;

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    bytes: [Cell<usize>; Held::COUNT],
}

impl Ledger {
    /// How much is held by one kind of holder.
    pub(crate) fn held(&self, by: Held) -> usize {
        self.bytes[by.index()].get()
    }

    /// Moves a holder's count from one size to another.
    pub(crate) fn change(&self, by: Held, from: usize, to: usize) {
        let cell = &self.bytes[by.index()];
        cell.set(cell.get() + to - from);
    }
}

/// What one holder has, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Rc<Ledger>,
    by: Held,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(ledger: &Rc<Ledger>, by: Held, bytes: usize) -> Self {
        ledger.change(by, 0, bytes);
        Self { ledger: ledger.clone(), by, bytes }
    }

    /// Takes note of the holder's size.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.ledger.change(self.by, self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Takes note that the holder has grown.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.ledger.change(self.by, 0, bytes);
        self.bytes += bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.change(self.by, self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let ledger = Rc::new(Ledger::default());
        let mut body = Charge::new(&ledger, Held::Bodies, 10);
        body.add(5);
        let other = Charge::new(&ledger, Held::Bodies, 1);
        assert_eq!(ledger.held(Held::Bodies), 16);
        drop(body);
        assert_eq!((ledger.held(Held::Bodies), ledger.held(Held::Input)), (1, 0));
        drop(other);
        assert_eq!(ledger.held(Held::Bodies), 0);
    }
}
