//! Where spans go.

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
        let uri: Uri =
            text.parse().map_err(|error| format!("\"{text}\" is not {wanted}: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let text = "https isn't spoken: have a collector beside the node hand spans on";
                return Err(text.to_owned());
            }
            _ => return Err(format!("\"{text}\" is not {wanted}")),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            // It may be a password, so it isn't repeated.
            return Err("has a user before its host, which isn't sent".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("\"{text}\" is not {wanted}"))?;
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

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
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
            ("http://a:1/otlp?x=y", "http://a:1/otlp?x=y"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), expected);
        }
        for (text, error) in [
            ("https://a/v1/traces", "https isn't spoken"),
            ("http://me:secret@a/", "has a user before its host"),
            ("a:4318", "\"a:4318\" is not an URL such as"),
            ("/v1/traces", "is not an URL such as"),
            ("http://", "is not an URL such as"),
        ] {
            let fault = Endpoint::parse(text).unwrap_err();
            assert!(fault.contains(error) && !fault.contains("secret"), "{fault}");
        }
    }
}
