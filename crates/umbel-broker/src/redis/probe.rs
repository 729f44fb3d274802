//! The proof that a link carries messages.
//!
//! Once a second a script writes a key that soon expires and publishes on a channel of the node's
//! own. A replica refuses the write, a server that hangs answers nothing, a half-open connection
//! gives nothing back: only the echo over the other connection counts.

use std::time::Duration;

use redis::Cmd;
use tokio::time::Instant;

use super::fault::{Fault, FaultKind};

/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Writes and publishes. Only a refusal to write that says "replica" ends the script: memory that
/// is full or a disk that fails stops writes, but not messages.
const SCRIPT: &str = "\
local wrote = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', 5000)
local refused = type(wrote) == 'table' and wrote.err or ''
if string.find(refused, 'READONLY', 1, true) then return refused end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return refused";

/// The probes of one link.
#[derive(Debug)]
pub(super) struct Probe {
    channel: String,
    number: u64,
    under_way: Option<Instant>,
}

impl Probe {
    /// Probes by the channel and key of this name.
    pub(super) fn new(channel: String) -> Self {
        Self { channel, number: 0, under_way: None }
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
        self.under_way = Some(now);
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(&self.channel).arg(self.number);
        Some(command)
    }

    /// What came by the probe's channel; if it is the echo of the probe under way, how long that
    /// took.
    pub(super) fn echoed(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        if payload != self.number.to_string().as_bytes() {
            return None;
        }
        Some(now - self.under_way.take()?)
    }

    /// Checks that the echo isn't overdue.
    pub(super) fn check(&self, now: Instant) -> Result<(), Fault> {
        match self.under_way {
            Some(since) if now - since > PATIENCE => Err(Fault::new(
                FaultKind::Silent,
                format!("no echo of the probe within {} s", PATIENCE.as_secs()),
            )),
            _ => Ok(()),
        }
    }

    /// We didn't read for a while: that an echo is late says nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        if let Some(since) = &mut self.under_way {
            *since = now;
        }
    }
}

/// What the script returned: the server's refusal to write, if it refused.
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
        assert!(probe.echoed(b"0", start).is_none());
        assert!(probe.echoed(b"x", start).is_none());
        let soon = start + Duration::from_millis(5);
        assert_eq!(probe.echoed(b"1", soon), Some(Duration::from_millis(5)));
        assert!(probe.echoed(b"1", soon).is_none(), "it was there already");
        assert!(probe.begin(soon).is_some());
        let late = soon + PATIENCE + Duration::from_millis(1);
        assert_eq!(probe.check(late).unwrap_err().kind, FaultKind::Silent);
        probe.excuse(late);
        assert!(probe.check(late + PATIENCE).is_ok());
    }
}
