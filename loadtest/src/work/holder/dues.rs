//! When messages were due, as far as any session of the holder has had them: what one that came later is to get.

/// Messages noted over all topics at most; later ones are owed to nobody who hasn't had one before.
const MOST: usize = 4_000_000;

/// By topic, and by number within it.
#[derive(Debug, Default)]
pub(super) struct Dues {
    /// In nanoseconds of the clock; 0: nobody has had it.
    topics: Vec<Vec<u64>>,
    noted: usize,
}

impl Dues {
    /// Message `sequence` of `topic` was due at `due`.
    #[inline]
    pub(super) fn enter(&mut self, topic: usize, sequence: u64, due: u64) {
        let sequence = usize::try_from(sequence).unwrap_or(usize::MAX);
        match self.topics.get_mut(topic).and_then(|dues| dues.get_mut(sequence)) {
            Some(noted) => *noted = due,
            None => self.make_room(topic, sequence, due),
        }
    }

    #[cold]
    fn make_room(&mut self, topic: usize, sequence: usize, due: u64) {
        let before = self.topics.get(topic).map_or(0, Vec::len);
        let more = sequence.saturating_sub(before).saturating_add(1);
        if topic >= MOST || more > MOST - self.noted {
            return;
        }
        self.topics.resize_with(self.topics.len().max(topic + 1), Vec::new);
        self.topics[topic].resize(sequence + 1, 0);
        self.topics[topic][sequence] = due;
        self.noted += more;
    }

    /// The first message of `topic` that was due at `from` or later, if one is known that was due before `to`.
    pub(super) fn first(&self, topic: usize, from: u64, to: u64) -> Option<u64> {
        let dues = self.topics.get(topic)?;
        dues.iter().position(|due| (from..to).contains(due)).map(|sequence| sequence as u64)
    }

    /// One more than the last message of `topic` that is known to have been due before `to`; 0 if none is.
    pub(super) fn end(&self, topic: usize, to: u64) -> u64 {
        let dues = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
        let last = dues.iter().rposition(|due| (1..to).contains(due));
        last.map_or(0, |sequence| sequence as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_by_when_they_were_due() {
        let mut dues = Dues::default();
        for (sequence, due) in [(1, 10), (4, 40), (3, 30)] {
            dues.enter(2, sequence, due);
        }
        let first = |from, to| dues.first(2, from, to);
        assert_eq!([first(1, 99), first(10, 99), first(11, 99)], [Some(1), Some(1), Some(3)]);
        assert_eq!([first(11, 30), first(41, 99), dues.first(7, 1, 99)], [None; 3]);
        assert_eq!([10, 11, 40, 41].map(|to| dues.end(2, to)), [0, 2, 4, 5]);
        assert_eq!(dues.end(0, 99), 0);
    }

    #[test]
    fn there_is_a_bound() {
        let mut dues = Dues::default();
        dues.enter(0, u64::MAX, 5);
        dues.enter(0, MOST as u64, 5);
        dues.enter(MOST, 0, 5);
        assert_eq!((dues.topics.len(), dues.noted), (0, 0));
        dues.enter(0, MOST as u64 - 1, 5);
        dues.enter(1, 0, 5);
        assert_eq!((dues.topics.len(), dues.noted), (1, MOST));
    }
}
