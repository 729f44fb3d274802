//! A value before it is a setting.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::de::DeValue;

/// What a source gave for a setting.
#[derive(Debug)]
pub(super) enum Value<'v> {
    /// A TOML string.
    Text(&'v str),
    /// A TOML boolean.
    Flag(bool),
    /// A TOML integer; `None` beyond 64 bits.
    Integer(Option<i64>),
    /// Text from a variable or flag, which may stand for any type.
    Untyped(&'v str),
    /// Something else, with its name.
    Other(&'static str),
}

impl<'v> Value<'v> {
    pub(super) fn of(value: &'v DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Boolean(flag) => Self::Flag(*flag),
            DeValue::Integer(integer) => {
                Self::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            other => Self::Other(other.type_str()),
        }
    }

    /// The value as TOML has it. Text that stands for any type is written like `default`.
    pub(super) fn as_toml(&self, default: &str) -> String {
        match self {
            Self::Untyped(text) if !default.starts_with('"') => (*text).to_owned(),
            // JSON's escapes are all TOML's too.
            Self::Text(text) | Self::Untyped(text) => serde_json::Value::from(*text).to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(Some(number)) => number.to_string(),
            Self::Integer(None) | Self::Other(_) => {
                unreachable!("no setting takes what this can't show")
            }
        }
    }

    /// The text, or what should have been there.
    pub(super) fn text(&self, wanted: &str) -> Result<&'v str, String> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Ok(text),
            Self::Integer(_) => Err(format!("must be a string, {wanted}, not an integer")),
            Self::Flag(_) => Err(format!("must be a string, {wanted}, not a boolean")),
            Self::Other(other) => Err(format!("must be a string, {wanted}, not a {other}")),
        }
    }

    pub(super) fn address(&self) -> Result<SocketAddr, String> {
        let wanted = "an address and port such as \"127.0.0.1:8080\"";
        let text = self.text(wanted)?;
        text.parse().map_err(|_| format!("`{text}` is not {wanted}"))
    }

    pub(super) fn count(&self, range: &RangeInclusive<u64>) -> Result<u64, String> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let (number, shown) = match self {
            Self::Integer(Some(number)) => (u64::try_from(*number).ok(), number.to_string()),
            Self::Integer(None) => (None, "the number".to_owned()),
            Self::Untyped(text) => (text.parse().ok(), format!("`{text}`")),
            Self::Text(_) => return Err(format!("must be {wanted}, not a string")),
            Self::Flag(_) => return Err(format!("must be {wanted}, not a boolean")),
            Self::Other(other) => return Err(format!("must be {wanted}, not a {other}")),
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{shown} is not {wanted}"))
    }

    pub(super) fn flag(&self) -> Result<bool, String> {
        match self {
            Self::Flag(flag) => Ok(*flag),
            Self::Untyped("true") => Ok(true),
            Self::Untyped("false") => Ok(false),
            Self::Untyped(text) => Err(format!("`{text}` is neither true nor false")),
            Self::Text(_) => Err("must be true or false, not a string".to_owned()),
            Self::Integer(_) => Err("must be true or false, not an integer".to_owned()),
            Self::Other(other) => Err(format!("must be true or false, not a {other}")),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, String> {
        let names: Vec<_> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let wanted = format!("one of {}", names.join(", "));
        let text = self.text(&wanted)?;
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => Err(format!("\"{text}\" is not {wanted}")),
        }
    }
}
