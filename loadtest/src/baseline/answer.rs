//! What the baseline answers to requests.

use std::fmt::Display;

use crate::wire::accept_key::accept_key;
use crate::wire::message_id::MessageId;

/// The upgrade to WebSocket.
pub(super) fn upgrade(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_key(key));
    out.extend_from_slice(b"\r\n\r\n");
}

/// The head of an event stream, with a comment that says that it is open.
pub(super) fn event_stream(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
          Connection: close\r\n\r\n: open\n\n",
    );
}

/// The result line of one published message, which has an id if it is kept.
pub(super) fn result(out: &mut Vec<u8>, topic: &[u8], id: Option<MessageId>) {
    out.extend_from_slice(b"{\"topic\":\"");
    out.extend_from_slice(topic);
    match id {
        None => out.extend_from_slice(b"\",\"id\":null}\n"),
        Some(id) => out.extend_from_slice(format!("\",\"id\":\"{id}\"}}\n").as_bytes()),
    }
}

/// The answer to a publish request, given its result lines.
pub(super) fn results(out: &mut Vec<u8>, results: &[u8]) {
    let length = results.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(results);
}

/// A refusal, after which the connection is closed.
pub(super) fn refusal(out: &mut Vec<u8>, reason: &dyn Display) {
    let reason = reason.to_string();
    let length = reason.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{reason}"
    );
    out.extend_from_slice(answer.as_bytes());
}
