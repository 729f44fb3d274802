//! What a page's code makes a browser send, for the URLs as the code builds them.

use std::borrow::Cow;

use crate::{Node, SseClient, WebSocketClient};

/// A page, from a development server on a port of its own.
#[derive(Debug, Clone, Copy)]
pub struct Page<'n> {
    node: &'n Node,
    origin: &'n str,
}

impl<'n> Page<'n> {
    /// A page of an origin, with a node in the place of whatever host its URLs name.
    pub fn of(origin: &'n str, node: &'n Node) -> Self {
        Self { node, origin }
    }

    /// `new WebSocket(url)`, open.
    pub async fn web_socket(&self, url: &str) -> WebSocketClient {
        let target = target(url);
        let headers = [("origin", self.origin), ("cache-control", "no-cache")];
        WebSocketClient::open_with(self.node.http(), &target, &headers).await
    }

    /// `new EventSource(url)`, open. A relative URL goes to the page's own host, which is taken to
    /// hand it on; an absolute one is another origin, whose answer the browser must be allowed to
    /// give to the page.
    pub async fn event_source(&self, url: &str) -> SseClient {
        self.stream(url, &[]).await
    }

    /// What an `EventSource` does by itself when its connection ends: the same request again, with
    /// the id of the last event.
    pub async fn event_source_again(&self, url: &str, last_event_id: &str) -> SseClient {
        assert_ne!(last_event_id, "", "a browser would send no header");
        self.stream(url, &[("last-event-id", last_event_id)]).await
    }

    async fn stream(&self, url: &str, headers: &[(&str, &str)]) -> SseClient {
        let own = url.starts_with('/');
        let known = [("cache-control", "no-cache"), ("origin", self.origin)];
        let known = if own { &known[..1] } else { &known[..] };
        let headers = [known, headers].concat();
        let stream = SseClient::open_with(self.node.http(), &target(url), &headers).await;
        let allowed = stream.head.header("access-control-allow-origin");
        assert!(own || allowed == Some(self.origin), "{:?}", stream.head);
        stream
    }
}

/// What stands in the request line for a URL (the URL standard, sections 1.3 and 4.4).
fn target(url: &str) -> String {
    let behind_host = match url.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]),
        None => url,
    };
    let (resource, _fragment) = behind_host.split_once('#').unwrap_or((behind_host, ""));
    let (path, query) = match resource.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (resource, None),
    };
    let mut target = encoded(if path.is_empty() { "/" } else { path }, b" \"<>`{}^");
    if let Some(query) = query {
        target.push('?');
        target.push_str(&encoded(query, b" \"<>'"));
    }
    target
}

/// What a URL can't hold as it is, percent-encoded; what is encoded already stays.
fn encoded(text: &str, set: &[u8]) -> String {
    let encode = |byte: u8| match byte {
        0..=0x1f | 0x7f.. => Cow::from(format!("%{byte:02X}")),
        _ if set.contains(&byte) => format!("%{byte:02X}").into(),
        _ => char::from(byte).to_string().into(),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_sent_as_browsers_send_them() {
        for (url, expected) in [
            ("ws://localhost:8080", "/"),
            ("ws://localhost:8080?x", "/?x"),
            ("ws://localhost:8080/chat/room 1", "/chat/room%201"),
            ("http://localhost:8080/r\u{e4}ume/a%2Fb#x", "/r%C3%A4ume/a%2Fb"),
            ("/api/stream?metrics=cpu%2Cmem", "/api/stream?metrics=cpu%2Cmem"),
            ("/a?b=c d'{}", "/a?b=c%20d%27{}"),
        ] {
            assert_eq!(target(url), expected, "{url}");
        }
    }
}
