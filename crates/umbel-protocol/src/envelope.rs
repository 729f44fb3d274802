//! The header of messages that Umbel itself puts into Redis.
//!
//! Any bytes are accepted from a channel as a message. Those that begin with [`MAGIC`] carry a
//! compact header before the payload: fields of a tag, a length and that many bytes, ended by the
//! tag [`PAYLOAD`]. Numbers are text, so that a script or any client can write them.
//!
//! | tag | field | form |
//! |---|---|---|
//! | 0 | the payload follows, up to the end; no length | bytes |
//! | 1 | epoch | 16 hexadecimal digits |
//! | 2 | offset | decimal |
//! | 3 | time of publishing, µs since 1970 | decimal |
//! | 4 | event name | UTF-8 |
//! | 5 | kind | `t` text, `j` JSON, `b` binary |
//! | 6 | the session that shall not hear it | 16 hexadecimal digits |
//! | 7 | the span that it comes from, if its trace is recorded | as the header `traceparent` |
//!
//! Lengths are unsigned LEB128 of at most two bytes. Unknown tags are skipped, so that nodes of
//! different versions can share a broker.

use std::fmt;
use std::io::Write as _;

use bytes::{Buf, Bytes};

use crate::{
    EventName, Message, MessageId, Payload, PayloadKind, SessionId, Timestamp, Topic, TraceParent,
};

/// What every envelope begins with: two bytes that no UTF-8 text begins with, and the version.
pub const MAGIC: [u8; 3] = [0xff, b'U', 1];

const PAYLOAD: u8 = 0;
const EPOCH: u8 = 1;
const OFFSET: u8 = 2;
const TIME: u8 = 3;
const EVENT: u8 = 4;
const KIND: u8 = 5;
const ORIGIN: u8 = 6;
const TRACE: u8 = 7;

/// The longest field, in bytes: what two bytes of length can say.
const MAX_FIELD_BYTES: usize = (1 << 14) - 1;

/// What is wrong with bytes that begin like an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Truncated { tag: u8 },
    LongLength { tag: u8 },
    BadField { name: &'static str },
    HalfAnId,
}

/// Writes `message` with its header. The topic isn't in it: it is the channel's name.
pub fn encode(message: &Message) -> Vec<u8> {
    let payload = message.payload.bytes();
    let mut out = Vec::with_capacity(payload.len() + 64);
    out.extend_from_slice(&MAGIC);
    if let Some(id) = message.id {
        field(&mut out, EPOCH, format_args!("{:016x}", id.epoch));
        field(&mut out, OFFSET, format_args!("{}", id.offset));
    }
    field(&mut out, TIME, format_args!("{}", message.published.0));
    write_fields(&mut out, message);
    if let Some(origin) = message.origin {
        field(&mut out, ORIGIN, format_args!("{origin}"));
    }
    if let Some(trace) = &message.trace {
        field(&mut out, TRACE, format_args!("{trace}"));
    }
    out.push(PAYLOAD);
    out.extend_from_slice(payload);
    out
}

/// What the publisher says of what a message is, as fields: its event and its kind. Id, time, origin
/// and trace are for the broker to add.
pub fn fields(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    write_fields(&mut out, message);
    out
}

fn write_fields(out: &mut Vec<u8>, message: &Message) {
    if let Some(event) = &message.event {
        field(out, EVENT, format_args!("{}", event.as_str()));
    }
    field(out, KIND, format_args!("{}", kind_letter(message.payload.kind())));
}

/// Reads what a channel carried: an envelope, or any bytes as a payload whose kind is found by
/// looking, as it is if the kind that is named doesn't hold. `now` is the time of publishing of
/// messages that don't say it.
///
/// Bytes that begin like an envelope and aren't one are an error.
pub fn decode(topic: &Topic, mut bytes: Bytes, now: Timestamp) -> Result<Message, EnvelopeError> {
    let mut message = Message {
        topic: topic.clone(),
        payload: Payload::binary(Bytes::new()),
        event: None,
        published: now,
        origin: None,
        trace: None,
        id: None,
    };
    if !bytes.starts_with(&MAGIC) {
        message.payload = Payload::sniffed(bytes);
        return Ok(message);
    }
    let (mut epoch, mut offset, mut kind) = (None, None, None);
    let mut rest = &bytes[MAGIC.len()..];
    while let Some((tag, value)) = next_field(&mut rest).map_err(EnvelopeError)? {
        let bad = |name| EnvelopeError(Fault::BadField { name });
        match tag {
            EPOCH => epoch = Some(hex(value).ok_or(bad("epoch"))?),
            OFFSET => offset = Some(decimal(value).ok_or(bad("offset"))?),
            TIME => message.published = Timestamp(decimal(value).ok_or(bad("time"))?),
            EVENT => message.event = Some(event(value).ok_or(bad("event"))?),
            KIND => kind = Some(kind_of(value).ok_or(bad("kind"))?),
            ORIGIN => message.origin = Some(SessionId(hex(value).ok_or(bad("origin"))?)),
            TRACE => message.trace = trace(value),
            _ => {}
        }
    }
    bytes.advance(bytes.len() - rest.len());
    message.id = match (epoch, offset) {
        (Some(epoch), Some(offset)) => Some(MessageId { epoch, offset }),
        (None, None) => None,
        _ => return Err(EnvelopeError(Fault::HalfAnId)),
    };
    // A kind that doesn't hold is no reason to lose a message that has its place.
    let named = kind.and_then(|kind| Payload::new(kind, bytes.clone()).ok());
    message.payload = named.unwrap_or_else(|| Payload::sniffed(bytes));
    Ok(message)
}

fn field(out: &mut Vec<u8>, tag: u8, value: fmt::Arguments<'_>) {
    out.push(tag);
    let at = out.len();
    out.push(0);
    write!(out, "{value}").expect("a vector takes all bytes");
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = u8::try_from(len).expect("below 128");
    } else {
        debug_assert!(len <= MAX_FIELD_BYTES, "names and numbers are bounded far below");
        out[at] = u8::try_from(len & 0x7f).expect("below 128") | 0x80;
        out.insert(at + 1, u8::try_from(len >> 7).expect("below 128"));
    }
}

/// Takes the next field; `None` if the payload comes next.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Fault> {
    let tag = take_byte(bytes).ok_or(Fault::Truncated { tag: PAYLOAD })?;
    if tag == PAYLOAD {
        return Ok(None);
    }
    let truncated = || Fault::Truncated { tag };
    let low = take_byte(bytes).ok_or_else(truncated)?;
    let mut len = usize::from(low & 0x7f);
    if low & 0x80 != 0 {
        let high = take_byte(bytes).ok_or_else(truncated)?;
        if high & 0x80 != 0 {
            return Err(Fault::LongLength { tag });
        }
        len |= usize::from(high) << 7;
    }
    let (value, rest) = bytes.split_at_checked(len).ok_or_else(truncated)?;
    *bytes = rest;
    Ok(Some((tag, value)))
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}

fn hex(value: &[u8]) -> Option<u64> {
    let digits: &[u8; 16] = value.try_into().ok()?;
    digits.iter().try_fold(0, |number, digit| {
        Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

fn decimal(value: &[u8]) -> Option<u64> {
    let (first, rest) = value.split_first()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    rest.iter()
        .try_fold(digit(first)?, |number, byte| number.checked_mul(10)?.checked_add(digit(byte)?))
}

fn event(value: &[u8]) -> Option<EventName> {
    EventName::new(std::str::from_utf8(value).ok()?).ok()
}

/// A trace that is malformed, or isn't recorded, is no reason to lose a message.
fn trace(value: &[u8]) -> Option<Box<TraceParent>> {
    let parent: TraceParent = std::str::from_utf8(value).ok()?.parse().ok()?;
    parent.is_sampled.then(|| Box::new(parent))
}

fn kind_letter(kind: PayloadKind) -> char {
    match kind {
        PayloadKind::Text => 't',
        PayloadKind::Json => 'j',
        PayloadKind::Binary => 'b',
    }
}

fn kind_of(value: &[u8]) -> Option<PayloadKind> {
    match value {
        b"t" => Some(PayloadKind::Text),
        b"j" => Some(PayloadKind::Json),
        b"b" => Some(PayloadKind::Binary),
        _ => None,
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Truncated { tag: PAYLOAD } => f.write_str("envelope ends before its payload"),
            Fault::Truncated { tag } => write!(f, "envelope ends within the field of tag {tag}"),
            Fault::LongLength { tag } => {
                write!(f, "field of tag {tag} is longer than {MAX_FIELD_BYTES} bytes")
            }
            Fault::BadField { name } => write!(f, "envelope has a malformed {name}"),
            Fault::HalfAnId => f.write_str("envelope has only one of epoch and offset"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn topic() -> Topic {
        Topic::new("a").unwrap()
    }

    fn decoded(bytes: &[u8]) -> Result<Message, String> {
        decode(&topic(), Bytes::copy_from_slice(bytes), Timestamp(7))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_envelope_s_bytes_are_these() {
        let message = Message {
            topic: topic(),
            payload: Payload::text("hi".into()),
            event: Some(EventName::new("e").unwrap()),
            published: Timestamp(12),
            origin: Some(SessionId(0xab)),
            id: Some(MessageId { epoch: 1, offset: 2 }),
            trace: Some(Box::new(TRACEPARENT.parse().unwrap())),
        };
        assert_eq!(
            encode(&message),
            b"\xffU\x01\x01\x100000000000000001\x02\x012\x03\x0212\x04\x01e\x05\x01t\x06\x1000000000000000ab\x07\x3700-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\0hi"
        );
        assert_eq!(fields(&message), b"\x04\x01e\x05\x01t");
    }

    #[test]
    fn a_field_of_128_bytes_has_a_length_of_two() {
        let mut message = decoded(b"hi").unwrap();
        message.event = Some(EventName::new(&"e".repeat(EventName::MAX_BYTES)).unwrap());
        let bytes = encode(&message);
        let length = [EVENT, 0x80, 0x01];
        assert!(bytes.windows(3).any(|window| window == length), "{bytes:?}");
        assert_eq!(decoded(&bytes).unwrap(), message);
    }

    #[test]
    fn plain_bytes_are_messages_as_they_are() {
        let plain = decoded(b"{\"a\":1}").unwrap();
        assert_eq!(plain.payload.kind(), PayloadKind::Json);
        assert_eq!(plain.published, Timestamp(7));
        for bytes in [&b""[..], b"hello", b"\xffU", b"\xffU\x02\0x", b"\xff\xff\x01"] {
            assert_eq!(decoded(bytes).unwrap().payload.bytes(), bytes);
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let message = decoded(b"\xffU\x01\x63\x03abc\x05\x01b\x7f\0\0hi").unwrap();
        assert_eq!(message.payload, Payload::binary(&b"hi"[..]));
    }

    #[test]
    fn a_trace_that_is_malformed_or_not_recorded_is_none() {
        let with = |trace: &str| {
            let length = u8::try_from(trace.len()).unwrap();
            let message = [b"\xffU\x01\x07", &[length][..], trace.as_bytes(), b"\0hi"].concat();
            decoded(&message).unwrap().trace
        };
        assert_eq!(with(TRACEPARENT).unwrap().to_string(), TRACEPARENT);
        let unsampled = TRACEPARENT.replace("-01", "-00");
        for trace in ["", "nonsense", &TRACEPARENT[1..], &unsampled] {
            assert_eq!(with(trace), None, "{trace}");
        }
    }

    #[test]
    fn malformed_envelopes_say_what_is_wrong() {
        for (bytes, reason) in [
            (&b"\xffU\x01"[..], "envelope ends before its payload"),
            (b"\xffU\x01\x05", "envelope ends within the field of tag 5"),
            (b"\xffU\x01\x05\x02t", "envelope ends within the field of tag 5"),
            (b"\xffU\x01\x63\xff\xff\x01", "field of tag 99 is longer than 16383 bytes"),
            (b"\xffU\x01\x05\x01x\0", "envelope has a malformed kind"),
            (b"\xffU\x01\x03\x02-1\0", "envelope has a malformed time"),
            (b"\xffU\x01\x03\0\0", "envelope has a malformed time"),
            (b"\xffU\x01\x04\x02a\n\0", "envelope has a malformed event"),
            (b"\xffU\x01\x02\x011\0", "envelope has only one of epoch and offset"),
        ] {
            assert_eq!(decoded(bytes).unwrap_err(), reason, "{bytes:?}");
        }
    }

    #[test]
    fn a_kind_that_does_not_hold_is_found_by_looking() {
        for (bytes, kind) in [
            (&b"\xffU\x01\x05\x01j\0{"[..], PayloadKind::Text),
            (b"\xffU\x01\x05\x01t\0\xff", PayloadKind::Binary),
            (b"\xffU\x01\x05\x01j\0\xff", PayloadKind::Binary),
        ] {
            assert_eq!(decoded(bytes).unwrap().payload.kind(), kind, "{bytes:?}");
        }
    }

    fn payloads() -> impl Strategy<Value = Payload> {
        prop_oneof![
            ".{0,40}".prop_map(Payload::text),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Payload::binary),
            Just(Payload::sniffed("{\"a\":[1]}".into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            payload in payloads(),
            event in prop::option::of("[a-z\u{e4}]{1,64}"),
            published: u64,
            origin in prop::option::of(any::<u64>()),
            id in prop::option::of((any::<u64>(), any::<u64>())),
            is_traced: bool,
        ) {
            let message = Message {
                topic: topic(),
                payload,
                event: event.map(|name| EventName::new(&name).unwrap()),
                published: Timestamp(published),
                origin: origin.map(SessionId),
                id: id.map(|(epoch, offset)| MessageId { epoch, offset }),
                trace: is_traced.then(|| Box::new(TRACEPARENT.parse().unwrap())),
            };
            prop_assert_eq!(decoded(&encode(&message)).unwrap(), message);
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decoded(&bytes);
            let _ = decoded(&[&MAGIC[..], &bytes].concat());
        }
    }
}
