//! The header of messages within Redis, payloads of any kind, and traces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_protocol::{Dialect, Style, Timestamp, Topic, TraceParent, envelope};

fuzz_target!(|data: &[u8]| {
    if let Some(parent) = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()) {
        let parent: TraceParent = parent;
        assert_eq!(parent.to_string().parse(), Ok(parent));
    }
    let topic = Topic::new("a").expect("a good name");
    for bytes in [data.to_vec(), [&envelope::MAGIC[..], data].concat()] {
        let Ok(message) = envelope::decode(&topic, bytes.into(), Timestamp(1)) else { continue };
        // What was understood is written so that it is understood the same way.
        let again = envelope::decode(&topic, envelope::encode(&message).into(), Timestamp(2));
        assert_eq!(again.as_ref(), Ok(&message));
        for dialect in Dialect::ALL {
            dialect.write_message(&mut Vec::new(), &message, Style::default());
        }
    }
});
