//! Who has which topics: a pure function of a session's number, so that all processes agree without a word.

use serde::{Deserialize, Serialize};

/// How topics are spread over sessions, and messages over topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Shape {
    /// One topic that all have.
    #[default]
    One,
    /// Each session has topics of its own; messages go to all in turn.
    Each,
    /// Topics with so many members each, neighbours; messages go to all in turn.
    Rooms {
        /// Sessions of a topic.
        members: usize,
    },
    /// Few topics that many have, and many that few have: topic n is drawn with a weight of (n + 1)^-exponent, by
    /// sessions and by messages alike.
    Zipf {
        /// How many topics.
        topics: usize,
        /// How steep.
        exponent: f64,
    },
}

/// A shape over so many sessions, ready to be asked: what drawing by weight needs is computed once.
#[derive(Debug, Clone)]
pub struct Spread {
    shape: Shape,
    sessions: usize,
    per_session: usize,
    /// For topics of different weight: what all topics up to this one weigh.
    weights: Box<[f64]>,
}

/// Numbers that are drawn for different purposes don't go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Topics = 1,
    Messages = 2,
}

/// Draws of one topic for a session after which it takes the next that it hasn't.
const DRAWS: u64 = 16;

impl Shape {
    /// This shape over `sessions` sessions with `per_session` topics each.
    pub fn over(self, sessions: usize, per_session: usize) -> Spread {
        Spread { shape: self, sessions, per_session, weights: self.weights() }
    }

    /// How many topics there are.
    pub fn topic_count(self, sessions: usize, per_session: usize) -> usize {
        match self {
            Self::One => per_session,
            Self::Each => sessions * per_session,
            Self::Rooms { members } => sessions.div_ceil(members.max(1)) * per_session,
            Self::Zipf { topics, .. } => topics,
        }
    }

    /// The topics of session `session`, in rising order. Who asks for many sessions has [`over`](Self::over).
    pub fn topics_of(self, session: usize, sessions: usize, per_session: usize) -> Vec<usize> {
        self.over(sessions, per_session).topics_of(session)
    }

    /// How many sessions have each topic, by topic number.
    pub fn subscribers(self, sessions: usize, per_session: usize) -> Vec<u64> {
        self.over(sessions, per_session).subscribers()
    }

    #[expect(clippy::cast_precision_loss, reason = "topics are far fewer than 2^52")]
    fn weights(self) -> Box<[f64]> {
        let Self::Zipf { topics, exponent } = self else {
            return Box::default();
        };
        let mut sum = 0.0;
        let weights = (0..topics).map(|topic| {
            sum += ((topic + 1) as f64).powf(-exponent);
            sum
        });
        weights.collect()
    }
}

impl Spread {
    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.shape.topic_count(self.sessions, self.per_session)
    }

    /// The topics of session `session`, in rising order.
    pub fn topics_of(&self, session: usize) -> Vec<usize> {
        let neighbours = |group: usize| {
            let first = group * self.per_session;
            (first..first + self.per_session).collect()
        };
        match self.shape {
            Shape::One => neighbours(0),
            Shape::Each => neighbours(session),
            Shape::Rooms { members } => neighbours(session / members.max(1)),
            Shape::Zipf { topics, .. } => self.drawn_for(session, topics),
        }
    }

    fn drawn_for(&self, session: usize, topics: usize) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::with_capacity(self.per_session);
        let mut draw = 0;
        while found.len() < self.per_session.min(topics) {
            let random = random(session as u64 ^ (draw << 40), Purpose::Topics);
            let mut topic = self.draw(random);
            while draw % DRAWS == DRAWS - 1 && found.contains(&topic) {
                topic = (topic + 1) % topics;
            }
            draw += 1;
            if !found.contains(&topic) {
                found.push(topic);
            }
        }
        found.sort_unstable();
        found
    }

    /// The topic that `random`, a number evenly drawn of all, stands for: by weight, or evenly where all weigh the same.
    pub fn draw(&self, random: u64) -> usize {
        let part = unit(random);
        let Some(all) = self.weights.last() else {
            return scaled(part, self.topic_count());
        };
        let below = self.weights.partition_point(|sum| *sum <= part * all);
        below.min(self.weights.len() - 1)
    }

    /// The topic of message `number` of the run.
    pub fn topic_of_message(&self, number: u64) -> usize {
        if self.weights.is_empty() {
            return usize::try_from(number % self.topic_count().max(1) as u64).unwrap_or(0);
        }
        self.draw(random(number, Purpose::Messages))
    }

    /// How many sessions have each topic, by topic number.
    pub fn subscribers(&self) -> Vec<u64> {
        let mut counts = vec![0; self.topic_count()];
        for topic in (0..self.sessions).flat_map(|session| self.topics_of(session)) {
            counts[topic] += 1;
        }
        counts
    }
}

/// A number that looks drawn, always the same for `number` and `purpose`.
fn random(number: u64, purpose: Purpose) -> u64 {
    mixed(mixed(number).wrapping_add(purpose as u64))
}

/// Spreads what is near to each other over all numbers (the finalizer of `SplitMix64`).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// `random` as a part of one, one itself left out.
#[expect(clippy::cast_precision_loss, reason = "only 53 bits are taken")]
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of a count, rounded down"
)]
fn scaled(part: f64, count: usize) -> usize {
    ((part * count as f64) as usize).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZIPF: Shape = Shape::Zipf { topics: 1000, exponent: 1.0 };

    #[test]
    fn neighbours_share_what_the_shape_says() {
        assert_eq!(Shape::One.topics_of(7, 10, 2), [0, 1]);
        assert_eq!(Shape::Each.topics_of(7, 10, 2), [14, 15]);
        let rooms = Shape::Rooms { members: 4 };
        assert_eq!(rooms.topics_of(7, 10, 1), [1]);
        assert_eq!(rooms.subscribers(10, 1), [4, 4, 2]);
        assert_eq!(Shape::Each.subscribers(3, 2), [1; 6]);
        assert_eq!(Shape::One.subscribers(5, 1), [5]);
    }

    #[test]
    fn few_topics_of_many_have_most() {
        let spread = ZIPF.over(20_000, 1);
        let counts = spread.subscribers();
        assert_eq!(counts.iter().sum::<u64>(), 20_000);
        // The harmonic number of 1000 is 7.485: topic 0 has 13.4 of 100 sessions, topic 9 a tenth of that.
        assert!((2500..2850).contains(&counts[0]), "{}", counts[0]);
        assert!((200..340).contains(&counts[9]), "{}", counts[9]);
        let messages = (0..20_000).filter(|number| spread.topic_of_message(*number) == 0).count();
        assert!((2500..2850).contains(&messages), "{messages}");
    }

    #[test]
    fn messages_go_to_all_in_turn() {
        let spread = Shape::Rooms { members: 2 }.over(6, 1);
        let topics: Vec<_> = (0..5).map(|number| spread.topic_of_message(number)).collect();
        assert_eq!(topics, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn what_is_drawn_evenly_reaches_all() {
        let spread = Shape::Each.over(10, 1);
        assert_eq!((spread.draw(0), spread.draw(u64::MAX)), (0, 9));
        assert_eq!(ZIPF.over(1, 1).draw(u64::MAX), 999);
    }

    proptest! {
        #[test]
        fn a_session_has_as_many_topics_as_asked_for(
            session in 0usize..50, per_session in 1usize..8, topics in 1usize..12, exponent in 0.0f64..4.0,
            members in 1usize..9,
        ) {
            for shape in [Shape::One, Shape::Each, Shape::Rooms { members }, Shape::Zipf { topics, exponent }] {
                let spread = shape.over(50, per_session);
                let found = spread.topics_of(session);
                let wanted = per_session.min(spread.topic_count());
                prop_assert_eq!(found.len(), wanted);
                prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(found.iter().all(|topic| *topic < spread.topic_count()));
                prop_assert_eq!(&found, &shape.topics_of(session, 50, per_session));
            }
        }
    }
}
