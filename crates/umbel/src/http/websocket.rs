//! The opening handshake (RFC 6455 section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::{
    HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
};
use hyper::{Method, Request, Version};
use umbel_protocol::SessionId;

use super::Problem;

/// Whether the request asks for a WebSocket.
pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && fastwebsockets::upgrade::is_upgrade_request(request)
}

/// The head of the answer that opens the WebSocket, or why it can't be opened.
pub(super) fn accept<B>(
    request: &mut Request<B>,
    subprotocol: &'static str,
    session: SessionId,
) -> Result<Vec<u8>, Problem> {
    let version = request.headers().get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if version != Some(b"13") {
        return Err(Problem::upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    if !key.is_some_and(is_key) {
        return Err(Problem::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let chosen = offers(request, subprotocol).then_some(subprotocol);
    let (response, _) =
        fastwebsockets::upgrade::upgrade(request).expect("version and key were looked at");
    let accept = &response.headers()[SEC_WEBSOCKET_ACCEPT];
    Ok(head(accept.as_bytes(), chosen, session))
}

/// Whether the client lists a subprotocol; then it wants it confirmed.
fn offers<B>(request: &Request<B>, subprotocol: &str) -> bool {
    let lists = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|offered| offered.trim_ascii() == subprotocol)
}

fn is_key(key: &[u8]) -> bool {
    BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

fn head(accept: &[u8], subprotocol: Option<&str>, session: SessionId) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ");
    head.extend_from_slice(accept);
    if let Some(subprotocol) = subprotocol {
        head.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        head.extend_from_slice(subprotocol.as_bytes());
    }
    head.extend_from_slice(format!("\r\nUmbel-Session: {session}\r\n\r\n").as_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: &str, key: &str, protocols: &[&str]) -> Request<()> {
        let mut request = Request::get("/ws")
            .header(SEC_WEBSOCKET_VERSION, version)
            .header(SEC_WEBSOCKET_KEY, key);
        for protocol in protocols {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, *protocol);
        }
        request.body(()).unwrap()
    }

    fn accepted(mut request: Request<()>) -> Result<String, Problem> {
        accept(&mut request, "umbel.v1.json", SessionId(0xab))
            .map(|head| String::from_utf8(head).unwrap())
    }

    /// The key and answer of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_accept_key_is_that_of_the_specification() {
        let head = accepted(request("13", KEY, &[])).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!head.contains("Sec-WebSocket-Protocol"));
        assert!(head.ends_with("\r\nUmbel-Session: 00000000000000ab\r\n\r\n"));
    }

    #[test]
    fn our_subprotocol_is_confirmed_if_it_is_offered() {
        for (protocols, confirmed) in [
            (&["umbel.v1.json"][..], true),
            (&["other, umbel.v1.json"], true),
            (&["other", "umbel.v1.json"], true),
            (&["umbel.v1.jsonx"], false),
            (&[], false),
        ] {
            let head = accepted(request("13", KEY, protocols)).unwrap();
            assert_eq!(
                head.contains("\r\nSec-WebSocket-Protocol: umbel.v1.json\r\n"),
                confirmed,
                "{protocols:?}"
            );
        }
    }

    #[test]
    fn wrong_versions_and_keys_are_refused() {
        assert!(accepted(request("8", KEY, &[])).is_err());
        for key in ["", "x", "dGhlIHNhbXBsZQ==", "dGhlIHNhbXBsZSBub25jZQ"] {
            assert!(accepted(request("13", key, &[])).is_err(), "{key:?}");
        }
    }
}
