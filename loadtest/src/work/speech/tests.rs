mod cuts;

use super::*;
use crate::wire::frame;

const SIZE: usize = 64;
const UPGRADE: &str =
    "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n";

/// A connection and all that came of it.
struct Line {
    speech: Speech,
    spoken: Spoken,
    wanted: Vec<(usize, Option<&'static str>)>,
    heard: Vec<String>,
    out: Vec<u8>,
}

impl Line {
    fn new(transport: Transport, script: &str, wanted: &[(usize, Option<&'static str>)]) -> Self {
        let place = Place {
            address: "127.0.0.1:1".parse().unwrap(),
            host: "a:1".to_owned(),
            path: String::new(),
        };
        let script = (!script.is_empty()).then(|| Script::parse(script).unwrap());
        let template = Template::new(SIZE).unwrap();
        let speech = Speech::new(transport, &place, script.as_ref(), &template, true).unwrap();
        let spoken = Spoken::default();
        Self { speech, spoken, wanted: wanted.to_vec(), heard: Vec::new(), out: Vec::new() }
    }

    fn of(transport: Transport) -> Self {
        Self::new(transport, "", &[(7, None)])
    }

    fn wanted(&self) -> Vec<Wanted<'static>> {
        self.wanted.iter().map(|(topic, after)| Wanted { topic: *topic, after: *after }).collect()
    }

    fn greet(&mut self) -> String {
        let wanted = self.wanted();
        self.speech.greet(&mut self.spoken, &wanted, &mut self.out);
        self.said()
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        let wanted = self.wanted();
        let mut bytes = bytes.to_vec();
        self.speech.hear(&mut self.spoken, &wanted, &mut bytes, &mut self.out, &mut |heard| {
            self.heard.push(told(&heard));
        })
    }

    /// What was said since this was asked last.
    fn said(&mut self) -> String {
        String::from_utf8_lossy(&take(&mut self.out)).into_owned()
    }

    /// What was heard since.
    fn heard(&mut self) -> Vec<String> {
        take(&mut self.heard)
    }

    fn refusal(&mut self, bytes: &[u8]) -> String {
        self.hear(bytes).unwrap_err().to_string()
    }
}

fn told(heard: &Heard<'_>) -> String {
    match heard {
        Heard::Open => "open".to_owned(),
        Heard::Message { topic, payload, place } => {
            let sequence = Template::new(SIZE).unwrap().sequence(payload);
            let sequence = sequence.map_or("garbled".to_owned(), |sequence| sequence.to_string());
            format!("{topic}: {sequence} at {}", place.unwrap_or("-"))
        }
        Heard::At { topic, place } => format!("{topic} at {place}"),
        Heard::Gap { topic } => format!("{topic} gap"),
    }
}

fn payload(sequence: u64) -> String {
    let mut out = Vec::new();
    Template::new(SIZE).unwrap().write(&mut out, sequence, 5);
    String::from_utf8(out).unwrap()
}

fn frames(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        frame::write_text(&mut out, text.as_bytes());
    }
    out
}

fn object(topic: usize, sequence: u64) -> String {
    let text = payload(sequence);
    format!(
        r#"{{"op":"message","topic":"bench.{topic}","message_id":"e-{sequence}","time":1,"text":"{text}"}}"#
    )
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const SUBSCRIBED: &str =
    r#"{"op":"subscribed","topic":"bench.7","position":"e-3","recovered":true}"#;

#[test]
fn a_plain_session_is_open_with_its_upgrade() {
    let mut line = Line::of(Transport::WebSocket);
    assert!(line.greet().starts_with("GET /topics/bench.7 HTTP/1.1\r\nHost: a:1\r\n"));
    line.hear(UPGRADE.as_bytes()).unwrap();
    line.hear(&frames(&[&payload(4), "x"])).unwrap();
    assert_eq!(line.heard(), ["open", "7: 4 at -", "7: garbled at -"]);
    line.hear(b"\x89\x02hi").unwrap();
    assert!(line.said().ends_with("\0\0\0\0hi"));
    assert!(line.refusal(b"\x88\x02\x03\xf4").contains("code 1012"));
}

#[test]
fn refusals_say_why() {
    let body = r#"{"title":"x","status":503,"detail":"full"}"#;
    let problem = format!("HTTP/1.1 503 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (begin, end) = problem.as_bytes().split_at(problem.len() - 9);
    for transport in [Transport::WebSocket, Transport::Json, Transport::Sse, Transport::Poll] {
        let mut line = Line::of(transport);
        line.hear(begin).unwrap();
        let error = line.refusal(end);
        assert!(error.contains("503") && error.ends_with(": full"), "{error}");
    }
    let error = Line::of(Transport::WebSocket).refusal(b"HTTP/1.1 503 X\r\n\r\n");
    assert!(error.ends_with("503"), "{error}");
    let ends = STREAM.replace("\r\n\r\n", "\r\nContent-Length: 18\r\n\r\nretry: 1\n\n: full\n\n");
    let error = Line::of(Transport::Sse).refusal(ends.as_bytes());
    assert!(error.ends_with("ends at once: full"), "{error}");
    let mut json = Line::of(Transport::Json);
    json.hear(UPGRADE.as_bytes()).unwrap();
    let refused = r#"{"op":"error","code":"limit","message":"too many"}"#;
    assert!(json.refusal(&frames(&[refused])).contains("too many"));
}

#[test]
fn a_json_session_is_open_when_all_its_topics_are_subscribed() {
    let mut line = Line::new(Transport::Json, "", &[(7, Some("e-3")), (8, None)]);
    assert!(line.greet().starts_with("GET /ws HTTP/1.1\r\n"));
    line.hear(UPGRADE.as_bytes()).unwrap();
    let command =
        r#"{"op":"subscribe","topics":[{"topic":"bench.7","after":"e-3"},{"topic":"bench.8"}]}"#;
    assert!(line.said().ends_with(command));
    let lines = [SUBSCRIBED, &object(7, 4)].join("\n");
    line.hear(&frames(&[r#"{"op":"welcome","session":"1"}"#, &lines])).unwrap();
    assert_eq!(line.heard(), ["7 at e-3", "7: 4 at e-4"]);
    line.hear(&frames(&[r#"{"op":"subscribed","topic":"bench.8"}"#])).unwrap();
    assert_eq!(line.heard(), ["8 at ", "open"]);
}

#[test]
fn a_gap_is_told_once_with_the_place_behind_it() {
    let mut json = Line::of(Transport::Json);
    json.hear(UPGRADE.as_bytes()).unwrap();
    let gap = r#"{"op":"gap","topic":"bench.7","reason":"too_old","position":"e-9"}"#;
    json.hear(&frames(&[&SUBSCRIBED.replace("true", "false"), gap])).unwrap();
    assert_eq!(json.heard(), ["7 at e-3", "open", "7 gap", "7 at e-9"]);
    let mut sse = Line::of(Transport::Sse);
    sse.hear(STREAM.as_bytes()).unwrap();
    sse.hear(b"id: e-9\nevent: umbel.gap\ndata: {}\n\nevent: umbel.moving\ndata: {}\n\n").unwrap();
    assert_eq!(sse.heard(), ["open", "7 gap", "7 at e-9"]);
    let mut poll = Line::of(Transport::Poll);
    let gaps = r#"{"messages":[],"cursor":"e-9","gaps":[{"topic":"bench.7","reason":"rewound"}]}"#;
    poll.hear(answer(gaps).as_bytes()).unwrap();
    assert_eq!(poll.heard(), ["open", "7 gap", "7 at e-9"]);
}

#[test]
fn only_the_json_dialect_changes_topics() {
    let (line, mut out) = (Line::of(Transport::Json), Vec::new());
    assert!(line.speech.change(7, &Wanted { topic: 9, after: Some("e-1") }, &mut out));
    let text = String::from_utf8_lossy(&out);
    let leave = text.find(r#"{"op":"unsubscribe","topic":"bench.7"}"#).unwrap();
    let join = text.find(r#"{"topic":"bench.9","after":"e-1"}"#).unwrap();
    assert!(leave < join);
    for other in [Transport::WebSocket, Transport::Sse, Transport::Poll] {
        let mut out = Vec::new();
        assert!(!Line::of(other).speech.change(7, &Wanted { topic: 9, after: None }, &mut out));
        assert!(out.is_empty());
    }
}

#[test]
fn many_topics_are_subscribed_by_several_commands() {
    let wanted: Vec<_> = (0..250).map(|topic| (topic, None)).collect();
    let mut line = Line::new(Transport::Json, "", &wanted);
    line.hear(UPGRADE.as_bytes()).unwrap();
    let said = line.said();
    assert_eq!(said.matches(r#""op":"subscribe""#).count(), 3);
    assert_eq!(said.matches(r#"{"topic":"#).count(), 250);
}

#[test]
fn an_event_stream_goes_on_behind_the_last_event() {
    let mut line = Line::new(Transport::Sse, "", &[(7, Some("e-3"))]);
    assert!(line.greet().ends_with("Last-Event-ID: e-3\r\n\r\n"));
    let stream =
        format!("{STREAM}retry: 1\n\n: hi\n\nid: e-3\n\nid: e-4\ndata: {}\n\n", payload(4));
    line.hear(stream.as_bytes()).unwrap();
    assert_eq!(line.heard(), ["open", "7 at e-3", "7: 4 at e-4"]);
}

#[test]
fn each_poll_goes_on_from_the_cursor_of_the_one_before() {
    let mut line = Line::of(Transport::Poll);
    let first = "GET /topics/bench.7?after=latest:0&limit=1000&wait=0 HTTP/1.1\r\n";
    assert!(line.greet().starts_with(first));
    line.hear(answer(r#"{"messages":[],"cursor":"e-3","gaps":[]}"#).as_bytes()).unwrap();
    assert_eq!(line.heard(), ["open", "7 at e-3"]);
    let next = "GET /topics/bench.7?after=e-3&limit=1000&wait=25 HTTP/1.1\r\n";
    assert!(line.said().starts_with(next));
    let message =
        format!(r#"{{"topic":"bench.7","message_id":"e-4","time":1,"text":"{}"}}"#, payload(4));
    let body = format!(r#"{{"messages":[{message},{{"data":{{}}}}],"cursor":"e-5","gaps":[]}}"#);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    line.hear([head, &chunk(&body), "0\r\n\r\n"].concat().as_bytes()).unwrap();
    assert_eq!(line.heard(), ["7: 4 at e-4", "7: garbled at -", "7 at e-5"]);
    assert!(line.said().contains("after=e-5&"));
    let odd = answer(r#"{"messages":[],"cursor":"a b","gaps":[]}"#);
    assert!(line.refusal(odd.as_bytes()).contains("can't be put into a path"));
}

#[test]
fn without_resuming_no_place_is_told_or_named() {
    let mut line = Line::new(Transport::Sse, "", &[(7, Some("e-3"))]);
    line.speech.resume = false;
    assert!(!line.greet().contains("e-3"));
    let stream = format!("{STREAM}id: e-3\n\nid: e-4\ndata: {}\n\n", payload(4));
    line.hear(stream.as_bytes()).unwrap();
    assert_eq!(line.heard(), ["open", "7: 4 at -"]);
}

const CHAT: &str = r#"
    path = "/c/{topic}"
    subprotocol = "chat"
    [[steps]]
    send = "connect"
    wait = '"id":1'
    [[steps]]
    send = "join {topic}"
    [[steps]]
    wait = "joined {topic}"
    [[steps]]
    wait = "ready"
    [[answers]]
    on = "{}"
    send = "{}"
    exact = true
"#;

#[test]
fn a_script_says_each_step_when_the_one_before_is_over() {
    let mut line = Line::new(Transport::Script, CHAT, &[(7, None)]);
    let greeting = line.greet();
    assert!(greeting.starts_with("GET /c/bench.7 HTTP/1.1\r\n"), "{greeting}");
    assert!(greeting.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{greeting}");
    line.hear(UPGRADE.as_bytes()).unwrap();
    assert!(line.said().ends_with("connect"));
    line.hear(&frames(&["joined bench.7 too early", "{\"id\":1} joined bench.7"])).unwrap();
    assert!(line.said().ends_with("join bench.7"));
    assert!(line.heard().is_empty());
    line.hear(&frames(&["joined bench.7", "steady"])).unwrap();
    assert!(line.heard().is_empty());
    line.hear(&frames(&["ready", "ready"])).unwrap();
    assert_eq!((line.heard(), line.said()), (vec!["open".to_owned()], String::new()));
    line.hear(&frames(&["{}", "{} "])).unwrap();
    assert_eq!(line.said().matches("{}").count(), 1);
    let (first, second) = (payload(4), payload(5));
    line.hear(&frames(&[&format!("{{\"a\":\"{first}\"}}\n{{\"a\":\"{second}\"}}"), "x"])).unwrap();
    assert_eq!(line.heard(), ["7: 4 at -", "7: 5 at -"]);
}

#[test]
fn one_frame_may_end_steps_that_only_wait() {
    let mut line = Line::new(Transport::Script, CHAT, &[(7, None)]);
    line.hear(UPGRADE.as_bytes()).unwrap();
    line.hear(&frames(&["\"id\":1", "joined bench.7, ready"])).unwrap();
    assert_eq!(line.heard(), ["open"]);
}

#[test]
fn frames_of_a_stream_may_cut_anything() {
    let script = r#"
        path = "/"
        binary = true
        stream = true
        [[steps]]
        send = "SUB {topic} 1\r\nPING\r\n"
        wait = "PONG\r\n"
        [[answers]]
        on = "PING\r\n"
        send = "PONG\r\n"
    "#;
    let text = format!("INFO {{}}\r\nPONG\r\nMSG {}\r\nPING\r\nMSG {}\r\n", payload(1), payload(2));
    for cut in 0..text.len() {
        let mut line = Line::new(Transport::Script, script, &[(7, None)]);
        line.hear(UPGRADE.as_bytes()).unwrap();
        assert_eq!(line.out[0], 0x80 | frame::BINARY);
        assert!(line.said().ends_with("SUB bench.7 1\r\nPING\r\n"));
        line.hear(&frames(&[&text[..cut], &text[cut..], " "])).unwrap();
        assert_eq!(line.heard(), ["open", "7: 1 at -", "7: 2 at -"], "cut at {cut}");
        assert_eq!(line.said().matches("PONG\r\n").count(), 1, "cut at {cut}");
        assert!(line.spoken.tail.capacity() < SIZE);
    }
}

#[test]
fn a_script_may_read_an_event_stream() {
    let script = "path = \"/sse?topic={topic}\"\ntransport = \"sse\"\nheaders = [\"X: y\"]";
    let mut line = Line::new(Transport::Script, script, &[(7, Some("u:1"))]);
    let greeting = line.greet();
    assert!(greeting.starts_with("GET /sse?topic=bench.7 HTTP/1.1\r\n"), "{greeting}");
    assert!(greeting.ends_with("X: y\r\nLast-Event-ID: u:1\r\n\r\n"), "{greeting}");
    line.hear(STREAM.as_bytes()).unwrap();
    let block = format!("event: update\nid: u:2\ndata: {{\"pub\":\"{}\"}}\n\n", payload(4));
    line.hear([block.as_str(), "id: u:3\ndata: {}\n\n"].concat().as_bytes()).unwrap();
    assert_eq!(line.heard(), ["open", "7: 4 at u:2", "7 at u:3"]);
}

#[test]
fn a_script_is_needed_for_the_transport_of_that_name() {
    let place =
        Place { address: "127.0.0.1:1".parse().unwrap(), host: String::new(), path: String::new() };
    let template = Template::new(SIZE).unwrap();
    let speech = Speech::new(Transport::Script, &place, None, &template, false);
    assert!(speech.unwrap_err().to_string().contains("needs a script"));
}

#[test]
fn what_never_ends_is_refused() {
    let mut line = Line::of(Transport::Sse);
    line.hear(STREAM.as_bytes()).unwrap();
    line.hear(b"data: ").unwrap();
    let error = (0..9).find_map(|_| line.hear(&vec![b'x'; 1 << 20]).err()).unwrap();
    assert!(error.to_string().contains("longer than"), "{error}");
}
