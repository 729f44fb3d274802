//! Local addresses for many connections to one loopback address.
//!
//! One source address has about 28 000 ports towards one destination, and a closed connection keeps its
//! port for a minute. All of 127.0.0.0/8 is local, so connections to a loopback address take another
//! source address every few thousand connections.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections from one address: few enough that the kernel finds a free port at the first try.
pub const PER_ADDRESS: u32 = 4096;
/// 127.1.0.0, clear of the addresses that people use.
const FIRST: u32 = 0x7F01_0000;
/// How many there are: up to 127.255.0.0.
pub const ADDRESSES: u32 = 0xFE_0000;

/// The number of some address.
pub fn any() -> u32 {
    fastrand::u32(..ADDRESSES)
}

/// Hands out source addresses.
#[derive(Debug)]
pub struct SourceAddresses {
    spread: bool,
    base: u32,
    taken: u32,
}

impl SourceAddresses {
    /// For connections to `remote`; begins at a random address, away from those of an earlier run.
    pub fn new(remote: SocketAddr) -> Self {
        Self {
            spread: matches!(remote.ip(), IpAddr::V4(ip) if ip.is_loopback()),
            base: any(),
            taken: 0,
        }
    }

    /// The same, beginning at address number `first` of all, so that several processes keep clear of each other.
    pub fn beginning_at(remote: SocketAddr, first: u32) -> Self {
        Self { base: first % ADDRESSES, ..Self::new(remote) }
    }

    /// What the next connection shall bind to; nothing when the remote isn't IPv4 loopback.
    pub fn take(&mut self) -> Option<SocketAddr> {
        if !self.spread {
            return None;
        }
        let offset = (self.base + self.taken / PER_ADDRESS) % ADDRESSES;
        self.taken = self.taken.wrapping_add(1);
        Some(SocketAddr::from((Ipv4Addr::from(FIRST + offset), 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_spread() {
        let mut remote = SourceAddresses::new("192.0.2.1:80".parse().unwrap());
        assert_eq!(remote.take(), None);
        let mut local = SourceAddresses::new("127.0.0.1:80".parse().unwrap());
        assert!(local.take().unwrap().ip().is_loopback());
    }

    #[test]
    fn an_address_serves_a_fixed_number_of_connections() {
        let remote = "127.0.0.1:80".parse().unwrap();
        let mut sources = SourceAddresses::beginning_at(remote, ADDRESSES - 1);
        let taken: Vec<_> = (0..=PER_ADDRESS).filter_map(|_| sources.take()).collect();
        assert_eq!(taken[0], taken[PER_ADDRESS as usize - 1]);
        assert_eq!(taken[0], "127.254.255.255:0".parse().unwrap());
        assert_eq!(taken[PER_ADDRESS as usize], "127.1.0.0:0".parse().unwrap());
    }
}
