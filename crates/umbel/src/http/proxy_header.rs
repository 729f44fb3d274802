//! The header of the PROXY protocol, version 2: a load balancer that only passes bytes on says
//! first whom the connection is from.
//!
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2. Whether there is one
//! is never guessed: a client behind a balancer that sends none could send its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a header begins with. No request of HTTP does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// The longest header that is taken. Addresses of Unix sockets have 216 bytes; further fields, such
/// as a client's certificate, may follow.
const MAX_BYTES: usize = 4096;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How many bytes it has.
    pub len: usize,
    /// Whom the connection is from; `None`: from the balancer itself, or it can't be said.
    pub source: Option<IpAddr>,
}

/// What stands there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHeader;

impl ProxyHeader {
    /// Reads the header that a connection begins with; `None` as long as there may be more of it.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, NoHeader> {
        let begun = bytes.len().min(SIGNATURE.len());
        if bytes[..begun] != SIGNATURE[..begun] {
            return Err(NoHeader);
        }
        let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
            return Ok(None);
        };
        let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        if fixed[12] >> 4 != 2 || len > MAX_BYTES {
            return Err(NoHeader);
        }
        let is_proxied = match fixed[12] & 0xf {
            0 => false,
            1 => true,
            _ => return Err(NoHeader),
        };
        let Some(behind) = bytes.get(FIXED_BYTES..len) else {
            return Ok(None);
        };
        let source = if is_proxied { source(fixed[13] >> 4, behind)? } else { None };
        Ok(Some(Self { len, source }))
    }
}

/// The source address of a family, which comes first.
fn source(family: u8, addresses: &[u8]) -> Result<Option<IpAddr>, NoHeader> {
    match family {
        1 if addresses.len() >= 12 => {
            let source = *addresses.first_chunk::<4>().ok_or(NoHeader)?;
            Ok(Some(Ipv4Addr::from(source).into()))
        }
        2 if addresses.len() >= 36 => {
            let source = *addresses.first_chunk::<16>().ok_or(NoHeader)?;
            Ok(Some(IpAddr::from(Ipv6Addr::from(source)).to_canonical()))
        }
        // Unspecified, or the path of a Unix socket.
        0 | 3 => Ok(None),
        _ => Err(NoHeader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(version_command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_command, family][..], &len, addresses].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<IpAddr>, NoHeader> {
        ProxyHeader::read(bytes).map(|header| header.expect("it is complete").source)
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc0, 0, 0x1f, 0x90];

    #[test]
    fn headers_say_whom_a_connection_is_from() {
        let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[9], &[0; 20]].concat();
        let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[0; 20]].concat();
        for (header, source) in [
            (header(0x21, 0x11, &IPV4), Some("192.0.2.7")),
            (header(0x21, 0x11, &[&IPV4[..], &[4, 0, 1, 0]].concat()), Some("192.0.2.7")),
            (header(0x21, 0x21, &ipv6), Some("2001:db8::9")),
            (header(0x21, 0x21, &mapped), Some("192.0.2.7")),
            (header(0x20, 0, &[]), None),
            (header(0x20, 0x11, &IPV4), None),
            (header(0x21, 0, &[]), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ] {
            let source = source.map(|source| source.parse::<IpAddr>().unwrap());
            assert_eq!(read(&header), Ok(source), "{header:x?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            header(0x11, 0x11, &IPV4),
            header(0x22, 0x11, &IPV4),
            header(0x21, 0x11, &IPV4[..11]),
            header(0x21, 0x21, &IPV4),
            header(0x21, 0x41, &IPV4),
            header(0x21, 0x11, &[0; MAX_BYTES]),
        ] {
            assert_eq!(ProxyHeader::read(&bytes), Err(NoHeader), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_header_may_come_in_pieces_and_says_where_it_ends(
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let whole = header(0x21, 0x11, &[&IPV4[..], &tail].concat());
            for cut in 0..whole.len() {
                prop_assert_eq!(ProxyHeader::read(&whole[..cut]), Ok(None));
            }
            let read = ProxyHeader::read(&[&whole[..], &rest].concat()).unwrap().unwrap();
            prop_assert_eq!(read.len, whole.len());
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            signed in any::<bool>(),
        ) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            if let Ok(Some(header)) = ProxyHeader::read(&bytes) {
                prop_assert!(header.len <= bytes.len());
            }
        }
    }
}
