//! hyper with a handler that does nothing: what a request costs before anybody looks at it.
//!
//! Set up as the node's connections are. The handler reads the body, which hyper has to do anyway before the next
//! request, and answers 200 without one.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty as NoBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The node's limits of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A bound empty server; [`Empty::run`] is its life.
#[derive(Debug)]
pub struct Empty {
    listener: TcpListener,
}

impl Empty {
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
        runtime.enable_all().build()?.block_on(async {
            tokio::select! {
                accepted = accept_all(self.listener) => accepted,
                () = stop => Ok(()),
            }
        })
    }
}

/// Accepts connections, one task for each; the tasks end with it.
async fn accept_all(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        // Both branches are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(serve(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream) {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS).header_read_timeout(None);
    // However it ended, it is over.
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// An error while the body is read ends the connection; there is nobody to tell.
async fn answer(request: Request<Incoming>) -> Result<Response<NoBody<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(NoBody::new()))
}
