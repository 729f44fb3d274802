//! Patterns over topic names, by which the operator's rules say what they are about.

use std::cmp::Ordering;
use std::fmt;

use super::is_topic_byte;

/// A pattern over topic names, such as `chat.*` or `feeds.**`.
///
/// Dots divide it into segments. `*` stands for exactly one segment, `**` (last only) for one or
/// more; every other segment is literal. A slash is no divider here: `*` matches `a/b`.
///
/// ```
/// use umbel_protocol::TopicPattern;
///
/// let rooms: TopicPattern = "chat.*".parse()?;
/// assert!(rooms.matches("chat.42"));
/// assert!(!rooms.matches("chat.42.typing"));
/// # Ok::<(), umbel_protocol::TopicPatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    One,
    Rest,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPatternError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    EmptySegment { at: usize },
    RestNotLast { at: usize },
    PartialWildcard { at: usize },
    BadByte { byte: u8, at: usize },
}

impl TopicPattern {
    /// Whether a topic of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = name.split('.');
        for segment in &self.segments {
            let Some(part) = parts.next() else {
                return false;
            };
            match segment {
                Segment::Literal(literal) if **literal != *part => return false,
                Segment::Literal(_) | Segment::One => {}
                Segment::Rest => return true,
            }
        }
        parts.next().is_none()
    }

    /// Orders patterns by how closely they describe a topic; the greater one decides.
    ///
    /// More literal segments win. Among equals a pattern without `**` wins over one with, and then
    /// the one with more `*`, so that of two nested patterns the inner one always wins. Patterns
    /// that are equal here and overlap ([`TopicPattern::overlaps`]) leave it open which one is
    /// meant: a configuration must not hold both.
    pub fn compare_closeness(&self, other: &Self) -> Ordering {
        self.closeness().cmp(&other.closeness())
    }

    fn closeness(&self) -> (usize, bool, usize) {
        let count =
            |wanted: fn(&Segment) -> bool| self.segments.iter().filter(|s| wanted(s)).count();
        (
            count(|s| matches!(s, Segment::Literal(_))),
            !self.segments.contains(&Segment::Rest),
            count(|s| matches!(s, Segment::One)),
        )
    }

    /// Whether some topic name matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        overlaps(&self.segments, &other.segments)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn overlaps(left: &[Segment], right: &[Segment]) -> bool {
    match (left, right) {
        ([], []) => true,
        ([], _) | (_, []) => false,
        // One or more segments on both sides: the other's first segment can always be met.
        ([Segment::Rest, ..], _) | (_, [Segment::Rest, ..]) => true,
        ([Segment::Literal(a), ..], [Segment::Literal(b), ..]) if a != b => false,
        ([_, left @ ..], [_, right @ ..]) => overlaps(left, right),
    }
}

impl std::str::FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut segments = Vec::new();
        let mut at = 0;
        for part in text.split('.') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(TopicPatternError(Fault::RestNotLast { at: at - 3 }));
            }
            segments.push(segment(part, at).map_err(TopicPatternError)?);
            at += part.len() + 1;
        }
        Ok(Self { text: text.into(), segments: segments.into() })
    }
}

fn segment(part: &str, at: usize) -> Result<Segment, Fault> {
    match part {
        "" => Err(Fault::EmptySegment { at }),
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        _ if part.contains('*') => Err(Fault::PartialWildcard { at }),
        _ => match part.bytes().position(|byte| !is_topic_byte(byte)) {
            Some(i) => Err(Fault::BadByte { byte: part.as_bytes()[i], at: at + i }),
            None => Ok(Segment::Literal(part.into())),
        },
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for TopicPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::EmptySegment { at } => write!(f, "pattern has an empty segment at byte {at}"),
            Fault::RestNotLast { at } => {
                write!(f, "pattern has `**` at byte {at}, it may only stand last")
            }
            Fault::PartialWildcard { at } => write!(
                f,
                "pattern has `*` inside the segment at byte {at}, it must be a segment of its own"
            ),
            Fault::BadByte { byte, at } => write!(
                f,
                "pattern has '{}' at byte {at}, allowed are letters, digits and . _ - : / @ ~ = + *",
                byte.escape_ascii()
            ),
        }
    }
}

impl std::error::Error for TopicPatternError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> TopicPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_one_or_more() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("news", &["news"], &["new", "news.a", "newsa"]),
            ("chat.*", &["chat.1", "chat.a/b"], &["chat", "chat.1.2", "chats.1"]),
            ("chat.**", &["chat.1", "chat.1.2.3"], &["chat", "chats.1"]),
            ("*.state", &["game.state"], &["state", "game.x.state"]),
            ("game.*.state", &["game.7.state"], &["game.state", "game.7.8.state"]),
            ("*", &["a"], &["a.b"]),
            ("**", &["a", "a.b", "a.b.c"], &[]),
        ];
        for (text, yes, no) in cases {
            for name in *yes {
                assert!(pattern(text).matches(name), "{text} should match {name}");
            }
            for name in *no {
                assert!(!pattern(text).matches(name), "{text} should not match {name}");
            }
        }
    }

    #[test]
    fn malformed_patterns_are_refused_with_their_place() {
        for (text, reason) in [
            ("", "pattern has an empty segment at byte 0"),
            ("a..b", "pattern has an empty segment at byte 2"),
            ("a.**.b", "pattern has `**` at byte 2, it may only stand last"),
            (
                "a.b*",
                "pattern has `*` inside the segment at byte 2, it must be a segment of its own",
            ),
            (
                "***",
                "pattern has `*` inside the segment at byte 0, it must be a segment of its own",
            ),
            (
                "a.b c",
                "pattern has ' ' at byte 3, allowed are letters, digits and . _ - : / @ ~ = + *",
            ),
        ] {
            assert_eq!(text.parse::<TopicPattern>().unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn the_closer_pattern_is_greater() {
        for (closer, wider) in [
            ("chat.lobby", "chat.*"),
            ("chat.*", "chat.**"),
            ("chat.*.*", "chat.*.**"),
            ("chat.*.**", "chat.**"),
            ("*", "**"),
            ("game.*.state", "game.*.*"),
        ] {
            assert_eq!(
                pattern(closer).compare_closeness(&pattern(wider)),
                Ordering::Greater,
                "{closer} {wider}"
            );
        }
    }

    #[test]
    fn overlap_finds_patterns_that_leave_it_open() {
        for (a, b, expected) in [
            ("chat.*", "*.lobby", true),
            ("chat.*", "game.*", false),
            ("a.*.c", "a.b.*", true),
            ("a.*.c", "a.b.d", false),
            ("a.**", "*.b.c", true),
            ("a.**", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<TopicPattern>();
        }

        #[test]
        fn two_patterns_that_match_one_name_overlap(
            a in "([ab]|\\*)(\\.([ab]|\\*)){0,3}(\\.\\*\\*)?",
            b in "([ab]|\\*)(\\.([ab]|\\*)){0,3}(\\.\\*\\*)?",
            name in "[ab](\\.[ab]){0,4}",
        ) {
            let (a, b) = (pattern(&a), pattern(&b));
            if a.matches(&name) && b.matches(&name) {
                prop_assert!(a.overlaps(&b));
            }
        }
    }
}
