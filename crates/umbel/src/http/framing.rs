//! What a request of HTTP/1 must say of its host and its body, where hyper doesn't look: what a proxy
//! may take for something else than this node does is refused.

use hyper::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};

use super::Problem;

/// Whether a request is framed beyond doubt. Behind one that isn't the connection ends, since where
/// the next begins is in doubt too.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let checked = match request.version() {
        // A pseudo-header and frames say it there.
        Version::HTTP_2 => Ok(()),
        version => {
            check_host(request.headers(), version).and_then(|()| check_coding(request.headers()))
        }
    };
    checked.map_err(Problem::and_close)
}

/// One that can be one (RFC 9112 section 3.2); HTTP/1.0 does without.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let is_good = match (hosts.next(), hosts.next()) {
        (None, _) => version == Version::HTTP_10,
        // Empty is allowed where the target has no authority.
        (Some(host), None) => {
            host.is_empty()
                || Authority::try_from(host.as_bytes())
                    .is_ok_and(|host| !host.as_str().contains('@'))
        }
        (Some(_), Some(_)) => false,
    };
    is_good.then_some(()).ok_or_else(|| {
        Problem::bad_request("a request has one Host, with a name and perhaps a port")
    })
}

/// Nothing but `chunked`, once: it alone is taken off (RFC 9112 section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if is_chunked(coding) => Ok(()),
        _ => Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "of transfer codings only `chunked` is taken, once",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).err().map_or(200, |problem| problem.status().as_u16())
    }

    #[test]
    fn a_request_has_one_host() {
        for (hosts, expected) in [
            (&["x"][..], 200),
            (&["x:80"], 200),
            (&["[::1]:80"], 200),
            (&[""], 200),
            (&[], 400),
            (&["x", "x"], 400),
            (&["x y"], 400),
            (&["me@x"], 400),
            (&["x/y"], 400),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        assert_eq!(status(Version::HTTP_2, &[]), 200);
    }

    #[test]
    fn only_chunked_is_taken() {
        for (codings, expected) in [
            (&["chunked"][..], 200),
            (&["Chunked "], 200),
            (&["gzip, chunked"], 501),
            (&["chunked", "chunked"], 501),
            (&["identity"], 501),
        ] {
            let mut headers = vec![("host", "x")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{codings:?}");
        }
    }
}
