//! Bodies of `POST /publish`: never a panic, never more messages than allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_protocol::publish::{MAX_MESSAGES, parse};

fuzz_target!(|data: &[u8]| {
    for lines in [false, true] {
        if let Ok(publishes) = parse(data, lines) {
            assert!((1..=MAX_MESSAGES).contains(&publishes.items.len()));
        }
    }
});
