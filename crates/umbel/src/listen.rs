//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

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
///
/// `socket_bytes` is what the kernel may hold of a connection until its client has it; 0: as much
/// as it likes.
pub(crate) fn bind_all(
    address: SocketAddr,
    count: usize,
    socket_bytes: usize,
) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        guard(address)?;
    }
    let first = bind_shared(address, socket_bytes)?;
    let address = first.local_addr()?;
    let rest = (1..count).map(|_| bind_shared(address, socket_bytes));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// Has a listener take no further connections, but let those in whose handshake has begun.
///
/// The kernel resets what waits to be accepted when a listener is closed. So first it is told to
/// drop what would begin a connection (SYN), as if the network had: the client asks again a second
/// later, and is then told that nobody listens, or finds another node.
pub(crate) fn take_no_more(listener: &impl AsFd) -> io::Result<()> {
    // The classic filter of a TCP socket sees the segment from its header on. The constants are
    // those of `linux/bpf_common.h`.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Where a TCP header has its flags, and SYN among them (RFC 9293 section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
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
fn bind_shared(address: SocketAddr, socket_bytes: usize) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    if socket_bytes > 0 {
        // The kernel doubles it, to allow for its own structures (socket(7)).
        socket.set_send_buffer_size(socket_bytes / 2)?;
    }
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
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpStream};

    const SOCKET_BYTES: usize = 1 << 17;

    fn any_port() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    #[test]
    fn workers_share_one_port() {
        let listeners = bind_all(any_port(), 3, 0).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn a_taken_port_is_noticed_also_if_its_holder_would_share_it() {
        let held = bind_all(any_port(), 1, SOCKET_BYTES).unwrap();
        let address = held[0].local_addr().unwrap();
        assert_eq!(bind_all(address, 1, 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind_alone(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_inherit_the_listener_s_options() {
        let listener = bind_all(any_port(), 1, SOCKET_BYTES).unwrap().remove(0);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert_eq!(socket.send_buffer_size().unwrap(), SOCKET_BYTES);
    }

    #[test]
    fn who_waits_to_be_accepted_is_let_in_and_nobody_else() {
        let listener = bind_all(any_port(), 1, 0).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        take_no_more(&listener).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // What the filter lets pass is not only the handshake.
        waiting.write_all(b"hello").unwrap();
        listener.set_nonblocking(false).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut said = [0; 5];
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        drop(listener);
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        accepted.write_all(b"bye").unwrap();
        drop(accepted);
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "bye");
    }
}
