//! What the coordinator and its holders tell each other: one JSON object per line, through the holders' standard
//! input and output.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::file::{Sessions, Topics};
use crate::load::ledger::Integrity;

/// From the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Open sessions; answered by [`Said::Opened`] when all are.
    Open(Box<Opening>),
    /// The window begins: what was noted of times so far is forgotten (nothing of what was received), cuts and churn
    /// begin.
    Begin,
    /// Answered by [`Said::Reached`] as soon as so many messages were received since the start, doubles left out.
    Await {
        /// How many.
        received: u64,
    },
    /// Answered at once by [`Said::Told`].
    Tell,
    /// Close all sessions but the steady ones, and open them again as fast as may be.
    Storm,
    /// The window is over: cuts and churn end, who is away comes back, slow readers catch up. Times are noted only of
    /// messages that were due before. Wait until all sessions have all of what was published, or nothing came for as long as the patience; then
    /// answer with [`Said::Report`].
    End {
        /// How many messages each topic has had since the start, by topic number.
        published: Vec<u64>,
    },
    /// Close all and end.
    Close,
}

/// What a holder is to hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// All of the run's sessions, as the file describes them.
    pub sessions: Sessions,
    /// Their topics.
    pub topics: Topics,
    /// This holder's sessions: those of these numbers.
    pub first: usize,
    /// See `first`.
    pub count: usize,
    /// How many holders there are: each has its part of rates that are for all.
    pub holders: usize,
    /// Where sessions go: session n to place n modulo their number, at each attempt to the next.
    pub places: Vec<Place>,
    /// The script, for that transport: text of its TOML.
    pub script: Option<String>,
    /// Number of the first source address.
    pub first_source: u32,
    /// Size of each message; the least if none are published.
    pub payload_bytes: usize,
    /// Time without any progress after which a session or the holder gives up.
    pub patience_seconds: f64,
}

/// Where sessions connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address.
    pub address: SocketAddr,
    /// Host and port as given, for the header.
    pub host: String,
    /// The path, in which `{topic}` stands for a topic's name; empty: the transport's own.
    pub path: String,
}

/// From a holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// How it is; told four times a second.
    State(State),
    /// The same, since it was asked for: all that was read before counts.
    Told(State),
    /// All were opened, or were refused.
    Opened(State),
    /// As many were received as were awaited.
    Reached,
    /// What came of it all.
    Report(Box<Report>),
}

/// How a holder is. All but `open` count since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Sessions open now.
    pub open: u64,
    /// Sessions opened, each return counted.
    pub opened: u64,
    /// Messages received, doubles left out.
    pub received: u64,
    /// Attempts to open that failed; who was refused tries again, after a pause that grows from 0.1 s to 2 s.
    pub refused: u64,
    /// Sessions that the server ended or that failed.
    pub lost: u64,
    /// Connections that the holder cut or closed to come back.
    pub cut: u64,
    /// Subscriptions that were changed.
    pub churned: u64,
    /// Reasons of refusals and losses, at most 16 different ones.
    pub reasons: BTreeMap<String, u64>,
}

/// What a holder noted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it was at the end.
    pub state: State,
    /// What came of all messages since the start.
    pub integrity: Integrity,
    /// The same of sessions that were open from the first opening to the end, without a break: nothing excuses a loss
    /// of theirs. Only what was expected, received and lost; doubles and order aren't told apart by session.
    #[serde(default)]
    pub steady: Integrity,
    /// Times that a server said that it can't give all that was missed.
    pub gaps: u64,
    /// Sessions that weren't open at the end.
    pub never_returned: u64,
    /// From when a message was due to its receipt by each session, those due while it was away and slow readers left
    /// out; with a storm, of the steady sessions alone. Of a message that was due before its session's connection ended
    /// and came after the return, the time between that end and the first attempt to return is left out.
    pub delivery: Times,
    /// From the begin of a connect to the open subscription: of those begun in the window, or of those before it if
    /// there were none. Refused attempts aren't in it.
    pub connect: Times,
    /// From the time at which a session wanted to come back (the storm's begin, or its first attempt after a cut or a
    /// loss) to the open subscription, with waiting for a turn, refused attempts and their pauses: of those that wanted
    /// to in the window.
    #[serde(default)]
    pub back: Times,
    /// Of messages that were due while a session was away: from the first attempt to return, or from when the message
    /// was due if that is later, to the receipt.
    pub replay: Times,
    /// The longest time of receipt of each message of topic 0 that was due in the window, from its due time, in
    /// nanoseconds; `last_receipts[i]` is of message `first_sequence + i`. At most 100 000 are noted.
    pub last_receipts: Vec<u64>,
    /// See `last_receipts`.
    pub first_sequence: u64,
    /// There were more: `last_receipts` lacks some.
    #[serde(default)]
    pub last_receipts_cut: bool,
}

/// A histogram as it is passed on: nanoseconds and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times(pub Vec<(u64, u64)>);
