//! What one writes in a day: hyper, fastwebsockets, a broadcast channel per topic and a task per session.
//!
//! Readable as an example of the usual design, and measured to show what that costs. Each session's task
//! is woken for each message and writes it alone.

mod publish;
mod redis_source;
mod sse;
mod topics;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
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

use crate::channels::Channels;
use redis_source::RedisSource;
use topics::Topics;
use websocket::Upgrading;

type Body = BoxBody<Bytes, Infallible>;

/// A bound naive server; [`Naive::run`] is its life.
#[derive(Debug)]
pub struct Naive {
    listener: TcpListener,
    channels: Option<Channels>,
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    topics: Arc<Topics>,
    redis: Option<RedisSource>,
}

impl Naive {
    /// Binds `address`; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, channels: None })
    }

    /// Takes messages from Redis and not by POST.
    #[must_use]
    pub fn fed_by(self, channels: Channels) -> Self {
        Self { channels: Some(channels), ..self }
    }

    /// The address that it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves on the calling thread until `stop` is ready.
    pub fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(self.serve_until(stop))
    }

    async fn serve_until(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let (mut shared, mut forwarding) = (Shared::default(), JoinSet::new());
        if let Some(channels) = self.channels {
            let connected = RedisSource::connect(&channels).await;
            let (source, stream) = connected.map_err(|error| {
                io::Error::other(format!("naive can't connect to {channels}: {error}"))
            })?;
            let topics = Arc::clone(&shared.topics);
            forwarding.spawn(redis_source::forward(stream, channels.prefix, topics));
            shared.redis = Some(source);
        }
        // All branches are cancel-safe.
        tokio::select! {
            accepted = accept_all(self.listener, Arc::new(shared)) => accepted,
            Some(_) = forwarding.join_next() => {
                Err(io::Error::other("Redis closed the connection that messages come on"))
            }
            () = stop => Ok(()),
        }
    }
}

/// Accepts connections, one task for each; the tasks end with it.
async fn accept_all(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        // Both branches are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The life of one connection: requests, and if one of them was an upgrade, the session after it.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let upgrading = Mutex::new(None);
    let service = service_fn(|request| answer(request, &shared, &upgrading));
    let served =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let upgrading = upgrading.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let (Ok(()), Some(upgrading)) = (served, upgrading) {
        websocket::run(upgrading).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = match (request.method(), path.strip_prefix("/topics/")) {
        (&Method::GET, Some(topic)) => subscribe(request, topic, shared, upgrading).await,
        (&Method::POST, None) if path == "/publish" && shared.redis.is_none() => {
            publish::publish(request, &shared.topics).await
        }
        _ => status(StatusCode::NOT_FOUND),
    };
    Ok(answer)
}

async fn subscribe(
    request: Request<Incoming>,
    topic: &str,
    shared: &Shared,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Response<Body> {
    let messages = shared.topics.subscribe(topic);
    if let Some(redis) = &shared.redis
        && redis.hold(topic).await.is_err()
    {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    if fastwebsockets::upgrade::is_upgrade_request(&request) {
        websocket::upgrade(request, messages, upgrading)
    } else {
        sse::open(messages)
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed());
    *response.status_mut() = status;
    response
}

fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}
