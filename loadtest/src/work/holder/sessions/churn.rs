//! Subscriptions that change.

use anyhow::Result;

use super::Sessions;
use crate::os::poller::Poller;
use crate::work::holder::slot::Phase;
use crate::work::holder::subscription::Subscription;
use crate::work::holder::timers::Alarm;
use crate::work::speech::Wanted;

/// Attempts to find an open session, and a topic that it hasn't.
const DRAWS: usize = 16;

impl Sessions {
    /// Lets one of the open sessions leave a topic and take another, or closes it and opens another.
    pub(super) fn change_one(&mut self, now: u64, poller: &Poller) {
        let is_open = |number: &usize| self.slots[*number].phase == Phase::Open;
        let all = 0..self.slots.len();
        let random = &mut self.random;
        let drawn = std::iter::repeat_with(|| random.usize(all.clone())).take(DRAWS);
        let Some(number) = drawn.into_iter().find(is_open) else {
            return;
        };
        self.state.churned += 1;
        match self.change_topic(number, now, poller) {
            Ok(true) => {}
            Ok(false) => {
                self.cut(number);
                for left in self.slots[number].renew() {
                    left.judge_left(now, &self.hearing.dues, &mut self.hearing.sums);
                }
                self.set(number, Alarm::Return, now);
            }
            Err(error) => self.end(number, &error),
        }
    }

    /// False if its transport can't, or there is no other topic.
    fn change_topic(&mut self, number: usize, now: u64, poller: &Poller) -> Result<bool> {
        let slot = &mut self.slots[number];
        let has = |topic: &usize| slot.subscriptions.iter().any(|of| of.topic == *topic);
        let random = &mut self.random;
        let spread = &self.spread;
        let mut drawn = std::iter::repeat_with(|| spread.draw(random.u64(..))).take(DRAWS);
        let Some(topic) = drawn.find(|topic| !has(topic)) else {
            return Ok(false);
        };
        let index = self.random.usize(..slot.subscriptions.len());
        let (leave, join) = (slot.subscriptions[index].topic, Wanted { topic, after: None });
        self.out.clear();
        if !self.speeches[usize::from(slot.place)].change(leave, &join, &mut self.out) {
            return Ok(false);
        }
        let left = slot.replace(index, Subscription::from_now_on(topic), now);
        left.judge_left(now, &self.hearing.dues, &mut self.hearing.sums);
        slot.send(&self.out, poller, number as u64)?;
        Ok(true)
    }
}
