//! A connection of HTTP/1.1 to a node.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Failure, NodeUrl};

/// How much of an answer's body is looked at.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends one request after the other, over the same connection as long as the node keeps it.
#[derive(Debug)]
pub(super) struct Connection {
    url: NodeUrl,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; ends with this.
    _driver: JoinSet<()>,
}

impl Connection {
    /// A connection that is made with its first request.
    pub(super) fn new(url: NodeUrl) -> Self {
        Self { url, open: None }
    }

    /// Sends a request and gives the answer's head. The connection may have been closed while it
    /// was idle; a request of which nothing was sent goes over a new one.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let host = HeaderValue::from_str(self.url.authority());
        request.headers_mut().insert(HOST, host.expect("an authority has no control characters"));
        if let Some(open) = &mut self.open
            && open.sender.ready().await.is_ok()
        {
            match open.sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Broken(error.into_error())),
                },
            }
        }
        let open = self.open.insert(Open::connect(&self.url).await?);
        open.sender.send_request(request).await.map_err(Failure::Broken)
    }
}

impl Open {
    async fn connect(url: &NodeUrl) -> Result<Self, Failure> {
        let connected = async {
            let stream = TcpStream::connect(url.address()).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream =
            connected.await.map_err(|error| Failure::Connect { to: url.to_string(), error })?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Failure::Broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer gets the error.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, _driver: driver })
    }
}

/// The whole body of an answer.
pub(super) async fn body(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    match Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => Failure::Broken(*error),
            Err(error) => Failure::NotANode(error.to_string()),
        }),
    }
}

/// What an answer that isn't the wanted one says.
pub(super) async fn refusal(answer: Response<Incoming>) -> Failure {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    let document = body(answer).await.ok();
    let document: Option<serde_json::Value> =
        document.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let detail = document.as_ref().and_then(|document| document["detail"].as_str());
    Failure::Refused { status, detail: detail.map(one_line), retry_after }
}

/// Text from the other side, as it may stand in a line.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
