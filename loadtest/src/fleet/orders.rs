//! What the coordinator and its holders tell each other: one JSON object per line, through the holders' standard
//! input and output.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::receipts::Receipts;
use crate::load::ledger::Integrity;
use crate::wire::subscribe::Dialect;

/// Longest line that is read: what a holder reports of a run has up to a hundred thousand times, and as many topics
/// have a number each.
const LONGEST: usize = 16 << 20;
/// Different reasons that are told apart; there are hardly more than two.
const REASONS: usize = 16;

/// From the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Open sessions.
    Open(Opening),
    /// This message comes next: look at sockets at once, and note when it comes.
    Expect {
        /// Its number.
        sequence: u64,
    },
    /// Say which sessions have it, though some haven't.
    Report,
    /// Close all.
    Close,
}

/// The sessions of one holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// How they speak.
    pub dialect: Dialect,
    /// Where they go, in this order.
    pub segments: Vec<Segment>,
    /// Number of the first source address.
    pub first_source: u32,
    /// How many are begun in a second.
    pub per_second: f64,
    /// How many are on their way at a time.
    pub concurrency: usize,
    /// Size of each message.
    pub payload_bytes: usize,
}

/// Neighbouring sessions of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The node's number.
    pub node: usize,
    /// Where it listens.
    pub address: SocketAddr,
    /// How many.
    pub sessions: usize,
}

/// From a holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// How its sessions are; told when that changed, some times a second.
    State(State),
    /// All were tried, and are open or were refused.
    Opened(State),
    /// It is ready for this message.
    Listening {
        /// Its number.
        sequence: u64,
    },
    /// All open sessions have the message, or it was asked to say who has.
    Received(Receipts),
    /// All are closed.
    Closed {
        /// What came of all messages.
        integrity: Integrity,
        /// How sessions were.
        state: State,
    },
}

/// How a holder's sessions are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Open now.
    pub open: u64,
    /// Those that never were open.
    pub refused: u64,
    /// Those that were, and ended.
    pub lost: u64,
    /// Pings answered by those of WebSocket, by protocol or in the holder's time.
    pub pings: u64,
    /// How many were refused or lost, by node.
    pub by_node: BTreeMap<usize, u64>,
    /// The same by reason.
    pub reasons: BTreeMap<String, u64>,
}

impl State {
    /// Counts one that was refused or lost.
    pub fn count_end(&mut self, node: usize, reason: String) {
        *self.by_node.entry(node).or_default() += 1;
        count_reason(&mut self.reasons, reason);
    }

    /// Adds another holder's.
    pub fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.refused += other.refused;
        self.lost += other.lost;
        self.pings += other.pings;
        for (node, count) in &other.by_node {
            *self.by_node.entry(*node).or_default() += count;
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Counts one end for `reason`, or for other reasons when too many are known.
pub fn count_reason(reasons: &mut BTreeMap<String, u64>, reason: String) {
    let known = reasons.len() < REASONS || reasons.contains_key(&reason);
    let reason = if known { reason } else { "other reasons".to_owned() };
    *reasons.entry(reason).or_default() += 1;
}

/// `told` as one line.
pub fn line(told: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    Ok(line)
}

/// What a line tells.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    let told = serde_json::from_slice(line);
    told.with_context(|| format!("{} is neither order nor answer", line.escape_ascii()))
}

/// Bytes as they come, given out as lines.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Adds what there is to read, through `buffer`; false when there will be no more.
    pub fn fill(&mut self, from: impl AsFd, buffer: &mut [u8]) -> Result<bool> {
        match rustix::io::read(from, &mut *buffer) {
            Err(Errno::INTR) => Ok(true),
            read => {
                let read = read?;
                self.push(&buffer[..read])?;
                Ok(read > 0)
            }
        }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        ensure!(self.0.len() + bytes.len() <= LONGEST, "a line is longer than {LONGEST} bytes");
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line, without its end.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let end = memchr::memchr(b'\n', &self.0)?;
        let rest = self.0.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.0, rest);
        line.pop();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reasons_are_bounded() {
        let mut state = State::default();
        for number in 0..100 {
            state.count_end(number % 3, format!("reason {number}"));
        }
        assert_eq!(state.reasons.len(), REASONS + 1);
        assert_eq!(state.reasons.values().sum::<u64>(), 100);
        let mut sum = state.clone();
        sum.add(&state);
        assert_eq!(sum.by_node[&0], 68);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LONGEST]).unwrap();
        assert!(lines.push(b"x").is_err());
    }

    proptest! {
        #[test]
        fn lines_come_out_whole_however_they_are_cut(
            texts in prop::collection::vec("[a-z]{0,9}", 0..9),
            cuts in prop::collection::vec(1usize..7, 1..30),
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| format!("{text}\n").into_bytes()).collect();
            let (mut lines, mut found, mut rest) = (Lines::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.into_iter().cycle() {
                let (part, behind) = rest.split_at(cut.min(rest.len()));
                lines.push(part).unwrap();
                found.extend(std::iter::from_fn(|| lines.take()));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let found: Vec<_> = found.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn what_is_told_comes_back(
            sequence in any::<u64>(),
            counts in prop::collection::vec(any::<(u64, u64)>(), 0..9),
            by_node in prop::collection::btree_map(any::<usize>(), any::<u64>(), 0..3),
            reason in "\\PC{0,20}",
        ) {
            let receipts = Receipts { sequence, counts, ..Receipts::default() };
            let reasons = [(reason, sequence)].into();
            let state = State { by_node, reasons, ..State::default() };
            let integrity = Integrity { lost: sequence, ..Integrity::default() };
            for told in [
                Said::Listening { sequence },
                Said::Received(receipts),
                Said::State(state.clone()),
                Said::Closed { integrity, state },
            ] {
                let line = line(&told).unwrap();
                prop_assert_eq!(parse::<Said>(line.trim_ascii_end()).unwrap(), told);
            }
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse::<Order>(&bytes);
            let _ = parse::<Said>(&bytes);
        }
    }
}
