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

#[cfg(test)]
mod tests {
    use super::super::way::testing::{heard, written};
    use super::*;
    use proptest::prelude::*;

    const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn session() -> Session {
        Session::new("h:1", "/ws", None)
    }

    fn said(lines: &[&str]) -> Vec<u8> {
        let mut bytes = UPGRADED.to_vec();
        for line in lines {
            frame::write_text(&mut bytes, line.as_bytes());
        }
        bytes
    }

    fn fault(bytes: &[u8]) -> Fault {
        heard(&mut session(), 1, bytes, 0).unwrap_err()
    }

    #[test]
    fn a_command_has_its_number_and_key() {
        let keys = Keys::new();
        let (_, text, requests) = written(&mut Session::new("h:1", "/ws", Some(keys)), 2);
        assert_eq!(requests, 1);
        let begin =
            "{\"id\":1,\"op\":\"publish\",\"topic\":\"bench.1\",\"text\":\"0000000000000000 ";
        assert!(text.contains(begin), "{text}");
        assert!(text.ends_with(&format!("\",\"key\":\"{}\"}}", keys.of(0))), "{text}");
    }

    #[test]
    fn it_is_open_once_it_is_upgraded() {
        let (mut session, mut out) = (session(), Vec::new());
        session.greet(&mut out);
        assert!(out.starts_with(b"GET /ws HTTP/1.1\r\n") && !session.is_open());
        let (cut, rest) = UPGRADED.split_at(50);
        let (mut batch, mut reply) = (Batch::default(), Vec::new());
        assert_eq!(session.hear(cut, &mut batch, &mut reply).unwrap(), 0);
        assert!(!session.is_open());
        let whole = [cut, rest].concat();
        assert_eq!(session.hear(&whole, &mut batch, &mut reply).unwrap(), whole.len());
        assert!(session.is_open());
    }

    #[test]
    fn what_passes_is_told_from_what_ends_the_run() {
        let error = |code: &str| {
            said(&[&format!("{{\"id\":0,\"op\":\"error\",\"code\":\"{code}\",\"message\":\"m\"}}")])
        };
        for code in ["unavailable", "rate_limited", "outcome_unknown"] {
            assert_eq!(heard(&mut session(), 1, &error(code), 0).unwrap().1, [0], "{code}");
        }
        for code in ["forbidden", "too_large", "bad_request"] {
            assert!(matches!(fault(&error(code)), Fault::Final(text) if text.contains(code)));
        }
        for (status, ends) in [(503, false), (429, false), (403, true), (404, true)] {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno");
            assert_eq!(matches!(fault(head.as_bytes()), Fault::Final(_)), ends, "{status}");
        }
        for (code, ends) in [(1012_u16, false), (1013, false), (4403, true), (1009, true)] {
            let mut bytes = UPGRADED.to_vec();
            bytes.extend_from_slice(&[0x80 | frame::CLOSE, 4]);
            bytes.extend_from_slice(&code.to_be_bytes());
            bytes.extend_from_slice(b"so");
            let (Fault::Final(text) | Fault::Lost(text)) = fault(&bytes);
            assert!(text.ends_with(&format!("{code} so")), "{text}");
            assert_eq!(matches!(fault(&bytes), Fault::Final(_)), ends, "{code}");
        }
    }

    #[test]
    fn an_answer_to_another_command_ends_the_connection() {
        for line in
            ["{\"op\":\"published\",\"id\":1}", "{\"op\":\"error\",\"code\":\"limit\"}", "x"]
        {
            assert!(matches!(fault(&said(&[line])), Fault::Lost(_)), "{line}");
        }
    }

    proptest! {
        #[test]
        fn replies_cut_anywhere_say_the_same(cut in any::<prop::sample::Index>()) {
            let mut bytes = said(&[
                "{\"op\":\"welcome\",\"session\":\"1\",\"heartbeat_seconds\":25}",
                "{\"id\":0,\"op\":\"published\",\"message_id\":null}",
                "{\"id\":1,\"op\":\"error\",\"code\":\"unavailable\",\"message\":\"a \\\"b\\\"\"}\n\
                 {\"id\":2,\"op\":\"published\",\"message_id\":\"00000000000000ab-1\"}",
                "{\"op\":\"moving\",\"reconnect_after_ms\":5}",
            ]);
            bytes.extend_from_slice(&[0x80 | frame::PING, 2, b'h', b'i']);
            let cut = cut.index(bytes.len() + 1);
            let (reply, again, unanswered) = heard(&mut session(), 4, &bytes, cut).unwrap();
            prop_assert_eq!((again, unanswered), (vec![1], 1));
            prop_assert_eq!(reply, [0x8A, 0x82, 0, 0, 0, 0, b'h', b'i']);
        }

        #[test]
        fn any_bytes_are_heard_without_a_panic(
            upgraded in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let start = if upgraded { UPGRADED } else { &[] };
            let _ = heard(&mut session(), 2, &[start, &bytes].concat(), start.len());
        }
    }
}
