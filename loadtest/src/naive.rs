//! What one writes in a day: hyper, fastwebsockets, a broadcast channel per topic and a task per session.
//!
//! Readable as an example of the usual design, and measured to show what that costs. Each session's task
//! is woken for each message and writes it alone.

mod publish;
mod sse;
mod topics;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use topics::Topics;
use websocket::Upgrading;

type Body = BoxBody<Bytes, Infallible>;

/// A bound naive server; [`Naive::run`] is its life.
#[derive(Debug)]
pub struct Naive {
    listener: TcpListener,
}

impl Naive {
    /// Binds `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// The address that it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves on the calling thread until `stop` is ready.
    pub fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(accept_until(self.listener, stop))
    }
}

/// Accepts connections, one task for each, until `stop` is ready; the tasks end with it.
async fn accept_until(listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let topics = Arc::new(Topics::default());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        // All branches are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(serve(stream, Arc::clone(&topics)));
            }
            Some(_) = connections.join_next() => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// The life of one connection: requests, and if one of them was an upgrade, the session after it.
async fn serve(stream: TcpStream, topics: Arc<Topics>) {
    let upgrading = Mutex::new(None);
    let service = service_fn(|request| answer(request, &topics, &upgrading));
    let served =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let upgrading = upgrading.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let (Ok(()), Some(upgrading)) = (served, upgrading) {
        websocket::run(upgrading).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    topics: &Topics,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let topic = path.strip_prefix("/topics/");
    let answer = match (request.method(), topic) {
        (&Method::GET, Some(topic)) if fastwebsockets::upgrade::is_upgrade_request(&request) => {
            websocket::upgrade(request, topics.subscribe(topic), upgrading)
        }
        (&Method::GET, Some(topic)) => sse::open(topics.subscribe(topic)),
        (&Method::POST, None) if path == "/publish" => publish::publish(request, topics).await,
        _ => status(StatusCode::NOT_FOUND),
    };
    Ok(answer)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed());
    *response.status_mut() = status;
    response
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}
