//! The proof that a link carries messages.
//!
//! Once a second a script writes a key that soon expires and publishes on a channel of the node's
//! own. A replica refuses the write, a server that hangs answers nothing, a half-open connection
//! gives nothing back: only the echo over the other connection counts.
//!
//! The script also says what time it is at the server, and the echo may go on to the workers as a
//! canary: a message of the node's own that shows how long the whole way is.

use std::time::Duration;

use redis::Cmd;
use tokio::time::Instant;
use umbel_protocol::Timestamp;

use super::fault::{Fault, FaultKind};

/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Writes and publishes. Only a refusal to write that says "replica" ends the script: memory that
/// is full or a disk that fails stops writes, but not messages.
const SCRIPT: &str = "\
local wrote = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', 5000)
local refused = type(wrote) == 'table' and wrote.err or ''
local time = redis.call('TIME')
if string.find(refused, 'READONLY', 1, true) then return {refused, time[1], time[2]} end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return {refused, time[1], time[2]}";

/// What the script returns: the server's refusal to write, if it refused, and its time, in seconds
/// and microseconds.
pub(super) type Reply = (String, u64, u64);

/// The probes of one link.
#[derive(Debug)]
pub(super) struct Probe {
    channel: String,
    number: u64,
    under_way: Option<UnderWay>,
    /// When the last one was sent, by the wall clock.
    asked: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    sent: Instant,
    /// From when on its echo is waited for.
    awaited: Instant,
}

impl Probe {
    /// Probes by the channel and key of this name.
    pub(super) fn new(channel: String) -> Self {
        Self { channel, number: 0, under_way: None, asked: Timestamp(0) }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The next probe, unless one is under way.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Cmd> {
        if self.under_way.is_some() {
            return None;
        }
        self.number += 1;
        self.under_way = Some(UnderWay { sent: now, awaited: now });
        self.asked = crate::clock::wall();
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(&self.channel).arg(self.number);
        Some(command)
    }

    /// Whether an echo is awaited.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What came by the probe's channel; if it is the echo of the probe under way, when that was
    /// sent.
    pub(super) fn echoed(&mut self, payload: &[u8]) -> Option<Instant> {
        if payload != self.number.to_string().as_bytes() {
            return None;
        }
        Some(self.under_way.take()?.sent)
    }

    /// How far the server's clock is ahead of ours, in seconds, by the reply to the probe that was
    /// sent last.
    pub(super) fn skew(&self, (_, seconds, micros): &Reply) -> f64 {
        skew_of(self.asked, crate::clock::wall(), *seconds, *micros)
    }

    /// Checks that the echo isn't overdue.
    pub(super) fn check(&self, now: Instant) -> Result<(), Fault> {
        match self.under_way {
            Some(UnderWay { awaited, .. }) if now - awaited > PATIENCE => Err(Fault::new(
                FaultKind::Silent,
                format!("no echo of the probe within {} s", PATIENCE.as_secs()),
            )),
            _ => Ok(()),
        }
    }

    /// We didn't read for a while: that an echo is late says nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        if let Some(under_way) = &mut self.under_way {
            under_way.awaited = now;
        }
    }
}

/// How far the server's clock is ahead of ours, in seconds, if it showed that time while we waited
/// for its reply.
fn skew_of(asked: Timestamp, replied: Timestamp, seconds: u64, micros: u64) -> f64 {
    let there = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let here = Duration::from_micros(asked.0.midpoint(replied.0));
    there.as_secs_f64() - here.as_secs_f64()
}

/// The server's refusal to write, if it refused.
pub(super) fn refusal(text: &str) -> Option<Fault> {
    if text.is_empty() { None } else { Some(Fault::told(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_echo_of_the_probe_under_way_counts() {
        let mut probe = Probe::new("c".to_owned());
        let start = Instant::now();
        assert!(probe.begin(start).is_some());
        assert!(probe.begin(start).is_none());
        assert!(probe.echoed(b"0").is_none());
        assert!(probe.echoed(b"x").is_none());
        assert_eq!(probe.echoed(b"1"), Some(start));
        assert!(probe.echoed(b"1").is_none(), "it was there already");
        let soon = start + Duration::from_millis(5);
        assert!(probe.begin(soon).is_some());
        let late = soon + PATIENCE + Duration::from_millis(1);
        assert_eq!(probe.check(late).unwrap_err().kind, FaultKind::Silent);
        probe.excuse(late);
        assert!(probe.check(late + PATIENCE).is_ok());
        assert_eq!(probe.echoed(b"2"), Some(soon), "it was sent then all the same");
    }

    #[test]
    fn the_skew_is_taken_from_the_middle_of_the_round_trip() {
        for (asked, replied, there, skew) in [
            (1_000_000, 1_000_200, (1, 100), 0.0),
            (1_000_000, 1_000_200, (3, 100), 2.0),
            (5_000_000, 5_000_000, (4, 500_000), -0.5),
        ] {
            let measured = skew_of(Timestamp(asked), Timestamp(replied), there.0, there.1);
            assert!((measured - skew).abs() < 1e-9, "{measured} for {skew}");
        }
    }
}
