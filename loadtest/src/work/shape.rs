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
