//! WebSocket frames (RFC 6455 section 5): servers' frames parsed, both sides' written.

use std::fmt;

/// Final text frame of one message.
pub const TEXT: u8 = 0x1;
/// Final binary frame of one message.
pub const BINARY: u8 = 0x2;
/// Close frame.
pub const CLOSE: u8 = 0x8;
/// Ping frame.
pub const PING: u8 = 0x9;
/// Pong frame.
pub const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const TEXT_FIN: u8 = FIN | TEXT;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// One whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What kind of frame; see the constants of this module.
    pub opcode: u8,
    /// Its payload; servers don't mask.
    pub payload: &'a [u8],
    /// How many bytes the frame took, header included.
    pub taken: usize,
}

/// Why bytes aren't a frame that a pub/sub server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError(Fault);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Reserved(u8),
    Masked,
    Fragmented,
    Length(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Reserved(byte) => {
                write!(f, "frame begins with {byte:#04x}: reserved bits are set")
            }
            Fault::Masked => f.write_str("server sent a masked frame"),
            Fault::Fragmented => f.write_str("server sent a message in fragments"),
            Fault::Length(length) => write!(f, "frame claims {length} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The frame at the beginning of `bytes`, or `None` while it is cut.
///
/// HOT PATH: once per delivery; text frames of the common lengths take the first way.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    match bytes {
        [TEXT_FIN, LENGTH_16, high, low, rest @ ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            Ok(cut(TEXT, rest, 4, u64::from(length)))
        }
        [TEXT_FIN, short @ ..LENGTH_16, rest @ ..] => Ok(cut(TEXT, rest, 2, u64::from(*short))),
        [first, second, rest @ ..] => parse_general(*first, *second, rest),
        _ => Ok(None),
    }
}

fn parse_general(first: u8, second: u8, rest: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let opcode = check(first, second)?;
    let (length, header) = match second {
        LENGTH_16 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        LENGTH_64 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > i64::MAX.unsigned_abs() {
        return Err(FrameError(Fault::Length(length)));
    }
    Ok(cut(opcode, &rest[header - 2..], header, length))
}

fn check(first: u8, second: u8) -> Result<u8, FrameError> {
    let opcode = first & 0x0F;
    let fault = if first & 0x70 != 0 {
        Fault::Reserved(first)
    } else if second & MASKED != 0 {
        Fault::Masked
    } else if first & FIN == 0 || opcode == 0 {
        Fault::Fragmented
    } else {
        return Ok(opcode);
    };
    Err(FrameError(fault))
}

#[inline]
fn cut(opcode: u8, rest: &[u8], header: usize, length: u64) -> Option<Frame<'_>> {
    let length = usize::try_from(length).ok()?;
    let payload = rest.get(..length)?;
    Some(Frame { opcode, payload, taken: header + length })
}

/// Appends the frame in which a server sends `payload` as one text message.
#[inline]
pub fn write_text(out: &mut Vec<u8>, payload: &[u8]) {
    write_header(out, TEXT_FIN, 0, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a client's frame; the mask is zero, which masks nothing.
pub fn write_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, FIN | opcode, MASKED, payload.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[inline]
fn write_header(out: &mut Vec<u8>, first: u8, masked: u8, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < LENGTH_16 => out.extend_from_slice(&[first, masked | short]),
        (_, Ok(medium)) => {
            out.extend_from_slice(&[first, masked | LENGTH_16]);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, masked | LENGTH_64]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_at_the_borders_of_each_encoding_come_back() {
        for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            write_text(&mut bytes, &payload);
            let frame = parse(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.taken), (TEXT, bytes.len()));
            assert_eq!(frame.payload, payload);
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        let cases: [(&[u8], Fault); 4] = [
            (&[0xC1, 0], Fault::Reserved(0xC1)),
            (&[0x81, 0x80], Fault::Masked),
            (&[0x01, 0], Fault::Fragmented),
            (&[0x81, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0], Fault::Length(0xFF << 56)),
        ];
        for (bytes, fault) in cases {
            assert_eq!(parse(bytes), Err(FrameError(fault)), "{bytes:?}");
        }
    }

    #[test]
    fn a_clients_control_frame_is_masked_with_zeros() {
        let mut out = Vec::new();
        write_client(&mut out, PONG, b"hi");
        assert_eq!(out, [0x8A, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(frame)) = parse(&bytes) {
                prop_assert!(frame.taken <= bytes.len());
            }
        }

        #[test]
        fn a_frame_cut_anywhere_waits_for_the_rest(length in 0usize..70_000, cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            write_text(&mut bytes, &vec![b'x'; length]);
            prop_assert_eq!(parse(&bytes[..cut.index(bytes.len())]), Ok(None));
        }
    }
}
