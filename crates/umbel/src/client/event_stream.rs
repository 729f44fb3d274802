//! Subscribing by SSE.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::timeout;
use umbel_protocol::sse::{Event, EventParser};

use super::backoff::Pace;
use super::connection::{self, Connection};
use super::received::{Fields, Received, text_field};
use super::subscriber::{Heard, Loss, Subscription};
use super::{Failure, MAX_MESSAGE_BYTES};

/// How long a stream may be silent. A node sends a comment after 25 s unless it is set otherwise,
/// and a stream doesn't tell.
const SILENCE: Duration = Duration::from_secs(75);

const MEDIA_TYPE: &str = "text/event-stream";

/// An open stream.
#[derive(Debug)]
pub(super) struct EventStream {
    body: Incoming,
    parser: EventParser,
    /// The topic of all messages, if there is just one.
    topic: Option<String>,
    silence: Duration,
    is_told: bool,
    _connection: Connection,
}

impl EventStream {
    /// Opens the stream; once its head is there the topics are subscribed.
    pub(super) async fn open(subscription: &Subscription) -> Result<Self, Failure> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = subscription.url.topics(&subscription.topics)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        let mut connection = Connection::new(subscription.url.clone());
        let answer = connection.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(connection::refusal(answer).await);
        }
        let content_type = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !content_type.is_some_and(|found| found.starts_with(MEDIA_TYPE.as_bytes())) {
            return Err(Failure::NotANode("it sends no event stream".to_owned()));
        }
        let topic = match &subscription.topics[..] {
            [topic] => Some(topic.to_string()),
            _ => None,
        };
        Ok(Self {
            body: answer.into_body(),
            parser: EventParser::default(),
            topic,
            silence: subscription.silence.unwrap_or(SILENCE),
            is_told: false,
            _connection: connection,
        })
    }

    /// What comes next; several at once if they came together. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Vec<Heard>, Loss> {
        if !std::mem::replace(&mut self.is_told, true) {
            return Ok(vec![Heard::Subscribed]);
        }
        loop {
            let chunk = match timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(Loss::silent(self.silence)),
                Ok(None) => return Err(self.ended("the stream ended")),
                Ok(Some(Err(error))) => return Err(self.ended(&error.to_string())),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let events = self.parser.feed(&chunk);
            if self.parser.unfinished_bytes() > MAX_MESSAGE_BYTES {
                return Err(Loss::too_long());
            }
            let heard: Vec<_> = events.into_iter().filter_map(|event| self.heard(event)).collect();
            if !heard.is_empty() {
                return Ok(heard);
            }
        }
    }

    fn heard(&self, event: Event) -> Option<Heard> {
        if event.name == "umbel.gap" {
            let fields: Fields<'_> = serde_json::from_str(&event.data).ok()?;
            let of = |name| text_field(&fields, name).unwrap_or_default();
            return Some(Heard::Gap { topic: of("topic"), reason: of("reason") });
        }
        Received::of_event(event, self.topic.as_deref()).map(Heard::Message)
    }

    /// Coming back is what an `EventSource` does too, after the time that the stream has set.
    fn ended(&self, why: &str) -> Loss {
        let asked = self.parser.retry_millis().map(Duration::from_millis);
        Loss::passing(why, asked.map_or(Pace::Backoff, Pace::After))
    }
}
