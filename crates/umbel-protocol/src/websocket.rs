//! WebSocket frames as a server writes them (RFC 6455 section 5): unmasked, unfragmented, without
//! extensions. Reading frames is the node's part.

/// What a frame is (RFC 6455 section 11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A UTF-8 message.
    Text = 0x1,
    /// A message of any bytes.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

/// The longest header of a server's frame, in bytes.
pub const MAX_HEADER_BYTES: usize = 10;

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;

/// Appends a whole frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(MAX_HEADER_BYTES + payload.len());
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a text frame whose payload `body` writes.
///
/// For payloads whose length is known only once they are written. The shorter headers are moved
/// into place afterwards.
pub fn write_text_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; MAX_HEADER_BYTES]);
    body(out);
    let body_len = out.len() - start - MAX_HEADER_BYTES;
    let header = Header::new(Opcode::Text, body_len);
    let unused = MAX_HEADER_BYTES - header.as_bytes().len();
    out.drain(start..start + unused);
    out[start..start + header.as_bytes().len()].copy_from_slice(header.as_bytes());
}

/// Appends a close frame (RFC 6455 section 5.5.1). A reason that is too long for a control frame
/// is cut at a character.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_BYTES - 2)];
    write_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Whether an endpoint may put this code into a close frame (RFC 6455 section 7.4 and IANA's
/// registry: 1012 to 1014 were added later; 1004 to 1006 and 1015 never travel).
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    out.extend_from_slice(Header::new(opcode, payload_len).as_bytes());
}

struct Header {
    bytes: [u8; MAX_HEADER_BYTES],
    len: usize,
}

impl Header {
    fn new(opcode: Opcode, payload_len: usize) -> Self {
        let mut bytes = [0; MAX_HEADER_BYTES];
        bytes[0] = FIN | opcode as u8;
        let len = if let (Ok(short), true) = (u8::try_from(payload_len), payload_len < 126) {
            bytes[1] = short;
            2
        } else if let Ok(medium) = u16::try_from(payload_len) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_takes_7_16_or_64_bits() {
        for (len, header) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = vec![7];
            write_frame(&mut out, Opcode::Binary, &vec![1; len]);
            assert_eq!(&out[1..=header.len()], header);
            assert_eq!(out.len(), 1 + header.len() + len);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        write_close(&mut out, 4408, &"\u{fc}".repeat(100));
        assert_eq!(out[..2], [0x88, 124], "2 + 61 characters of 2 bytes");
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn only_codes_that_may_travel_are_close_codes() {
        for good in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4000, 4999] {
            assert!(is_close_code(good), "{good}");
        }
        for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            assert!(!is_close_code(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_body_written_in_place_gives_the_same_frame(before in prop::collection::vec(any::<u8>(), 0..9), len in prop_oneof![0..300_usize, 65_500..65_600_usize]) {
            let payload = vec![b'x'; len];
            let (mut direct, mut in_place) = (before.clone(), before);
            write_frame(&mut direct, Opcode::Text, &payload);
            write_text_frame(&mut in_place, |out| out.extend_from_slice(&payload));
            prop_assert_eq!(direct, in_place);
        }
    }
}
