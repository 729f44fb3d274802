//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted, per worker. The kernel caps it at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many bytes a socket takes that aren't sent yet. What is beyond stays in the log, where one
/// copy serves all (measured: 157 KiB of kernel memory for a reader that never reads, 4.1 MiB
/// without).
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// After how long a peer that acknowledges nothing is given up. No timer of ours is needed.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// One listener per worker on the same address, among which the kernel spreads connections. With
/// port 0 all get the port that the first was given.
pub(crate) fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        guard(address)?;
    }
    let first = bind_shared(address)?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| bind_shared(address));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// A listener that shares its address with nobody.
pub(crate) fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds without sharing and lets go again. Sharing would otherwise succeed beside another node on
/// the same port, and each would get a part of the connections.
fn guard(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

/// Options are set on the listener: Linux lets accepted sockets inherit them, which saves three
/// system calls per connection.
fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A port whose last connections are still winding down may be taken again.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::{Ipv4Addr, TcpStream};

    fn any_port() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn workers_share_one_port() {
        let listeners = bind_all(any_port(), 3).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn a_taken_port_is_noticed_also_if_its_holder_would_share_it() {
        let held = bind_all(any_port(), 1).unwrap();
        let address = held[0].local_addr().unwrap();
        assert_eq!(bind_all(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind_alone(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_inherit_the_listener_s_options() {
        let listener = bind_all(any_port(), 1).unwrap().remove(0);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }
}
