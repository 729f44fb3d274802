//! What a holder makes of what its sessions hear.

use anyhow::Result;

use super::dues::Dues;
use super::notes::{Notes, Receipt};
use super::slot::{Away, Phase, Slot, is_on_its_way};
use super::subscription::Subscription;
use crate::load::ledger::{self, Integrity};
use crate::wire::payload::{self, Template};
use crate::work::speech::{Heard, Speech, Wanted};

/// What is the same for all sessions.
pub(super) struct Hearing {
    /// What payloads look like.
    pub(super) template: Template,
    /// Who comes back names its place, so that it must be kept.
    pub(super) keeps_places: bool,
    /// What came of all messages; what is expected and lost only of subscriptions that were left.
    pub(super) sums: Integrity,
    /// Times that a server said that it can't give all.
    pub(super) gaps: u64,
    /// Times.
    pub(super) notes: Notes,
    /// When messages were due, if subscriptions are taken later.
    pub(super) dues: Dues,
    changes: bool,
    /// Topics of an open session with several of them.
    listed: Vec<Wanted<'static>>,
}

impl Hearing {
    /// Nothing heard yet.
    pub(super) fn new(
        template: Template,
        keeps_places: bool,
        has_one_topic: bool,
        changes: bool,
    ) -> Result<Self> {
        Ok(Self {
            template,
            keeps_places,
            sums: Integrity::default(),
            gaps: 0,
            notes: Notes::new(has_one_topic)?,
            dues: Dues::default(),
            changes,
            listed: Vec::new(),
        })
    }

    /// Takes in `bytes`, which `slot` read at `now`, and appends to `out` what it has to answer; says whether all it
    /// wants is subscribed since, and whether all was well.
    ///
    /// HOT PATH: once per session and batch.
    pub(super) fn hear(
        &mut self,
        speech: &Speech,
        slot: &mut Slot,
        bytes: &mut [u8],
        now: u64,
        out: &mut Vec<u8>,
    ) -> (bool, Result<()>) {
        let mut listed = std::mem::take(&mut self.listed);
        let (places, one, opening);
        let wanted: &[Wanted<'_>] = match &*slot.subscriptions {
            // Places matter only until all is subscribed.
            [only] if slot.phase == Phase::Open => {
                one = [topic_alone(only)];
                &one
            }
            many if slot.phase == Phase::Open => {
                listed.clear();
                listed.extend(many.iter().map(topic_alone));
                &listed
            }
            all => {
                places = all.iter().map(|of| of.place().map(str::to_owned)).collect::<Vec<_>>();
                let each = all.iter().zip(&places);
                opening = each
                    .map(|(of, place)| Wanted { topic: of.topic, after: place.as_deref() })
                    .collect::<Vec<_>>();
                &opening
            }
        };
        let mut ear = Ear {
            away: slot.away,
            is_witness: slot.is_witness,
            subscriptions: &mut slot.subscriptions,
            left: &slot.left,
            now,
            has_opened: false,
            hearing: self,
        };
        let heard = speech.hear(&mut slot.spoken, wanted, bytes, out, &mut |heard| ear.hear(heard));
        let has_opened = ear.has_opened && slot.phase == Phase::Opening;
        self.listed = listed;
        (has_opened, heard)
    }
}

fn topic_alone(of: &Subscription) -> Wanted<'static> {
    Wanted { topic: of.topic, after: None }
}

/// One session's, for as long as it hears.
struct Ear<'a> {
    hearing: &'a mut Hearing,
    subscriptions: &'a mut [Subscription],
    left: &'a [(usize, u64)],
    away: Away,
    is_witness: bool,
    now: u64,
    has_opened: bool,
}

impl Ear<'_> {
    #[inline]
    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Message { topic, payload, place } => self.take(topic, payload, place),
            Heard::Open => self.has_opened = true,
            Heard::At { topic, place } => self.stand_at(topic, place),
            Heard::Gap { .. } => self.hearing.gaps += 1,
        }
    }

    /// HOT PATH: once per delivery; no allocation unless a place is longer than the last.
    #[inline]
    fn take(&mut self, topic: usize, payload: &[u8], place: Option<&str>) {
        let Some(subscription) = find(self.subscriptions, topic) else {
            let mut left = self.left.iter();
            let is_known = left.any(|(at, when)| *at == topic && is_on_its_way(*when, self.now));
            self.hearing.sums.garbled += u64::from(!is_known);
            return;
        };
        let hearing = &mut *self.hearing;
        let Ok(sequence) = hearing.template.sequence(payload) else {
            hearing.sums.garbled += 1;
            return;
        };
        let receipt = subscription.receive(sequence);
        hearing.sums.count(receipt);
        if let Some(place) = place.filter(|_| hearing.keeps_places) {
            subscription.reach(place);
        }
        if receipt == ledger::Receipt::Doubled || !hearing.notes.is_on() {
            return;
        }
        if let Ok(due) = payload::stamp(payload) {
            if hearing.changes {
                hearing.dues.enter(topic, sequence, due);
            }
            let (at, away, is_witness) = (self.now, self.away, self.is_witness);
            hearing.notes.enter(Receipt { at, due, sequence, away, is_witness });
        }
    }

    /// All up to `place` has come, or never will.
    fn stand_at(&mut self, topic: usize, place: &str) {
        let keeps = self.hearing.keeps_places && !place.is_empty();
        let Some(subscription) = find(self.subscriptions, topic) else {
            return;
        };
        if self.hearing.changes && self.now > 0 {
            subscription.confirm(self.now);
        }
        if keeps {
            subscription.reach(place);
        }
    }
}

#[inline]
fn find(subscriptions: &mut [Subscription], topic: usize) -> Option<&mut Subscription> {
    let found = subscriptions.binary_search_by_key(&topic, |of| of.topic);
    found.ok().map(|index| &mut subscriptions[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_other_topics_are_an_error_unless_they_were_just_left() {
        let mut template = Template::new(64).unwrap();
        let mut hearing = Hearing::new(template.clone(), false, false, false).unwrap();
        let mut payload = Vec::new();
        template.write(&mut payload, 0, 0);
        let mut slot = Slot::new(&[1, 2], false, true);
        let left = slot.replace(0, Subscription::from_now_on(3), 100);
        assert_eq!(left.topic, 1);
        let later = 60_000_000_000;
        for (topic, now, garbled) in [(3, 100, 0), (1, 200, 0), (4, 200, 1), (1, later, 2)] {
            let mut ear = Ear {
                hearing: &mut hearing,
                subscriptions: &mut slot.subscriptions,
                left: &slot.left,
                away: slot.away,
                is_witness: true,
                now,
                has_opened: false,
            };
            ear.take(topic, &payload, None);
            assert_eq!(hearing.sums.garbled, garbled, "{topic} at {now}");
        }
    }
}
