//! A message: a payload with what its publisher and the broker said about it.

use std::fmt;
use std::sync::Arc;

use crate::{Payload, Topic, TraceParent};

/// What is published, carried by the broker and fanned out. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Topic,
    /// What it carries.
    pub payload: Payload,
    /// The name of the event, if the publisher gave one.
    pub event: Option<EventName>,
    /// When it was published, by the publishing node's clock.
    pub published: Timestamp,
    /// The session that shall not hear it: set only when echo is off.
    pub origin: Option<SessionId>,
    /// Its place in the topic's history; absent on topics that are live only.
    pub id: Option<MessageId>,
    /// Where in a trace it comes from, if that is recorded. Boxed, since most aren't.
    pub trace: Option<Box<TraceParent>>,
}

/// A message on its way through a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What was published.
    pub message: Message,
    /// When the node received it, in microseconds of the node's own clock, which only its
    /// differences are taken of.
    pub received: u64,
    /// Whether a broker beyond this node carries the payload alone, without what a [`Message`]
    /// says besides, for backends that subscribe there and know no envelope.
    pub bare: bool,
    /// The [life](Stand::life) of the topic that it belongs to; 0 without an id.
    pub life: u64,
}

/// Where a topic with history stands in one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Counts the unbroken rows of messages that the node had of any topic. Within one, offsets
    /// only grow; a gap begins the next. Never 0.
    pub life: u64,
    /// What came last.
    pub position: Position,
}

impl Stand {
    /// Whether a message of this life and offset came later.
    pub fn is_before(&self, life: u64, offset: u64) -> bool {
        (self.life, self.offset()) < (life, offset)
    }

    /// The offset of what came last.
    pub fn offset(&self) -> u64 {
        self.position.offset()
    }
}

/// Microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds since the Unix epoch, as clients get it.
    pub fn as_millis(self) -> u64 {
        self.0 / 1000
    }
}

/// Names one session within a cluster of nodes. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl std::str::FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex_16(text).map(Self).ok_or(ParseSessionIdError)
    }
}

/// A session id that isn't 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseSessionIdError;

impl fmt::Display for ParseSessionIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("session id is not 16 hexadecimal digits")
    }
}

impl std::error::Error for ParseSessionIdError {}

/// The place of a message in its topic's history, written `<epoch>-<offset>`.
///
/// The epoch, 16 hexadecimal digits, is one life of the topic's offsets; the offset counts the
/// messages of that life. An epoch's upper half names the server that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// One life of the topic's offsets.
    pub epoch: u64,
    /// Counts the messages of the topic.
    pub offset: u64,
}

impl MessageId {
    /// The server that began its epoch.
    pub fn server(self) -> u32 {
        server_of(self.epoch)
    }

    /// Appends it as it is written.
    ///
    /// HOT PATH: once per message and encoding, without the machinery of formatting.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut text = [b'-'; 37];
        let (upper, lower) = (self.epoch >> 32, self.epoch & u64::from(u32::MAX));
        text[..8].copy_from_slice(&hex_digits(upper));
        text[8..16].copy_from_slice(&hex_digits(lower));
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = self.offset;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let end = 17 + digits.len() - at;
        text[17..end].copy_from_slice(&digits[at..]);
        out.extend_from_slice(&text[..end]);
    }

    /// Whether it is no message's, but the place of a topic that was never published to.
    pub fn is_before_any_epoch(self) -> bool {
        self.offset == 0 && self.epoch << 32 == 0
    }
}

/// The 8 hexadecimal digits of a number below 2^32, all at once: its half bytes are spread over the
/// bytes of a word, and those above 9 are moved on to the letters.
fn hex_digits(number: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let pairs = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes << 4) & (0x0f * EACH);
    let is_letter = ((halves + 6 * EACH) >> 4) & EACH;
    let digits = halves + u64::from(b'0') * EACH + is_letter * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
}

fn server_of(epoch: u64) -> u32 {
    u32::try_from(epoch >> 32).expect("32 bits are left")
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

/// A message id that isn't `<16 hexadecimal digits>-<decimal offset>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseMessageIdError;

impl fmt::Display for ParseMessageIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message id is not <16 hexadecimal digits>-<offset>")
    }
}

impl std::error::Error for ParseMessageIdError {}

impl std::str::FromStr for MessageId {
    type Err = ParseMessageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once('-').ok_or(ParseMessageIdError)?;
        // One spelling per id: no sign, no leading zeros.
        let canonical = offset == "0" || !offset.starts_with(['0', '+']);
        match (parse_hex_16(epoch), offset.parse()) {
            (Some(epoch), Ok(offset)) if canonical => Ok(Self { epoch, offset }),
            _ => Err(ParseMessageIdError),
        }
    }
}

/// Where a reader of a topic stands: what follows is what comes behind this.
///
/// Written as the id of the last message before it. Before a topic's first message the offset is 0,
/// and the epoch is that of the first message or, as long as there is none, just the server's half:
/// so that it is found out if the server loses what is published next. A client may also write `0`:
/// from the beginning, whichever that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position(pub Option<MessageId>);

impl Position {
    /// Before the first message that a topic ever has.
    pub const START: Self = Self(None);

    /// Where a topic stands that was never published to, on a server.
    pub fn empty(server: u32) -> Self {
        Self(Some(MessageId { epoch: u64::from(server) << 32, offset: 0 }))
    }

    /// Whether a message of this epoch may come next without anything having been lost between.
    pub fn goes_on_in(self, epoch: u64) -> bool {
        match self.0 {
            None => true,
            Some(id) if id.is_before_any_epoch() => id.server() == server_of(epoch),
            Some(id) => id.epoch == epoch,
        }
    }

    /// The offset of the last message before it; 0 before any message.
    pub fn offset(self) -> u64 {
        self.0.map_or(0, |id| id.offset)
    }
}

impl Position {
    /// Appends it as it is written.
    pub fn write(self, out: &mut Vec<u8>) {
        match self.0 {
            Some(id) => id.write(out),
            None => out.push(b'0'),
        }
    }
}

impl From<MessageId> for Position {
    fn from(id: MessageId) -> Self {
        Self(Some(id))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("0"),
        }
    }
}

impl std::str::FromStr for Position {
    type Err = ParseMessageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "0" => Ok(Self::START),
            id => id.parse().map(|id| Self(Some(id))),
        }
    }
}

/// What a publisher names a message by, so that it can send it again without its being published
/// twice: 1 to 255 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Checks a key and takes a copy of it.
    pub fn new(key: &str) -> Result<Self, IdempotencyKeyError> {
        if !(1..=Self::MAX_BYTES).contains(&key.len()) {
            return Err(IdempotencyKeyError::Length { bytes: key.len() });
        }
        match key.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(IdempotencyKeyError::ControlCharacter { at }),
            None => Ok(Self(key.into())),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why an idempotency key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdempotencyKeyError {
    /// It has no bytes or more than [`IdempotencyKey::MAX_BYTES`].
    Length {
        /// How many it has.
        bytes: usize,
    },
    /// It has a control character.
    ControlCharacter {
        /// Where it stands, in bytes.
        at: usize,
    },
}

impl fmt::Display for IdempotencyKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(
                f,
                "idempotency key is {bytes} bytes, 1 to {} are allowed",
                IdempotencyKey::MAX_BYTES
            ),
            Self::ControlCharacter { at } => {
                write!(f, "idempotency key has a control character at byte {at}")
            }
        }
    }
}

impl std::error::Error for IdempotencyKeyError {}

fn parse_hex_16(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 16 || !digits {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// The name of an event: 1 to 128 bytes of UTF-8 without CR, LF and NUL, not beginning with
/// `umbel.`, which names what Umbel itself has to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(Arc<str>);

impl EventName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Checks a name and takes a copy of it.
    pub fn new(name: &str) -> Result<Self, EventNameError> {
        match name {
            "" => Err(EventNameError::Empty),
            _ if name.len() > Self::MAX_BYTES => Err(EventNameError::TooLong { bytes: name.len() }),
            _ if name.starts_with("umbel.") => Err(EventNameError::Reserved),
            _ => match name.bytes().position(|b| matches!(b, b'\r' | b'\n' | b'\0')) {
                Some(at) => Err(EventNameError::ControlByte { byte: name.as_bytes()[at], at }),
                None => Ok(Self(name.into())),
            },
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why an event name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventNameError {
    /// It has no bytes.
    Empty,
    /// It has more than [`EventName::MAX_BYTES`].
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It begins with `umbel.`.
    Reserved,
    /// It has a CR, LF or NUL, which would break an SSE stream.
    ControlByte {
        /// Which one.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
}

impl fmt::Display for EventNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("event name is empty"),
            Self::TooLong { bytes } => write!(
                f,
                "event name is {bytes} bytes, at most {} are allowed",
                EventName::MAX_BYTES
            ),
            Self::Reserved => f.write_str("event names that begin with `umbel.` are reserved"),
            Self::ControlByte { byte, at } => {
                write!(
                    f,
                    "event name has '{}' at byte {at}, CR, LF and NUL are not allowed",
                    byte.escape_ascii()
                )
            }
        }
    }
}

impl std::error::Error for EventNameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn event_names_that_would_break_a_stream_are_refused() {
        for (name, reason) in [
            ("", "event name is empty"),
            ("umbel.gap", "event names that begin with `umbel.` are reserved"),
            ("a\nb", "event name has '\\n' at byte 1, CR, LF and NUL are not allowed"),
            ("a\rb", "event name has '\\r' at byte 1, CR, LF and NUL are not allowed"),
            ("\0", "event name has '\\x00' at byte 0, CR, LF and NUL are not allowed"),
        ] {
            assert_eq!(EventName::new(name).unwrap_err().to_string(), reason);
        }
        assert_eq!(
            EventName::new(&"e".repeat(129)).unwrap_err().to_string(),
            "event name is 129 bytes, at most 128 are allowed"
        );
        assert!(EventName::new("gr\u{fc}n: 1").is_ok());
        assert!(EventName::new("umbelliferous").is_ok());
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = MessageId { epoch: 0xab, offset: 7 };
        assert_eq!(id.to_string(), "00000000000000ab-7");
        for bad in [
            "",
            "-",
            "ab-7",
            "00000000000000AB-7",
            "00000000000000ab-",
            "00000000000000ab-07",
            "00000000000000ab-+7",
            "00000000000000ab--7",
            "00000000000000ab-18446744073709551616",
            "0000000000000+ab-7",
        ] {
            assert_eq!(bad.parse::<MessageId>(), Err(ParseMessageIdError), "{bad}");
        }
    }

    #[test]
    fn the_position_before_any_message_is_0() {
        assert_eq!(Position::START.to_string(), "0");
        assert_eq!("0".parse(), Ok(Position::START));
        assert!("00".parse::<Position>().is_err());
        assert!("".parse::<Position>().is_err());
    }

    #[test]
    fn keys_are_short_and_printable() {
        for (key, reason) in [
            ("", "idempotency key is 0 bytes, 1 to 255 are allowed"),
            (&"k".repeat(256), "idempotency key is 256 bytes, 1 to 255 are allowed"),
            ("a\nb", "idempotency key has a control character at byte 1"),
        ] {
            assert_eq!(IdempotencyKey::new(key).unwrap_err().to_string(), reason);
        }
        assert_eq!(IdempotencyKey::new("gr\u{fc}n 1").unwrap().as_str(), "gr\u{fc}n 1");
    }

    proptest! {
        #[test]
        fn ids_round_trip(epoch: u64, offset: u64) {
            let id = MessageId { epoch, offset };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().parse(), Ok(Position::from(id)));
            let mut written = Vec::new();
            id.write(&mut written);
            prop_assert_eq!(std::str::from_utf8(&written), Ok(&*id.to_string()));
            let session = SessionId(epoch);
            prop_assert_eq!(session.to_string().parse(), Ok(session));
        }

        #[test]
        fn parsing_ids_never_panics(text in ".{0,40}") {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<SessionId>();
            let _ = EventName::new(&text);
            let _ = IdempotencyKey::new(&text);
            let _ = text.parse::<Position>();
        }
    }
}
