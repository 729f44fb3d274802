//! A text of a script with what stands in it for a message.

use crate::work::script::{PAYLOAD, TOPIC};

/// What stands for the number of a payload's bytes.
const BYTES: &str = "{bytes}";

/// A text for one topic, in which only payloads are missing.
pub(super) struct Text {
    /// What is between the payloads.
    parts: Vec<String>,
}

impl Text {
    /// `text` for `topic` and payloads of `size` bytes.
    pub(super) fn new(text: &str, topic: &str, size: usize) -> Self {
        let fill = |part: &str| part.replace(TOPIC, topic).replace(BYTES, &size.to_string());
        Self { parts: text.split(PAYLOAD).map(fill).collect() }
    }

    /// How long it is with payloads of `size` bytes.
    pub(super) fn length(&self, size: usize) -> usize {
        self.parts.iter().map(String::len).sum::<usize>() + (self.parts.len() - 1) * size
    }

    /// Appends it with the payload that `write_payload` appends.
    pub(super) fn write(&self, out: &mut Vec<u8>, mut write_payload: impl FnMut(&mut Vec<u8>)) {
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                write_payload(out);
            }
            out.extend_from_slice(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_size_and_payload_come_where_they_are_named() {
        for (text, expected) in [
            ("PUB {topic} {bytes}\r\n{payload}\r\n", "PUB a 2\r\nhi\r\n"),
            ("{payload}{payload}{topic}", "hihia"),
            ("{\"x\":{}}", "{\"x\":{}}"),
            ("", ""),
        ] {
            let (text, mut out) = (Text::new(text, "a", 2), Vec::new());
            text.write(&mut out, |out| out.extend_from_slice(b"hi"));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(text.length(2), expected.len());
        }
    }
}
