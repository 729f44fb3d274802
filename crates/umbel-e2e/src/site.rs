//! Where pages come from.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http::find;

/// A web server of an application whose every page is empty: an origin, for scripts to run in.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    _task: JoinSet<()>,
}

/// With an icon, so that no browser asks for one.
const PAGE: &str = "<!doctype html><title>Application</title><link rel=icon href=\"data:,\">";

impl Site {
    /// Starts one on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(serve(listener));
        Self { address, _task: task }
    }

    /// Its origin, as browsers send it.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }
}

async fn serve(listener: TcpListener) {
    // Browsers open connections ahead of their need, so one alone may not be waited for.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream));
    }
}

/// Answers one request. Whether the browser is still there is its own matter.
async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        if !stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    let length = PAGE.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\r\n{PAGE}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}
