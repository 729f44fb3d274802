//! Topic names: what clients subscribe and publish to.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

mod path;
mod pattern;

pub use path::{decode_path_segment, topics_in_path};
pub use pattern::{TopicPattern, TopicPatternError};

/// The name of a topic, checked once and cheap to clone.
///
/// 1 to 255 bytes of `A-Z a-z 0-9 . _ - : / @ ~ = +`. Dots and slashes divide it into segments,
/// none of which may be empty; it doesn't begin with `~`. So a name never needs escaping in JSON,
/// never holds a comma (which separates topics in a URL) and never looks like a path that climbs.
///
/// ```
/// use umbel_protocol::Topic;
///
/// assert_eq!(Topic::new("chat.42")?.as_str(), "chat.42");
/// assert_eq!(
///     Topic::new("a..b").unwrap_err().to_string(),
///     "topic name has an empty segment at byte 2",
/// );
/// # Ok::<(), umbel_protocol::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a topic name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Empty,
    TooLong { bytes: usize },
    BadByte { byte: u8, at: usize },
    EmptySegment { at: usize },
    LeadingTilde,
    BadPercent { at: usize },
    NotUtf8,
    None,
}

impl Topic {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Checks a name and takes a copy of it.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        check(name).map_err(TopicError)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `byte` may stand in a topic name.
fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-:/@~=+".contains(&byte)
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'/')
}

fn check(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::Empty);
    }
    if name.len() > Topic::MAX_BYTES {
        return Err(Fault::TooLong { bytes: name.len() });
    }
    if name.starts_with('~') {
        return Err(Fault::LeadingTilde);
    }
    let mut after_separator = true;
    for (at, byte) in name.bytes().enumerate() {
        if !is_topic_byte(byte) {
            return Err(Fault::BadByte { byte, at });
        }
        let separator = is_separator(byte);
        if separator && after_separator {
            return Err(Fault::EmptySegment { at });
        }
        after_separator = separator;
    }
    if after_separator {
        return Err(Fault::EmptySegment { at: name.len() });
    }
    Ok(())
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Empty => f.write_str("topic name is empty"),
            Fault::TooLong { bytes } => {
                write!(f, "topic name is {bytes} bytes, at most {} are allowed", Topic::MAX_BYTES)
            }
            Fault::BadByte { byte, at } => write!(
                f,
                "topic name has '{}' at byte {at}, allowed are letters, digits and . _ - : / @ ~ = +",
                byte.escape_ascii()
            ),
            Fault::EmptySegment { at } => {
                write!(f, "topic name has an empty segment at byte {at}")
            }
            Fault::LeadingTilde => f.write_str("topic name begins with '~'"),
            Fault::BadPercent { at } => {
                write!(f, "path has an incomplete percent-encoding at byte {at}")
            }
            Fault::NotUtf8 => f.write_str("path is not UTF-8 after percent-decoding"),
            Fault::None => f.write_str("no topic is named"),
        }
    }
}

impl std::error::Error for TopicError {}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refuses(name: &str, reason: &str) {
        assert_eq!(Topic::new(name).unwrap_err().to_string(), reason, "{name:?}");
    }

    #[test]
    fn names_of_every_allowed_shape_pass() {
        for name in [
            "a",
            "news",
            "chat.42",
            "a/b/c",
            "user:7@example",
            "x=1+2",
            "a~b",
            "A_Z-0",
            "a.b/c.d",
            &"n".repeat(255),
        ] {
            assert_eq!(Topic::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        refuses("", "topic name is empty");
        refuses(&"n".repeat(312), "topic name is 312 bytes, at most 255 are allowed");
        refuses("~x", "topic name begins with '~'");
        for (name, at) in [
            (".a", 0),
            ("/a", 0),
            ("a.", 2),
            ("a/", 2),
            ("a..b", 2),
            ("a//b", 2),
            ("a./b", 2),
            (".", 0),
            ("..", 0),
            ("a/../b", 2),
            ("a/./b", 2),
        ] {
            refuses(name, &format!("topic name has an empty segment at byte {at}"));
        }
        let allowed = "allowed are letters, digits and . _ - : / @ ~ = +";
        refuses("a b", &format!("topic name has ' ' at byte 1, {allowed}"));
        refuses("a,b", &format!("topic name has ',' at byte 1, {allowed}"));
        refuses("a\r\n", &format!("topic name has '\\r' at byte 1, {allowed}"));
        refuses("a\0", &format!("topic name has '\\x00' at byte 1, {allowed}"));
        refuses("ch*", &format!("topic name has '*' at byte 2, {allowed}"));
        refuses("caf\u{e9}", &format!("topic name has '\\xc3' at byte 3, {allowed}"));
        refuses("\u{ff41}", &format!("topic name has '\\xef' at byte 0, {allowed}"));
        refuses("!probe", &format!("topic name has '!' at byte 0, {allowed}"));
    }

    proptest! {
        #[test]
        fn any_string_is_taken_whole_or_refused(name in ".{0,300}") {
            if let Ok(topic) = Topic::new(&name) {
                prop_assert_eq!(topic.as_str(), &name);
                prop_assert!(name.len() <= Topic::MAX_BYTES);
                prop_assert!(name.split(['.', '/']).all(|segment| !segment.is_empty()));
            }
        }

        #[test]
        fn names_of_allowed_segments_pass(segments in prop::collection::vec("[A-Za-z0-9_:@=+-]{1,8}", 1..8), slash: bool) {
            let name = segments.join(if slash { "/" } else { "." });
            prop_assert!(Topic::new(&name).is_ok());
        }
    }
}
