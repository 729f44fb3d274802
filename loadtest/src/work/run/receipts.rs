//! How many receipts each holder is to have of what was published: what a closed loop waits for.

use super::plan::Plan;
use crate::fleet::plan::block;

/// By holder.
#[derive(Debug)]
pub struct Receipts {
    /// How many sessions of each holder have each topic, by topic.
    subscribers: Vec<Vec<u64>>,
    expected: Vec<u64>,
}

impl Receipts {
    /// Nothing was published yet.
    pub fn new(plan: &Plan) -> Self {
        let of_holder = |holder| {
            let mut counts = vec![0; plan.spread.topic_count()];
            for session in block(plan.work.sessions.count, plan.holders, holder) {
                for topic in plan.spread.topics_of(session) {
                    counts[topic] += 1;
                }
            }
            counts
        };
        Self {
            subscribers: (0..plan.holders).map(of_holder).collect(),
            expected: vec![0; plan.holders],
        }
    }

    /// One more message of `topic`.
    pub fn add(&mut self, topic: usize) {
        for (expected, subscribers) in self.expected.iter_mut().zip(&self.subscribers) {
            *expected += subscribers[topic];
        }
    }

    /// Since the start, by holder.
    pub fn expected(&self) -> &[u64] {
        &self.expected
    }

    /// The same of all.
    pub fn total(&self) -> u64 {
        self.expected.iter().sum()
    }
}
