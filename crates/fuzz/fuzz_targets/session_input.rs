//! What a WebSocket client may send, cut anywhere: never a panic, never more kept than the limit,
//! and the same result for every way of cutting.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::fuzzing::incoming::{ClientFrame, FrameParser, Incoming};

const LIMIT: usize = 256;

fn said(bytes: &[u8], piece: usize) -> (Vec<ClientFrame>, Option<u16>) {
    let mut parser = FrameParser::new(LIMIT);
    let mut incoming = Incoming::default();
    let mut frames = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(result) = incoming.next(&mut parser, &mut input, LIMIT) {
            match result {
                Ok(frame) => frames.push(frame),
                Err(violation) => return (frames, Some(violation.code)),
            }
        }
        assert!(incoming.kept_bytes() <= 2 * LIMIT + 14);
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let cut = said(bytes, usize::from(piece).max(1));
    let whole = said(bytes, bytes.len().max(1));
    assert_eq!(cut, whole);
});
