//! URLs that aren't the node's own: the routes of the configuration, and the page at `/`.

use hyper::{Method, Request};
use umbel_protocol::Dialect;

use super::query::HistoryQuery;
use super::service::Exchange;
use super::subscribe::{Wish, accepts};
use super::{Answer, Problem, page, websocket};
use crate::route::{Found, RequestPath, Route, Transport};
use crate::session::{CloseReason, Role};

/// What is asked for at such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Page,
    Stream(Transport),
    Nothing,
}

/// Answers a request for `path`, by the route that it fits.
pub(super) async fn answer(exchange: Exchange, path: &str) -> Result<Answer, Problem> {
    let is_root = path == "/";
    let wanted = wanted(&exchange.request, is_root);
    let transport = match wanted {
        Wanted::Page => return Ok(page::answer(&exchange.request)),
        Wanted::Stream(transport) => transport,
        Wanted::Nothing => Transport::Sse,
    };
    let request = RequestPath::decode(path).map_err(|e| Problem::bad_request(e.to_string()))?;
    let worker = exchange.worker.clone();
    match (worker.routes.find(&request, transport), wanted) {
        (_, Wanted::Nothing) if is_root => Err(Problem::method_not_allowed("GET, HEAD")),
        (Found::Nothing | Found::OtherTransport(_), Wanted::Stream(Transport::Sse)) if is_root => {
            Ok(page::answer(&exchange.request))
        }
        (Found::Nothing, _) => Err(Problem::not_found(format!("there is nothing at {path}"))),
        (_, Wanted::Nothing) => Err(Problem::method_not_allowed("GET")),
        (Found::Route(route), _) => exchange.follow(route, &request, transport).await,
        (Found::OtherTransport(route), Wanted::Stream(Transport::WebSocket)) => {
            Err(Problem::bad_request(format!("{} is an event stream, no WebSocket", route.path)))
        }
        (Found::OtherTransport(route), Wanted::Stream(Transport::Poll)) => {
            Err(Problem::bad_request(format!("{} is a stream, no JSON document", route.path)))
        }
        (Found::OtherTransport(route), _) if route.transports.websocket => {
            Err(Problem::upgrade_required(format!("{} is a WebSocket", route.path)))
        }
        (Found::OtherTransport(route), _) => {
            let text = format!("{} is history as JSON: Accept: application/json", route.path);
            Err(Problem::bad_request(text))
        }
    }
}

/// What a request asks for. At `/` only what asks for a stream in so many words may get one: the
/// rest is for people.
fn wanted<B>(request: &Request<B>, is_root: bool) -> Wanted {
    match *request.method() {
        Method::GET if websocket::is_upgrade(request) => Wanted::Stream(Transport::WebSocket),
        Method::GET if accepts(request, "text/event-stream") => Wanted::Stream(Transport::Sse),
        Method::GET | Method::HEAD if is_root => Wanted::Page,
        Method::GET if accepts(request, "application/json") => Wanted::Stream(Transport::Poll),
        Method::GET => Wanted::Stream(Transport::Sse),
        _ => Wanted::Nothing,
    }
}

impl Exchange {
    /// Opens a session as a route says.
    async fn follow(
        mut self,
        route: &Route,
        request: &RequestPath<'_>,
        transport: Transport,
    ) -> Result<Answer, Problem> {
        let query = self.request.uri().query().unwrap_or_default();
        let settled = route.settle(request, query).map_err(|refusal| refusal.to_string());
        let checked = settled.and_then(|settled| {
            self.check_count(&settled.topics)?;
            Ok(settled)
        });
        let settled = match checked {
            Ok(settled) => settled,
            Err(refusal) if transport == Transport::WebSocket => {
                let greeted = self.greeting(&Role::RECEIVE_ONLY)?;
                let problem = Problem::bad_request(refusal);
                return self.end_page(greeted, CloseReason::BadRequest, problem).await;
            }
            Err(refusal) => return Err(Problem::bad_request(refusal)),
        };
        let (role, dialect) = match transport {
            Transport::WebSocket => {
                (Role::Plain { publish: settled.publish, close_on_gap: false }, Dialect::Plain)
            }
            Transport::Sse => (Role::Sse, Dialect::Sse),
            Transport::Poll => {
                // The node's own options: a poll has no other way to say where it goes on.
                let asked = HistoryQuery::parse(self.request.uri().query())?;
                return self.poll(settled.topics, asked).await;
            }
        };
        self.open(Wish {
            role,
            topics: settled.topics,
            default_event: route.event.clone(),
            hello: route.hello(dialect),
            after: None,
            initial: route.initial,
        })
        .await
    }
}
