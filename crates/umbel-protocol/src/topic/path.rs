//! Topics in the path of a URL.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Fault, Topic, TopicError};

/// The topics that a path segment names: percent-decoded exactly once, then split at `,`.
///
/// `segment` is what stands behind `/topics/` as the client sent it. A slash of a topic is written
/// `%2F` there. A topic named twice counts once. Order is kept.
///
/// ```
/// use umbel_protocol::topics_in_path;
///
/// let topics = topics_in_path("chat.42,feeds%2Fnews")?;
/// assert_eq!(topics[1].as_str(), "feeds/news");
/// assert!(topics_in_path("a%252Fb").is_err(), "decoded once, `%` is left and not allowed");
/// # Ok::<(), umbel_protocol::TopicError>(())
/// ```
pub fn topics_in_path(segment: &str) -> Result<Vec<Topic>, TopicError> {
    let decoded = decode_path_segment(segment)?;
    if decoded.is_empty() {
        return Err(TopicError(Fault::None));
    }
    let (mut topics, mut known) = (Vec::new(), HashSet::new());
    for name in decoded.split(',') {
        let topic = Topic::new(name)?;
        if known.insert(topic.clone()) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

/// One segment of a path, percent-decoded exactly once.
pub fn decode_path_segment(segment: &str) -> Result<Cow<'_, str>, TopicError> {
    if let Some(at) = incomplete_percent(segment.as_bytes()) {
        return Err(TopicError(Fault::BadPercent { at }));
    }
    percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| TopicError(Fault::NotUtf8))
}

/// Where a `%` stands that two hexadecimal digits don't follow (RFC 3986 section 2.1).
fn incomplete_percent(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'%', bytes).find(|&at| {
        !matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn names(segment: &str, expected: &[&str]) {
        let topics = topics_in_path(segment).unwrap();
        assert_eq!(topics.iter().map(Topic::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_several_and_encoded_topics_are_read() {
        names("news", &["news"]);
        names("a,b,c", &["a", "b", "c"]);
        names("a%2Cb", &["a", "b"]);
        names("a%2Fb", &["a/b"]);
        names("user%3A7", &["user:7"]);
        names("a+b", &["a+b"]);
        names("b,a,b", &["b", "a"]);
    }

    #[test]
    fn what_is_not_a_list_of_topics_is_refused() {
        for segment in [
            "",
            ",",
            "a,",
            ",a",
            "a,,b",
            "%",
            "%2",
            "%zz",
            "a%252Fb",
            "%ff",
            "a%00",
            "a%20b",
            "%2e%2e",
            "a%2F..%2Fb",
        ] {
            assert!(topics_in_path(segment).is_err(), "{segment:?}");
        }
        assert_eq!(
            topics_in_path("ab%4").unwrap_err().to_string(),
            "path has an incomplete percent-encoding at byte 2"
        );
        assert_eq!(topics_in_path("").unwrap_err().to_string(), "no topic is named");
    }

    proptest! {
        #[test]
        fn never_panics(segment in ".{0,80}") {
            let _ = topics_in_path(&segment);
        }

        #[test]
        fn encoding_every_byte_changes_nothing(names in prop::collection::btree_set("[a-z0-9:@=+-][a-z0-9:@~=+-]{0,8}(/[a-z]{1,3})?", 1..6)) {
            let joined = names.iter().cloned().collect::<Vec<_>>().join(",");
            let encoded: Vec<_> = joined.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let encoded = encoded.concat();
            let read = topics_in_path(&encoded).unwrap();
            prop_assert_eq!(read.iter().map(|t| t.as_str().to_owned()).collect::<Vec<_>>(), names.into_iter().collect::<Vec<_>>());
        }
    }
}
