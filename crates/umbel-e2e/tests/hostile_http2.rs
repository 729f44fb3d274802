//! HTTP/2 clients that flood or break the protocol: the connection ends or they are held up, and
//! nobody else notices. What their streams may want too much of is in `http2_limits.rs`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use h2::Reason;
use umbel_e2e::{Bystander, Poured, RawFrame, RawHttp2, World, converse, pour};

const ACK: u8 = 0x01;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;

/// How connections and their streams are counted.
const CONNECTIONS: &str = "umbel_held_bytes{by=\"connections\"}";

/// Heads have a second, and `kept` has history.
fn settings() -> String {
    format!(
        "[limits]\nheader_seconds = 1\n{}\
         [[topics]]\nmatch = \"kept\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
         history = {{ messages = 1000, seconds = 300 }}\n\
         [[topics]]\nmatch = \"open\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n",
        Bystander::RULE
    )
}

/// Expects the connection to end with a reason, and gives what came before.
async fn goes_away(client: &mut RawHttp2, reason: Reason, what: &str) {
    let goaway = client.frame_of(RawFrame::GOAWAY).await;
    let goaway = goaway.unwrap_or_else(|| panic!("{what}: the connection ended without GOAWAY"));
    assert_eq!(Reason::from(goaway.error_code()), reason, "{what}");
    while client.frame().await.is_some() {}
}

/// Expects a stream to be reset with a reason.
async fn is_reset(client: &mut RawHttp2, stream: u32, reason: Reason, what: &str) {
    let reset = client.frame_of(RawFrame::RESET).await;
    let reset = reset.unwrap_or_else(|| panic!("{what}: the connection ended"));
    assert_eq!((reset.stream, Reason::from(reset.error_code())), (stream, reason), "{what}");
}

/// Frames that a connection can't get enough of: what they want in return is sent as far as it is
/// read, and no more is read from whoever doesn't.
#[tokio::test]
async fn frames_that_want_an_answer_are_taken_as_long_as_answers_are_read() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    for (kind, payload) in [(RawFrame::PING, &b"12345678"[..]), (RawFrame::SETTINGS, b"")] {
        let flood = RawFrame::bytes(kind, 0, 0, payload);
        let answer = RawFrame::bytes(kind, ACK, 0, payload);
        let client = RawHttp2::open(node.http()).await;
        let poured = pour(client.stream(), &flood.repeat(1000), 100_000).await;
        assert!(matches!(poured, Poured::Stopped(_) | Poured::Ended(_)), "{poured:?}");
        drop(client);
        let mut client = RawHttp2::open(node.http()).await;
        // A stream, so that it isn't ended for want of one.
        client.send(&RawFrame::get(1, "/topics/open", &[])).await;
        client.frame_of(RawFrame::DATA).await.unwrap();
        let count = 20_000;
        let answers =
            converse(client.stream_mut(), &flood.repeat(count), answer.len() * count).await;
        let answered = answers.chunks(answer.len()).filter(|some| *some == answer).count();
        assert!(answered >= count - 10, "{answered} answers to {count} frames");
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Frames that want nothing in return, on a connection with a stream.
#[tokio::test]
async fn frames_that_want_nothing_are_passed_over() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let update = |stream, more: u32| {
        RawFrame::bytes(RawFrame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    };
    for (what, frame) in [
        ("PRIORITY", RawFrame::bytes(RawFrame::PRIORITY, 0, 1, b"\0\0\0\0\x01")),
        (
            "PRIORITY of idle streams",
            RawFrame::bytes(RawFrame::PRIORITY, 0, 99_999, b"\0\0\0\x03\x01"),
        ),
        ("WINDOW_UPDATE", update(0, 1)),
        ("WINDOW_UPDATE of a stream", update(1, 1)),
        ("an answer to no PING", RawFrame::bytes(RawFrame::PING, ACK, 0, b"12345678")),
        ("a frame that nobody knows", RawFrame::bytes(0xfa, 0xff, 1, &[7; 100])),
    ] {
        let mut client = RawHttp2::open(node.http()).await;
        client.send(&RawFrame::get(1, "/topics/open", &[])).await;
        client.frame_of(RawFrame::DATA).await.unwrap();
        assert_eq!(pour(client.stream(), &frame.repeat(1000), 50).await, Poured::All, "{what}");
        node.publish("open", what).await;
        let event = client.frame_of(RawFrame::DATA).await.unwrap();
        assert!(String::from_utf8(event.payload).unwrap().contains(what), "{what}");
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// CVE-2024-27316 and its like.
#[tokio::test]
async fn heads_without_end_end_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let block = RawFrame::block(0x82, "/", &[]);
    let head = RawFrame::bytes(RawFrame::HEADERS, END_STREAM, 1, &block);
    let line = [&b"\0\x01x\x7d"[..], &[b'y'; 125]].concat();
    for (what, piece) in [
        ("empty pieces", Vec::new()),
        ("small lines", b"\0\x01x\x01y".to_vec()),
        ("long lines", line.repeat(100)),
        ("a line in small pieces", b"\0\x01x".to_vec()),
        ("changes of the table's size", b"\x20".repeat(1000)),
    ] {
        let mut client = RawHttp2::open(node.http()).await;
        client.send(&head).await;
        let more = RawFrame::bytes(RawFrame::CONTINUATION, 0, 1, &piece);
        let poured = pour(client.stream(), &more.repeat(100), 1000).await;
        assert!(matches!(poured, Poured::Ended(_) | Poured::All), "{what}: {poured:?}");
        while client.frame().await.is_some() {}
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_ends_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = RawHttp2::open(node.http()).await;
    let head = RawFrame::get(1, "/topics/open", &[("x", "y")]);
    for byte in &head[..head.len() - 1] {
        client.send(&[*byte]).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    goes_away(&mut client, Reason::NO_ERROR, "a slow head").await;
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn heads_beyond_all_measure_are_refused_and_the_connection_goes_on() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = node.http2().await;
    let (short, long) = ("a=b; ".repeat(3000), "a=b; ".repeat(4000));
    for (what, headers, status) in [
        ("300 lines", vec![("x", "y"); 300], 200),
        // A line counts as its bytes and 32 more (section 6.5.2).
        ("600 lines", vec![("x", "y"); 600], 431),
        ("a cookie of 15 000 bytes", vec![("cookie", short.as_str())], 200),
        ("a cookie of 20 000 bytes", vec![("cookie", &long)], 431),
        ("a cookie in crumbs", vec![("cookie", "a=b"); 600], 431),
    ] {
        let answer = client.request("GET", "/", &headers, b"").await;
        assert_eq!(answer.status, status, "{what}");
    }
    assert_eq!(client.get("/").await.status, 200);
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Answers that wait for window cost what their streams do.
#[tokio::test]
async fn answers_that_nobody_grants_window_are_held_with_their_streams() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = RawHttp2::connect(node.http()).await;
        client.send(RawHttp2::PREFACE).await;
        client.send(&RawFrame::bytes(RawFrame::SETTINGS, 0, 0, b"\0\x04\0\0\0\0")).await;
        for stream in (1..200).step_by(2) {
            client
                .send(&RawFrame::get(stream, ["/", "/nothing"][stream as usize / 2 % 2], &[]))
                .await;
        }
        clients.push(client);
    }
    node.metric_exceeds(CONNECTIONS, 10.0 * 100.0 * 5000.0).await;
    let held = node.metrics().await.value(CONNECTIONS);
    assert!(held < 10.0 * 1_000_000.0, "{held} bytes are held");
    drop(clients);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// A line that is long once and named a thousand times over (RFC 7541 section 7.3).
#[tokio::test]
async fn small_heads_that_unfold_are_refused() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = RawHttp2::open(node.http()).await;
    // Kept in the table (section 6.2.1) at its first place, 62.
    let long = [&b"\x40\x01x\x7f\xa1\x1e"[..], &[b'y'; 4000]].concat();
    let mut block = RawFrame::block(0x82, "/", &[]);
    block.extend(long);
    client.send(&RawFrame::bytes(RawFrame::HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    let answer = client.frame_of(RawFrame::HEADERS).await.unwrap();
    assert_eq!((answer.stream, answer.payload[0]), (1, 0x88), "status 200");
    let mut block = RawFrame::block(0x82, "/", &[]);
    block.extend([0xbe; 12_000]);
    let bomb =
        |stream| RawFrame::bytes(RawFrame::HEADERS, END_STREAM | END_HEADERS, stream, &block);
    for stream in (3..203).step_by(2) {
        client.send(&bomb(stream)).await;
    }
    while let Some(frame) = client.frame().await {
        let is_ok = frame.kind == RawFrame::HEADERS && frame.stream > 1 && frame.payload[0] == 0x88;
        assert!(!is_ok, "a head of 48 MB is too large: {frame:?}");
        if frame.kind == RawFrame::HEADERS && frame.stream == 201 {
            break;
        }
    }
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// A piece of a body costs more than a byte to read, so there is a budget for small ones.
#[tokio::test]
async fn bodies_in_crumbs_end_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listener = node.subscribe("open").await;
    let padded = [&[255][..], &[0; 255]].concat();
    for (what, path, frame) in [
        ("empty pieces", "/topics/open", RawFrame::bytes(RawFrame::DATA, 0, 1, b"")),
        ("padding", "/topics/open", RawFrame::bytes(RawFrame::DATA, 0x08, 1, &padded)),
        ("bytes", "/topics/open", RawFrame::bytes(RawFrame::DATA, 0, 1, b"x")),
        (
            "bytes that nobody reads",
            "/topics/kept?wait=20",
            RawFrame::bytes(RawFrame::DATA, 0, 1, b"x"),
        ),
    ] {
        let method = if path.contains('?') { 0x82 } else { 0x83 };
        let mut client = RawHttp2::open(node.http()).await;
        let block = RawFrame::block(method, path, &[("accept", "application/json")]);
        client.send(&RawFrame::bytes(RawFrame::HEADERS, END_HEADERS, 1, &block)).await;
        client.send(&frame.repeat(60_000)).await;
        goes_away(&mut client, Reason::ENHANCE_YOUR_CALM, what).await;
    }
    node.publish("open", "behind all").await;
    assert_eq!(listener.text().await, "behind all");
    drop(listener);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// The body of a request that waits for something else isn't read.
#[tokio::test]
async fn a_body_that_nobody_reads_is_held_up_by_its_window() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = RawHttp2::open(node.http()).await;
        // Section 6.9.2: until then the connection has less window than three streams.
        client.frame_of(RawFrame::WINDOW_UPDATE).await.unwrap();
        for stream in [1, 3, 5] {
            let block =
                RawFrame::block(0x82, "/topics/kept?wait=20", &[("accept", "application/json")]);
            client.send(&RawFrame::bytes(RawFrame::HEADERS, END_HEADERS, stream, &block)).await;
            for _ in 0..4 {
                client.send(&RawFrame::bytes(RawFrame::DATA, 0, stream, &[7; 16_000])).await;
            }
        }
        clients.push(client);
    }
    node.metric_becomes("umbel_polls_waiting", 60.0).await;
    for client in &mut clients {
        client.send(&RawFrame::bytes(RawFrame::DATA, 0, 3, &[7; 16_000])).await;
        is_reset(client, 3, Reason::FLOW_CONTROL_ERROR, "beyond the window").await;
    }
    node.metric_becomes("umbel_polls_waiting", 40.0).await;
    drop(clients);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// RFC 9113 section 6.9.1: no window is larger than 2^31 - 1.
#[tokio::test]
async fn windows_that_overflow_end_the_stream_or_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let update = |stream, more: &[u8]| RawFrame::bytes(RawFrame::WINDOW_UPDATE, 0, stream, more);
    let setting = |value: u32| {
        RawFrame::bytes(RawFrame::SETTINGS, 0, 0, &[&[0, 4][..], &value.to_be_bytes()].concat())
    };
    let on_stream = |bytes: Vec<u8>| [RawFrame::get(1, "/topics/open", &[]), bytes].concat();
    for (what, bytes, is_goaway, reason) in [
        ("a stream's", on_stream(update(1, &most)), false, Reason::FLOW_CONTROL_ERROR),
        // Section 5.4.1 lets a stream's error be the connection's.
        ("nothing for a stream", on_stream(update(1, &[0; 4])), true, Reason::PROTOCOL_ERROR),
        ("the connection's", update(0, &most), true, Reason::FLOW_CONTROL_ERROR),
        ("nothing for the connection", update(0, &[0; 4]), true, Reason::PROTOCOL_ERROR),
        (
            "a setting that carries a stream beyond",
            on_stream([update(1, &0x7fff_0000_u32.to_be_bytes()), setting(0x7fff_ffff)].concat()),
            true,
            Reason::FLOW_CONTROL_ERROR,
        ),
    ] {
        let mut client = RawHttp2::open(node.http()).await;
        client.send(&bytes).await;
        if is_goaway {
            goes_away(&mut client, reason, what).await;
        } else {
            is_reset(&mut client, 1, reason, what).await;
        }
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_one_by_one() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut client = RawHttp2::open(node.http()).await;
    for stream in (1..=512).step_by(2) {
        client.send(&RawFrame::get(stream, "/topics/open", &[])).await;
    }
    node.metric_becomes("umbel_sessions_open{transport=\"sse\"}", 258.0).await;
    let held = node.metrics().await.value(CONNECTIONS);
    assert!(held < 2_000_000.0, "{held} bytes are held");
    let refused = RawFrame::get(513, "/topics/open", &[]);
    client.send(&refused).await;
    is_reset(&mut client, 513, Reason::REFUSED_STREAM, "stream 257").await;
    // Many more, of which nobody reads the refusals.
    let mut more = Vec::new();
    for stream in (515..100_000).step_by(2) {
        more.extend(RawFrame::get(stream, "/topics/open", &[]));
    }
    let poured = pour(client.stream(), &more, 1).await;
    assert!(!matches!(poured, Poured::Ended(_)), "{poured:?}");
    drop(client);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// The frames that abuse one stream.
type Attack<'a> = &'a dyn Fn(u32) -> Vec<u8>;

/// CVE-2025-8671: the client has the node reset its streams.
#[tokio::test]
async fn streams_that_the_node_must_reset_end_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let get = |stream| RawFrame::get(stream, "/topics/open", &[]);
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let attacks: [(&str, Reason, Attack); 4] = [
        ("windows that overflow", Reason::ENHANCE_YOUR_CALM, &|stream| {
            [get(stream), RawFrame::bytes(RawFrame::WINDOW_UPDATE, 0, stream, &most)].concat()
        }),
        ("malformed heads", Reason::ENHANCE_YOUR_CALM, &|stream| {
            RawFrame::get(stream, "/", &[("connection", "close")])
        }),
        ("streams that depend on themselves", Reason::ENHANCE_YOUR_CALM, &|stream| {
            let itself = [&stream.to_be_bytes()[..], b"\x01"].concat();
            [get(stream), RawFrame::bytes(RawFrame::PRIORITY, 0, stream, &itself)].concat()
        }),
        // This ends it at once.
        ("a body behind the end", Reason::PROTOCOL_ERROR, &|stream| {
            [get(stream), RawFrame::bytes(RawFrame::DATA, 0, stream, b"x")].concat()
        }),
    ];
    for (what, reason, attack) in attacks {
        let mut client = RawHttp2::open(node.http()).await;
        let all: Vec<_> = (1..20_000).step_by(2).flat_map(attack).collect();
        client.send(&all).await;
        goes_away(&mut client, reason, what).await;
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// RFC 9113 sections 8.1 to 8.3: what has no meaning, or one in HTTP/1 alone, is refused before
/// anybody acts on it.
#[tokio::test]
async fn malformed_requests_are_reset() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listener = node.subscribe("open").await;
    let body = RawFrame::bytes(RawFrame::DATA, END_STREAM, 1, b"smuggled");
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "300"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "7"),
        ("content-length", "9"),
        ("content-length", "+8"),
        ("content-length", "8, 8"),
        ("Content-Type", "text/plain"),
        ("x y", "z"),
        ("x", "y\r\nz: a"),
        ("x", "y\nz"),
        ("x", "y\0z"),
        (":path", "/topics/open"),
        (":unknown", "x"),
        (":status", "200"),
    ] {
        let mut client = RawHttp2::open(node.http()).await;
        let head = RawFrame::post(1, "/topics/open", &[(name, value)]);
        client.send(&[head, body.clone()].concat()).await;
        let what = format!("{name}: {value:?}");
        is_refused(&mut client, &what).await;
    }
    node.publish("open", "behind all").await;
    assert_eq!(listener.text().await, "behind all");
    drop(listener);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Expects anything but an answer that all went well.
async fn is_refused(client: &mut RawHttp2, what: &str) {
    loop {
        let frame = client.frame().await;
        let frame = frame.unwrap_or_else(|| panic!("{what}: the connection ended without a word"));
        match frame.kind {
            RawFrame::RESET | RawFrame::GOAWAY => {
                assert_eq!(Reason::from(frame.error_code()), Reason::PROTOCOL_ERROR, "{what}");
                return;
            }
            // `:status: 400` (RFC 7541 appendix A).
            RawFrame::HEADERS => {
                assert_eq!(frame.payload[0], 0x8c, "{what}");
                return;
            }
            _ => {}
        }
    }
}

/// RFC 9113 sections 4 to 6: frames that break the protocol, and what they end with.
#[tokio::test]
async fn broken_frames_end_the_connection() {
    let world = World::new().settings(&settings()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let get = RawFrame::get(1, "/topics/open", &[]);
    let frame = RawFrame::bytes;
    let rows = [
        ("DATA on no stream", frame(RawFrame::DATA, 0, 0, b"x")),
        ("DATA on an idle stream", frame(RawFrame::DATA, 0, 5, b"x")),
        ("HEADERS on no stream", frame(RawFrame::HEADERS, 5, 0, b"\x82")),
        ("HEADERS on a server's stream", RawFrame::get(2, "/", &[])),
        ("a frame that is too long", frame(RawFrame::DATA, 0, 1, &vec![0; 16_385])),
        ("a short PING", frame(RawFrame::PING, 0, 0, b"1234567")),
        ("a PING on a stream", frame(RawFrame::PING, 0, 1, b"12345678")),
        ("SETTINGS on a stream", frame(RawFrame::SETTINGS, 0, 1, b"")),
        ("SETTINGS of five bytes", frame(RawFrame::SETTINGS, 0, 0, b"12345")),
        ("more padding than frame", frame(RawFrame::DATA, 8, 1, b"\xffx")),
        ("a continuation of nothing", frame(RawFrame::CONTINUATION, 4, 1, b"")),
        ("a reset of an idle stream", frame(RawFrame::RESET, 0, 7, &[0; 4])),
        ("a push", frame(5, 4, 1, b"\0\0\0\x02\x82")),
        ("a head that can't be unpacked", frame(RawFrame::HEADERS, 5, 1, b"\xff\xff\xff\xff\xff")),
        ("a place that the table doesn't have", frame(RawFrame::HEADERS, 5, 1, b"\xfe")),
        (
            "another frame within a head",
            [frame(RawFrame::HEADERS, 1, 1, b"\x82"), frame(RawFrame::PING, 0, 0, b"12345678")]
                .concat(),
        ),
        ("streams backwards", [RawFrame::get(5, "/", &[]), RawFrame::get(3, "/", &[])].concat()),
        ("a stream twice", [get.clone(), get].concat()),
    ];
    for (what, bytes) in rows {
        let mut client = RawHttp2::open(node.http()).await;
        client.send(&bytes).await;
        let goaway = client.frame_of(RawFrame::GOAWAY).await;
        let goaway =
            goaway.unwrap_or_else(|| panic!("{what}: the connection ended without a word"));
        // Which code it is h2 doesn't tell apart as the RFC does.
        assert_ne!(goaway.error_code(), 0, "{what}");
        while client.frame().await.is_some() {}
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}
