//! The JSON dialect: WebSocket text frames of one JSON object each, or several joined by `\n`.
//!
//! Clients send [`Request`]s, the node answers with [`Reply`]s; messages and gaps come on their
//! own.

mod command;
mod object;
mod reply;

pub use command::{Command, Publish, Request, RequestError, RequestId, requests};
pub use object::with_members;
pub use reply::{ErrorCode, Reply};

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr2;

use crate::dialect::GapReason;
use crate::{Message, PayloadKind, Position, Topic, websocket};

/// The subprotocol that a client may offer for this dialect.
pub const SUBPROTOCOL: &str = "umbel.v1.json";

/// Appends a message as one text frame.
pub(crate) fn write_message(out: &mut Vec<u8>, message: &Message) {
    websocket::write_text_frame(out, |out| {
        out.extend_from_slice(b"{\"op\":\"message\",");
        write_fields(out, message);
        out.push(b'}');
    });
}

/// Appends a message as one JSON object, as polls get it.
pub(crate) fn write_object(out: &mut Vec<u8>, message: &Message) {
    out.push(b'{');
    write_fields(out, message);
    out.push(b'}');
}

fn write_fields(out: &mut Vec<u8>, message: &Message) {
    // A topic name needs no escaping: its bytes are letters, digits and harmless marks.
    out.extend_from_slice(b"\"topic\":\"");
    out.extend_from_slice(message.topic.as_str().as_bytes());
    out.push(b'"');
    if let Some(id) = message.id {
        out.extend_from_slice(b",\"message_id\":\"");
        id.write(out);
        out.push(b'"');
    }
    if let Some(event) = &message.event {
        out.extend_from_slice(b",\"event\":");
        write_string(out, event.as_str());
    }
    write!(out, ",\"time\":{}", message.published.as_millis()).expect("a vector takes all bytes");
    write_payload(out, message);
}

fn write_payload(out: &mut Vec<u8>, message: &Message) {
    match message.payload.kind() {
        PayloadKind::Json => {
            out.extend_from_slice(b",\"data\":");
            write_on_one_line(out, message.payload.bytes());
        }
        PayloadKind::Text => {
            out.extend_from_slice(b",\"text\":");
            write_string(out, message.payload.as_str().expect("text is not binary"));
        }
        PayloadKind::Binary => {
            out.extend_from_slice(b",\"base64\":\"");
            out.extend_from_slice(BASE64.encode(message.payload.bytes()).as_bytes());
            out.push(b'"');
        }
    }
}

/// Line breaks separate the objects of a frame, so those inside a JSON payload become spaces.
/// There they can only be whitespace: in strings JSON escapes them.
fn write_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    let mut at = start;
    while let Some(offset) = memchr2(b'\r', b'\n', &out[at..]) {
        at += offset;
        out[at] = b' ';
    }
}

/// Appends a gap as one text frame.
pub(crate) fn write_gap(
    out: &mut Vec<u8>,
    topic: &Topic,
    reason: GapReason,
    position: Option<Position>,
) {
    websocket::write_text_frame(out, |out| {
        let reason = reason.as_str();
        write!(out, "{{\"op\":\"gap\",\"topic\":\"{topic}\",\"reason\":\"{reason}\"")
            .expect("a vector takes all bytes");
        if let Some(position) = position {
            write!(out, ",\"position\":\"{position}\"").expect("a vector takes all bytes");
        }
        out.push(b'}');
    });
}

/// Appends a JSON string, quoted and escaped.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is always JSON and a vector takes all bytes");
}
