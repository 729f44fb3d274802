//! Which pages' scripts may read answers (the Fetch standard, section 3.2).
//!
//! It holds for every answer alike, refusals too, so that a page sees why it was refused. Without
//! `listen.origins` nothing is said, and browsers then let only pages of the node's own origin
//! read.
//!
//! Browsers let any page open WebSockets and send simple requests; only the server can refuse
//! them. With `listen.origins` it does ([`check_origin`]).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, Response, StatusCode};

use super::{Answer, AnswerBody, Problem};
use crate::config::Origins;

/// What scripts may use: the methods and the headers that the node's resources know.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, Umbel-Event, Umbel-Origin",
);
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static("Retry-After, Umbel-Session");

/// For how many seconds a browser may remember the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The headers that every answer to a request has.
pub(super) fn headers(origins: &Origins, request: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    match (origins, request.get(ORIGIN)) {
        // With a wildcard browsers send no credentials, and the answer is the same for all.
        (Origins::Any, _) => {
            headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
            headers.push((ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS));
        }
        (Origins::These(allowed), _) if allowed.is_empty() => {}
        (Origins::These(_), origin) => {
            headers.push((VARY, HeaderValue::from_static("Origin")));
            if let Some(origin) = origin.filter(|origin| origins.allow(origin.as_bytes())) {
                headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
                headers.push((ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS));
            }
        }
    }
    headers
}

/// Whether the page that a request comes from may make it: one that publishes or opens a WebSocket,
/// if origins are named at all. A page of the node's own may. An error says what was refused.
pub(super) fn check_origin<B>(
    origins: &Origins,
    request: &Request<B>,
    upgrades: bool,
) -> Result<(), String> {
    let Some(origin) = request.headers().get(ORIGIN).map(HeaderValue::as_bytes) else {
        return Ok(());
    };
    let matters = upgrades || request.method() == Method::POST;
    if !matters || origins.is_empty() || origins.allow(origin) || is_own(origin, request) {
        return Ok(());
    }
    Err(not_allowed(origin))
}

/// Whether the origin is the host that the request was sent to. By which scheme doesn't matter:
/// TLS ends before the node.
fn is_own<B>(origin: &[u8], request: &Request<B>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or(request.headers().get(HOST).map(HeaderValue::as_bytes));
    let named =
        [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    named.is_some() && named == host
}

fn not_allowed(origin: &[u8]) -> String {
    format!("the origin `{}` is not among listen.origins", origin.escape_ascii())
}

/// The answer to a browser that asks before a request that scripts may not make just so; `None` if
/// this isn't such a question or nobody is allowed anything. [`headers`] says the rest.
pub(super) fn preflight<B>(origins: &Origins, request: &Request<B>) -> Option<Answer> {
    let is_question = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = request.headers().get(ORIGIN).filter(|_| is_question && !origins.is_empty())?;
    if !origins.allow(origin.as_bytes()) {
        return Some(Problem::forbidden(not_allowed(origin.as_bytes())).into());
    }
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(answer)
}

/// Header lines for an answer that hyper doesn't write.
pub(super) fn lines(origins: &Origins, request: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in headers(origins, request) {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(origins: &[&str]) -> Origins {
        Origins::These(origins.iter().map(|origin| (*origin).into()).collect())
    }

    fn said(origins: &Origins, origin: Option<&str>) -> String {
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(ORIGIN, origin.parse().unwrap());
        }
        String::from_utf8(lines(origins, &request)).unwrap()
    }

    #[test]
    fn nothing_is_said_unless_it_is_set() {
        assert_eq!(said(&Origins::default(), Some("http://a")), "");
    }

    #[test]
    fn an_origin_is_allowed_by_name_and_caches_are_told_that_it_matters() {
        let origins = these(&["http://a:3000", "http://b"]);
        for other in [None, Some("http://a"), Some("http://a:30000"), Some("null"), Some("")] {
            assert_eq!(said(&origins, other), "vary: Origin\r\n", "{other:?}");
        }
        assert_eq!(
            said(&origins, Some("http://a:3000")),
            "vary: Origin\r\naccess-control-allow-origin: http://a:3000\r\n\
             access-control-allow-credentials: true\r\n\
             access-control-expose-headers: Retry-After, Umbel-Session\r\n"
        );
    }

    #[test]
    fn a_wildcard_never_comes_with_credentials() {
        for origin in [None, Some("http://a")] {
            let said = said(&Origins::Any, origin);
            assert!(said.starts_with("access-control-allow-origin: *\r\n"), "{said}");
            assert!(!said.contains("credentials"), "{said}");
        }
    }

    #[test]
    fn pages_of_other_origins_neither_publish_nor_open_websockets() {
        let request = |method: Method, origin: &str| {
            let request = Request::builder().method(method).header(HOST, "push.example.org");
            request.header(ORIGIN, origin).body(()).unwrap()
        };
        let origins = these(&["http://a"]);
        for (method, upgrades, origin, allowed) in [
            (Method::GET, true, "http://a", true),
            (Method::GET, true, "http://b", false),
            (Method::GET, true, "null", false),
            (Method::GET, true, "", false),
            (Method::GET, true, "https://push.example.org", true),
            (Method::GET, true, "http://push.example.org:81", false),
            (Method::GET, true, "ftp://push.example.org", false),
            (Method::POST, false, "http://b", false),
            (Method::POST, false, "http://a", true),
            // CORS sees to it that it can't be read.
            (Method::GET, false, "http://b", true),
        ] {
            let request = request(method, origin);
            let checked = check_origin(&origins, &request, upgrades);
            assert_eq!(checked.is_ok(), allowed, "{request:?}");
            assert!(check_origin(&Origins::Any, &request, upgrades).is_ok());
            assert!(check_origin(&Origins::default(), &request, upgrades).is_ok());
        }
        let without = Request::post("/publish").body(()).unwrap();
        assert!(check_origin(&origins, &without, false).is_ok());
    }

    #[test]
    fn only_a_preflight_is_answered_as_one() {
        let request = |method: Method, names: &[HeaderName]| {
            let mut request = Request::builder().method(method);
            for name in names {
                request = request.header(name, "http://a");
            }
            request.body(()).unwrap()
        };
        let both = [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD];
        let origins = these(&["http://a"]);
        let status = |request| preflight(&origins, &request).map(|answer| answer.status().as_u16());
        assert_eq!(status(request(Method::OPTIONS, &both)), Some(204));
        assert_eq!(status(request(Method::OPTIONS, &both[..1])), None);
        assert_eq!(status(request(Method::OPTIONS, &both[1..])), None);
        assert_eq!(status(request(Method::POST, &both)), None);
        let question = request(Method::OPTIONS, &both);
        assert!(preflight(&Origins::default(), &question).is_none());
        assert_eq!(preflight(&these(&["http://b"]), &question).unwrap().status(), 403);
    }
}
