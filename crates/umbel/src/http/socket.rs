//! A socket as hyper gets it: what was read already comes first, and an observer is told what
//! becomes of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// What an observer may want to know of a socket.
pub(super) trait Observer {
    /// Bytes were written.
    fn wrote(&self) {}

    /// Everything that hyper had is written: it flushes the socket only once its own buffer is
    /// empty.
    fn flushed(&self) {}
}

/// The socket `S`, behind bytes that were taken from it to see what is spoken.
pub(super) struct Socket<S, O> {
    first: Bytes,
    stream: TokioIo<S>,
    observer: O,
}

impl<S, O> Socket<S, O> {
    pub(super) fn new(first: Bytes, stream: S, observer: O) -> Self {
        Self { first, stream: TokioIo::new(stream), observer }
    }

    /// The socket, and what of the first bytes nobody has read.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream.into_inner(), self.first)
    }
}

impl<S: AsyncRead + Unpin, O: Unpin> Read for Socket<S, O> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..len]);
        self.first.advance(len);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, O: Observer + Unpin> Write for Socket<S, O> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.observer.wrote();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.observer.flushed();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written =
            std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.observer.wrote();
        Poll::Ready(written)
    }
}
