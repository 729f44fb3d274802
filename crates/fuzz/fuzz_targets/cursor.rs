//! Cursors, positions and ids, as text and as the bytes within a composite: never a panic, and what
//! was understood is written so that it is understood the same way.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use libfuzzer_sys::fuzz_target;
use umbel_protocol::{After, Cursor, MessageId, Position, Topic};

/// The version byte, which every composite has.
const COMPOSITE: u8 = 1;

fn read(text: &str) {
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse::<Position>(), Ok(id.into()));
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
        assert_eq!(After::parse(text), Ok(After::Position(position)));
    }
    if let Ok(after) = After::parse(text) {
        assert_eq!(after.to_string(), text);
        assert_eq!(Cursor::parse(text), Ok(Cursor::All(after)));
    }
    let cursor = match Cursor::parse(text) {
        Ok(cursor) => cursor,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = cursor.to_string();
    assert_eq!(written.len(), text.len());
    let again = Cursor::parse(&written).expect("it was written by us");
    assert_eq!(again, cursor);
    if let (Cursor::Composite(one), Cursor::Composite(other)) = (&cursor, &again) {
        let topic = Topic::new("news").expect("a good name");
        assert_eq!(one.position_of(&topic), other.position_of(&topic));
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        read(text);
    }
    read(&BASE64URL.encode([&[COMPOSITE][..], data].concat()));
});
