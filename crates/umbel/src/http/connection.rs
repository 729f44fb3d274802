//! One HTTP connection: hyper until the client wants a stream, then the socket is taken back.
//!
//! A WebSocket or SSE session needs its bare socket. hyper's own way to it (an upgrade) writes the
//! answer itself, allocates a channel and a box, and knows no SSE. So both go the same way: the
//! service leaves what was agreed on ([`Opening`]) with the connection and never answers; once
//! hyper has flushed the answers before, the connection is taken apart, and the session writes its
//! own head together with its first frames.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::problem::{Problem, written_out};
use super::service::HttpService;
use crate::ledger::Charge;
use crate::session::{Opening, open};
use crate::wheel::Tick;
use crate::worker::{Held, Timer, Worker};

/// The state of a connection that its driver, its service and the wheel share.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` while a request is being served, which has deadlines of its own.
    deadline: Cell<Option<Tick>>,
    expired: Cell<bool>,
    requests: Cell<u64>,
    /// Left by the service when the connection shall become a session.
    opening: RefCell<Option<Box<Opening>>>,
    /// Whether hyper has written out all that it had since the opening was left.
    flushed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// How long a connection may wait for its next request.
const KEEP_ALIVE_SECONDS: u32 = 75;

/// The longest head of a request, in bytes; also what hyper reads at a time at most.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header lines of a request.
const MAX_HEADERS: usize = 64;

/// What a connection is counted with: hyper's buffers and state, about.
const CONNECTION_BYTES: usize = 16 * 1024;

/// How long and how far a refused client's rest is read, so that it gets to see the answer: closing
/// with unread input would reset the connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// How the HTTP part of a connection ended.
enum End {
    Done,
    Expired,
    Session(Box<Opening>),
}

/// Has a connection served by a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, stream: TcpStream) {
    let connection = Connection::new(worker);
    let task = drive(worker.clone(), connection, stream);
    worker.tasks.spawn(Box::pin(task));
}

async fn drive(worker: Rc<Worker>, connection: Rc<Connection>, stream: TcpStream) {
    let charge = Charge::new(&worker.ledger, Held::Connections, CONNECTION_BYTES);
    let index = worker.connections.borrow_mut().insert(connection.clone());
    worker.count_connections();
    let (end, stream, input) = serve_http(&worker, &connection, stream).await;
    worker.connections.borrow_mut().remove(index);
    worker.count_connections();
    connection.waker.take();
    drop(charge);
    match end {
        End::Session(opening) => open(&worker, stream, &input, *opening).await,
        End::Done => linger(stream).await,
        End::Expired if connection.requests.get() == 0 => refuse_late(stream).await,
        End::Expired => {}
    }
}

async fn serve_http(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: TcpStream,
) -> (End, TcpStream, bytes::Bytes) {
    let socket = Socket { stream: TokioIo::new(stream), connection: connection.clone() };
    let service = HttpService::new(worker.clone(), connection.clone());
    let mut http = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // The wheel has the deadlines.
        .header_read_timeout(None)
        .serve_connection(socket, service);
    let end = poll_fn(|context| {
        connection.register(context.waker());
        if connection.expired.get() {
            return Poll::Ready(End::Expired);
        }
        match http.poll_without_shutdown(context) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "Connection failed");
                }
                Poll::Ready(End::Done)
            }
            Poll::Pending => match connection.take_opening() {
                Some(opening) => Poll::Ready(End::Session(opening)),
                None => Poll::Pending,
            },
        }
    })
    .await;
    let parts = http.into_parts();
    (end, parts.io.stream.into_inner(), parts.read_buf)
}

/// Lets the client read our last answer before its connection is gone.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                bytes => taken += bytes,
            }
        }
        io::Result::Ok(())
    };
    // However it ends, it has ended.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// Tells a client that its first request didn't come in time.
async fn refuse_late(mut stream: TcpStream) {
    let answer = written_out(&Problem::new(
        hyper::StatusCode::REQUEST_TIMEOUT,
        "the request's head took too long",
    ));
    let _ = tokio::time::timeout(LINGER, stream.write_all(&answer)).await;
    linger(stream).await;
}

impl Connection {
    fn new(worker: &Rc<Worker>) -> Rc<Self> {
        let deadline = worker.now().plus_seconds(worker.limits.header_seconds);
        let connection = Rc::new(Self {
            deadline: Cell::new(Some(deadline)),
            expired: Cell::new(false),
            requests: Cell::new(0),
            opening: RefCell::new(None),
            flushed: Cell::new(false),
            waker: RefCell::new(None),
        });
        worker.wheel.borrow_mut().insert(Timer::Connection(connection.clone()), deadline);
        connection
    }

    /// When to look again; `None` if there is nothing more to look at.
    pub(crate) fn check_deadline(&self, now: Tick) -> Option<Tick> {
        self.waker.borrow().as_ref()?;
        match self.deadline.get() {
            Some(deadline) if now >= deadline => {
                self.expire();
                None
            }
            Some(deadline) => Some(deadline),
            None => Some(now.plus_seconds(KEEP_ALIVE_SECONDS)),
        }
    }

    /// Ends the connection, also amidst a request.
    pub(crate) fn expire(&self) {
        self.expired.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A request has come: it is the service's now.
    pub(crate) fn begin_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.deadline.set(None);
    }

    /// The answer is on its way: the next request may take its time.
    pub(crate) fn end_request(&self, now: Tick) {
        self.deadline.set(Some(now.plus_seconds(KEEP_ALIVE_SECONDS)));
    }

    /// Makes the connection a session. The service must not answer after that.
    pub(crate) fn hand_over(&self, opening: Opening) {
        *self.opening.borrow_mut() = Some(Box::new(opening));
        self.flushed.set(false);
    }

    fn take_opening(&self) -> Option<Box<Opening>> {
        if self.flushed.get() { self.opening.take() } else { None }
    }

    fn register(&self, waker: &Waker) {
        let mut registered = self.waker.borrow_mut();
        if !registered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }
}

/// The socket as hyper gets it. It notices when everything is written: hyper flushes it only once
/// its own buffer is empty.
struct Socket {
    stream: TokioIo<TcpStream>,
    connection: Rc<Connection>,
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.flushed.set(true);
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
