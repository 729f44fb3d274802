//! Routes: an application's own URLs, and the topics that they stand for.
//!
//! A route is matched when a connection opens and then forgotten: what it comes to for the request
//! are topics and a role, as for the node's own URLs. It never widens a rule, since each topic still
//! passes the door. Everything here is a function of the settings and the request.

mod path;
mod stamp;
mod template;
mod values;

pub use path::{RequestPath, RoutePath, RoutePathError};
pub use stamp::Stamp;
pub use template::{Parameter, Part, Template, TemplateError};
pub use values::{Count, Empty, QueryParameter, Refusal, TopicTemplate, TopicTemplateError};

use std::collections::HashMap;
use std::rc::Rc;

use umbel_protocol::{Dialect, EventName, Topic, sse, websocket};

use crate::session::PublishTarget;
use values::Values;

/// One of an application's URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which requests it is for.
    pub path: RoutePath,
    /// How it may be asked for.
    pub transports: Transports,
    /// What a session hears.
    pub topics: Vec<TopicTemplate>,
    /// The parameters of the query that the templates name.
    pub query: Vec<QueryParameter>,
    /// What becomes of a session's frames; `None`: it may send none.
    pub publish: Option<PublishRule>,
    /// The name of SSE events of messages that have none.
    pub event: Option<EventName>,
    /// What a session is told before all else.
    pub hello: Option<Hello>,
    /// How many of the newest messages a session without a cursor gets at once.
    pub initial: Option<u32>,
}

/// The transports that a route has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports {
    /// WebSocket, each frame a payload.
    pub websocket: bool,
    /// Server-sent events.
    pub sse: bool,
    /// History as JSON.
    pub poll: bool,
}

/// How a request wants to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// It is an upgrade.
    WebSocket,
    /// As a stream of events.
    Sse,
    /// As a JSON document.
    Poll,
}

/// How the frames of a route's sessions are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRule {
    /// Where to: one topic.
    pub to: TopicTemplate,
    /// Whether the sender hears its own message.
    pub echo: bool,
    /// Whether a broker beyond the node carries more than the bare payload.
    pub envelope: bool,
    /// What is set in each message.
    pub stamp: Option<Stamp>,
}

/// A greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name of the event; SSE greets with named events alone.
    pub event: Option<EventName>,
    /// The text.
    pub data: String,
}

/// All routes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes(Vec<Route>);

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'r> {
    /// This route serves it.
    Route(&'r Route),
    /// The path is this route's, but not by this transport.
    OtherTransport(&'r Route),
    /// No route has the path.
    Nothing,
}

/// What a route comes to for one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) topics: Vec<Topic>,
    pub(crate) publish: Option<PublishTarget>,
}

impl Routes {
    /// Orders routes so that of those that fit a request the closest serves it. The error names
    /// two routes, by their indices, that fit the same requests.
    pub fn new(mut routes: Vec<Route>) -> Result<Self, (usize, usize)> {
        let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, route) in routes.iter().enumerate() {
            let same_path = seen.entry(route.path.shape()).or_default();
            let clashes = |earlier: &&usize| route.transports.meet(routes[**earlier].transports);
            if let Some(earlier) = same_path.iter().find(clashes) {
                return Err((*earlier, at));
            }
            same_path.push(at);
        }
        routes.sort_by_cached_key(|route| route.path.closeness());
        Ok(Self(routes))
    }

    /// The route for a request.
    pub(crate) fn find(&self, request: &RequestPath<'_>, transport: Transport) -> Found<'_> {
        let mut found = Found::Nothing;
        for route in self.0.iter().filter(|route| route.path.captures(request).is_some()) {
            if route.transports.have(transport) {
                return Found::Route(route);
            }
            if found == Found::Nothing {
                found = Found::OtherTransport(route);
            }
        }
        found
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Route {
    /// The topics of a request to this route.
    pub(crate) fn settle(
        &self,
        request: &RequestPath<'_>,
        query: &str,
    ) -> Result<Settled, Refusal> {
        let values = Values::read(&self.path, &self.query, request, query)?
            .expect("the route was found for this path");
        let mut topics = Vec::new();
        for template in &self.topics {
            for topic in template.topics(&values)? {
                if !topics.contains(&topic) {
                    topics.push(topic);
                }
            }
        }
        let publish = self.publish.as_ref().map(|rule| rule.target(&values)).transpose()?;
        Ok(Settled { topics, publish })
    }

    /// The greeting as bytes of a dialect.
    pub(crate) fn hello(&self, dialect: Dialect) -> Vec<u8> {
        let mut out = Vec::new();
        match (&self.hello, dialect) {
            (Some(Hello { event: Some(event), data }), Dialect::Sse) => {
                sse::write_event(&mut out, event, data);
            }
            (Some(Hello { data, .. }), Dialect::Plain) => {
                websocket::write_frame(&mut out, websocket::Opcode::Text, data.as_bytes());
            }
            _ => {}
        }
        out
    }
}

impl PublishRule {
    fn target(&self, values: &Values<'_>) -> Result<PublishTarget, Refusal> {
        let topic = self.to.topics(values)?.pop();
        Ok(PublishTarget {
            topic: topic.expect("settings allow no parameter here that may be without a value"),
            echo: self.echo,
            bare: !self.envelope,
            stamp: self.stamp.as_ref().map(|stamp| Rc::new(stamp.settled(values))),
        })
    }
}

/// The topics that a template names for a request, for fuzzing. Every parameter of the query is a
/// list that may be empty.
#[doc(hidden)]
pub fn topics(template: &str, path: &str, request: &str, query: &str) -> Option<Vec<Topic>> {
    let template = TopicTemplate::new(template.parse().ok()?).ok()?;
    let lists = template.template().parameters().filter_map(|parameter| match parameter {
        Parameter::QueryList(name) => Some(QueryParameter {
            name: name.clone(),
            count: Count::List { max: 50 },
            empty: Empty::Wait,
        }),
        _ => None,
    });
    let (path, query_parameters): (RoutePath, Vec<_>) = (path.parse().ok()?, lists.collect());
    let request = RequestPath::decode(request).ok()?;
    let values = Values::read(&path, &query_parameters, &request, query).ok()??;
    template.topics(&values).ok()
}

impl Transports {
    fn have(self, transport: Transport) -> bool {
        match transport {
            Transport::WebSocket => self.websocket,
            Transport::Sse => self.sse,
            Transport::Poll => self.poll,
        }
    }

    fn meet(self, other: Self) -> bool {
        (self.websocket && other.websocket) || (self.sse && other.sse) || (self.poll && other.poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Transports = Transports { websocket: true, sse: true, poll: false };
    const SOCKET: Transports = Transports { websocket: true, sse: false, poll: false };
    const SSE: Transports = Transports { websocket: false, sse: true, poll: false };

    fn route(path: &str, transports: Transports) -> Route {
        Route {
            path: path.parse().unwrap(),
            transports,
            topics: Vec::new(),
            query: Vec::new(),
            publish: None,
            event: None,
            hello: None,
            initial: None,
        }
    }

    fn found(routes: &Routes, path: &str, transport: Transport) -> Option<String> {
        match routes.find(&RequestPath::decode(path).unwrap(), transport) {
            Found::Route(route) => Some(route.path.to_string()),
            Found::OtherTransport(route) => Some(format!("not {}", route.path)),
            Found::Nothing => None,
        }
    }

    #[test]
    fn the_closest_route_with_the_transport_serves_a_request() {
        let mut table = [("/{a}/{b}", BOTH), ("/feeds/{feed}", SSE), ("/feeds/all", SOCKET)];
        for _ in 0..table.len() {
            table.rotate_left(1);
            let routes = table.iter().map(|(path, transports)| route(path, *transports)).collect();
            let routes = Routes::new(routes).unwrap();
            for (path, transport, expected) in [
                ("/feeds/all", Transport::WebSocket, Some("/feeds/all")),
                ("/feeds/all", Transport::Sse, Some("/feeds/{feed}")),
                ("/feeds/x", Transport::WebSocket, Some("/{a}/{b}")),
                ("/x/y", Transport::Sse, Some("/{a}/{b}")),
                ("/x", Transport::Sse, None),
            ] {
                assert_eq!(found(&routes, path, transport).as_deref(), expected, "{path}");
            }
        }
    }

    #[test]
    fn a_path_without_the_transport_is_known() {
        let routes = Routes::new(vec![route("/chat/{room}", SOCKET)]).unwrap();
        assert_eq!(found(&routes, "/chat/1", Transport::Sse).unwrap(), "not /chat/{room}");
    }

    #[test]
    fn routes_for_the_same_requests_are_named() {
        let routes = |table: &[(&str, Transports)]| {
            Routes::new(table.iter().map(|(path, transports)| route(path, *transports)).collect())
        };
        assert_eq!(routes(&[("/a", SSE), ("/b/{x}", SSE), ("/b/{y}", BOTH)]), Err((1, 2)));
        assert!(routes(&[("/b/{x}", SSE), ("/b/{y}", SOCKET), ("/b/c", BOTH)]).is_ok());
    }
}
