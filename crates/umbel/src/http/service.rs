//! From a request to whoever answers it.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Version};

use super::client_address::client_address;
use super::connection::Serving;
use super::{
    Answer, AnswerBody, Connection, Problem, cors, framing, http2, publish, refusal, route,
    subscribe, websocket,
};
use crate::session::Role;
use crate::worker::{Limit, Worker};

/// How long a client may take to read an answer over HTTP/2, where it may do without window: as long
/// as a connection of HTTP/1 may be idle.
const ANSWER_WAIT: Duration = Duration::from_secs(75);

/// Serves the requests of one connection: one after the other, over HTTP/2 several at a time.
pub(super) struct HttpService {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
}

/// A request on its way to an answer.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) connection: Rc<Connection>,
    pub(super) request: Request<Incoming>,
    /// Whether the client wants a status where a browser would be told otherwise.
    pub(super) is_strict: bool,
    /// See [`crate::session::Opening::began`].
    pub(super) began: u64,
}

impl HttpService {
    pub(super) fn new(worker: Rc<Worker>, connection: Rc<Connection>) -> Self {
        Self { worker, connection }
    }
}

impl Service<Request<Incoming>> for HttpService {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let serving = Serving::begin(&self.worker, &self.connection);
        let exchange = Exchange {
            worker: self.worker.clone(),
            connection: self.connection.clone(),
            request,
            is_strict: false,
            began: self.connection.began(self.worker.clock.micros()),
        };
        Box::pin(async move {
            let worker = exchange.worker.clone();
            let cors = cors::headers(&worker.origins, exchange.request.headers());
            let bare_head = exchange.wants_bare_head();
            let version = exchange.request.version();
            let mut answer = match framing::check(&exchange.request) {
                Err(problem) => problem.into(),
                Ok(()) => match cors::preflight(&worker.origins, &exchange.request) {
                    Some(answer) => answer,
                    None => exchange.answer().await,
                },
            };
            if version == Version::HTTP_2 && !answer.body().is_session() {
                http2::stream().end_within(ANSWER_WAIT);
            }
            answer.headers_mut().extend(cors);
            if worker.is_leaving() {
                refusal::close_behind(&mut answer, version);
            }
            if bare_head {
                strip_body(&mut answer);
            }
            answer.body_mut().keep(serving);
            Ok(answer)
        })
    }
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Resource<'p> {
    /// With what stands behind `/topics/`, not decoded.
    Topics(&'p str),
    Publish,
    JsonDialect,
    /// What the routes of the configuration say, or nothing.
    Other,
}

impl<'p> Resource<'p> {
    fn of(path: &'p str) -> Self {
        match path {
            "/publish" => Self::Publish,
            "/ws" => Self::JsonDialect,
            "/topics" => Self::Topics(""),
            _ => match path.strip_prefix("/topics/") {
                Some(names) => Self::Topics(names),
                None => Self::Other,
            },
        }
    }
}

impl Exchange {
    /// Whom it is from.
    pub(super) fn client_address(&self) -> IpAddr {
        let trusted = &self.worker.trusted_proxies;
        client_address(self.connection.peer(), self.request.headers(), trusted)
    }

    /// Whether the body must be left out here: hyper does it for HTTP/1 alone.
    fn wants_bare_head(&self) -> bool {
        self.request.method() == Method::HEAD && self.request.version() == Version::HTTP_2
    }

    async fn answer(mut self) -> Answer {
        let path = self.request.uri().path().to_owned();
        let upgrades = websocket::is_upgrade(&self.request);
        if let Err(foreign) = cors::check_origin(&self.worker.origins, &self.request, upgrades) {
            self.worker.metrics.limited.of(Limit::Origin).add(1);
            self.pass_over_body().await;
            let refused = match Resource::of(&path) {
                _ if !upgrades => Err(Problem::forbidden(foreign)),
                Resource::JsonDialect => self.turn_page_away(Role::Json, foreign).await,
                _ => self.turn_page_away(Role::RECEIVE_ONLY, foreign).await,
            };
            return refused.unwrap_or_else(Answer::from);
        }
        let answered = match (Resource::of(&path), self.request.method()) {
            (Resource::Topics(names), &Method::GET) => subscribe::topics(self, names).await,
            (Resource::Topics(names), &Method::POST) => return publish::topic(self, names).await,
            (Resource::Topics(_), _) => Err(Problem::method_not_allowed("GET, POST")),
            (Resource::Publish, &Method::POST) => return publish::many(self).await,
            (Resource::Publish, _) => Err(Problem::method_not_allowed("POST")),
            (Resource::JsonDialect, &Method::GET) if upgrades => subscribe::json(self).await,
            (Resource::JsonDialect, &Method::GET) => Err(match self.request.version() {
                Version::HTTP_2 => Problem::http1_required("/ws is a WebSocket over HTTP/1.1"),
                _ => Problem::upgrade_required("/ws is a WebSocket"),
            }),
            (Resource::JsonDialect, _) => Err(Problem::method_not_allowed("GET")),
            (Resource::Other, _) => route::answer(self, &path).await,
        };
        answered.unwrap_or_else(Answer::from)
    }
}

/// Leaves of a body what it would have been long (RFC 9110 section 9.3.2).
fn strip_body(answer: &mut Answer) {
    let body = std::mem::replace(answer.body_mut(), AnswerBody::empty());
    if let Some(len) = body.size_hint().exact() {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        for (path, resource) in [
            ("/", Resource::Other),
            ("/publish", Resource::Publish),
            ("/ws", Resource::JsonDialect),
            ("/topics", Resource::Topics("")),
            ("/topics/", Resource::Topics("")),
            ("/topics/a%2Fb,c", Resource::Topics("a%2Fb,c")),
            ("/topics/a/b", Resource::Topics("a/b")),
            ("/topicsx", Resource::Other),
            ("/ws/", Resource::Other),
            ("//", Resource::Other),
        ] {
            assert_eq!(Resource::of(path), resource, "{path}");
        }
    }
}
