//! Frames of the JSON dialect: never a panic, and every reply that quotes them is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_protocol::json::{Reply, RequestError, requests};

fuzz_target!(|frame: &str| {
    for request in requests(frame) {
        let mut out = Vec::new();
        match &request {
            Ok(request) => Reply::Pong.write(&mut out, request.id),
            Err(RequestError::Refused { id, code, message }) => {
                Reply::Error { code: *code, message }.write(&mut out, *id);
            }
            Err(RequestError::Unparseable(_)) => continue,
        }
        let start = out.iter().position(|byte| *byte == b'{').expect("an object");
        let end = out.iter().rposition(|byte| *byte == b'}').expect("an object");
        assert!(!out[start..end].contains(&b'\n'), "a reply is one line");
    }
});
