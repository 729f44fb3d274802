//! Words of a script that have a form.

use serde::Deserialize;

/// A text of at least one character.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NotEmpty(pub(super) String);

impl NotEmpty {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NotEmpty {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Err("what is looked for must not be empty") } else { Ok(Self(text)) }
    }
}

/// The name and value of one header.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Header(pub(super) String);

impl TryFrom<String> for Header {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let has_name = text.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !has_name || text.contains(['\r', '\n']) {
            return Err(format!("header {text:?} must be a line `Name: value`"));
        }
        Ok(Self(text))
    }
}

/// The path of a request.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Path(pub(super) String);

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("path {text:?} must begin with `/` and have no spaces"));
        }
        Ok(Self(text))
    }
}
