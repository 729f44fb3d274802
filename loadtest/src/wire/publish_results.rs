//! The answer to a publish request: a line `{"topic":"bench.0","id":"…"}` for each message, in their order.
//!
//! Lines with an `error` instead, and ids that are `null` since the topic keeps no history, have no id.

use memchr::memmem;

use crate::wire::message_id::MessageId;

const ID: &[u8] = b"\"id\":\"";

/// The lines of an answer's body.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The id that a line gives to its message.
#[inline]
pub fn id_of(line: &[u8]) -> Option<MessageId> {
    let start = memmem::find(line, ID)? + ID.len();
    let length = line[start..].iter().position(|byte| *byte == b'"')?;
    MessageId::parse(&line[start..start + length])
}

/// The id of the last message of an answer.
pub fn last_id(body: &[u8]) -> Option<MessageId> {
    let body = body.trim_ascii_end();
    let start = memchr::memrchr(b'\n', body).map_or(0, |end| end + 1);
    id_of(&body[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "{\"topic\":\"a\",\"id\":\"00000000000000ab-1\"}\n\
                          {\"topic\":\"a\",\"id\":\"00000000000000ab-2\"}\n";

    #[test]
    fn each_line_has_its_id() {
        let ids: Vec<_> = lines(ANSWER.as_bytes()).map(id_of).collect();
        let id = |offset| Some(MessageId { epoch: 0xab, offset });
        assert_eq!(ids, [id(1), id(2)]);
        assert_eq!(last_id(ANSWER.as_bytes()), id(2));
        assert_eq!(last_id(ANSWER.trim_end().as_bytes()), id(2));
    }

    #[test]
    fn a_line_without_an_id_has_none() {
        for line in [
            r#"{"topic":"a","id":null}"#,
            r#"{"topic":"a","error":"no","status":403}"#,
            r#"{"topic":"a","id":"x"}"#,
            r#"{"topic":"a","id":"00000000000000ab-1"#,
            "",
        ] {
            assert_eq!(id_of(line.as_bytes()), None, "{line}");
        }
        assert_eq!(last_id(b""), None);
        assert_eq!(lines(b"\n\n").count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (lines(&bytes).map(id_of).count(), last_id(&bytes));
        }
    }
}
