//! What servers of any make say to the load test's sessions: cut anywhere, it is heard as in one piece.

#![no_main]

use libfuzzer_sys::fuzz_target;
use umbel_loadtest::wire::payload::Template;
use umbel_loadtest::work::file::Transport;
use umbel_loadtest::work::orders::Place;
use umbel_loadtest::work::script::Script;
use umbel_loadtest::work::speech::{Heard, Speech, Spoken, Wanted};

const UPGRADE: &[u8] =
    b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n";

const FRAMES: &str = "path = '/{topic}'\n\
    [[steps]]\nsend = 'connect'\nwait = 'id'\n[[steps]]\nwait = 'ready'\n[[answers]]\non = 'ping'\nsend = 'pong'\n";
const BYTES: &str = "path = '/'\nstream = true\nbinary = true\n\
    [[steps]]\nsend = 'SUB {topic}'\nwait = 'PONG'\n[[answers]]\non = 'PING'\nsend = 'PONG'\n";
const EVENTS: &str = "path = '/{topic}'\ntransport = 'sse'\n";

const SPEECHES: [(Transport, Option<&str>); 7] = [
    (Transport::WebSocket, None),
    (Transport::Json, None),
    (Transport::Sse, None),
    (Transport::Poll, None),
    (Transport::Script, Some(FRAMES)),
    (Transport::Script, Some(BYTES)),
    (Transport::Script, Some(EVENTS)),
];

/// All that was heard of `pieces`, what was answered, and whether they made sense.
fn heard(speech: &Speech, pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>, bool) {
    let wanted = [Wanted { topic: 7, after: Some("e-3") }, Wanted { topic: 8, after: None }];
    let (mut spoken, mut out, mut heard) = (Spoken::default(), Vec::new(), Vec::new());
    speech.greet(&mut spoken, &wanted, &mut out);
    let is_sense = pieces.iter().all(|piece| {
        let mut tell = |it: Heard<'_>| heard.push(format!("{it:?}"));
        speech.hear(&mut spoken, &wanted, &mut piece.to_vec(), &mut out, &mut tell).is_ok()
    });
    (heard, out, is_sense)
}

fuzz_target!(|bytes: &[u8]| {
    let [kind, answer, cut, said @ ..] = bytes else { return };
    let (transport, script) = SPEECHES[usize::from(*kind) % SPEECHES.len()];
    let script = script.map(|text| Script::parse(text).expect("a script of ours"));
    let place =
        Place { address: ([127, 0, 0, 1], 1).into(), host: "a:1".to_owned(), path: String::new() };
    let template = Template::new(64).expect("room for number and time");
    let speech = Speech::new(transport, &place, script.as_ref(), &template, true)
        .expect("it has its script");
    let answer: &[u8] = [UPGRADE, STREAM, CHUNKED, b""][usize::from(*answer) % 4];
    let all = [answer, said].concat();
    let whole = heard(&speech, &[&all]);
    let (first, second) = all.split_at(all.len() * usize::from(*cut) / 255);
    let cut = heard(&speech, &[first, second]);
    assert_eq!(whole, cut);
});
