//! Where spans go.

use std::borrow::Cow;
use std::fmt;

use hyper::Uri;

/// The URL of a collector that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    authority: String,
    /// With its query.
    path: String,
}

/// What collectors listen at, and where they take traces.
const PORT: u16 = 4318;
const PATH: &str = "/v1/traces";

impl Endpoint {
    /// Reads `http://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "an URL such as http://127.0.0.1:4318/v1/traces";
        // There may be a password before it, with any characters, so nothing of it is repeated.
        if text.contains('@') {
            return Err(
                "has a user before its host, which isn't sent (elsewhere @ is %40)".to_owned()
            );
        }
        let shown = shown(text);
        let uri: Uri =
            text.parse().map_err(|error| format!("\"{shown}\" is not {wanted}: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let text = "https isn't spoken: have a collector beside the node hand spans on";
                return Err(text.to_owned());
            }
            _ => return Err(format!("\"{shown}\" is not {wanted}")),
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("\"{shown}\" is not {wanted}"))?;
        let port = uri.port_u16().unwrap_or(PORT);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path == "/" { PATH } else { path };
        Ok(Self { authority: format!("{host}:{port}"), path: path.to_owned() })
    }

    /// Host and port, to connect to and as the header `Host`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// As it is logged.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, shown(&self.path))
    }
}

/// Without the query, which may hold a key.
fn shown(url: &str) -> Cow<'_, str> {
    match url.split_once('?') {
        Some((place, _)) => format!("{place}?…").into(),
        None => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_host() {
        for (text, expected) in [
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://[::1]:9/", "http://[::1]:9/v1/traces"),
            ("http://a:1/otlp?key=secret", "http://a:1/otlp?…"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), expected);
        }
        for (text, error) in [
            ("https://a/v1/traces", "https isn't spoken"),
            ("http://me:secret@a/", "has a user before its host"),
            ("http://me:sec ret/secret@a/", "has a user before its host"),
            ("http://a b/?key=secret", "\"http://a b/?…\" is not an URL such as"),
            ("ftp://a/?key=secret", "\"ftp://a/?…\" is not an URL such as"),
            ("a:4318", "\"a:4318\" is not an URL such as"),
            ("/v1/traces", "is not an URL such as"),
            ("http://", "is not an URL such as"),
        ] {
            let fault = Endpoint::parse(text).unwrap_err();
            assert!(fault.contains(error) && !fault.contains("secret"), "{fault}");
        }
        let endpoint = Endpoint::parse("http://a:1/otlp?key=secret").unwrap();
        assert_eq!(endpoint.path(), "/otlp?key=secret", "it is sent");
    }
}
