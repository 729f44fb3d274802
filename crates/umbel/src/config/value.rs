//! A value before it is a setting.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::de::DeValue;

/// What a source gave for a setting.
#[derive(Debug)]
pub(super) enum Value<'v> {
    /// A TOML string.
    Text(&'v str),
    /// A TOML integer; `None` beyond 64 bits.
    Integer(Option<i64>),
    /// A TOML number with a fraction, as it is written.
    Float(&'v str),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings.
    Texts(Vec<&'v str>),
    /// Text from a variable or flag, which may stand for any type.
    Untyped(&'v str),
    /// Something else, with its name.
    Other(&'static str),
}

impl<'v> Value<'v> {
    pub(super) fn of(value: &'v DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Integer(integer) => {
                Self::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            DeValue::Float(float) => Self::Float(float.as_str()),
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Array(items) => {
                match items.iter().map(|item| item.get_ref().as_str()).collect() {
                    Some(texts) => Self::Texts(texts),
                    None => Self::Other("array of other things than strings"),
                }
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
            Self::Float(number) => (*number).to_owned(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::Texts(texts) => serde_json::Value::from(texts.clone()).to_string(),
            Self::Integer(Some(number)) => number.to_string(),
            Self::Integer(None) | Self::Other(_) => {
                unreachable!("no setting takes what this can't show")
            }
        }
    }

    /// What it is, with its article.
    fn type_name(&self) -> String {
        match self {
            Self::Text(_) | Self::Untyped(_) => "a string".to_owned(),
            Self::Integer(_) => "an integer".to_owned(),
            Self::Float(_) => "a float".to_owned(),
            Self::Boolean(_) => "a boolean".to_owned(),
            Self::Texts(_) => "an array".to_owned(),
            Self::Other(other) if other.starts_with('a') => format!("an {other}"),
            Self::Other(other) => format!("a {other}"),
        }
    }

    /// The text, or what should have been there.
    pub(super) fn text(&self, wanted: &str) -> Result<&'v str, String> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Ok(text),
            other => Err(format!("must be a string, {wanted}, not {}", other.type_name())),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(boolean) => Ok(*boolean),
            Self::Untyped("true") => Ok(true),
            Self::Untyped("false") => Ok(false),
            Self::Untyped(text) => Err(format!("`{text}` is neither true nor false")),
            other => Err(format!("must be true or false, not {}", other.type_name())),
        }
    }

    /// Several texts. A variable has them between commas.
    pub(super) fn texts(&self, wanted: &str) -> Result<Vec<&'v str>, String> {
        match self {
            Self::Texts(texts) => Ok(texts.clone()),
            Self::Text(text) => Ok(vec![text]),
            Self::Untyped(text) if text.trim_ascii().is_empty() => Ok(Vec::new()),
            Self::Untyped(text) => Ok(text.split(',').map(str::trim_ascii).collect()),
            other => Err(format!("must be {wanted}, not {}", other.type_name())),
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
            other => return Err(format!("must be {wanted}, not {}", other.type_name())),
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{shown} is not {wanted}"))
    }

    /// A number that may have a fraction.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Result<f64, String> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        let text = match self {
            Self::Integer(Some(number)) => &number.to_string(),
            Self::Integer(None) => "the number",
            Self::Float(text) | Self::Untyped(text) => *text,
            other => return Err(format!("must be {wanted}, not {}", other.type_name())),
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("`{text}` is not {wanted}"))
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
