//! Whom a request is from.
//!
//! Each proxy adds the address that it was asked from to `X-Forwarded-For`, at the end. What stands
//! there is believed from the end on, as long as it comes from proxies that are trusted: whatever
//! a client itself wrote stands before.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HeaderMap, HeaderName};

use crate::config::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client of a request that came from `peer`.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    // Whatever bytes a client wrote, what a proxy appended can be read.
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let lines: Vec<_> = lines.iter().map(AsRef::as_ref).collect();
    behind(peer, &lines, trusted)
}

/// The address behind `peer`, by the lines of the header in their order.
pub fn behind(peer: IpAddr, lines: &[&str], trusted: &Networks) -> IpAddr {
    let mut client = peer;
    for said in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !trusted.contain(client) {
            break;
        }
        match address(said.trim_ascii()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client.to_canonical()
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn trusted() -> Networks {
        let text = "[listen]\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n";
        let (settings, mistakes) = Settings::from_text(text);
        assert!(mistakes.is_empty());
        settings.listen.trusted_proxies
    }

    #[test]
    fn proxies_are_believed_and_clients_are_not() {
        for (peer, lines, client) in [
            // Nobody between.
            ("192.0.2.7", &[][..], "192.0.2.7"),
            ("192.0.2.7", &["203.0.113.1"], "192.0.2.7"),
            // One proxy, with a client that made something up.
            ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["203.0.113.1, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["203.0.113.1", "192.0.2.7"], "192.0.2.7"),
            // Two of them.
            ("10.0.0.1", &["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("10.0.0.1", &["192.0.2.7", " 10.0.0.2 "], "192.0.2.7"),
            // None that says anything: the client is within.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Ports, and IPv6.
            ("10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7"),
            ("fd00::1", &["[2001:db8::9]:4711"], "2001:db8::9"),
            ("fd00::1", &["[2001:db8::9]"], "2001:db8::9"),
            ("::ffff:10.0.0.1", &["2001:db8::9"], "2001:db8::9"),
            // What is no address hides what stands before it.
            ("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7,"], "10.0.0.1"),
        ] {
            let found = behind(peer.parse().unwrap(), lines, &trusted());
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing() {
        let mut headers = HeaderMap::new();
        let written = HeaderValue::from_bytes(b"\xff\xfe, 192.0.2.7").unwrap();
        headers.insert(X_FORWARDED_FOR, written);
        let found = client_address("10.0.0.1".parse().unwrap(), &headers, &trusted());
        assert_eq!(found, "192.0.2.7".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn whatever_a_client_writes_its_proxy_s_word_holds(written in "\\PC{0,60}") {
            let line = format!("{written}, 192.0.2.7");
            let found = behind("10.0.0.1".parse().unwrap(), &[&line], &trusted());
            prop_assert_eq!(found, "192.0.2.7".parse::<IpAddr>().unwrap());
        }

        #[test]
        fn who_is_not_trusted_is_who_it_is(lines in proptest::collection::vec("\\PC{0,60}", 0..3)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let peer: IpAddr = "192.0.2.7".parse().unwrap();
            prop_assert_eq!(behind(peer, &lines, &trusted()), peer);
        }
    }
}
