//! What a message carries: bytes of a known kind.

use std::fmt;

use bytes::Bytes;
use serde::de::IgnoredAny;

/// The kind of a payload. It decides the WebSocket opcode and how the JSON and SSE dialects
/// carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadKind {
    /// UTF-8 text: a text frame, `"text"` in JSON, `data:` lines in SSE.
    Text,
    /// One JSON value: a text frame, `"data"` in JSON, `data:` lines in SSE.
    Json,
    /// Any bytes: a binary frame, `"base64"` in JSON, an `umbel.base64` event in SSE.
    Binary,
}

/// Bytes of a known kind. Text is valid UTF-8; JSON is one valid value, nested at most
/// [`Payload::MAX_NESTING`] deep.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    kind: PayloadKind,
    bytes: Bytes,
}

/// Why bytes can't be a payload of the kind that was declared.
#[derive(Debug)]
pub struct PayloadError(Fault);

#[derive(Debug)]
enum Fault {
    NotUtf8 { at: usize },
    NotJson(serde_json::Error),
    NotObject(serde_json::Error),
    TooDeep,
}

impl Payload {
    /// How deep JSON may be nested. Deeper values are refused, since many a subscriber's parser
    /// recurses.
    pub const MAX_NESTING: usize = 128;

    /// Takes `bytes` as `kind`, which they must be.
    pub fn new(kind: PayloadKind, bytes: Bytes) -> Result<Self, PayloadError> {
        match kind {
            PayloadKind::Text => check_utf8(&bytes)?,
            PayloadKind::Json => check_json(&bytes)?,
            PayloadKind::Binary => {}
        }
        Ok(Self { kind, bytes })
    }

    /// Finds the kind of bytes whose publisher didn't say it.
    ///
    /// A JSON object or array is JSON; other UTF-8 is text, so that `42` and `true` from a shell
    /// stay the text that was typed; all else is binary.
    pub fn sniffed(bytes: Bytes) -> Self {
        let kind = if std::str::from_utf8(&bytes).is_err() {
            PayloadKind::Binary
        } else if looks_like_json(&bytes) && check_json(&bytes).is_ok() {
            PayloadKind::Json
        } else {
            PayloadKind::Text
        };
        Self { kind, bytes }
    }

    /// Takes a string as text.
    pub fn text(text: String) -> Self {
        Self { kind: PayloadKind::Text, bytes: text.into() }
    }

    /// Takes any bytes as binary.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self { kind: PayloadKind::Binary, bytes: bytes.into() }
    }

    /// Takes JSON whose grammar a parser has checked; only its depth is still to be seen.
    pub(crate) fn parsed_json(value: &serde_json::value::RawValue) -> Result<Self, PayloadError> {
        let bytes = Bytes::copy_from_slice(value.get().as_bytes());
        check_nesting(&bytes)?;
        Ok(Self { kind: PayloadKind::Json, bytes })
    }

    /// The same bytes as another kind, if they are that.
    pub fn into_kind(self, kind: PayloadKind) -> Result<Self, PayloadError> {
        match (self.kind, kind) {
            (from, to) if from == to => Ok(self),
            // JSON is text, and anything is binary.
            (PayloadKind::Json, PayloadKind::Text) | (_, PayloadKind::Binary) => {
                Ok(Self { kind, ..self })
            }
            _ => Self::new(kind, self.bytes),
        }
    }

    /// A JSON object of whatever kind, with these members in the place of its own of the same
    /// names ([`crate::json::with_members`]). It stays of its kind.
    pub fn with_members(self, members: &[(&str, String)]) -> Result<Self, PayloadError> {
        let text = std::str::from_utf8(&self.bytes)
            .map_err(|error| PayloadError(Fault::NotUtf8 { at: error.valid_up_to() }))?;
        let object = crate::json::with_members(text, members)
            .map_err(|error| PayloadError(Fault::NotObject(error)))?;
        Ok(Self { kind: self.kind, bytes: object.into() })
    }

    /// The kind.
    pub fn kind(&self) -> PayloadKind {
        self.kind
    }

    /// The bytes, exactly as they were published.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The text of a payload that isn't binary.
    pub fn as_str(&self) -> Option<&str> {
        match self.kind {
            PayloadKind::Binary => None,
            PayloadKind::Text | PayloadKind::Json => Some(
                std::str::from_utf8(&self.bytes).expect("text and JSON were checked when built"),
            ),
        }
    }
}

fn check_utf8(bytes: &[u8]) -> Result<(), PayloadError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(PayloadError(Fault::NotUtf8 { at: error.valid_up_to() })),
    }
}

fn check_json(bytes: &[u8]) -> Result<(), PayloadError> {
    check_utf8(bytes)?;
    serde_json::from_slice::<IgnoredAny>(bytes)
        .map_err(|error| PayloadError(Fault::NotJson(error)))?;
    check_nesting(bytes)
}

/// Counts brackets outside of strings. The bytes are known to be valid JSON.
fn check_nesting(json: &[u8]) -> Result<(), PayloadError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > Payload::MAX_NESTING {
                    return Err(PayloadError(Fault::TooDeep));
                }
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

fn looks_like_json(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

impl PayloadKind {
    /// The kind's name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.as_str(), self.bytes.escape_ascii())
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::NotUtf8 { at } => write!(f, "payload is not UTF-8 at byte {at}"),
            Fault::NotJson(error) => write!(f, "payload is not JSON: {error}"),
            Fault::NotObject(error) => write!(f, "payload is not a JSON object: {error}"),
            Fault::TooDeep => {
                write!(f, "payload is nested deeper than {} levels", Payload::MAX_NESTING)
            }
        }
    }
}

impl std::error::Error for PayloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Fault::NotJson(error) | Fault::NotObject(error) => Some(error),
            Fault::NotUtf8 { .. } | Fault::TooDeep => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sniff(bytes: &'static [u8]) -> PayloadKind {
        Payload::sniffed(Bytes::from_static(bytes)).kind()
    }

    fn nested(levels: usize) -> Bytes {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels)).into()
    }

    #[test]
    fn objects_and_arrays_are_json_other_text_is_text_the_rest_is_binary() {
        for json in [&b"{\"a\":1}"[..], b"[]", b" \n{}\n"] {
            assert_eq!(sniff(json), PayloadKind::Json);
        }
        for text in [
            &b""[..],
            b"hello",
            b"42",
            b"true",
            b"\"quoted\"",
            b"{not json",
            b"[1,",
            b"{}{}",
            "gr\u{fc}n".as_bytes(),
        ] {
            assert_eq!(sniff(text), PayloadKind::Text);
        }
        assert_eq!(sniff(b"\xff\x00"), PayloadKind::Binary);
    }

    #[test]
    fn a_declared_kind_is_checked() {
        let error = |kind, bytes: &'static [u8]| {
            Payload::new(kind, Bytes::from_static(bytes)).unwrap_err().to_string()
        };
        assert_eq!(error(PayloadKind::Text, b"ab\xffc"), "payload is not UTF-8 at byte 2");
        assert_eq!(error(PayloadKind::Json, b"{\"a\":\xff}"), "payload is not UTF-8 at byte 5");
        assert!(
            error(PayloadKind::Json, b"{\"a\":}")
                .starts_with("payload is not JSON: expected value at line 1")
        );
        assert!(Payload::new(PayloadKind::Binary, Bytes::from_static(b"\xff")).is_ok());
        assert!(
            Payload::new(PayloadKind::Json, Bytes::from_static(b"42")).is_ok(),
            "a declared scalar is JSON"
        );
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        assert!(Payload::new(PayloadKind::Json, nested(128)).is_ok());
        let error = Payload::new(PayloadKind::Json, nested(129)).unwrap_err();
        assert_eq!(error.to_string(), "payload is nested deeper than 128 levels");
        assert!(Payload::new(PayloadKind::Json, nested(10_000)).is_err());
        assert_eq!(Payload::sniffed(nested(10_000)).kind(), PayloadKind::Text);
        let text = format!(r#"["{}\"[[","\\"]"#, "[".repeat(500));
        assert!(Payload::new(PayloadKind::Json, text.into()).is_ok());
    }

    #[test]
    fn kinds_convert_where_the_bytes_allow_it() {
        let json = || Payload::new(PayloadKind::Json, Bytes::from_static(b"{}")).unwrap();
        assert_eq!(json().into_kind(PayloadKind::Text).unwrap().kind(), PayloadKind::Text);
        assert_eq!(json().into_kind(PayloadKind::Binary).unwrap().kind(), PayloadKind::Binary);
        assert_eq!(
            Payload::text("[1]".into()).into_kind(PayloadKind::Json).unwrap().kind(),
            PayloadKind::Json
        );
        assert!(Payload::text("no".into()).into_kind(PayloadKind::Json).is_err());
        assert!(Payload::binary(&b"\xff"[..]).into_kind(PayloadKind::Text).is_err());
    }

    #[test]
    fn members_are_set_whatever_the_kind() {
        let members = [("id", "7".to_owned())];
        for payload in [Payload::text("{}".into()), Payload::binary(&b"{}"[..])] {
            let kind = payload.kind();
            let stamped = payload.with_members(&members).unwrap();
            assert_eq!((stamped.kind(), &stamped.bytes()[..]), (kind, &b"{\"id\":7}"[..]));
        }
        let error = |payload: Payload| payload.with_members(&members).unwrap_err().to_string();
        assert!(error(Payload::text("[]".into())).starts_with("payload is not a JSON object: "));
        assert_eq!(error(Payload::binary(&b"\xff"[..])), "payload is not UTF-8 at byte 0");
    }

    proptest! {
        #[test]
        fn a_sniffed_payload_is_what_it_says_and_keeps_its_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let payload = Payload::sniffed(bytes.clone().into());
            prop_assert_eq!(&payload.bytes()[..], &bytes[..]);
            prop_assert!(Payload::new(payload.kind(), bytes.into()).is_ok());
        }
    }
}
