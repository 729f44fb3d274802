//! The WebSocket handshake's answer to a client's key (RFC 6455 section 4.2.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Accept` value: base64 of a SHA-1 sum.
pub type AcceptKey = [u8; 28];

/// What a server must answer to `key`.
pub fn accept_key(key: &[u8]) -> AcceptKey {
    let sum = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut out = [0; 28];
    STANDARD.encode_slice(sum, &mut out).expect("20 bytes encode to 28");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
