//! Ids of messages with history, `<epoch>-<offset>`: 16 hexadecimal digits and a decimal number.

use std::fmt;

/// The place of a message in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    /// Which life of the topic it is of.
    pub epoch: u64,
    /// Its number in it.
    pub offset: u64,
}

impl MessageId {
    /// The id that `text` is, if it is one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (epoch, rest) = text.split_first_chunk::<16>()?;
        let digits = |bytes: &[u8], radix: u32| {
            let text = std::str::from_utf8(bytes).ok()?;
            let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(text, radix).ok().filter(|_| plain)
        };
        Some(Self { epoch: digits(epoch, 16)?, offset: digits(rest.strip_prefix(b"-")?, 10)? })
    }

    /// Whether it is of the message right behind the one of `other`.
    pub fn follows(self, other: Self) -> bool {
        self.epoch == other.epoch && other.offset.checked_add(1) == Some(self.offset)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_id_is_none() {
        for text in ["", "0", "00000000000000ab", "00000000000000ab-", "+0000000000000ab-1"] {
            assert_eq!(MessageId::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["00000000000000ab-+1", "00000000000000ab-f", "00000000000000ab-1 "] {
            assert_eq!(MessageId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn only_the_next_of_the_same_epoch_follows() {
        let id = |epoch, offset| MessageId { epoch, offset };
        assert!(id(1, 8).follows(id(1, 7)));
        for other in [id(1, 6), id(1, 8), id(2, 7), id(1, u64::MAX)] {
            assert!(!id(1, 8).follows(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_id_comes_back(epoch: u64, offset: u64) {
            let id = MessageId { epoch, offset };
            prop_assert_eq!(MessageId::parse(id.to_string().as_bytes()), Some(id));
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = MessageId::parse(&bytes);
        }
    }
}
