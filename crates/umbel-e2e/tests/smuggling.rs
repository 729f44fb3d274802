//! Request smuggling (RFC 9112 sections 2, 5 to 7 and 11.2): bytes that one server may take for one
//! request and another for two.
//!
//! Each row is a request to publish to `open` with another one, to `smuggled`, behind or within it.
//! Whatever the row makes of the first, the second must never be executed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use umbel_e2e::{
    Bystander, HANDSHAKE, HttpClient, Node, SseClient, WebSocketClient, World, request,
};

/// What is hidden. It ends as a request does and holds all of its own body.
const HIDDEN: &str =
    "POST /topics/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nsmuggled";

/// A body in chunks, as it is and as whoever takes it for the whole body sees it.
const CHUNKED: &str = "5\r\nhello\r\n0\r\n\r\n";

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its head is refused and the connection ends.
    Refused,
    /// Its body is: the same, in words.
    Unreadable,
    /// It is executed, alone: the connection ends behind its answer.
    Alone,
    /// It is executed, the hidden request is its body, and the connection goes on.
    Contained,
}

use Fate::{Alone, Contained, Refused, Unreadable};

/// A request to publish to `open` with these further header lines, and what follows.
fn post(headers: &str, rest: &str) -> String {
    format!("POST /topics/open HTTP/1.1\r\nHost: x\r\n{headers}\r\n{rest}")
}

/// The same with a body of five bytes, and the hidden request behind it.
fn hello(headers: &str) -> String {
    post(headers, &format!("hello{HIDDEN}"))
}

/// The same with a body in chunks.
fn chunks(headers: &str) -> String {
    post(headers, &format!("{CHUNKED}{HIDDEN}"))
}

/// The hidden request as the only chunk of a body.
fn one_chunk(headers: &str) -> String {
    post(headers, &format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()))
}

/// A body in chunks that a broken chunk begins.
fn broken_chunk(chunk: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", &format!("{chunk}\r\n0\r\n\r\n{HIDDEN}"))
}

type Row = (&'static str, String, Fate);

/// Sections 6.1 and 6.3: how long the body is.
fn lengths() -> Vec<Row> {
    let length = HIDDEN.len();
    let mut rows = vec![
        (
            "both, the length first",
            chunks("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            Alone,
        ),
        (
            "both, the coding first",
            chunks("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            Alone,
        ),
        (
            "both, the length 0",
            chunks("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
            Alone,
        ),
        (
            "both, the connection to be kept",
            chunks("Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            Alone,
        ),
        (
            "both, the length covers the hidden request",
            chunks(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 15 + length)),
            Alone,
        ),
        (
            "both, the length is none",
            chunks("Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
            Refused,
        ),
        ("two lengths", hello("Content-Length: 5\r\nContent-Length: 6\r\n"), Refused),
        (
            "two lengths, the longer first",
            hello("Content-Length: 6\r\nContent-Length: 5\r\n"),
            Refused,
        ),
    ];
    for value in
        ["5, 5", "5, 6", "+5", "-5", "-1", "0x5", "5 5", "5;", "5.0", "", " ", "\u{ff15}", "five"]
    {
        rows.push((
            "a length that is no number",
            hello(&format!("Content-Length: {value}\r\n")),
            Refused,
        ));
    }
    for value in ["18446744073709551616", "18446744073709551621", "99999999999999999999999999"] {
        rows.push((
            "a length beyond 64 bits",
            hello(&format!("Content-Length: {value}\r\n")),
            Refused,
        ));
    }
    rows
}

/// Section 6.1: which coding the body has.
fn codings() -> Vec<Row> {
    let mut rows = vec![];
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        "chunked ,",
        "\u{b}chunked",
        "",
        "c hunked",
        "chun\u{212a}ed",
    ] {
        let with = |more: &str| format!("Transfer-Encoding: {value}\r\n{more}");
        rows.push(("a coding that doesn't end in chunked", chunks(&with("")), Refused));
        rows.push(("the same beside a length", hello(&with("Content-Length: 5\r\n")), Refused));
        rows.push((
            "chunked, and then that",
            chunks(&format!("Transfer-Encoding: chunked\r\n{}", with(""))),
            Refused,
        ));
    }
    for header in [
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding:chunked",
        "tRANSFER-eNCODING: cHuNkEd",
        "TRANSFER-ENCODING:  CHUNKED  ",
    ] {
        rows.push(("a coding in another spelling", one_chunk(&format!("{header}\r\n")), Contained));
    }
    for header in
        ["Transfer_Encoding: chunked", "Transfer-Encodin: chunked", "X-Transfer-Encoding: chunked"]
    {
        let text = format!("{header}\r\nContent-Length: {}\r\n", HIDDEN.len());
        rows.push(("a header that is another", post(&text, HIDDEN), Contained));
    }
    rows
}

/// Sections 2.2, 3 and 5: lines.
fn lines() -> Vec<Row> {
    let mut rows = vec![];
    for header in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "\tContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding : chunked",
        "X: y\r\n z\r\nContent-Length: 5",
        "X: y\r\n\tz\r\nContent-Length: 5",
        "Content-Length:\r\n 5",
        "X: y\rContent-Length: 5",
        "X: y\0z\r\nContent-Length: 5",
        "X\0: y\r\nContent-Length: 5",
        "X\r: y\r\nContent-Length: 5",
        "\u{e9}: y\r\nContent-Length: 5",
        ": y\r\nContent-Length: 5",
        "X\r\nContent-Length: 5",
        "X: y\u{7f}\r\nContent-Length: 5",
        "Content-Length: 5\r\n\rX: y",
    ] {
        rows.push(("a header line that is none", hello(&format!("{header}\r\n")), Refused));
    }
    rows.push(("a coding on a folded line", chunks("Transfer-Encoding:\r\n chunked\r\n"), Refused));
    for line in [
        "POST  /topics/open HTTP/1.1",
        "POST /topics/open  HTTP/1.1",
        "POST\t/topics/open\tHTTP/1.1",
        "POST /topics/open b HTTP/1.1",
        "POST /topics/open HTTP/1.1 ",
        " POST /topics/open HTTP/1.1",
        "POST /topics/open HTTP/1.2",
        "POST /topics/open HTTP/2.0",
        "POST /topics/open http/1.1",
        "POST /topics/open HTTP/1.1\rX: y",
        "POST /topics/open",
        "PO ST /topics/open HTTP/1.1",
        "POST /topics/open\0 HTTP/1.1",
        "POST topics/open HTTP/1.1",
        "POST \u{7f}/topics/open HTTP/1.1",
    ] {
        let text = format!("{line}\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello{HIDDEN}");
        rows.push(("a request line that is none", text, Refused));
    }
    // Section 2.2 lets a recipient take a lone LF for the end of a line; then it does so everywhere.
    let length = HIDDEN.len();
    rows.push((
        "lines that end with LF alone",
        format!("POST /topics/open HTTP/1.1\nHost: x\nContent-Length: {length}\n\n{HIDDEN}"),
        Contained,
    ));
    rows.push((
        "a coding behind a lone LF",
        one_chunk("X: y\nTransfer-Encoding: chunked\r\n"),
        Contained,
    ));
    rows.push((
        "blank lines before a request",
        format!("\r\n\r\n{}", post(&format!("Content-Length: {length}\r\n"), HIDDEN)),
        Contained,
    ));
    rows
}

/// Section 7.1: chunks.
fn chunk_sizes() -> Vec<Row> {
    let mut rows = vec![];
    for chunk in [
        "5\nhello",
        "5\rhello",
        "5\r\rhello",
        "5;x\nhello",
        "5;x\ry\r\nhello",
        "0x5\r\nhello",
        "+5\r\nhello",
        "-5\r\nhello",
        " 5\r\nhello",
        "\r\nhello",
        ";x\r\nhello",
        "g\r\nhello",
        "5,\r\nhello",
        "\u{ff15}\r\nhello",
        "5\0\r\nhello",
        // Sizes that a smaller number takes for 5.
        "10000000000000005\r\nhello",
        "fffffffffffffffff\r\nhello",
        "100000000000000000000000000000005\r\nhello",
        // What follows the data isn't the end of the chunk.
        "5\r\nhello!",
        "5\r\nhello!!",
        "4\r\nhello",
        "5\r\nhello\n0\n\n",
    ] {
        rows.push(("a chunk that is none", broken_chunk(chunk), Unreadable));
    }
    let length = HIDDEN.len();
    for size in [
        format!("{length:x};a=b"),
        format!("{length:X};a=\"b;c\""),
        format!("000000{length:x}"),
        format!("{length:x} "),
    ] {
        rows.push((
            "a size in another spelling",
            post("Transfer-Encoding: chunked\r\n", &format!("{size}\r\n{HIDDEN}\r\n0\r\n\r\n")),
            Contained,
        ));
    }
    rows.push((
        "trailers that speak of the body",
        post(
            "Transfer-Encoding: chunked\r\n",
            &format!("{length:x}\r\n{HIDDEN}\r\n0\r\nContent-Length: 500\r\nTransfer-Encoding: identity\r\n\r\n"),
        ),
        Contained,
    ));
    rows.push((
        "a trailer that is none",
        post(
            "Transfer-Encoding: chunked\r\n",
            &format!("5\r\nhello\r\n0\r\nno trailer\r\n\r\n{HIDDEN}"),
        ),
        Unreadable,
    ));
    rows
}

/// HTTP/1.0, and where a request goes.
fn versions_and_targets() -> Vec<Row> {
    let old = |headers: &str, rest: &str| {
        format!("POST /topics/open HTTP/1.0\r\nHost: x\r\n{headers}\r\n{rest}")
    };
    let length = HIDDEN.len();
    let to = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{HIDDEN}")
    };
    vec![
        (
            "1.0 with a coding",
            old("Transfer-Encoding: chunked\r\n", &format!("{CHUNKED}{HIDDEN}")),
            Refused,
        ),
        (
            "1.0 with both",
            old(
                "Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                &format!("{CHUNKED}{HIDDEN}"),
            ),
            Refused,
        ),
        ("1.0 isn't kept", old("Content-Length: 5\r\n", &format!("hello{HIDDEN}")), Alone),
        ("a connection that is to end", hello("Connection: close\r\nContent-Length: 5\r\n"), Alone),
        (
            "a connection that is to end and to be kept",
            hello("Connection: close\r\nConnection: keep-alive\r\nContent-Length: 5\r\n"),
            Alone,
        ),
        // Section 3.2.2: the target's host counts, and this node serves any.
        ("another host in the target", to("http://elsewhere/topics/open"), Contained),
        ("a target with a fragment", to("/topics/open#/topics/smuggled"), Contained),
        (
            "hop by hop headers named in Connection",
            post(&format!("Connection: Content-Length\r\nContent-Length: {length}\r\n"), HIDDEN),
            Contained,
        ),
    ]
}

/// Who listens to what is published.
struct Listeners {
    open: WebSocketClient,
    smuggled: WebSocketClient,
}

impl Listeners {
    async fn of(node: &Node) -> Self {
        Self { open: node.subscribe("open").await, smuggled: node.subscribe("smuggled").await }
    }

    /// What they hear next is what is published now.
    async fn hear_nothing_else(&mut self, node: &Node, what: &str) {
        for (topic, listener) in [("open", &mut self.open), ("smuggled", &mut self.smuggled)] {
            node.publish(topic, "end of the row").await;
            assert_eq!(listener.text().await, "end of the row", "{what}, heard by {topic}");
        }
    }
}

/// Sends a row and checks what becomes of it.
async fn check(node: &Node, listeners: &mut Listeners, (name, bytes, fate): &Row) {
    let what =
        format!("{name}: {:?}", String::from_utf8_lossy(&bytes.as_bytes()[..bytes.len().min(150)]));
    let mut client = node.client().await;
    client.send(bytes.as_bytes()).await;
    let answer = client.answer().await;
    let status = match fate {
        Refused | Unreadable => 400,
        Alone | Contained => 200,
    };
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    match fate {
        Refused => assert_eq!(answer.header("connection"), Some("close"), "{what}"),
        Unreadable => assert!(answer.problem().starts_with("body can't be read"), "{what}"),
        Alone => assert_eq!(listeners.open.text().await, "hello", "{what}"),
        Contained => {
            assert_eq!(listeners.open.text().await, HIDDEN, "{what}");
            assert_eq!(client.get("/").await.status, 200, "{what}: the connection goes on");
        }
    }
    if *fate != Contained {
        assert!(client.ends().await, "{what}: the connection ends");
    }
    listeners.hear_nothing_else(node, &what).await;
}

async fn check_all(rows: Vec<Row>) {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listeners = Listeners::of(node).await;
    for row in &rows {
        check(node, &mut listeners, row).await;
    }
    drop(listeners);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_body_has_one_length() {
    check_all(lengths()).await;
}

#[tokio::test]
async fn a_coding_is_chunked_or_refused() {
    check_all(codings()).await;
}

#[tokio::test]
async fn lines_are_what_they_look_like() {
    check_all(lines()).await;
}

#[tokio::test]
async fn chunks_are_what_they_say() {
    check_all(chunk_sizes()).await;
}

#[tokio::test]
async fn old_versions_and_other_targets_hide_nothing() {
    check_all(versions_and_targets()).await;
}

/// A request for a stream with further header lines, and the hidden request behind it.
fn stream(version: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let head = request("GET", "/topics/open", headers, b"");
    let head = String::from_utf8(head).unwrap().replace("HTTP/1.1", version);
    (head + HIDDEN).into_bytes()
}

#[tokio::test]
async fn behind_an_upgrade_come_frames_and_no_requests() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listeners = Listeners::of(node).await;
    let mut client = node.client().await;
    client.send(&stream("HTTP/1.1", &HANDSHAKE)).await;
    let mut session = WebSocketClient::after_request(client).await;
    assert_eq!(session.closed_with(1002).await, "a client's frame isn't masked");
    listeners.hear_nothing_else(node, "an upgrade").await;
    drop((session, listeners));
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn behind_the_request_for_an_event_stream_nothing_is_read() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listeners = Listeners::of(node).await;
    let mut streams = Vec::new();
    for (version, headers) in [
        ("HTTP/1.1", &[][..]),
        ("HTTP/1.1", &[("content-length", "0")]),
        ("HTTP/1.0", &[("connection", "keep-alive")]),
    ] {
        let mut client = node.client().await;
        client.send(&stream(version, headers)).await;
        // More of it, once the stream is open.
        let mut stream = SseClient::after_request(client).await;
        stream.send(HIDDEN.repeat(1000).as_bytes()).await;
        streams.push(stream);
    }
    listeners.hear_nothing_else(node, "a stream").await;
    for stream in &mut streams {
        assert_eq!(stream.data().await, "end of the row");
    }
    drop((streams, listeners));
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

#[tokio::test]
async fn a_body_that_nobody_wanted_is_no_request() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listeners = Listeners::of(node).await;
    let length = HIDDEN.len().to_string();
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let bodies =
        [("content-length", length.as_str(), HIDDEN), ("transfer-encoding", "chunked", &chunk)];
    for (method, path, upgrade, status) in [
        ("GET", "/topics/open", false, 400),
        ("GET", "/topics/open", true, 400),
        ("GET", "/ws", true, 400),
        ("GET", "/", false, 200),
        ("HEAD", "/", false, 200),
        ("POST", "/nothing", false, 404),
        ("PUT", "/topics/open", false, 405),
        ("DELETE", "/publish", false, 405),
        ("POST", "/topics/a%20b", false, 400),
    ] {
        for (header, value, body) in bodies {
            let mut headers = vec![(header, value)];
            if upgrade {
                headers.extend(HANDSHAKE);
            }
            let mut client = node.client().await;
            client.send(&[&request(method, path, &headers, b""), body.as_bytes()].concat()).await;
            let what = format!("{method} {path} {headers:?}");
            let answer = if method == "HEAD" { client.head().await } else { client.answer().await };
            assert_eq!(answer.status, status, "{what}");
            goes_on_or_ends(&mut client, &what).await;
            listeners.hear_nothing_else(node, &what).await;
        }
    }
    drop(listeners);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// The next answer is that to the next request, or the connection ends.
async fn goes_on_or_ends(client: &mut HttpClient, what: &str) {
    if client.try_send(&request("GET", "/ends-the-test", &[], b"")).await.is_err()
        || client.ends().await
    {
        return;
    }
    let answer = client.answer().await;
    assert!(answer.text().contains("ends-the-test"), "{what}: {}", answer.text());
}

/// Nothing but WebSocket is what a connection can become.
#[tokio::test]
async fn a_connection_stays_what_it_is() {
    let world = World::new().start().await;
    let node = world.node(0);
    let h2c = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    for (method, target, headers, status) in [
        ("GET", "/", &h2c[..], 200),
        ("CONNECT", "localhost:80", &[], 404),
        ("OPTIONS", "*", &[], 404),
        ("TRACE", "/", &[], 405),
        ("PRI", "*", &[], 404),
    ] {
        let mut client = node.client().await;
        let answer = client.request(method, target, headers, b"").await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert_eq!(client.get("/").await.status, 200, "{method} {target}: the connection goes on");
    }
    node.is_left_empty().await;
}

/// A chunk may claim to be as long as it likes; the body's limit holds.
#[tokio::test]
async fn a_chunk_of_64_bits_is_cut_off_at_the_limit() {
    let world = World::new().start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    let mut listeners = Listeners::of(node).await;
    let mut client = node.client().await;
    let rest = format!("ffffffffffffffff\r\n{}", HIDDEN.repeat(1000));
    let _ = client.try_send(post("Transfer-Encoding: chunked\r\n", &rest).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (413, "body is longer than 65536 bytes")
    );
    assert!(client.ends().await);
    listeners.hear_nothing_else(node, "a long chunk").await;
    drop(listeners);
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// RFC 9112 section 3.2.
#[tokio::test]
async fn a_request_names_one_host() {
    let world = World::new().start().await;
    let node = world.node(0);
    for headers in
        ["", "Host: x\r\nHost: x\r\n", "Host: x\r\nHost: y\r\n", "Host: x y\r\n", "Host: x/@y\r\n"]
    {
        let mut client = node.client().await;
        client.send(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.status, 400, "{headers:?}");
    }
}

/// RFC 9112 section 6.1.
#[tokio::test]
async fn a_coding_that_the_node_doesn_t_take_off_is_refused() {
    let world = World::new().start().await;
    let node = world.node(0);
    for value in [
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        ", chunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let mut client = node.client().await;
        let bytes = post(&format!("Transfer-Encoding: {value}\r\n"), CHUNKED);
        client.send(bytes.as_bytes()).await;
        let status = client.answer().await.status;
        assert!(matches!(status, 400 | 501), "{value:?} is answered with {status}");
        assert!(client.ends().await, "{value:?}");
    }
}
