//! Names of hosts, resolved.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};

/// The first address of `host`, at `default_port` if it names none; IPv4 first, because its loopback has many
/// addresses.
pub fn resolve(host: &str, default_port: u16) -> Result<SocketAddr> {
    let with_port =
        host.to_socket_addrs().or_else(|_| format!("{host}:{default_port}").to_socket_addrs());
    let mut addresses: Vec<_> =
        with_port.with_context(|| format!("host {host} can't be resolved"))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().with_context(|| format!("host {host} has no address"))
}
