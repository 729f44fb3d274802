//! Sending messages to one topic.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use umbel_protocol::{EventName, PayloadKind, Topic};

use super::connection::{self, Connection};
use super::failure::within;
use super::{Failure, NodeUrl, RedisLink};

/// What is the same for all messages that one command publishes to a node.
#[derive(Debug)]
pub(crate) struct Publication {
    topic: Topic,
    /// What the payloads are; without it the node looks.
    kind: Option<PayloadKind>,
    /// The event's name as its header has it.
    event: Option<HeaderValue>,
}

/// Publishes one message after the other.
pub(crate) struct Publisher {
    way: Way,
    deadline: Duration,
}

enum Way {
    Node { connection: Box<Connection>, target: Uri, publication: Publication },
    Redis(Box<RedisLink>),
}

impl Publisher {
    /// Publishes by POST to a node.
    pub(crate) fn to_node(
        url: NodeUrl,
        publication: Publication,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let target = url.topics(std::slice::from_ref(&publication.topic))?;
        let connection = Box::new(Connection::new(url));
        Ok(Self { way: Way::Node { connection, target, publication }, deadline })
    }

    /// Publishes by PUBLISH to Redis.
    pub(crate) fn to_redis(link: RedisLink, deadline: Duration) -> Self {
        Self { way: Way::Redis(Box::new(link)), deadline }
    }

    /// Publishes a message and gives how many received it: nodes with subscribers, or clients of
    /// Redis.
    pub(crate) async fn publish(&mut self, payload: Bytes) -> Result<u64, Failure> {
        match &mut self.way {
            Way::Node { connection, target, publication } => {
                let request = publication.request(target.clone(), payload);
                within("the node's answer", self.deadline, post(connection, request)).await
            }
            Way::Redis(link) => {
                within("the answer of Redis", self.deadline, link.publish(&payload)).await
            }
        }
    }
}

async fn post(connection: &mut Connection, request: Request<Full<Bytes>>) -> Result<u64, Failure> {
    let answer = connection.send(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(connection::refusal(answer).await);
    }
    let body = connection::body(answer).await?;
    let result: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let receivers = result.and_then(|result| result["receivers"].as_u64());
    receivers.ok_or_else(|| Failure::NotANode("its answer doesn't count receivers".to_owned()))
}

impl Publication {
    /// Checks that the event's name can be one and can stand in a header.
    pub(crate) fn new(
        topic: Topic,
        kind: Option<PayloadKind>,
        event: Option<&str>,
    ) -> Result<Self, Failure> {
        let event = event.map(event_header).transpose()?;
        Ok(Self { topic, kind, event })
    }

    fn request(&self, target: Uri, payload: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(payload));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        if let Some(kind) = self.kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(kind)));
        }
        if let Some(event) = &self.event {
            headers.insert(HeaderName::from_static("umbel-event"), event.clone());
        }
        request
    }
}

fn event_header(name: &str) -> Result<HeaderValue, Failure> {
    let event = EventName::new(name).map_err(|error| Failure::Usage(error.to_string()))?;
    HeaderValue::from_bytes(event.as_str().as_bytes()).map_err(|_| {
        Failure::Usage("event name has a control character, which no header can carry".to_owned())
    })
}

fn content_type(kind: PayloadKind) -> &'static str {
    match kind {
        PayloadKind::Text => "text/plain; charset=utf-8",
        PayloadKind::Json => "application/json",
        PayloadKind::Binary => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(kind: Option<PayloadKind>, event: Option<&str>) -> Result<Publication, Failure> {
        Publication::new(Topic::new("a").unwrap(), kind, event)
    }

    fn target() -> Uri {
        Uri::from_static("/topics/a")
    }

    #[test]
    fn kind_and_event_are_said_in_headers_and_only_if_given() {
        let plain = publication(None, None).unwrap();
        assert!(plain.request(target(), Bytes::new()).headers().is_empty());
        let full = publication(Some(PayloadKind::Json), Some("gr\u{fc}n")).unwrap();
        let request = full.request(target(), Bytes::new());
        assert_eq!(request.method(), "POST");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(request.headers()["umbel-event"].as_bytes(), "gr\u{fc}n".as_bytes());
    }

    #[test]
    fn event_names_that_cannot_travel_are_the_command_line_s_fault() {
        for (name, fault) in [
            ("", "event name is empty"),
            ("umbel.gap", "event names that begin with `umbel.` are reserved"),
            ("a\u{1}", "event name has a control character, which no header can carry"),
        ] {
            let failure = publication(None, Some(name)).unwrap_err();
            assert!(failure.is_usage() && failure.to_string().starts_with(fault), "{failure}");
        }
    }
}
