//! A connection of our own making that keeps what its socket doesn't take and what comes in halves.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::os::poller::Poller;
use crate::os::socket::{self, Moved};

/// A connected socket, both directions buffered.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    token: u64,
    /// What the socket hasn't taken.
    unsent: Vec<u8>,
    /// The beginning of something that isn't whole yet.
    cut: Vec<u8>,
}

impl Stream {
    /// Connects within `timeout`; from then on nothing waits.
    pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { socket: stream.into(), token: 0, unsent: Vec::new(), cut: Vec::new() })
    }

    /// Has `poller` tell of it under `token`.
    pub fn register(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        self.token = token;
        poller.add_connection(&self.socket, token)
    }

    /// What is sent by the next flush, to be added to.
    pub fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Sends what is unsent, in one call; watches for room if something is left.
    pub fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match socket::send(&self.socket, &self.unsent)? {
            Moved::Bytes(sent) => drop(self.unsent.drain(..sent)),
            Moved::Later => {}
            Moved::Ended => return Err(ended()),
        }
        if self.unsent.is_empty() { Ok(()) } else { poller.watch_room(&self.socket, self.token) }
    }

    /// Gives `take` what there is to read, through `buffer` and behind what was cut before; `take` says how many bytes
    /// it took. The end of the connection is an error.
    pub fn receive<E: From<io::Error>>(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        loop {
            let kept = self.cut.len();
            if kept >= buffer.len() {
                return Err(too_long(buffer.len()).into());
            }
            buffer[..kept].copy_from_slice(&self.cut);
            let read = match socket::receive(&self.socket, &mut buffer[kept..])? {
                Moved::Bytes(read) => read,
                Moved::Later => return Ok(()),
                Moved::Ended => return Err(ended().into()),
            };
            let end = kept + read;
            let taken = take(&buffer[..end])?;
            self.cut.clear();
            self.cut.extend_from_slice(&buffer[taken..end]);
            if end < buffer.len() {
                return Ok(());
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed the connection")
}

fn too_long(limit: usize) -> io::Error {
    io::Error::other(format!("the other side sent something longer than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A stream that a poller watches, and the other end of its connection.
    fn pair() -> (Stream, Poller, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut stream = Stream::connect(address, Duration::from_secs(5)).unwrap();
        let poller = Poller::new().unwrap();
        stream.register(&poller, 7).unwrap();
        (stream, poller, listener.accept().unwrap().0)
    }

    #[test]
    fn what_is_cut_comes_again_with_its_rest() {
        let (mut stream, mut poller, mut other) = pair();
        let mut seen = Vec::new();
        for part in [b"one t".as_slice(), b"wo"] {
            other.write_all(part).unwrap();
            assert_eq!(poller.wait(None).unwrap(), 1);
            let take = |bytes: &[u8]| {
                seen.push(String::from_utf8_lossy(bytes).into_owned());
                io::Result::Ok(4.min(bytes.len()))
            };
            stream.receive(&mut [0; 16], take).unwrap();
        }
        assert_eq!(seen, ["one t", "two"]);
    }

    #[test]
    fn what_the_socket_does_not_take_is_sent_when_it_has_room() {
        let (mut stream, mut poller, mut other) = pair();
        let size = 32 << 20;
        stream.unsent().resize(size, b'x');
        stream.flush(&poller).unwrap();
        assert!(!stream.unsent().is_empty());
        let reader = std::thread::spawn(move || other.read_exact(&mut vec![0; size]));
        while !stream.unsent().is_empty() {
            poller.wait(None).unwrap();
            stream.flush(&poller).unwrap();
        }
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn an_end_and_too_much_are_errors() {
        let (mut stream, mut poller, mut other) = pair();
        other.write_all(b"12345678").unwrap();
        poller.wait(None).unwrap();
        let error = stream.receive(&mut [0; 8], |_| io::Result::Ok(0)).unwrap_err();
        assert!(error.to_string().contains("longer than 8 bytes"), "{error}");
        drop(other);
        poller.wait(None).unwrap();
        let error = stream.receive(&mut [0; 16], |bytes| io::Result::Ok(bytes.len()));
        assert!(error.unwrap_err().to_string().contains("closed the connection"));
    }
}
