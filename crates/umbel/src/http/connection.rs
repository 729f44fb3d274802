//! One HTTP connection: hyper until the client wants a stream, then the socket is taken back.
//!
//! A WebSocket or SSE session needs its bare socket. hyper's own way to it (an upgrade) writes the
//! answer itself, allocates a channel and a box, and knows no SSE. So both go the same way: the
//! service leaves what was agreed on ([`Opening`]) with the connection and never answers; once
//! hyper has flushed the answers before, the connection is taken apart, and the session writes its
//! own head together with its first frames.
//!
//! What a client speaks is seen in its first bytes. HTTP/2 goes [another way](http2).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::server::conn::http1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::http2;
use super::preface::{Spoken, spoken};
use super::problem::{Problem, written_out};
use super::proxy_header::{NoHeader, ProxyHeader};
use super::service::HttpService;
use super::socket::{Observer, Socket};
use crate::ledger::Charge;
use crate::session::{Opening, open};
use crate::wheel::Tick;
use crate::worker::{Held, Limit, Timer, Worker};

/// The state of a connection that its driver, its service and the wheel share.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` while requests are being served, which have deadlines of their own.
    deadline: Cell<Option<Tick>>,
    expired: Cell<bool>,
    requests: Cell<u64>,
    /// How many requests are being served now. Over HTTP/2 a session is one as long as it lasts.
    under_way: Cell<u32>,
    /// Left by the service when the connection shall become a session.
    opening: RefCell<Option<Box<Opening>>>,
    /// Whether hyper has written out all that it had since the opening was left.
    flushed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whom it is from: the other end of the socket, or who a trusted proxy says it is.
    peer: Cell<IpAddr>,
    /// Whether the client shall go on elsewhere.
    retired: Cell<bool>,
    /// Whether what is under way is the last.
    finishes: Cell<bool>,
    /// When its first byte came, until its first request has.
    began: Cell<Option<u64>>,
}

/// How long a connection may wait for its next request.
const KEEP_ALIVE_SECONDS: u32 = 75;

/// The longest head of a request, in bytes; also what hyper reads at a time at most.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most header lines of a request.
const MAX_HEADERS: usize = 64;

/// How much is read to see what a client speaks; no more than hyper takes over at once.
const FIRST_BYTES: usize = 8 * 1024;

/// What a connection is counted with: hyper's buffers and state, about.
pub(crate) const CONNECTION_BYTES: usize = 16 * 1024;

/// How long and how far a refused client's rest is read, so that it gets to see the answer: closing
/// with unread input would reset the connection.
pub(super) const LINGER: Duration = Duration::from_secs(2);
pub(super) const LINGER_BYTES: usize = 1 << 20;

/// How the HTTP part of a connection ended.
pub(super) enum End {
    /// Its last answer is written.
    Done,
    /// Nothing is left to be said.
    Gone,
    Expired,
    NoHeader,
    /// With what the client sent behind its request.
    Session(Box<Opening>, Bytes),
}

/// What came first.
enum First {
    Bytes(Spoken, Bytes),
    Nothing,
    TooLate,
    /// A trusted proxy didn't say whom it is from.
    NoHeader,
}

/// Has a connection served by a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: IpAddr) {
    let connection = Connection::new(worker, peer);
    let task = drive(worker.clone(), connection, stream);
    worker.tasks.spawn(Box::pin(task));
}

async fn drive(worker: Rc<Worker>, connection: Rc<Connection>, mut stream: TcpStream) {
    let charge = Charge::new(&worker.ledger, Held::Connections, CONNECTION_BYTES);
    let index = worker.connections.borrow_mut().insert(connection.clone());
    worker.count_connections();
    let end = match first_bytes(&worker, &connection, &mut stream).await {
        First::Bytes(Spoken::Http1, first) => {
            let (end, rest) = serve_http1(&worker, &connection, stream, first).await;
            stream = rest;
            end
        }
        First::Bytes(Spoken::Http2, first) => {
            // Boxed, since it is larger than all else here, and most connections are HTTP/1.
            Box::pin(http2::serve(&worker, &connection, &mut stream, first)).await
        }
        First::Nothing => End::Gone,
        First::TooLate => End::Expired,
        First::NoHeader => End::NoHeader,
    };
    worker.connections.borrow_mut().remove(index);
    worker.count_connections();
    connection.waker.take();
    // What was agreed on with a client that is gone holds a place.
    connection.opening.take();
    drop(charge);
    match end {
        End::Session(opening, input) => open(&worker, stream, &input, *opening).await,
        End::Done => linger(stream).await,
        End::Expired if connection.requests.get() == 0 && !connection.is_retired() => {
            worker.metrics.limited.of(Limit::HeaderTime).add(1);
            let text = "the request's head took too long";
            refuse(stream, &Problem::new(StatusCode::REQUEST_TIMEOUT, text)).await;
        }
        End::NoHeader => {
            worker.metrics.limited.of(Limit::ProxyHeader).add(1);
            let text = "a trusted proxy's connection must begin with a header of the PROXY protocol, version 2";
            refuse(stream, &Problem::bad_request(text)).await;
        }
        End::Expired | End::Gone => {}
    }
}

/// Reads until it is clear what the client speaks, and before that whom it is, if a proxy says so.
async fn first_bytes(worker: &Worker, connection: &Connection, stream: &mut TcpStream) -> First {
    let mut first = Vec::new();
    let mut header_comes =
        worker.proxy_protocol && worker.trusted_proxies.contain(connection.peer.get());
    poll_fn(|context| {
        connection.register(context.waker());
        loop {
            if connection.is_expired() {
                return Poll::Ready(First::TooLate);
            }
            let mut buffer = worker.read_buffer.borrow_mut();
            let mut read = ReadBuf::new(&mut buffer[..FIRST_BYTES]);
            let result = ready!(Pin::new(&mut *stream).poll_read(context, &mut read));
            if result.is_err() || read.filled().is_empty() {
                return Poll::Ready(match std::mem::take(&mut first) {
                    nothing if nothing.is_empty() => First::Nothing,
                    _ if header_comes => First::NoHeader,
                    // hyper will say what is wrong with it.
                    first => First::Bytes(Spoken::Http1, first.into()),
                });
            }
            if first.is_empty() {
                connection.began.set(Some(worker.clock.micros()));
            }
            first.extend_from_slice(read.filled());
            if header_comes {
                match connection.take_header(&mut first) {
                    Ok(true) => header_comes = false,
                    Ok(false) => continue,
                    Err(NoHeader) => return Poll::Ready(First::NoHeader),
                }
            }
            if let Some(spoken) = spoken(&first) {
                return Poll::Ready(First::Bytes(spoken, std::mem::take(&mut first).into()));
            }
        }
    })
    .await
}

async fn serve_http1(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: TcpStream,
    first: Bytes,
) -> (End, TcpStream) {
    let socket = Socket::new(first, stream, connection.clone());
    let service = HttpService::new(worker.clone(), connection.clone());
    let mut http = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // The wheel has the deadlines.
        .header_read_timeout(None)
        .serve_connection(socket, service);
    let end = poll_fn(|context| {
        connection.register(context.waker());
        if connection.is_expired() {
            return Poll::Ready(End::Expired);
        }
        if connection.finishes.get() {
            Pin::new(&mut http).graceful_shutdown();
        }
        match http.poll_without_shutdown(context) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    if error.is_parse_too_large() {
                        worker.metrics.limited.of(Limit::Head).add(1);
                    }
                    tracing::debug!(%error, "Connection failed");
                }
                Poll::Ready(End::Done)
            }
            Poll::Pending => match connection.take_opening() {
                Some(opening) => Poll::Ready(End::Session(opening, Bytes::new())),
                None => Poll::Pending,
            },
        }
    })
    .await;
    let parts = http.into_parts();
    let (stream, unread) = parts.io.into_parts();
    let end = match end {
        End::Session(opening, _) => {
            debug_assert!(unread.is_empty(), "hyper takes the first bytes over at once");
            End::Session(opening, parts.read_buf)
        }
        end => end,
    };
    (end, stream)
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

/// Tells a client that its first request can't be served, where hyper isn't there to say so.
async fn refuse(mut stream: TcpStream, problem: &Problem) {
    let _ = tokio::time::timeout(LINGER, stream.write_all(&written_out(problem))).await;
    linger(stream).await;
}

impl Connection {
    fn new(worker: &Rc<Worker>, peer: IpAddr) -> Rc<Self> {
        let deadline = worker.now().plus_seconds(worker.limits.header_seconds);
        let connection = Rc::new(Self {
            deadline: Cell::new(Some(deadline)),
            expired: Cell::new(false),
            requests: Cell::new(0),
            under_way: Cell::new(0),
            opening: RefCell::new(None),
            flushed: Cell::new(false),
            waker: RefCell::new(None),
            peer: Cell::new(peer),
            retired: Cell::new(false),
            finishes: Cell::new(false),
            began: Cell::new(None),
        });
        worker.wheel.borrow_mut().insert(Timer::Connection(connection.clone()), deadline);
        connection
    }

    /// When the request that has come began, by the node's clock in microseconds: the first with its
    /// connection, later ones `now`.
    pub(super) fn began(&self, now: u64) -> u64 {
        self.began.take().unwrap_or(now)
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

    /// Whom it is from.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer.get()
    }

    /// Takes a proxy's header from the first bytes; whether it was there already.
    fn take_header(&self, first: &mut Vec<u8>) -> Result<bool, NoHeader> {
        let Some(header) = ProxyHeader::read(first)? else {
            return Ok(false);
        };
        first.drain(..header.len);
        if let Some(source) = header.source {
            self.peer.set(source);
        }
        Ok(true)
    }

    /// Has the client go on elsewhere, when what is under way is done.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Has what is under way be the last: an idle connection ends, another when its answer is
    /// written.
    pub(crate) fn finish(&self) {
        self.finishes.set(true);
        self.retire();
    }

    /// Until when it may wait for its next request; `None` if it doesn't.
    pub(crate) fn idle_until(&self) -> Option<Tick> {
        self.deadline.get().filter(|_| self.is_used() && !self.finishes.get())
    }

    /// Whether anything was asked on it.
    pub(crate) fn is_used(&self) -> bool {
        self.requests.get() > 0
    }

    /// Whether a request is being answered.
    pub(crate) fn is_serving(&self) -> bool {
        self.under_way.get() > 0
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Ends the connection, also amidst a request.
    pub(crate) fn expire(&self) {
        self.expired.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether the connection shall end.
    pub(super) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// Makes the connection a session. The service must not answer after that.
    pub(crate) fn hand_over(&self, opening: Opening) {
        *self.opening.borrow_mut() = Some(Box::new(opening));
        self.flushed.set(false);
    }

    fn take_opening(&self) -> Option<Box<Opening>> {
        if self.flushed.get() { self.opening.take() } else { None }
    }

    pub(super) fn register(&self, waker: &Waker) {
        let mut registered = self.waker.borrow_mut();
        if !registered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }
}

impl Observer for Rc<Connection> {
    fn flushed(&self) {
        self.flushed.set(true);
    }
}

/// A request that is being served: its connection isn't idle.
pub(crate) struct Serving {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
}

impl Serving {
    /// A request has come: it is the service's now.
    pub(super) fn begin(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        connection.under_way.set(connection.under_way.get() + 1);
        connection.deadline.set(None);
        Self { worker: worker.clone(), connection: connection.clone() }
    }
}

impl Drop for Serving {
    /// The answer is on its way: the next request may take its time.
    fn drop(&mut self) {
        let left = self.connection.under_way.get() - 1;
        self.connection.under_way.set(left);
        if left == 0 {
            let deadline = self.worker.now().plus_seconds(KEEP_ALIVE_SECONDS);
            self.connection.deadline.set(Some(deadline));
        }
    }
}
