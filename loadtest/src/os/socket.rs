//! TCP sockets without blocking, made with the options that a fan-out wants.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Connections that may wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// Bytes of a receive buffer that is kept small.
const SMALL_BUFFER: usize = 8192;

/// A listener whose accepted sockets inherit `TCP_NODELAY`, which saves a call for each.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Begins a connection to `remote`, from `local` if given; it is up once the socket is writable.
///
/// Its acknowledgements are delayed and joined, as those of a client that talks are. Else the kernel sends one for
/// each read, which on loopback takes a third of the load's time and none of the server's.
pub fn connect(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let socket = open(remote)?;
    if let Some(local) = local {
        // Ports whose last connection is in TIME_WAIT may be had again.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &local)?;
    }
    sockopt::set_tcp_quickack(&socket, false)?;
    match net::connect(&socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Lets little wait in `socket` for its reader: the rest waits at the other side.
pub fn keep_buffer_small(socket: impl AsFd) -> io::Result<()> {
    // The kernel takes twice of it. A window that was told when it connected isn't taken back.
    Ok(sockopt::set_socket_recv_buffer_size(socket, SMALL_BUFFER)?)
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// The next waiting connection, or `None`.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match net::accept_with(listener, flags) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The address that `socket` is bound to.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(net::getsockname(socket)?)?)
}

/// What a read or write without waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// None now; readiness will be told.
    Later,
    /// None ever: the other side has closed or is gone.
    Ended,
}

/// Reads into `buffer`.
#[inline]
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Moved> {
    match net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((0, _)) => Ok(Moved::Ended),
        Ok((read, _)) => Ok(Moved::Bytes(read)),
        Err(error) => without_bytes(error),
    }
}

/// Writes from `bytes`.
#[inline]
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<Moved> {
    match net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(Moved::Bytes(sent)),
        Err(error) => without_bytes(error),
    }
}

#[cold]
fn without_bytes(error: Errno) -> io::Result<Moved> {
    match error {
        Errno::AGAIN | Errno::INTR => Ok(Moved::Later),
        Errno::CONNRESET | Errno::PIPE => Ok(Moved::Ended),
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = local_address(&listener).unwrap();
        let _client = connect(address, Some("127.9.8.7:0".parse().unwrap())).unwrap();
        let mut poller = crate::os::poller::Poller::new().unwrap();
        poller.add_level(&listener, 0).unwrap();
        // A signal to the process ends a wait without an event.
        let mut waits = std::iter::repeat_with(|| poller.wait(None).unwrap());
        assert_eq!(waits.find(|events| *events > 0), Some(1));
        let accepted = accept(&listener).unwrap().expect("the poller said so");
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert_eq!(accept(&listener).unwrap().map(|_| ()), None);
    }
}
