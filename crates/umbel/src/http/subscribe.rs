//! `GET /topics/…` and `GET /ws`: from a request to a session.

use std::fmt::Display;

use hyper::body::Body as _;
use hyper::header::{ACCEPT, HeaderValue, ORIGIN};
use hyper::{Request, Version};
use umbel_hub::OnSlow;
use umbel_protocol::json::{self, Reply};
use umbel_protocol::{Dialect, SessionId, Topic, sse, topics_in_path};

use super::query::Query;
use super::service::Exchange;
use super::{Answer, Problem, event_stream, http2, websocket};
use crate::authorise::{Action, Principal};
use crate::session::{CloseReason, Opening, Role, open_stream};

/// The subprotocol that a client may offer for the plain dialect.
const PLAIN_SUBPROTOCOL: &str = "umbel.v1.plain";

/// After how long an `EventSource` comes back: each session is told another time, so that those
/// who lose their connections together don't return together.
const RETRY_MILLIS: std::ops::Range<u64> = 1000..5000;

/// How the topics shall come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    WebSocket,
    Sse,
    History,
}

/// Subscribes to the topics that path and query name.
pub(super) async fn topics(exchange: Exchange, names: &str) -> Result<Answer, Problem> {
    let query = Query::parse(exchange.request.uri().query())?;
    let transport = transport(&exchange.request, &query);
    if let Some(feature) = asks_for_history(&exchange.request, &query, transport) {
        return Err(Problem::not_implemented(feature));
    }
    let topics = exchange.named(names, &query)?;
    let role = match transport {
        Transport::WebSocket => Role::Plain {
            // Over several topics it would be unclear where a frame goes.
            publish_to: (topics.len() == 1).then(|| topics[0].clone()),
            echo: !query.no_echo,
            close_on_gap: query.close_on_gap,
        },
        Transport::Sse | Transport::History => Role::Sse,
    };
    exchange.open(role, topics).await
}

/// Opens a session of the JSON dialect.
pub(super) async fn json(exchange: Exchange) -> Result<Answer, Problem> {
    exchange.open(Role::Json, Vec::new()).await
}

fn transport<B>(request: &Request<B>, query: &Query) -> Transport {
    let accepts = |media_type: &str| {
        let accepted = request.headers().get_all(ACCEPT).iter();
        accepted.filter_map(|list| list.to_str().ok()).any(|list| list.contains(media_type))
    };
    let event_stream = accepts("text/event-stream");
    if websocket::is_upgrade(request) {
        Transport::WebSocket
    } else if accepts("application/json") || (query.history.is_some() && !event_stream) {
        Transport::History
    } else {
        Transport::Sse
    }
}

fn asks_for_history<B>(
    request: &Request<B>,
    query: &Query,
    transport: Transport,
) -> Option<&'static str> {
    let last_event_id = request.headers().get("last-event-id").is_some_and(|id| !id.is_empty());
    match transport {
        _ if query.history.is_some() => query.history,
        Transport::History => Some("reading a topic as JSON (history and long-poll)"),
        Transport::Sse if last_event_id => Some("`Last-Event-ID` (resuming from history)"),
        Transport::Sse | Transport::WebSocket => None,
    }
}

impl Exchange {
    /// The topics of path and query, each once.
    fn named(&self, names: &str, query: &Query) -> Result<Vec<Topic>, Problem> {
        let mut topics = match names {
            "" => Vec::new(),
            _ => path_topics(names)?,
        };
        for topic in &query.topics {
            if !topics.contains(topic) {
                topics.push(topic.clone());
            }
        }
        let limit = self.worker.limits.topics_per_stream;
        match topics.len() {
            0 => Err(Problem::bad_request("no topic is named: /topics/{topic} or ?topic=")),
            count if count > limit => Err(Problem::bad_request(format!(
                "{count} topics are named, at most {limit} are allowed"
            ))),
            _ => Ok(topics),
        }
    }

    /// Agrees on a session. Over HTTP/1 it is left with the connection, and this returns only to
    /// refuse; over HTTP/2 it is the answer's body.
    async fn open(mut self, role: Role, topics: Vec<Topic>) -> Result<Answer, Problem> {
        if !self.request.body().is_end_stream() {
            return Err(Problem::bad_request("a request to subscribe has no body"));
        }
        let id = SessionId(fastrand::u64(..));
        let (dialect, mut greeting) = self.greeting(&role, id)?;
        let mut granted = Vec::with_capacity(topics.len());
        let mut refusal = None;
        for topic in topics {
            match self.grant(topic).await {
                Ok(pair) => granted.push(pair),
                Err(forbidden) if dialect != Dialect::Sse && self.is_a_page() => {
                    refusal = Some((CloseReason::Forbidden, forbidden.to_string()));
                }
                Err(forbidden) => return Err(Problem::forbidden(forbidden.to_string())),
            }
        }
        if refusal.is_some() {
            granted.clear();
        } else {
            self.write_first_words(dialect, id, &mut greeting);
        }
        let opening = Opening { id, dialect, role, topics: granted, greeting, refusal };
        if self.request.version() == Version::HTTP_2 {
            let body = open_stream(&self.worker, http2::stream(), opening).await;
            return Ok(event_stream::answer(id, body));
        }
        self.connection.hand_over(opening);
        // The driver takes the connection apart and this future with it.
        std::future::pending().await
    }

    fn greeting(&mut self, role: &Role, id: SessionId) -> Result<(Dialect, Vec<u8>), Problem> {
        match role {
            Role::Plain { .. } => {
                Ok((Dialect::Plain, websocket::accept(&mut self.request, PLAIN_SUBPROTOCOL, id)?))
            }
            Role::Json => {
                Ok((Dialect::Json, websocket::accept(&mut self.request, json::SUBPROTOCOL, id)?))
            }
            Role::Sse if self.request.version() == Version::HTTP_2 => {
                Ok((Dialect::Sse, Vec::new()))
            }
            Role::Sse => Ok((Dialect::Sse, event_stream::head(id))),
        }
    }

    async fn grant(&self, topic: Topic) -> Result<(Topic, OnSlow), impl Display> {
        let authorised =
            self.worker.door.authorise(&Principal::Anonymous, Action::Subscribe, &topic).await;
        authorised.map(|rule| (topic, rule.on_slow))
    }

    /// Pages see nothing of a refused upgrade but 1006, so they are let in to be told.
    fn is_a_page(&self) -> bool {
        self.request.headers().get(ORIGIN).map(HeaderValue::as_bytes).is_some()
    }

    fn write_first_words(&self, dialect: Dialect, session: SessionId, greeting: &mut Vec<u8>) {
        match dialect {
            Dialect::Plain => {}
            Dialect::Json => {
                let heartbeat_seconds = u64::from(self.worker.heartbeat_seconds);
                Reply::Welcome { session, heartbeat_seconds }.write(greeting, None);
            }
            Dialect::Sse => {
                sse::write_retry(greeting, fastrand::u64(RETRY_MILLIS));
                sse::write_comment(greeting, "open");
            }
        }
    }
}

/// The topics of a path segment. A slash between segments is a mistake that deserves a hint.
pub(super) fn path_topics(names: &str) -> Result<Vec<Topic>, Problem> {
    if names.contains('/') {
        return Err(Problem::bad_request("a slash of a topic is written %2F in the path"));
    }
    topics_in_path(names).map_err(|error| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: Option<&str>, query: &str) -> Transport {
        let mut request = Request::get("/topics/a");
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        transport(&request.body(()).unwrap(), &Query::parse(Some(query)).unwrap())
    }

    #[test]
    fn accept_and_query_choose_the_transport() {
        for (accept, query, expected) in [
            (None, "", Transport::Sse),
            (Some("*/*"), "", Transport::Sse),
            (Some("text/html"), "", Transport::Sse),
            (Some("text/event-stream"), "", Transport::Sse),
            (Some("application/json"), "", Transport::History),
            (Some("*/*"), "after=x", Transport::History),
            (Some("text/event-stream"), "after=x", Transport::Sse),
            (None, "wait=25", Transport::History),
        ] {
            assert_eq!(chosen(accept, query), expected, "{accept:?} {query}");
        }
    }
}
