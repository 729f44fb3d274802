//! Subscribing by SSE.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::timeout;

use super::backoff::Pace;
use super::connection::{self, Connection};
use super::event_reader::EventReader;
use super::place::StreamPlace;
use super::subscriber::{Heard, Loss, Subscription};
use super::{Failure, MAX_MESSAGE_BYTES};

/// How long a stream may be silent. A node sends a comment after 25 s unless it is set otherwise,
/// and a stream doesn't tell.
const SILENCE: Duration = Duration::from_secs(75);

const MEDIA_TYPE: &str = "text/event-stream";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An open stream.
#[derive(Debug)]
pub(super) struct EventStream {
    body: Incoming,
    reader: EventReader,
    silence: Duration,
    _connection: Connection,
}

impl EventStream {
    /// Opens the stream; once its head is there the topics are subscribed.
    pub(super) async fn open(
        subscription: &Subscription,
        place: StreamPlace,
    ) -> Result<Self, Failure> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = match place.after() {
            Some(after) => subscription.url.topics_after(&subscription.topics, after)?,
            None => subscription.url.topics(&subscription.topics)?,
        };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(id) = place.id() {
            let id = HeaderValue::from_bytes(id.as_bytes());
            let id = id.map_err(|_| Failure::NotANode("its ids can't be sent back".to_owned()))?;
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        let mut connection = Connection::new(subscription.url.clone());
        let answer = connection.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(connection::refusal(answer).await);
        }
        let content_type = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !content_type.is_some_and(|found| found.starts_with(MEDIA_TYPE.as_bytes())) {
            return Err(Failure::NotANode("it sends no event stream".to_owned()));
        }
        Ok(Self {
            body: answer.into_body(),
            reader: EventReader::new(subscription.topics.clone(), place),
            silence: subscription.silence.unwrap_or(SILENCE),
            _connection: connection,
        })
    }

    /// What comes next; several at once if they came together. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Vec<Heard>, Loss> {
        if let Some(heard) = self.reader.open() {
            return Ok(vec![heard]);
        }
        loop {
            let chunk = match timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(Loss::silent(self.silence)),
                Ok(None) => return Err(self.ended("the stream ended")),
                Ok(Some(Err(error))) => return Err(self.ended(&error.to_string())),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let heard = self.reader.take(&chunk);
            if self.reader.unfinished_bytes() > MAX_MESSAGE_BYTES {
                return Err(Loss::too_long());
            }
            if !heard.is_empty() {
                return Ok(heard);
            }
        }
    }

    /// Where the stream was left.
    pub(super) fn into_place(self) -> StreamPlace {
        self.reader.into_place()
    }

    /// Coming back is what an `EventSource` does too, after the time that the stream has set.
    fn ended(&self, why: &str) -> Loss {
        let asked = self.reader.retry_millis().map(Duration::from_millis);
        Loss::passing(why, asked.map_or(Pace::Backoff, Pace::After))
    }
}
