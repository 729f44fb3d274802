//! Which HTTP a client speaks: the first bytes of its connection say.

/// What a client that knows of HTTP/2 beforehand begins with (RFC 9113 section 3.4). No request of
/// HTTP/1 begins so: `PRI` is reserved.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocols of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// What is spoken, going by the first bytes; `None` as long as they may become a preface.
pub(super) fn spoken(first: &[u8]) -> Option<Spoken> {
    match first.len().min(PREFACE.len()) {
        len if first[..len] != PREFACE[..len] => Some(Spoken::Http1),
        len if len == PREFACE.len() => Some(Spoken::Http2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_is_spoken() {
        assert_eq!(spoken(b"GET / HTTP/1.1\r\n"), Some(Spoken::Http1));
        assert_eq!(spoken(b"POST /publish"), Some(Spoken::Http1));
        assert_eq!(spoken(b"PRI * HTTP/2.0\r\n\r\nXX"), Some(Spoken::Http1));
        for len in 0..PREFACE.len() {
            assert_eq!(spoken(&PREFACE[..len]), None, "{len}");
        }
        assert_eq!(spoken(PREFACE), Some(Spoken::Http2));
        assert_eq!(spoken(&[PREFACE, b"\0\0\0\x04"].concat()), Some(Spoken::Http2));
    }
}
