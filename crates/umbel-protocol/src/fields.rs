//! Fields that the commands of sessions and the body of `POST /publish` have in common.

use std::borrow::Cow;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Payload;

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Reads a field that is there as `Some`, even if it is `null`: a payload may be `null`.
pub(crate) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The payload, of which exactly one spelling must be given.
pub(crate) fn payload(
    data: Option<&RawValue>,
    text: Option<Text<'_>>,
    base64: Option<Text<'_>>,
) -> Result<Payload, String> {
    match (data, text, base64) {
        (Some(data), None, None) => Payload::parsed_json(data).map_err(|error| error.to_string()),
        (None, Some(text), None) => Ok(Payload::text(text.0.into_owned())),
        (None, None, Some(base64)) => match BASE64.decode(base64.as_bytes()) {
            Ok(bytes) => Ok(Payload::binary(bytes)),
            Err(error) => Err(format!("`base64` can't be decoded: {error}")),
        },
        (None, None, None) => {
            Err("a payload is missing: one of `data`, `text`, `base64`".to_owned())
        }
        _ => Err("more than one of `data`, `text`, `base64` is given".to_owned()),
    }
}
