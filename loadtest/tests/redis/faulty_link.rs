//! Stands between a server and Redis, and does wrong with the messages on their way to the server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::SyncSender;

use umbel_loadtest::wire::resp::{Push, parse_push};

/// What it does wrong, once; the numbers are places among all messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 2 isn't passed on.
    Drop,
    /// 4 is passed on twice.
    Double,
    /// 5 has a changed byte.
    Garble,
    /// The link is cut before 3.
    Cut,
    /// Nothing, but see [`Gate`].
    None,
}

/// Holds subscriptions back on their way to Redis until it is opened.
pub(crate) struct Gate(SyncSender<()>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.send(()).unwrap();
    }
}

/// Listens for one server; returns where.
pub(crate) fn listen(redis: SocketAddr, fault: Fault) -> SocketAddr {
    start(redis, fault, |_| ())
}

/// The same without a fault, behind a gate.
pub(crate) fn listen_behind_gate(redis: SocketAddr) -> (SocketAddr, Gate) {
    let (open, opened) = std::sync::mpsc::sync_channel(1);
    let hold = move |commands: &[u8]| {
        if commands.windows(9).any(|bytes| bytes == b"SUBSCRIBE") {
            // The test may be over before it is opened.
            let _ = opened.recv();
        }
    };
    (start(redis, Fault::None, hold), Gate(open))
}

fn start(redis: SocketAddr, fault: Fault, hold: impl Fn(&[u8]) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || -> io::Result<()> {
        let (server, _) = listener.accept()?;
        let redis = TcpStream::connect(redis)?;
        redis.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (commands, up) = (server.try_clone()?, redis.try_clone()?);
        std::thread::spawn(move || pass_commands(&commands, &up, hold));
        let passed = pass(&redis, &server, fault);
        redis.shutdown(Shutdown::Both)?;
        server.shutdown(Shutdown::Both)?;
        passed
    });
    address
}

fn pass_commands(
    mut server: &TcpStream,
    mut redis: &TcpStream,
    hold: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return redis.shutdown(Shutdown::Both);
        }
        hold(&buffer[..read]);
        redis.write_all(&buffer[..read])?;
    }
}

/// Passes pushes on as they come, each part as soon as it is whole.
fn pass(mut redis: &TcpStream, mut server: &TcpStream, fault: Fault) -> io::Result<()> {
    let (mut bytes, mut buffer, mut messages) = (Vec::new(), [0; 4096], 0);
    loop {
        let read = redis.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if fault == Fault::None {
            server.write_all(&buffer[..read])?;
            continue;
        }
        bytes.extend_from_slice(&buffer[..read]);
        let (mut taken, mut out) = (0, Vec::new());
        while let Some((push, length)) = parse_push(&bytes[taken..]).unwrap() {
            let mut push_bytes = bytes[taken..taken + length].to_vec();
            if matches!(push, Push::Message { .. }) {
                match (fault, messages) {
                    (Fault::Drop, 2) => push_bytes.clear(),
                    (Fault::Double, 4) => push_bytes = push_bytes.repeat(2),
                    (Fault::Garble, 5) => push_bytes[length - 3] = b'!',
                    (Fault::Cut, 3) => return Ok(()),
                    _ => {}
                }
                messages += 1;
            }
            out.extend(push_bytes);
            taken += length;
        }
        bytes.drain(..taken);
        server.write_all(&out)?;
    }
}
