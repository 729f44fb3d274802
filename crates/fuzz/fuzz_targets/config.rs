//! Files of settings: never a panic; what is accepted is accepted without a word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel::config::Settings;

fuzz_target!(|text: &str| {
    let (_, mistakes) = Settings::from_text(text);
    for mistake in mistakes.iter() {
        assert!(!mistake.to_string().is_empty());
    }
});
