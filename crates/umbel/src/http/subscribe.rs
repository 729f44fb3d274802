//! From a request to a session: `GET /topics/…`, `GET /ws`, and the last steps of every other way.

use std::collections::HashSet;

use hyper::body::Body as _;
use hyper::header::{ACCEPT, HeaderValue, ORIGIN};
use hyper::{Request, Version};
use umbel_protocol::json::{self, Reply};
use umbel_protocol::{After, Cursor, Dialect, EventName, SessionId, Topic, sse, topics_in_path};

use super::place::{Place, composite};
use super::query::Query;
use super::service::Exchange;
use super::{Answer, Problem, cors, event_stream, http2, websocket};
use crate::authorise::{Action, Forbidden, Principal};
use crate::session::{CloseReason, From, Granted, Opening, PublishTarget, Role, open_stream};
use crate::worker::Limit;

/// The subprotocol that a client may offer for the plain dialect.
const PLAIN_SUBPROTOCOL: &str = "umbel.v1.plain";

/// After how long an `EventSource` comes back: each session is told another time, so that those
/// who lose their connections together don't return together.
const RETRY_MILLIS: std::ops::Range<u64> = 1000..5000;

/// What a request asks for, before it is looked at who asks.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) role: Role,
    pub(super) topics: Vec<Topic>,
    /// The name of SSE events of messages that have none.
    pub(super) default_event: Option<EventName>,
    /// What follows the head, in the dialect's own bytes.
    pub(super) hello: Vec<u8>,
    /// What the URL says of where it goes on.
    pub(super) after: Option<Cursor>,
    /// How many of the newest messages it gets without a cursor, whatever the topics' rules say.
    pub(super) initial: Option<u32>,
}

/// How the topics shall come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    Sse,
    History,
}

/// A request for a session that can be answered: with a session, or with a word why not.
#[derive(Debug)]
pub(super) struct Greeted {
    id: SessionId,
    pub(super) dialect: Dialect,
    /// The head of the answer.
    head: Vec<u8>,
}

/// Subscribes to the topics that path and query name.
pub(super) async fn topics(mut exchange: Exchange, names: &str) -> Result<Answer, Problem> {
    let query = Query::parse(exchange.request.uri().query())?;
    exchange.is_strict = query.is_strict;
    let transport = transport(&exchange.request, &query);
    let topics = exchange.named(names, &query)?;
    let after = query.history.after.clone();
    let role = match transport {
        Transport::WebSocket => Role::Plain {
            // Over several topics it would be unclear where a frame goes.
            publish: (topics.len() == 1).then(|| PublishTarget {
                topic: topics[0].clone(),
                echo: !query.no_echo,
                bare: false,
                stamp: None,
            }),
            close_on_gap: query.close_on_gap,
        },
        Transport::Sse => Role::Sse,
        Transport::History => return exchange.poll(topics, query.history).await,
    };
    if transport == Transport::WebSocket && !is_plain_cursor(after.as_ref()) {
        return Err(Problem::bad_request(
            "`after`: plain frames carry no ids to go on from; take latest:N, or SSE or the JSON dialect",
        ));
    }
    exchange.open(Wish { after, ..Wish::new(role, topics) }).await
}

/// Whether a plain WebSocket can begin there.
fn is_plain_cursor(after: Option<&Cursor>) -> bool {
    matches!(after, None | Some(Cursor::All(After::Latest(_))))
}

/// Opens a session of the JSON dialect.
pub(super) async fn json(exchange: Exchange) -> Result<Answer, Problem> {
    exchange.open(Wish::new(Role::Json, Vec::new())).await
}

fn transport<B>(request: &Request<B>, query: &Query) -> Transport {
    if websocket::is_upgrade(request) {
        Transport::WebSocket
    } else if accepts(request, "application/json")
        || (!query.history.is_empty() && !accepts(request, "text/event-stream"))
    {
        Transport::History
    } else {
        Transport::Sse
    }
}

/// Whether the client lists a media type.
pub(super) fn accepts<B>(request: &Request<B>, media_type: &str) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter();
    accepted.filter_map(|list| list.to_str().ok()).any(|list| list.contains(media_type))
}

impl Wish {
    fn new(role: Role, topics: Vec<Topic>) -> Self {
        let hello = Vec::new();
        Self { role, topics, default_event: None, hello, after: None, initial: None }
    }
}

impl Exchange {
    /// The topics of path and query, each once.
    fn named(&self, names: &str, query: &Query) -> Result<Vec<Topic>, Problem> {
        let mut topics = match names {
            "" => Vec::new(),
            _ => path_topics(names)?,
        };
        let mut known: HashSet<_> = topics.iter().cloned().collect();
        for topic in &query.topics {
            if known.insert(topic.clone()) {
                topics.push(topic.clone());
            }
        }
        if topics.is_empty() {
            return Err(Problem::bad_request("no topic is named: /topics/{topic} or ?topic="));
        }
        self.check_count(&topics).map_err(Problem::bad_request)?;
        Ok(topics)
    }

    /// Whether one stream may have so many topics.
    pub(super) fn check_count(&self, topics: &[Topic]) -> Result<(), String> {
        let (count, limit) = (topics.len(), self.worker.limits.topics_per_stream);
        if count > limit {
            self.worker.metrics.limited.of(Limit::Topics).add(1);
            return Err(format!("{count} topics are named, at most {limit} are allowed"));
        }
        Ok(())
    }

    /// Agrees on a session. Over HTTP/1 it is left with the connection, and this returns only to
    /// refuse; over HTTP/2 it is the answer's body.
    pub(super) async fn open(mut self, wish: Wish) -> Result<Answer, Problem> {
        let Wish { role, topics, default_event, hello, after, initial } = wish;
        let mut greeted = self.greeting(&role)?;
        let dialect = greeted.dialect;
        let seat = match self.seat() {
            Ok(seat) => seat,
            Err(refusal) => return self.refuse(greeted, refusal).await,
        };
        let mut granted = Vec::with_capacity(topics.len());
        for topic in topics {
            match self.grant(topic, initial).await {
                Ok(topic) => granted.push(topic),
                Err(forbidden) => {
                    let problem = Problem::forbidden(forbidden.to_string());
                    return self.end_page(greeted, CloseReason::Forbidden, problem).await;
                }
            }
        }
        let place = match dialect {
            Dialect::Sse => Place::of(self.request.headers(), after),
            // Only EventSource knows the header.
            Dialect::Plain | Dialect::Json => after.map_or(Place::None, Place::Query),
        };
        let settled = place.settle(&mut granted, From::Now).and_then(|()| match dialect {
            Dialect::Sse => composite(&granted),
            Dialect::Plain | Dialect::Json => Ok(None),
        });
        let composite = match settled {
            Ok(composite) => composite,
            Err(refusal) => {
                let problem = Problem::bad_request(refusal);
                return self.end_page(greeted, CloseReason::BadRequest, problem).await;
            }
        };
        self.write_first_words(dialect, greeted.id, &mut greeted.head);
        let began = self.began;
        self.hand_over(Opening {
            id: greeted.id,
            dialect,
            role,
            topics: granted,
            composite,
            default_event,
            greeting: greeted.head,
            hello,
            refusal: None,
            seat: Some(seat),
            began,
        })
        .await
    }

    /// Refuses a page's WebSocket with a close code, before it is looked at any further.
    pub(super) async fn turn_page_away(
        mut self,
        role: Role,
        text: String,
    ) -> Result<Answer, Problem> {
        let greeted = self.greeting(&role)?;
        self.end_page(greeted, CloseReason::Forbidden, Problem::forbidden(text)).await
    }

    /// Refuses a session for good: a page's WebSocket with a close code, all others with a status.
    pub(super) async fn end_page(
        self,
        greeted: Greeted,
        reason: CloseReason,
        problem: Problem,
    ) -> Result<Answer, Problem> {
        if greeted.dialect == Dialect::Sse || !self.is_a_page() {
            return Err(problem);
        }
        let text = problem.detail().to_owned();
        self.open_to_close(greeted, reason, text, problem).await
    }

    /// Lets a page in to be told with a close code why it can't stay: of a refused upgrade it would
    /// see nothing but 1006. If too many are being told, that has to do.
    pub(super) async fn open_to_close(
        self,
        greeted: Greeted,
        reason: CloseReason,
        text: String,
        otherwise: Problem,
    ) -> Result<Answer, Problem> {
        let Some(seat) = self.worker.admission.farewell() else {
            return Err(otherwise);
        };
        let began = self.began;
        self.hand_over(Opening {
            id: greeted.id,
            dialect: greeted.dialect,
            role: Role::RECEIVE_ONLY,
            topics: Vec::new(),
            composite: None,
            default_event: None,
            greeting: greeted.head,
            hello: Vec::new(),
            refusal: Some((reason, text)),
            seat: Some(seat),
            began,
        })
        .await
    }

    async fn hand_over(self, opening: Opening) -> Result<Answer, Problem> {
        if self.request.version() == Version::HTTP_2 {
            let id = opening.id;
            let body = open_stream(&self.worker, http2::stream(), opening).await;
            return Ok(event_stream::answer(id, body));
        }
        self.connection.hand_over(opening);
        // The driver takes the connection apart and this future with it.
        std::future::pending().await
    }

    /// The head of the answer that opens a session of a role.
    pub(super) fn greeting(&mut self, role: &Role) -> Result<Greeted, Problem> {
        if !self.request.body().is_end_stream() {
            return Err(Problem::bad_request("a request to subscribe has no body"));
        }
        let id = SessionId(fastrand::u64(..));
        let (dialect, head) = match role {
            Role::Plain { .. } => {
                (Dialect::Plain, websocket::accept(&mut self.request, PLAIN_SUBPROTOCOL, id)?)
            }
            Role::Json => {
                (Dialect::Json, websocket::accept(&mut self.request, json::SUBPROTOCOL, id)?)
            }
            Role::Sse if self.request.version() == Version::HTTP_2 => (Dialect::Sse, Vec::new()),
            Role::Sse => {
                let cors = cors::lines(&self.worker.origins, self.request.headers());
                (Dialect::Sse, event_stream::head(id, &cors))
            }
        };
        Ok(Greeted { id, dialect, head })
    }

    /// The topic as a session without a cursor gets it.
    async fn grant(&self, topic: Topic, initial: Option<u32>) -> Result<Granted, Forbidden> {
        let authorised =
            self.worker.door.authorise(&Principal::Anonymous, Action::Subscribe, &topic).await;
        authorised.map(|rule| {
            let latest = initial.or(rule.on_subscribe).filter(|_| rule.history.is_some());
            let from = latest.map_or(From::Now, |count| From::After(After::Latest(count)));
            let (terms, history) = (rule.terms(), rule.history);
            Granted { topic, terms, history, from, has_cursor: false }
        })
    }

    /// The topics of a request that isn't for a session; one that is forbidden refuses it.
    pub(super) async fn grant_all(&self, topics: Vec<Topic>) -> Result<Vec<Granted>, Problem> {
        let mut granted = Vec::with_capacity(topics.len());
        for topic in topics {
            let topic = self.grant(topic, None).await;
            granted.push(topic.map_err(|forbidden| Problem::forbidden(forbidden.to_string()))?);
        }
        Ok(granted)
    }

    pub(super) fn is_a_page(&self) -> bool {
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
            (Some("*/*"), "after=0", Transport::History),
            (Some("text/event-stream"), "after=0", Transport::Sse),
            (None, "wait=25", Transport::History),
        ] {
            assert_eq!(chosen(accept, query), expected, "{accept:?} {query}");
        }
    }
}
