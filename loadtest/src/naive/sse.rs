//! Event streams.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::broadcast::Receiver;

use super::Body;

/// A body that never ends by itself: one block per message.
struct Blocks {
    next: Next,
}

/// Waits for the next message and gives the receiver back.
type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Receiver<Bytes>)>> + Send + Sync>>;

/// Answers with the event stream of `messages`.
pub(super) fn open(messages: Receiver<Bytes>) -> Response<Body> {
    let hello = (Bytes::from_static(b": open\n\n"), messages);
    let next: Next = Box::pin(std::future::ready(Some(hello)));
    let mut response = Response::new(Blocks { next }.boxed());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn receive(mut messages: Receiver<Bytes>) -> Option<(Bytes, Receiver<Bytes>)> {
    let message = messages.recv().await.ok()?;
    let block = [b"data: ", &*message, b"\n\n"].concat();
    Some((block.into(), messages))
}

impl hyper::body::Body for Blocks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((block, messages)) = ready!(self.next.as_mut().poll(context)) else {
            return Poll::Ready(None);
        };
        self.next = Box::pin(receive(messages));
        Poll::Ready(Some(Ok(Frame::data(block))))
    }
}
