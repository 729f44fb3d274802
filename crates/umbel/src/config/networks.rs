//! `listen.trusted_proxies`: networks of those who are believed about others' addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of IP addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Box<[IpNet]>);

impl Networks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address lies in one of them. IPv4 within IPv6 counts as IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Reads networks as `address/bits`; an address alone is the network of itself.
    pub(super) fn read(texts: &[&str]) -> Result<Self, String> {
        texts.iter().map(|text| network(text)).collect::<Result<_, _>>().map(Self)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = parsed.map_err(|_| {
        format!("`{text}` is not a network such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"")
    })?;
    // Bits behind the prefix are mostly a mistake in the prefix.
    if network.addr() != network.network() {
        return Err(format!("`{text}` has bits behind its prefix, `{}` has none", network.trunc()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_networks() {
        let networks = Networks::read(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]).unwrap();
        for (address, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(networks.contain(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(!Networks::default().contain("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "example.org", "10.0.0.1/8"] {
            let error = Networks::read(&[text]).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` ")), "{error}");
        }
    }
}
