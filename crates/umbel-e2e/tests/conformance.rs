//! RFC 6455, section by section: bytes in, bytes or a close code out.
//!
//! Each row is sent to a plain WebSocket that hears its own messages. Behind what the row expects,
//! the session must either be closed with the row's code, or answer a ping, which shows that it
//! goes on and has sent nothing else.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::too_many_lines, reason = "tables of rules are as long as they are")]

use umbel_e2e::{Opcode, WebSocketClient, World, masked_frame};

/// One rule.
struct Row {
    section: &'static str,
    rule: &'static str,
    sent: Vec<u8>,
    /// Messages that must come back, in order.
    back: Vec<(Opcode, Vec<u8>)>,
    /// The code with which the session must be closed.
    close: Option<u16>,
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A final frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked_frame(true, opcode, payload)
}

/// A fragment that others follow.
fn fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked_frame(false, opcode, payload)
}

/// A close frame with a code and a reason.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A frame with its first byte changed.
fn with_first_byte(mut frame: Vec<u8>, change: impl Fn(u8) -> u8) -> Vec<u8> {
    frame[0] = change(frame[0]);
    frame
}

/// The head of a masked frame whose length is claimed and not kept.
fn claim(opcode: u8, length: u64) -> Vec<u8> {
    let mut head = vec![0x80 | opcode, 0x80 | 0x7f];
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

fn row(section: &'static str, rule: &'static str, sent: &[Vec<u8>]) -> Row {
    Row { section, rule, sent: sent.concat(), back: Vec::new(), close: None }
}

impl Row {
    fn text(mut self, text: &str) -> Self {
        self.back.push((Opcode::Text, text.as_bytes().to_vec()));
        self
    }

    fn binary(mut self, bytes: &[u8]) -> Self {
        self.back.push((Opcode::Binary, bytes.to_vec()));
        self
    }

    fn pong(mut self, bytes: &[u8]) -> Self {
        self.back.push((Opcode::Pong, bytes.to_vec()));
        self
    }

    fn closed(mut self, code: u16) -> Self {
        self.close = Some(code);
        self
    }
}

/// The limit of the node under test.
const LIMIT: usize = 70_000;

fn framing() -> Vec<Row> {
    let mut rows = vec![
        row("5.2", "a frame without payload", &[frame(TEXT, b"")]).text(""),
        row(
            "5.2",
            "reserved bit 1 without an extension",
            &[with_first_byte(frame(TEXT, b"x"), |b| b | 0x40)],
        )
        .closed(1002),
        row(
            "5.2",
            "reserved bit 2 without an extension",
            &[with_first_byte(frame(TEXT, b"x"), |b| b | 0x20)],
        )
        .closed(1002),
        row(
            "5.2",
            "reserved bit 3 without an extension",
            &[with_first_byte(frame(BINARY, b"x"), |b| b | 0x10)],
        )
        .closed(1002),
        row(
            "5.2",
            "a reserved bit on a control frame",
            &[with_first_byte(frame(PING, b"x"), |b| b | 0x40)],
        )
        .closed(1002),
        row("5.1", "an unmasked text frame", &[b"\x81\x02hi".to_vec()]).closed(1002),
        row("5.1", "an unmasked ping", &[b"\x89\x00".to_vec()]).closed(1002),
        row("5.1", "an unmasked close frame", &[b"\x88\x02\x03\xe8".to_vec()]).closed(1002),
        row("5.2", "a length of 64 bits with its highest bit set", &[claim(TEXT, u64::MAX)])
            .closed(1009),
        row(
            "5.2",
            "a length far beyond the limit, of which nothing comes",
            &[claim(BINARY, 1 << 40)],
        )
        .closed(1009),
        row("5.2", "a length in more bits than needed is taken", &[long_form(b"hi")]).text("hi"),
        row("10.4", "a message one byte over the limit", &[frame(BINARY, &[7; LIMIT + 1])])
            .closed(1009),
        row(
            "10.4",
            "fragments that together are over the limit",
            &[fragment(BINARY, &[7; LIMIT]), frame(CONTINUATION, b"x")],
        )
        .closed(1009),
        row("5.3", "a mask of zeros", &[b"\x81\x82\x00\x00\x00\x00hi".to_vec()]).text("hi"),
        row("5.2", "two messages in one segment", &[frame(TEXT, b"a"), frame(TEXT, b"b")])
            .text("a")
            .text("b"),
    ];
    for length in [1, 2, 124, 125, 126, 127, 128, 255, 256, 65_535, 65_536, LIMIT] {
        let bytes: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        rows.push(
            row("5.2", "lengths around 7, 16 and 64 bits", &[frame(BINARY, &bytes)]).binary(&bytes),
        );
    }
    rows
}

/// A short text frame whose length takes 16 bits.
fn long_form(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | 0x7e];
    bytes.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text);
    bytes
}

fn opcodes() -> Vec<Row> {
    let mut rows = Vec::new();
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        rows.push(row("5.2", "a reserved opcode", &[frame(opcode, b"x")]).closed(1002));
        rows.push(
            row("5.2", "a reserved opcode without payload", &[frame(opcode, b"")]).closed(1002),
        );
    }
    rows.extend([
        row("5.6", "text stays text", &[frame(TEXT, b"hi")]).text("hi"),
        row("5.6", "binary stays binary", &[frame(BINARY, b"hi")]).binary(b"hi"),
        row("5.5.2", "a ping is answered with its payload", &[frame(PING, b"abc")]).pong(b"abc"),
        row("5.5.2", "a ping without payload", &[frame(PING, b"")]).pong(b""),
        row("5.5.2", "a ping of any bytes", &[frame(PING, b"\x00\xff\xfe")]).pong(b"\x00\xff\xfe"),
        row("5.5", "a ping of 125 bytes", &[frame(PING, &[9; 125])]).pong(&[9; 125]),
        row("5.5", "a ping of 126 bytes", &[frame(PING, &[9; 126])]).closed(1002),
        row("5.5", "a pong of 126 bytes", &[frame(PONG, &[9; 126])]).closed(1002),
        row("5.5", "a close frame of 126 bytes", &[close(1000, &[b'x'; 124])]).closed(1002),
        row("5.5", "a control frame that claims 64 bits of length", &[claim(PING, 5)]).closed(1002),
        row(
            "5.5.2",
            "ten pings are answered in order",
            &(0..10).map(|n| frame(PING, &[n])).collect::<Vec<_>>(),
        )
        .pong(&[0])
        .pong(&[1])
        .pong(&[2])
        .pong(&[3])
        .pong(&[4])
        .pong(&[5])
        .pong(&[6])
        .pong(&[7])
        .pong(&[8])
        .pong(&[9]),
        row(
            "5.5.3",
            "a pong that nobody asked for is ignored",
            &[frame(PONG, b"x"), frame(TEXT, b"a")],
        )
        .text("a"),
    ]);
    rows
}

fn fragmentation() -> Vec<Row> {
    vec![
        row("5.4", "two fragments", &[fragment(TEXT, b"a"), frame(CONTINUATION, b"b")]).text("ab"),
        row(
            "5.4",
            "three fragments of bytes",
            &[
                fragment(BINARY, b"\x00"),
                fragment(CONTINUATION, b"\xff"),
                frame(CONTINUATION, b"\x01"),
            ],
        )
        .binary(b"\x00\xff\x01"),
        row(
            "5.4",
            "empty fragments",
            &[fragment(TEXT, b""), fragment(CONTINUATION, b""), frame(CONTINUATION, b"")],
        )
        .text(""),
        row(
            "5.4",
            "a fragment for each byte",
            &[
                fragment(TEXT, b"h"),
                fragment(CONTINUATION, b"e"),
                fragment(CONTINUATION, b"y"),
                frame(CONTINUATION, b""),
            ],
        )
        .text("hey"),
        row(
            "5.4",
            "a ping between fragments",
            &[fragment(TEXT, b"a"), frame(PING, b"p"), frame(CONTINUATION, b"b")],
        )
        .pong(b"p")
        .text("ab"),
        row(
            "5.4",
            "a pong between fragments",
            &[fragment(TEXT, b"a"), frame(PONG, b"p"), frame(CONTINUATION, b"b")],
        )
        .text("ab"),
        row("5.4", "a close frame between fragments", &[fragment(TEXT, b"a"), close(1000, b"")])
            .closed(1000),
        row("5.4", "a continuation of nothing", &[frame(CONTINUATION, b"x")]).closed(1002),
        row("5.4", "an unfinished continuation of nothing", &[fragment(CONTINUATION, b"x")])
            .closed(1002),
        row(
            "5.4",
            "a continuation after the message is whole",
            &[fragment(TEXT, b"a"), frame(CONTINUATION, b"b"), frame(CONTINUATION, b"c")],
        )
        .closed(1002),
        row(
            "5.4",
            "a new message within a fragmented one",
            &[fragment(TEXT, b"a"), frame(TEXT, b"b")],
        )
        .closed(1002),
        row(
            "5.4",
            "a new fragmented message within another",
            &[fragment(TEXT, b"a"), fragment(BINARY, b"b")],
        )
        .closed(1002),
        row("5.5", "a fragmented ping", &[fragment(PING, b"a"), frame(CONTINUATION, b"b")])
            .closed(1002),
        row("5.5", "a fragmented pong", &[fragment(PONG, b"a")]).closed(1002),
        row("5.5", "a fragmented close frame", &[fragment(CLOSE, b"")]).closed(1002),
    ]
}

fn utf8() -> Vec<Row> {
    let mut rows = vec![
        row(
            "8.1",
            "all lengths of UTF-8",
            &[frame(TEXT, "a\u{e4}\u{20ac}\u{1f600}\u{10ffff}\u{0}".as_bytes())],
        )
        .text("a\u{e4}\u{20ac}\u{1f600}\u{10ffff}\u{0}"),
        row("8.1", "a stray continuation byte", &[frame(TEXT, b"a\x80")]).closed(1007),
        row("8.1", "a byte that UTF-8 never has", &[frame(TEXT, b"\xff")]).closed(1007),
        row("8.1", "an overlong encoding", &[frame(TEXT, b"\xc0\xaf")]).closed(1007),
        row("8.1", "a surrogate", &[frame(TEXT, b"\xed\xa0\x80")]).closed(1007),
        row("8.1", "beyond U+10FFFF", &[frame(TEXT, b"\xf4\x90\x80\x80")]).closed(1007),
        row("8.1", "a character cut off at the end", &[frame(TEXT, b"ab\xe2\x82")]).closed(1007),
        row(
            "8.1",
            "a character cut off at the end of fragments",
            &[fragment(TEXT, b"ab"), frame(CONTINUATION, b"\xe2\x82")],
        )
        .closed(1007),
        row(
            "8.1",
            "a bad byte in a fragment",
            &[fragment(TEXT, b"a\xff"), frame(CONTINUATION, b"b")],
        )
        .closed(1007),
        row("8.1", "binary needs no UTF-8", &[frame(BINARY, b"\xff\xfe")]).binary(b"\xff\xfe"),
    ];
    let text = "\u{3ba}\u{e4}\u{20ac}\u{1f600}z";
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        rows.push(
            row(
                "8.1",
                "a text cut anywhere into two fragments",
                &[fragment(TEXT, head), frame(CONTINUATION, tail)],
            )
            .text(text),
        );
    }
    rows
}

fn closing() -> Vec<Row> {
    let mut rows = vec![
        row("5.5.1", "a close frame without body is answered in kind", &[frame(CLOSE, b"")])
            .closed(0),
        row("5.5.1", "a close frame with half a code", &[frame(CLOSE, b"\x03")]).closed(1002),
        row("5.5.1", "a reason of 123 bytes", &[close(1000, &[b'x'; 123])]).closed(1000),
        row("5.5.1", "a reason that isn't UTF-8", &[close(1000, b"\xff")]).closed(1007),
        row(
            "5.5.1",
            "nothing is read behind a close frame",
            &[close(1000, b""), frame(PING, b"x"), frame(TEXT, b"y")],
        )
        .closed(1000),
        row("5.5.1", "a message right before it", &[frame(TEXT, b"a"), close(1001, b"bye")])
            .closed(1001),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        rows.push(
            row("7.4", "a code that may be used is answered", &[close(code, b"")]).closed(code),
        );
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        rows.push(row("7.4", "a code that may not be used", &[close(code, b"x")]).closed(1002));
    }
    rows
}

/// Sends the row and checks what comes.
async fn check(world: &World, row: &Row, pieces: &[&[u8]]) {
    let mut client = world.node(0).subscribe(&format!("t-{:016x}", topic_number())).await;
    for piece in pieces {
        // A node that has seen enough may close before the rest is written.
        let _ = client.try_send_raw(piece).await;
    }
    let mut expected = row.back.clone();
    if row.close.is_none() {
        client.send_frame(true, Opcode::Ping, b"still there").await;
        expected.push((Opcode::Pong, b"still there".to_vec()));
    }
    // Messages come by the broker and pongs at once, so only their own orders are given.
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let frame = client
            .next()
            .await
            .unwrap_or_else(|| panic!("{} {}: the connection ended", row.section, row.rule));
        assert_ne!(frame.opcode, Opcode::Close, "{} {}: {frame:?}", row.section, row.rule);
        got.push((frame.opcode, frame.payload));
    }
    for kind in [Opcode::Text, Opcode::Binary, Opcode::Pong] {
        let of = |all: &[(Opcode, Vec<u8>)]| -> Vec<Vec<u8>> {
            all.iter().filter(|(k, _)| *k == kind).map(|(_, p)| p.clone()).collect()
        };
        assert!(of(&got) == of(&expected), "{} {}: {kind:?} frames differ", row.section, row.rule);
    }
    if let Some(code) = row.close {
        check_close(client, row, code).await;
    }
}

async fn check_close(mut client: WebSocketClient, row: &Row, code: u16) {
    let what = format!("{} {}", row.section, row.rule);
    // The echo of a message right before may still come, it takes the way through the broker.
    let frame = loop {
        let frame = client.next().await.unwrap_or_else(|| panic!("{what}: no close frame"));
        if !matches!(frame.opcode, Opcode::Text | Opcode::Binary) {
            break frame;
        }
    };
    assert_eq!(frame.opcode, Opcode::Close, "{what}");
    if code == 0 {
        assert!(frame.payload.is_empty(), "{} {}", row.section, row.rule);
    } else {
        assert_eq!(frame.close().0, code, "{} {}", row.section, row.rule);
    }
    let _ = client.try_send_raw(&close(1000, b"")).await;
    assert_eq!(
        client.next().await,
        None,
        "{} {}: the node closes the connection",
        row.section,
        row.rule
    );
}

/// A topic of its own for each row, so that rows don't hear each other.
fn topic_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn world() -> World {
    World::new().settings(&format!("[limits]\npayload_bytes = {LIMIT}")).start().await
}

async fn check_all(rows: Vec<Row>) {
    let world = world().await;
    for row in &rows {
        check(&world, row, &[&row.sent]).await;
    }
    world.node(0).metric_becomes("umbel_sessions_open{transport=\"websocket\"}", 0.0).await;
    world.node(0).metric_becomes("umbel_held_bytes{by=\"input\"}", 0.0).await;
}

#[tokio::test]
async fn framing_and_masking() {
    check_all(framing()).await;
}

#[tokio::test]
async fn opcodes_and_control_frames() {
    check_all(opcodes()).await;
}

#[tokio::test]
async fn fragments() {
    check_all(fragmentation()).await;
}

#[tokio::test]
async fn utf8_in_text() {
    check_all(utf8()).await;
}

#[tokio::test]
async fn the_closing_handshake() {
    check_all(closing()).await;
}

#[tokio::test]
async fn every_rule_holds_however_the_bytes_are_cut() {
    let world = world().await;
    let rows = [framing(), opcodes(), fragmentation(), utf8(), closing()];
    for row in rows.iter().flatten().filter(|row| row.sent.len() <= 300) {
        for cut in 1..row.sent.len().min(24) {
            let (head, tail) = row.sent.split_at(cut);
            check(&world, row, &[head, tail]).await;
        }
    }
}
