//! The address of a node.

use std::fmt;

use hyper::Uri;
use hyper::http::uri::Authority;
use umbel_protocol::{Cursor, Topic};

use super::Failure;
use crate::config::masked_url;

/// `http://host:port`, with a path in front of the node's own if a proxy wants one.
#[derive(Debug, Clone)]
pub(crate) struct NodeUrl {
    authority: Authority,
    /// Without a slash at its end.
    base: String,
}

impl NodeUrl {
    /// Reads what the command line gave.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = |fault: &str| Failure::Usage(format!("`{}` {fault}", masked_url(text)));
        let wanted = "is not a URL such as http://127.0.0.1:8080";
        let uri: Uri = text.parse().map_err(|_| refuse(wanted))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https" | "wss" | "rediss") => {
                return Err(refuse("needs TLS, which isn't there yet"));
            }
            _ => return Err(refuse(wanted)),
        }
        let authority = uri.authority().ok_or_else(|| refuse(wanted))?;
        if authority.as_str().contains('@') {
            return Err(refuse("has credentials, which nodes don't take"));
        }
        if uri.query().is_some() {
            return Err(refuse("has a query; name the node alone"));
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: authority.clone(), base })
    }

    /// Host and port as the `Host` header has them.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Where to connect to.
    pub(super) fn address(&self) -> (&str, u16) {
        // An IPv6 address is bracketed in a URL, and nowhere else.
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        (host, self.authority.port_u16().unwrap_or(80))
    }

    /// The target of a request for one of the node's paths.
    pub(super) fn target(&self, path: &str) -> Result<Uri, Failure> {
        let target = format!("{}{path}", self.base);
        let bytes = target.len();
        let too_long = |_| Failure::Usage(format!("a URL of {bytes} bytes is too long"));
        // The base and the names of topics have only bytes that may stand in a path.
        target.parse().map_err(too_long)
    }

    /// The target of a request for topics.
    pub(super) fn topics(&self, topics: &[Topic]) -> Result<Uri, Failure> {
        self.target(&path(topics))
    }

    /// The target of a request for a stream over topics that begins behind a place.
    pub(super) fn topics_after(&self, topics: &[Topic], after: &Cursor) -> Result<Uri, Failure> {
        // A cursor has only bytes that may stand in a query.
        self.target(&format!("{}?after={after}", path(topics)))
    }
}

fn path(topics: &[Topic]) -> String {
    // Of the bytes of a name only the slash means something else in a path.
    let names: Vec<_> = topics.iter().map(|topic| topic.as_str().replace('/', "%2F")).collect();
    format!("/topics/{}", names.join(","))
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        NodeUrl::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn urls_give_address_and_targets() {
        for (text, address, target) in [
            ("http://127.0.0.1:8080", ("127.0.0.1", 8080), "/ws"),
            ("http://localhost/", ("localhost", 80), "/ws"),
            ("http://[::1]:9000/live/", ("::1", 9000), "/live/ws"),
        ] {
            let url = NodeUrl::parse(text).unwrap();
            assert_eq!(url.address(), address);
            assert_eq!(url.target("/ws").unwrap(), target);
        }
    }

    #[test]
    fn a_topic_s_slash_is_encoded_and_nothing_else() {
        let url = NodeUrl::parse("http://x").unwrap();
        let topics = ["a/b", "user:7@x~y=z+1"].map(|name| Topic::new(name).unwrap());
        let target = url.topics(&topics).unwrap();
        assert_eq!(target, "/topics/a%2Fb,user:7@x~y=z+1");
        for after in ["0", "latest:3", "00000000000000ab-7", "AQAwyUAAAAAAAAAAqwc"] {
            let cursor = Cursor::parse(after).unwrap();
            let target = url.topics_after(&topics[..1], &cursor).unwrap();
            assert_eq!(target, format!("/topics/a%2Fb?after={after}").as_str());
        }
        let segment = target.path().strip_prefix("/topics/").unwrap();
        assert_eq!(umbel_protocol::topics_in_path(segment).unwrap(), topics);
    }

    #[test]
    fn more_topics_than_a_url_holds_are_refused() {
        let topics = vec![Topic::new(&"n".repeat(255)).unwrap(); 300];
        let failure = NodeUrl::parse("http://x").unwrap().topics(&topics).unwrap_err();
        assert_eq!(failure.to_string(), "a URL of 76807 bytes is too long");
    }

    #[test]
    fn what_is_not_a_node_s_url_is_named() {
        for text in ["127.0.0.1:8080", "localhost", "", "http:/x", "ftp://x", "redis://x"] {
            assert_eq!(
                refusal(text),
                format!("`{text}` is not a URL such as http://127.0.0.1:8080")
            );
        }
        assert_eq!(refusal("https://x"), "`https://x` needs TLS, which isn't there yet");
        assert_eq!(
            refusal("http://me:secret@x"),
            "`http://me:***@x` has credentials, which nodes don't take"
        );
        assert_eq!(refusal("http://x/?a=b"), "`http://x/?a=b` has a query; name the node alone");
    }
}
