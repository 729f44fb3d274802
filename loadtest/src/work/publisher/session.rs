//! Publishing by a WebSocket session of the JSON dialect: a command for each message, answered in their order.

use serde::Deserialize;

use super::batch::{Batch, Message};
use super::fault::{Fault, may_pass};
use super::way::{ByTopic, Keys, Way};
use crate::wire::payload::Template;
use crate::wire::response;
use crate::wire::subscribe::{Dialect, Subscribe};
use crate::wire::{frame, response::MAX_HEAD};

/// Codes of errors that pass.
const PASSING: [&str; 3] = ["unavailable", "rate_limited", "internal"];
/// The code that leaves open whether the message was published.
const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// Codes with which a session is closed that has no use to come back: protocol errors, what isn't JSON, credentials.
const FINAL_CLOSES: [u16; 8] = [1002, 1003, 1007, 1009, 4400, 4401, 4403, 4409];

/// A session at one node.
pub(super) struct Session {
    request: Subscribe,
    path: String,
    /// How commands begin, behind their number.
    topics: ByTopic<String>,
    keys: Option<Keys>,
    open: bool,
    /// The command at hand.
    command: Vec<u8>,
}

/// What a node says; messages and gaps come to who has subscribed alone.
#[derive(Deserialize)]
struct Said<'a> {
    op: &'a str,
    id: Option<usize>,
    code: Option<&'a str>,
    message: Option<String>,
}

impl Session {
    /// At `path` of a node.
    pub(super) fn new(host: &str, path: &str, keys: Option<Keys>) -> Self {
        let topic = |name: &str| format!(r#","op":"publish","topic":"{name}","text":""#);
        Self {
            request: Subscribe::new(Dialect::Json, host),
            path: path.to_owned(),
            topics: ByTopic::new(topic),
            keys,
            open: false,
            command: Vec::new(),
        }
    }

    /// Takes the answer to the upgrade off the front of `bytes`.
    fn upgrade(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let Some(head) = response::parse(bytes)? else {
            return Ok(0);
        };
        if let Err(refused) = self.request.judge(&head) {
            let end = bytes.len().min(head.taken + MAX_HEAD);
            let text = format!("{refused}: {}", String::from_utf8_lossy(&bytes[head.taken..end]));
            return Err(if may_pass(head.status) { Fault::lost(text) } else { Fault::fatal(text) });
        }
        self.open = true;
        Ok(head.taken)
    }
}

impl Way for Session {
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.open = false;
        self.request.write(out, &self.path);
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn write(&mut self, messages: &[Message], template: &mut Template, out: &mut Vec<u8>) -> u64 {
        for (id, Message { topic, sequence, due }) in messages.iter().copied().enumerate() {
            self.command.clear();
            self.command.extend_from_slice(format!("{{\"id\":{id}").as_bytes());
            self.command.extend_from_slice(self.topics.of(topic).as_bytes());
            template.write(&mut self.command, sequence, due);
            if let Some(keys) = self.keys {
                let key = format!("\",\"key\":\"{}", keys.of(sequence));
                self.command.extend_from_slice(key.as_bytes());
            }
            self.command.extend_from_slice(b"\"}");
            frame::write_client(out, frame::TEXT, &self.command);
        }
        1
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        batch: &mut Batch,
        reply: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        let mut taken = if self.open { 0 } else { self.upgrade(bytes)? };
        if !self.open {
            return Ok(taken);
        }
        while let Some(frame) = frame::parse(&bytes[taken..])? {
            taken += frame.taken;
            match frame.opcode {
                frame::TEXT => {
                    let mut lines = frame.payload.split(|byte| *byte == b'\n');
                    lines.try_for_each(|line| take_line(line, batch))?;
                }
                frame::PING => frame::write_client(reply, frame::PONG, frame.payload),
                frame::CLOSE => return Err(closed(frame.payload)),
                _ => {}
            }
        }
        Ok(taken)
    }
}

fn take_line(line: &[u8], batch: &mut Batch) -> Result<(), Fault> {
    let said: Said<'_> = serde_json::from_slice(line)
        .map_err(|_| Fault::lost(format!("it said {}", line.escape_ascii())))?;
    if said.op != "published" && said.op != "error" {
        return Ok(());
    }
    if said.id != Some(batch.next()) {
        return Err(Fault::lost(format!(
            "it said {} when command {} was to be answered",
            line.escape_ascii(),
            batch.next()
        )));
    }
    if said.op == "published" {
        return batch.confirm();
    }
    let (code, message) = (said.code.unwrap_or_default(), said.message.unwrap_or_default());
    let text = || format!("it refused: {code}: {message}");
    if code == OUTCOME_UNKNOWN {
        batch.doubt(text)
    } else if PASSING.contains(&code) {
        batch.refuse(text)
    } else {
        Err(Fault::fatal(text()))
    }
}

/// The server closed the session.
fn closed(payload: &[u8]) -> Fault {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => (1005, &[][..]),
    };
    let reason = String::from_utf8_lossy(reason);
    let text = format!("it closed the session with {code} {reason}");
    if FINAL_CLOSES.contains(&code) { Fault::fatal(text) } else { Fault::lost(text) }
}
