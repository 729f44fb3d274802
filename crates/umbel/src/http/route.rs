//! URLs that aren't the node's own: the routes of the configuration, and the page at `/`.

use hyper::{Method, Request};
use umbel_protocol::Dialect;

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
    History,
    Nothing,
}

/// Answers a request for `path`, by the route that it fits.
pub(super) async fn answer(exchange: Exchange, path: &str) -> Result<Answer, Problem> {
    let is_root = path == "/";
    let wanted = wanted(&exchange.request, is_root);
    let transport = match wanted {
        Wanted::Page => return Ok(page::answer(&exchange.request)),
        Wanted::Stream(transport) => transport,
        Wanted::History | Wanted::Nothing => Transport::Sse,
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
        (Found::Route(_), Wanted::History) => {
            Err(Problem::not_implemented("reading a URL as JSON (history and long-poll)"))
        }
        (Found::Route(route), _) => exchange.follow(route, &request, transport).await,
        (Found::OtherTransport(route), Wanted::Stream(Transport::WebSocket)) => {
            Err(Problem::bad_request(format!("{} is an event stream, no WebSocket", route.path)))
        }
        (Found::OtherTransport(route), _) => {
            Err(Problem::upgrade_required(format!("{} is a WebSocket", route.path)))
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
        Method::GET if accepts(request, "application/json") => Wanted::History,
        Method::GET => Wanted::Stream(Transport::Sse),
        _ => Wanted::Nothing,
    }
}

impl Exchange {
    /// Opens a session as a route says.
    async fn follow(
        self,
        route: &Route,
        request: &RequestPath<'_>,
        transport: Transport,
    ) -> Result<Answer, Problem> {
        let last_event_id = self.request.headers().get("last-event-id");
        if transport == Transport::Sse && last_event_id.is_some_and(|id| !id.is_empty()) {
            let feature = "`Last-Event-ID` (resuming from history)";
            return Err(Problem::not_implemented(feature));
        }
        let query = self.request.uri().query().unwrap_or_default();
        let settled = route.settle(request, query).map_err(|refusal| refusal.to_string());
        let checked = settled.and_then(|settled| {
            self.check_count(&settled.topics)?;
            Ok(settled)
        });
        let settled = match checked {
            Ok(settled) => settled,
            Err(refusal) if transport == Transport::WebSocket && self.is_a_page() => {
                return self.open_to_close(CloseReason::BadRequest, refusal).await;
            }
            Err(refusal) => return Err(Problem::bad_request(refusal)),
        };
        let (role, dialect) = match transport {
            Transport::WebSocket => {
                (Role::Plain { publish: settled.publish, close_on_gap: false }, Dialect::Plain)
            }
            Transport::Sse => (Role::Sse, Dialect::Sse),
        };
        self.open(Wish {
            role,
            topics: settled.topics,
            default_event: route.event.clone(),
            hello: route.hello(dialect),
        })
        .await
    }
}
