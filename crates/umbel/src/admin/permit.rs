//! Who may change something by the admin listener.
//!
//! Whoever shows the token; without one, whoever is on the node's own machine. A page in a browser
//! there must not: it can't send a header of its own to another origin unasked, and if its name was
//! made to stand for this machine, `Host` shows it.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{StatusCode, Uri};

use crate::config::AdminToken;
use crate::http::Problem;

/// The header that each request to change something has, with any value.
const HEADER: &str = "umbel-admin";

/// Whether a request may change something.
pub(super) fn check(
    token: Option<&AdminToken>,
    peer: IpAddr,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    if !headers.contains_key(HEADER) {
        return Err(Problem::forbidden(
            "a request to change something has a header `Umbel-Admin: 1`",
        ));
    }
    match token {
        Some(token) if shown(headers).is_some_and(|shown| token.is(shown)) => Ok(()),
        Some(_) => {
            let text = "this takes `Authorization: Bearer` with admin.token";
            let problem = Problem::new(StatusCode::UNAUTHORIZED, text);
            Err(problem.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        None if peer.to_canonical().is_loopback() && names_this_machine(headers) => Ok(()),
        None => Err(Problem::forbidden(
            "without an admin.token only requests from and to the node's own machine change anything",
        )),
    }
}

fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Whether the request was sent to a loopback address or `localhost`, by that name.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let uri = host.and_then(|host| host.parse::<Uri>().ok());
    let Some(name) = uri.as_ref().and_then(Uri::host) else {
        return false;
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const TOKEN: &str = "0123456789abcdef";

    fn token() -> Option<AdminToken> {
        let (settings, mistakes) = Settings::from_text(&format!("[admin]\ntoken = \"{TOKEN}\"\n"));
        assert!(mistakes.is_empty());
        settings.admin_token
    }

    fn status(token: Option<&AdminToken>, peer: &str, headers: &[(&str, &str)]) -> u16 {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap())
        };
        let headers = headers.iter().map(parse).collect();
        match check(token, peer.parse().unwrap(), &headers) {
            Ok(()) => 200,
            Err(problem) => problem.status().as_u16(),
        }
    }

    #[test]
    fn with_a_token_only_who_shows_it_may() {
        let token = token();
        let ours = ("umbel-admin", "1");
        for (peer, headers, expected) in [
            ("192.0.2.7", &[ours, ("authorization", "Bearer 0123456789abcdef")][..], 200),
            ("192.0.2.7", &[ours, ("authorization", "bearer 0123456789abcdef")], 200),
            ("192.0.2.7", &[("authorization", "Bearer 0123456789abcdef")], 403),
            ("127.0.0.1", &[ours, ("host", "localhost")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Bearer 0123456789abcdeX")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Bearer 0123456789abcde")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Bearer 0123456789abcdef0")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Bearer ")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Basic 0123456789abcdef")], 401),
            ("127.0.0.1", &[ours, ("authorization", "Bearer")], 401),
        ] {
            assert_eq!(status(token.as_ref(), peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn without_a_token_only_the_machine_itself_may_and_no_page_on_it() {
        let ours = ("umbel-admin", "1");
        for (peer, headers, expected) in [
            ("127.0.0.1", &[ours, ("host", "127.0.0.1:9464")][..], 200),
            ("127.0.0.1", &[ours, ("host", "localhost:9464")], 200),
            ("::1", &[ours, ("host", "[::1]:9464")], 200),
            ("::ffff:127.0.0.1", &[ours, ("host", "127.0.0.1")], 200),
            ("192.0.2.7", &[ours, ("host", "127.0.0.1")], 403),
            ("127.0.0.1", &[ours, ("host", "rebound.example:9464")], 403),
            ("127.0.0.1", &[ours, ("host", "localhost.rebound.example")], 403),
            ("127.0.0.1", &[ours], 403),
            ("127.0.0.1", &[("host", "localhost")], 403),
        ] {
            assert_eq!(status(None, peer, headers), expected, "{peer} {headers:?}");
        }
    }
}
