//! HTTP/2 by prior knowledge (RFC 9113 section 3.3), on the port of HTTP/1.
//!
//! A stream can't be taken apart as a connection can, so an SSE session over HTTP/2 is the body of
//! its answer ([`crate::session::SessionBody`]). Each stream is answered by a task of the worker,
//! which the session can [cut](Stream::cut): a client that grants its stream no window would
//! otherwise keep it for ever.
//!
//! WebSocket over HTTP/2 (RFC 8441) is not offered.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::Connection;
use super::connection::{End, MAX_HEAD_BYTES};
use super::service::HttpService;
use super::socket::{Observer, Socket};
use crate::ledger::Charge;
use crate::session::{SEND_BUFFER_BYTES, Stream};
use crate::worker::{Held, Worker};

/// How many streams a connection may have at a time. A page has a handful, a proxy in front of
/// many pages opens more connections; RFC 9113 section 6.5.2 recommends at least 100.
const MAX_STREAMS: u32 = 256;

/// How many bytes of a request's body may be under way: the window of RFC 9113 section 6.9.2.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same for all bodies of a connection together. The node reads them as they come, so this is
/// what hasn't been looked at yet.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How many streams may be reset before they were looked at. More is an attack (CVE-2023-44487):
/// the connection ends.
const MAX_UNSEEN_RESETS: usize = 32;

/// How many streams this side may have to reset because the client broke the protocol on them.
/// More is an attack: the connection ends.
const MAX_ERROR_RESETS: usize = 256;

/// What a stream is counted with, about (measured: 5 KiB).
const STREAM_BYTES: usize = 5 * 1024;

/// How long a client may take to answer the last GOAWAY and finish its streams.
const GOODBYE: Duration = Duration::from_secs(2);

/// When the kernel asks a peer from which nothing comes whether it is still there. A connection
/// whose streams have no window is never written to, so nothing else would find out.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The stream that the task at hand answers.
    static STREAM: Rc<Stream>;
}

/// The stream of the request at hand.
pub(super) fn stream() -> Rc<Stream> {
    STREAM.with(Clone::clone)
}

/// Serves a connection that began with the preface, until it has ended or is expired.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: &mut TcpStream,
    first: Bytes,
) -> End {
    ask_whether_it_lives(stream);
    let socket = Socket::new(first, stream, Writes(worker.clone()));
    let service = HttpService::new(worker.clone(), connection.clone());
    let http = builder(worker).serve_connection(socket, service);
    let mut http = pin!(http);
    let mut retires = false;
    let ended = poll_fn(|context| {
        connection.register(context.waker());
        if connection.is_expired() {
            return Poll::Ready(None);
        }
        if connection.is_retired() && !std::mem::replace(&mut retires, true) {
            // GOAWAY: no further streams, and those that are there go on.
            http.as_mut().graceful_shutdown();
        }
        http.as_mut().poll(context).map(Some)
    });
    match ended.await {
        Some(Ok(())) => End::Done,
        Some(Err(error)) => {
            tracing::debug!(%error, "HTTP/2 connection failed");
            End::Done
        }
        None => {
            http.as_mut().graceful_shutdown();
            // However it ends, it has ended.
            let _ = tokio::time::timeout(GOODBYE, http).await;
            End::Gone
        }
    }
}

fn builder(worker: &Rc<Worker>) -> http2::Builder<StreamTasks> {
    let max_head_bytes = u32::try_from(MAX_HEAD_BYTES).expect("heads are small");
    let mut builder = http2::Builder::new(StreamTasks(worker.clone()));
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_head_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    builder
}

fn ask_whether_it_lives(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    // A peer that is gone already needs no asking.
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Answers each stream with a task of the worker.
#[derive(Clone)]
struct StreamTasks(Rc<Worker>);

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamTasks {
    fn execute(&self, answer: F) {
        let stream = Rc::new(Stream::default());
        let mut answer = Box::pin(STREAM.scope(stream.clone(), answer));
        let charge = Charge::new(&self.0.ledger, Held::Connections, STREAM_BYTES);
        self.0.tasks.spawn(poll_fn(move |context| {
            let _held = &charge;
            stream.poll(answer.as_mut(), context)
        }));
    }
}

/// Tells the worker that streams get on.
struct Writes(Rc<Worker>);

impl Observer for Writes {
    fn wrote(&self) {
        self.0.pace.step();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_asks_whether_the_peer_lives() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        ask_whether_it_lives(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    }
}
