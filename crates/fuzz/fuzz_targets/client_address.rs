//! Whom a connection or request is from: the PROXY protocol's header and `X-Forwarded-For`.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use umbel::config::Settings;
use umbel::fuzzing::behind;
use umbel::fuzzing::proxy_header::ProxyHeader;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(header)) = ProxyHeader::read(bytes) {
        assert!(header.len <= bytes.len());
        // It doesn't matter what follows, or that it came in pieces.
        assert_eq!(ProxyHeader::read(&bytes[..header.len]), Ok(Some(header)));
        for cut in 0..header.len {
            assert_eq!(ProxyHeader::read(&bytes[..cut]), Ok(None));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (settings, _) = Settings::from_text("[listen]\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    let trusted = settings.listen.trusted_proxies;
    let lines: Vec<&str> = text.split('\n').collect();
    let found = behind(PROXY, &lines, &trusted);
    // What the proxy itself appends is what is found, whatever the client wrote before it.
    let client: IpAddr = [192, 0, 2, 7].into();
    let appended = [&lines[..], &["192.0.2.7"]].concat();
    assert_eq!(behind(PROXY, &appended, &trusted), client);
    // And a client that isn't a proxy is who it is.
    assert_eq!(behind(client, &lines, &trusted), client);
    assert_eq!(found, found.to_canonical());
});
