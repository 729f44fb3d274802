//! Cursors: how a client says from where on it wants to hear its topics.
//!
//! For one topic that is a [`Position`] or `latest:N`. A stream over several topics with history has
//! a composite cursor: each topic's position, bound to its name and not to its place, so that it
//! also serves a request that names the topics in another order, more of them or fewer.
//!
//! A composite is base64url without padding of
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 1 | salt of the hashes, so that no two topics of a stream share one |
//! | 3 + 8 + 1 to 10, per topic | hash of the name, epoch, offset as unsigned LEB128 |
//!
//! The position before any message is epoch 0 and offset 0. No id and no composite begin alike: an
//! id begins with a lower-case hexadecimal digit, a composite with `A`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use crate::{MessageId, Position, Topic};

/// From where on a subscriber wants the messages of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// What comes behind this.
    Position(Position),
    /// The newest so many that history holds, then what comes.
    Latest(u32),
}

/// From where on a request wants the messages of its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// All of them alike; a position fits one topic only.
    All(After),
    /// Each on its own.
    Composite(Composite),
}

/// The positions of several topics, as they came from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite {
    salt: u8,
    entries: Vec<(NameHash, Position)>,
}

/// What a composite cursor has instead of a topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct NameHash(u32);

/// The topics of a composite cursor that is yet to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositeTopics {
    salt: u8,
    hashes: Box<[NameHash]>,
}

/// Why a text isn't a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorError(Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    TooLong { bytes: usize },
    Form,
    Latest,
    Base64,
    Version { version: u8 },
    Truncated,
    LongOffset,
    Doubled,
}

const VERSION: u8 = 1;

/// What one topic takes in a composite at most, in bytes.
const MAX_ENTRY_BYTES: usize = 3 + 8 + 10;

impl After {
    /// Reads what a client may ask for a single topic: `0`, an id, or `latest:N`.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        match text.strip_prefix("latest:") {
            Some(count) => latest(count).map(Self::Latest),
            None => match text.parse() {
                Ok(position) => Ok(Self::Position(position)),
                Err(_) if text.len() > Cursor::MAX_BYTES => Err(too_long(text)),
                Err(_) => Err(CursorError(Fault::Form)),
            },
        }
    }
}

impl Cursor {
    /// The longest cursor, in bytes: several proxies refuse headers of 8 KiB.
    pub const MAX_BYTES: usize = 4096;

    /// Reads any cursor.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        match text.as_bytes().first() {
            _ if text.len() > Self::MAX_BYTES => Err(too_long(text)),
            Some(b'A') => Composite::parse(text).map(Self::Composite).map_err(CursorError),
            _ => After::parse(text).map(Self::All),
        }
    }
}

fn too_long(text: &str) -> CursorError {
    CursorError(Fault::TooLong { bytes: text.len() })
}

/// A count in its one spelling.
fn latest(count: &str) -> Result<u32, CursorError> {
    let canonical = count == "0" || !count.starts_with(['0', '+']);
    match count.parse() {
        Ok(count) if canonical => Ok(count),
        _ => Err(CursorError(Fault::Latest)),
    }
}

impl Composite {
    fn parse(text: &str) -> Result<Self, Fault> {
        let bytes = BASE64URL.decode(text).map_err(|_| Fault::Base64)?;
        let (&[version, salt], mut rest) = bytes.split_first_chunk().ok_or(Fault::Truncated)?;
        if version != VERSION {
            return Err(Fault::Version { version });
        }
        let mut entries = Vec::new();
        while let Some((hash, after)) = rest.split_first_chunk::<3>() {
            let (epoch, mut after) = after.split_first_chunk::<8>().ok_or(Fault::Truncated)?;
            let offset = take_varint(&mut after)?;
            rest = after;
            let epoch = u64::from_be_bytes(*epoch);
            let position = match (epoch, offset) {
                (0, 0) => Position::START,
                _ => Position(Some(MessageId { epoch, offset })),
            };
            entries.push((NameHash::of_bytes(*hash), position));
        }
        if !rest.is_empty() {
            return Err(Fault::Truncated);
        }
        entries.sort_unstable_by_key(|(hash, _)| *hash);
        if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Fault::Doubled);
        }
        Ok(Self { salt, entries })
    }

    /// Where the cursor has a topic, if it has.
    pub fn position_of(&self, topic: &Topic) -> Option<Position> {
        let hash = NameHash::new(self.salt, topic);
        let at = self.entries.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        Some(self.entries[at].1)
    }
}

impl CompositeTopics {
    /// The most topics that a cursor of [`Cursor::MAX_BYTES`] can hold wherever they stand.
    pub const MAX: usize = (Cursor::MAX_BYTES / 4 * 3 - 2) / MAX_ENTRY_BYTES;

    /// Prepares cursors over these topics, which must be at most [`CompositeTopics::MAX`] and
    /// different. `None` if no salt keeps their names apart, which doesn't happen in a lifetime.
    pub fn new(topics: &[Topic]) -> Option<Self> {
        (0..=u8::MAX).find_map(|salt| {
            let hashes: Box<[_]> = topics.iter().map(|topic| NameHash::new(salt, topic)).collect();
            let mut sorted = hashes.to_vec();
            sorted.sort_unstable();
            let apart = sorted.windows(2).all(|pair| pair[0] != pair[1]);
            apart.then_some(Self { salt, hashes })
        })
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Appends the cursor at these positions, one per topic in the order of the topics. A topic
    /// without a position is left out: it starts live.
    pub fn write(&self, out: &mut Vec<u8>, positions: &[Option<Position>]) {
        debug_assert_eq!(self.hashes.len(), positions.len(), "a position per topic");
        let each = self.hashes.iter().zip(positions);
        let bytes =
            bytes(self.salt, each.filter_map(|(hash, position)| Some((*hash, (*position)?))));
        let start = out.len();
        let encoded = base64::encoded_len(bytes.len(), false).expect("a cursor is short");
        out.resize(start + encoded, 0);
        BASE64URL.encode_slice(&bytes, &mut out[start..]).expect("it was made as long as that");
    }
}

impl NameHash {
    /// FNV-1a over salt and name, folded to 24 bits.
    fn new(salt: u8, topic: &Topic) -> Self {
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = topic.as_str().bytes().fold(step(0x811c_9dc5, salt), step);
        Self((hash >> 24) ^ (hash & 0x00ff_ffff))
    }

    fn of_bytes([high, middle, low]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, high, middle, low]))
    }

    fn bytes(self) -> [u8; 3] {
        let [_, high, middle, low] = self.0.to_be_bytes();
        [high, middle, low]
    }
}

/// A composite before its base64.
fn bytes(salt: u8, entries: impl Iterator<Item = (NameHash, Position)>) -> Vec<u8> {
    let most = entries.size_hint().1.unwrap_or_default();
    let mut bytes = Vec::with_capacity(2 + most * MAX_ENTRY_BYTES);
    bytes.extend_from_slice(&[VERSION, salt]);
    for (hash, position) in entries {
        let MessageId { epoch, offset } = position.0.unwrap_or(MessageId { epoch: 0, offset: 0 });
        bytes.extend_from_slice(&hash.bytes());
        bytes.extend_from_slice(&epoch.to_be_bytes());
        put_varint(&mut bytes, offset);
    }
    bytes
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("below 128") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("below 128"));
}

/// Takes a number in its shortest form.
fn take_varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if (shift == 63 && part > 1) || (shift > 0 && byte == 0) {
            return Err(Fault::LongOffset);
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Fault::LongOffset)
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Latest(count) => write!(f, "latest:{count}"),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(after) => after.fmt(f),
            Self::Composite(composite) => composite.fmt(f),
        }
    }
}

/// Its topics come in the order of their hashes, whatever their order was.
impl fmt::Display for Composite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = bytes(self.salt, self.entries.iter().copied());
        f.write_str(&BASE64URL.encode(bytes))
    }
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::TooLong { bytes } => {
                write!(f, "cursor is {bytes} bytes, at most {} are allowed", Cursor::MAX_BYTES)
            }
            Fault::Form => f.write_str(
                "cursor is neither 0, a message id (<16 hexadecimal digits>-<offset>), latest:N nor a composite cursor",
            ),
            Fault::Latest => write!(f, "latest: takes a number from 0 to {}", u32::MAX),
            Fault::Base64 => f.write_str("composite cursor is not base64url without padding"),
            Fault::Version { version } => {
                write!(f, "composite cursor is of version {version}, this node knows {VERSION}")
            }
            Fault::Truncated => f.write_str("composite cursor ends within a topic"),
            Fault::LongOffset => f.write_str("composite cursor has a malformed offset"),
            Fault::Doubled => f.write_str("composite cursor has a topic twice"),
        }
    }
}

impl std::error::Error for CursorError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn position(epoch: u64, offset: u64) -> Position {
        Position(Some(MessageId { epoch, offset }))
    }

    fn composite(topics: &[Topic], positions: &[Option<Position>]) -> String {
        let mut out = Vec::new();
        CompositeTopics::new(topics).unwrap().write(&mut out, positions);
        String::from_utf8(out).unwrap()
    }

    fn parsed(text: &str) -> Composite {
        match Cursor::parse(text).unwrap() {
            Cursor::Composite(composite) => composite,
            Cursor::All(after) => panic!("{after:?}"),
        }
    }

    #[test]
    fn a_cursor_is_0_an_id_a_count_or_a_composite() {
        let id = position(0xab, 7);
        for (text, after) in [
            ("0", After::Position(Position::START)),
            ("00000000000000ab-7", After::Position(id)),
            ("latest:0", After::Latest(0)),
            ("latest:4294967295", After::Latest(u32::MAX)),
        ] {
            assert_eq!(Cursor::parse(text), Ok(Cursor::All(after)));
            assert_eq!(After::parse(text), Ok(after));
            assert_eq!(Cursor::All(after).to_string(), text);
        }
        let text = composite(&[topic("a"), topic("b")], &[Some(id), Some(Position::START)]);
        assert_eq!(text, "AQB3LSoAAAAAAAAAqwd3K6gAAAAAAAAAAAA");
        assert!(After::parse(&text).is_err(), "a single topic takes no composite");
    }

    #[test]
    fn what_is_no_cursor_is_told_with_the_reason() {
        let twice = BASE64URL.encode([&[1, 0][..], &[9; 12], &[9; 12]].concat());
        let long = "A".repeat(4097);
        for (text, reason) in [
            ("", "cursor is neither 0"),
            ("1", "cursor is neither 0"),
            ("00000000000000AB-7", "cursor is neither 0"),
            ("latest:", "latest: takes a number"),
            ("latest:+1", "latest: takes a number"),
            ("latest:01", "latest: takes a number"),
            ("latest:4294967296", "latest: takes a number"),
            ("A", "composite cursor is not base64url"),
            ("AQ==", "composite cursor is not base64url"),
            ("AQ", "composite cursor ends within"),
            ("AgA", "composite cursor is of version 2, this node knows 1"),
            ("AQAB", "composite cursor ends within"),
            (&twice, "composite cursor has a topic twice"),
            (&long, "cursor is 4097 bytes, at most 4096 are allowed"),
        ] {
            let error = Cursor::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
        for offset in [&[0x80, 0][..], &[0xff; 10], &[0x80; 10], &[0x80; 11]] {
            let text = BASE64URL.encode([&[1, 0, 1, 2, 3][..], &[7; 8], offset].concat());
            assert_eq!(Cursor::parse(&text), Err(CursorError(Fault::LongOffset)), "{offset:?}");
        }
    }

    #[test]
    fn a_composite_is_bound_to_names_and_not_to_their_order() {
        let cursor = parsed(&composite(
            &[topic("a"), topic("b"), topic("c")],
            &[Some(position(1, 1)), None, Some(position(3, 3))],
        ));
        assert_eq!(cursor.position_of(&topic("c")), Some(position(3, 3)));
        assert_eq!(cursor.position_of(&topic("a")), Some(position(1, 1)));
        assert_eq!(cursor.position_of(&topic("b")), None);
        assert_eq!(cursor.position_of(&topic("d")), None);
    }

    #[test]
    fn names_that_share_a_hash_are_kept_apart() {
        let hash = |name: &Topic| NameHash::new(0, name);
        let mut known = std::collections::HashMap::new();
        let (one, other) = (0_u32..)
            .find_map(|number| {
                let name = topic(&number.to_string());
                known.insert(hash(&name), name.clone()).map(|earlier| (earlier, name))
            })
            .unwrap();
        assert_eq!(hash(&one), hash(&other));
        let topics = [one, other];
        let cursor = parsed(&composite(&topics, &[Some(position(1, 1)), Some(position(2, 2))]));
        assert_eq!(cursor.position_of(&topics[0]), Some(position(1, 1)));
        assert_eq!(cursor.position_of(&topics[1]), Some(position(2, 2)));
    }

    #[test]
    fn the_most_topics_fit_into_the_longest_cursor() {
        let topics: Vec<_> =
            (0..CompositeTopics::MAX).map(|number| topic(&number.to_string())).collect();
        let text = composite(&topics, &vec![Some(position(u64::MAX, u64::MAX)); topics.len()]);
        assert!((Cursor::MAX_BYTES - 50..=Cursor::MAX_BYTES).contains(&text.len()));
        assert_eq!(parsed(&text).entries.len(), topics.len());
    }

    proptest! {
        #[test]
        fn composites_round_trip(entries in prop::collection::hash_map("[a-z.]{1,9}", any::<(u64, u64)>(), 0..20)) {
            let (topics, positions): (Vec<_>, Vec<_>) = entries
                .into_iter()
                .filter_map(|(name, (epoch, offset))| {
                    Some((Topic::new(&name).ok()?, position(epoch, offset)))
                })
                .unzip();
            let some: Vec<_> = positions.iter().copied().map(Some).collect();
            let cursor = parsed(&composite(&topics, &some));
            for (topic, position) in topics.iter().zip(positions) {
                prop_assert_eq!(cursor.position_of(topic), Some(position));
            }
        }

        #[test]
        fn parsing_never_panics_and_has_one_spelling(text in "(A[A-Za-z0-9_-]{0,60}|[ -~]{0,60}|latest:[0-9+]{0,12})") {
            let _ = After::parse(&text);
            match Cursor::parse(&text) {
                Ok(Cursor::All(after)) => prop_assert_eq!(after.to_string(), text),
                Ok(composite) => {
                    let again = composite.to_string();
                    prop_assert_eq!(again.len(), text.len());
                    prop_assert_eq!(Cursor::parse(&again), Ok(composite));
                }
                Err(_) => {}
            }
        }
    }
}
