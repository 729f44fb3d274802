//! fastwebsockets as a parser of complete frames.
//!
//! A `WebSocket` of that crate reads from its stream into a buffer of 8 KiB and up, and a read that
//! is dropped midway loses bytes. So no session has one: each worker keeps a single one over a
//! stream in memory and feeds it one complete frame at a time. It does what it is good at (opcodes,
//! reserved bits, unmasking, UTF-8), never waits, and an idle session keeps no buffer.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use fastwebsockets::{Frame, Role, WebSocket, WebSocketError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Parses one complete client frame at a time.
pub(super) struct Parser {
    socket: WebSocket<Feed>,
    fed: Rc<RefCell<Fed>>,
    frame_bytes: usize,
}

/// The bytes of the frame at hand.
#[derive(Debug, Default)]
struct Fed {
    bytes: Vec<u8>,
    read: usize,
}

/// The stream that the `WebSocket` reads from.
struct Feed(Rc<RefCell<Fed>>);

impl Parser {
    /// A parser for frames of at most `frame_bytes`, which the caller has checked.
    pub(super) fn new(frame_bytes: usize) -> Self {
        let fed = Rc::default();
        Self { socket: socket(&fed, frame_bytes), fed, frame_bytes }
    }

    /// Parses and unmasks exactly one frame. The bytes must be a whole one.
    pub(super) fn parse(&mut self, frame: &[u8]) -> Result<Frame<'static>, WebSocketError> {
        {
            let mut fed = self.fed.borrow_mut();
            fed.read = 0;
            fed.bytes.clear();
            fed.bytes.extend_from_slice(frame);
        }
        let parsed = self.poll_frame();
        if parsed.is_err() {
            // What it has read of a bad frame must not reach another session.
            self.socket = socket(&self.fed, self.frame_bytes);
        }
        parsed
    }

    fn poll_frame(&mut self) -> Result<Frame<'static>, WebSocketError> {
        let reading = pin!(self.socket.read_frame());
        match reading.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(parsed) => parsed,
            Poll::Pending => {
                unreachable!("the stream in memory never waits, at its end it says so")
            }
        }
    }
}

fn socket(fed: &Rc<RefCell<Fed>>, frame_bytes: usize) -> WebSocket<Feed> {
    let mut socket = WebSocket::after_handshake(Feed(fed.clone()), Role::Server);
    socket.set_auto_close(false);
    socket.set_auto_pong(false);
    // The crate refuses what reaches its limit, ours may be reached.
    socket.set_max_message_size(frame_bytes.saturating_add(1));
    socket
}

impl AsyncRead for Feed {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut fed = self.0.borrow_mut();
        let rest = &fed.bytes[fed.read..];
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        fed.read += taken;
        Poll::Ready(Ok(()))
    }
}

/// Nothing is written through it: frames are encoded once and written by the session's wire.
impl AsyncWrite for Feed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
