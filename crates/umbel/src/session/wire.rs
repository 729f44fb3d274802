//! The write seam: how frames reach the client's socket.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::net::{self, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use umbel_hub::Pending;

use super::Stream;

/// What carries a session's bytes. Closed, so that the write is a branch and not a call through a
/// pointer.
#[derive(Debug)]
pub(crate) enum Wire {
    /// A socket of its own; frames are written from the logs as they lie there.
    Tcp(TcpStream),
    /// A stream of an HTTP/2 connection, which takes its frames from the logs by itself.
    H2(Rc<Stream>),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing was pending.
    Nothing,
    /// So many bytes were taken.
    Bytes(usize),
    /// The socket takes nothing now.
    Blocked,
    /// The stream was told to take what is pending.
    Told,
}

/// The most slices in one write. A session with news of more topics than that is written again.
const MAX_SLICES: usize = 64;

impl Wire {
    /// Writes what is pending with one system call.
    ///
    /// HOT PATH: the only call per session and batch. One slice goes without gathering.
    pub(crate) fn write<S>(&self, mut pending: Pending<'_, S>) -> io::Result<Written> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::H2(stream) => {
                stream.wake();
                return Ok(Written::Told);
            }
        };
        let Some(first) = pending.next() else {
            return Ok(Written::Nothing);
        };
        let written = match pending.next() {
            None => send(stream, first),
            Some(second) => write_gathered(stream, [first, second].into_iter().chain(pending)),
        };
        match written {
            Ok(bytes) => Ok(Written::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written::Blocked),
            Err(error) => Err(error),
        }
    }

    /// Ready when the socket may take bytes again; otherwise `context`'s task is woken then.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            // An error shows at the write that follows.
            Self::Tcp(stream) => stream.poll_write_ready(context).map(drop),
            // Its connection waits for room.
            Self::H2(_) => Poll::Pending,
        }
    }

    /// Reads what there is into `buffer`; 0 bytes are the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self else {
            // Its connection reads.
            return Poll::Pending;
        };
        let mut buffer = ReadBuf::new(buffer);
        let read = Pin::new(stream).poll_read(context, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish(&self) {
        match self {
            // A peer that is gone already needs no telling.
            Self::Tcp(stream) => drop(SockRef::from(stream).shutdown(Shutdown::Write)),
            // It ends when it asks for more.
            Self::H2(stream) => stream.wake(),
        }
    }

    /// Gives up what the client hasn't taken. A socket needs no word: it is closed when it is
    /// dropped.
    pub(crate) fn cut(&self) {
        if let Self::H2(stream) = self {
            stream.cut();
        }
    }
}

/// By the system call itself: libc's function first finds out whether the thread may be cancelled.
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || Ok(net::send(stream, bytes, SendFlags::NOSIGNAL)?))
}

fn write_gathered<'s>(
    stream: &TcpStream,
    slices: impl Iterator<Item = &'s [u8]>,
) -> io::Result<usize> {
    let mut gathered = [IoSlice::new(&[]); MAX_SLICES];
    let mut count = 0;
    for (place, slice) in gathered.iter_mut().zip(slices) {
        *place = IoSlice::new(slice);
        count += 1;
    }
    stream.try_write_vectored(&gathered[..count])
}
