//! Routes: what a URL of the application's own comes to, and what it is refused.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which floats hold exactly")]

use serde_json::json;
use umbel_e2e::{ConfiguredNode, HANDSHAKE, Node, Opcode, Page, World};

const ROUTES: &str = r#"
[limits]
topics_per_stream = 3
payload_bytes = 200

[[topics]]
match = "open.**"
subscribe = "anyone"
publish = "anyone"

[[topics]]
match = "read.*"
subscribe = "anyone"

[[routes]]
path = "/rooms/{room}"
topics = ["open.{room}"]
publish_to = "open.{room}"
stamp = { id = "{message.id}", by = "{session.id}", at = "{message.time}", room = "{room}", as = "{query.as}" }
query.as = { empty = "wait" }

[[routes]]
path = "/closed/{room}"
topics = ["closed.{room}"]

[[routes]]
path = "/read/{room}"
topics = ["read.{room}"]
publish_to = "read.{room}"

[[routes]]
path = "/hears/{room}"
transports = ["websocket"]
topics = ["open.{room}"]
hello = { data = '{"hello":true}' }

[[routes]]
path = "/feeds/{feed}"
transports = ["sse"]
topics = ["open.feeds.{feed}", "open.tags.{query.tag[]}"]
query.tag = { max = 5, empty = "wait" }
event = "update"
hello = { event = "connected", data = "line 1\nline 2" }

[[routes]]
path = "/feeds/one"
transports = ["sse"]
topics = ["open.one.{query.of}"]

[[routes]]
path = "/{a}/{b}"
transports = ["sse"]
topics = ["open.any.{a}.{b}"]
"#;

const SSE: (&str, &str) = ("accept", "text/event-stream");

async fn world() -> World {
    World::new().settings(ROUTES).start().await
}

fn page(node: &Node) -> Page<'_> {
    Page::of("http://localhost:3000", node)
}

#[tokio::test]
async fn the_closest_route_serves_and_the_node_s_own_paths_win() {
    let world = world().await;
    let node = world.node(0);
    let mut feed = node.sse("/feeds/a?tag=x,y&tag=y").await;
    let mut one = node.sse("/feeds/one?of=b").await;
    let mut any = node.sse("/x%79z/1").await;
    let mut topics = node.sse("/topics/open.t").await;
    for topic in ["open.feeds.a", "open.one.b", "open.any.xyz.1", "open.t", "open.tags.y"] {
        node.publish(topic, topic).await;
    }
    assert_eq!(feed.event().await.name, "connected");
    let event = feed.event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("update", "open.feeds.a"));
    assert_eq!(feed.event().await.data, "open.tags.y");
    assert_eq!(one.data().await, "open.one.b");
    assert_eq!(any.data().await, "open.any.xyz.1");
    assert_eq!(topics.data().await, "open.t");
    node.metric_becomes("umbel_subscriptions", 6.0).await;
}

#[tokio::test]
async fn a_default_name_is_the_route_s_and_a_message_s_own_name_stays() {
    let world = world().await;
    let node = world.node(0);
    let mut named = node.sse("/feeds/a").await;
    let mut plain = node.sse("/topics/open.feeds.a").await;
    assert_eq!(named.event().await.data, "line 1\nline 2", "the greeting comes first");
    let mut client = node.client().await;
    client.request("POST", "/topics/open.feeds.a", &[("umbel-event", "own")], b"1").await;
    node.publish("open.feeds.a", "2").await;
    for (stream, names) in [(&mut named, ["own", "update"]), (&mut plain, ["own", "message"])] {
        for (name, data) in names.into_iter().zip(["1", "2"]) {
            let event = stream.event().await;
            assert_eq!((event.name.as_str(), event.data.as_str()), (name, data));
        }
    }
}

#[tokio::test]
async fn a_socket_is_greeted_with_a_text_frame_and_may_not_speak_where_nothing_listens() {
    let world = world().await;
    let node = world.node(0);
    let mut socket = page(node).web_socket("ws://localhost:8080/hears/1").await;
    node.publish("open.1", "first").await;
    assert_eq!(socket.text().await, r#"{"hello":true}"#);
    assert_eq!(socket.text().await, "first");
    socket.send_text("x").await;
    assert_eq!(socket.closed_with(4403).await, "this URL takes no messages");
}

#[tokio::test]
async fn a_stamp_overrides_what_the_client_says() {
    let world = world().await;
    let node = world.node(0);
    let mut sender = page(node).web_socket("ws://localhost:8080/rooms/r1?as=Ann%20B.").await;
    let mut listener = node.sse("/rooms/r1").await;
    let mut ids = Vec::new();
    for forged in
        [r#"{"by":"admin","text":"hi","at":0}"#, r#"{"\u0062y":"admin","by":"admin","text":"hi"}"#]
    {
        sender.send_text(forged).await;
        let text = sender.text().await;
        assert!(!text.contains("admin"), "what was forged is gone: {text}");
        let got: serde_json::Value = serde_json::from_str(&text).unwrap();
        let time = got["at"].as_u64().unwrap();
        assert!(time > 1_700_000_000_000, "{time} is not milliseconds of our days");
        assert_eq!(
            got,
            json!({"text": "hi", "id": got["id"], "by": sender.session(), "at": time, "room": "r1", "as": "Ann B."})
        );
        let heard: serde_json::Value = serde_json::from_str(&listener.data().await).unwrap();
        assert_eq!(heard, got, "everyone gets the same");
        ids.push(got["id"].as_str().unwrap().to_owned());
    }
    assert!(ids[0] < ids[1], "ids sort by time: {ids:?}");
    sender.send_binary(br#"{"by":"admin"}"#).await;
    let frame = sender.message().await;
    assert_eq!(frame.opcode, Opcode::Binary);
    let got: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
    assert_eq!(got["by"], sender.session(), "a binary frame is stamped as well");
}

#[tokio::test]
async fn what_can_t_be_stamped_is_refused_with_a_code() {
    let world = world().await;
    let node = world.node(0);
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(180));
    for (frame, code, reason) in [
        ("hello", 1003, "`open.r` takes another kind: payload is not a JSON object: "),
        ("[{\"by\":\"admin\"}]", 1003, "`open.r` takes another kind: payload is not a JSON object"),
        ("{\"by\":\"admin\",\"x\":NaN}", 1003, "`open.r` takes another kind: "),
        (&large, 1009, "payload is "),
    ] {
        let mut sender = page(node).web_socket("ws://localhost:8080/rooms/r").await;
        sender.send_text(frame).await;
        let told = sender.closed_with(code).await;
        assert!(told.starts_with(reason), "{told}");
    }
    assert_eq!(
        node.metrics().await.value("umbel_messages_received_total{source=\"session\"}"),
        0.0
    );
}

#[tokio::test]
async fn a_route_never_widens_a_rule() {
    let world = world().await;
    let node = world.node(0);
    let answer = node.client().await.request("GET", "/closed/1", &[SSE], b"").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "subscribing to `closed.1` is not allowed")
    );
    let answer = node.client().await.request("GET", "/closed/1", &HANDSHAKE, b"").await;
    assert_eq!(answer.status, 403);
    let mut socket = page(node).web_socket("ws://localhost:8080/closed/1").await;
    assert_eq!(socket.closed_with(4403).await, "subscribing to `closed.1` is not allowed");
    let mut socket = page(node).web_socket("ws://localhost:8080/read/1").await;
    socket.send_text("x").await;
    assert_eq!(socket.closed_with(4403).await, "publishing to `read.1` is not allowed");
}

#[tokio::test]
async fn a_value_that_is_no_segment_is_refused_and_a_page_is_told_with_a_code() {
    let world = world().await;
    let node = world.node(0);
    let one = "it must be one segment of a topic name";
    for (path, reason) in [
        ("/rooms/a.b", format!("{{room}} has '.' at byte 1, {one}")),
        ("/rooms/a%2Fb", format!("{{room}} has '/' at byte 1, {one}")),
        ("/rooms/*", format!("{{room}} has '*' at byte 0, {one}")),
        ("/rooms/%2A%2A", format!("{{room}} has '*' at byte 0, {one}")),
        ("/rooms/", format!("{{room}} is empty, {one}")),
        (
            "/rooms/room%201",
            "`open.room 1` can't be a topic: topic name has ' ' at byte 9, allowed are letters, digits and . _ - : / @ ~ = +".to_owned(),
        ),
        ("/rooms/1?as=a&as=b", "the query has 2 values for `as`, one is allowed".to_owned()),
    ] {
        for headers in [&[SSE][..], &HANDSHAKE] {
            let answer = node.client().await.request("GET", path, headers, b"").await;
            assert_eq!((answer.status, answer.problem()), (400, reason.clone()), "{path}");
        }
        let url = format!("ws://localhost:8080{path}");
        let mut socket = page(node).web_socket(&url).await;
        let told = socket.closed_with(4400).await;
        assert!(reason.starts_with(&told) && told.len() >= reason.len().min(123), "{told}");
    }
    for (path, reason) in [
        ("/feeds/one", "the query has no value for `of`"),
        ("/feeds/one?of=", "the query has no value for `of`"),
        ("/feeds/a?tag=1,2,3,4,5,6", "the query has more than 5 values for `tag`"),
        ("/feeds/a?tag=1,2,3", "4 topics are named, at most 3 are allowed"),
        ("/feeds/%zz", "path has an incomplete percent-encoding at byte 0"),
    ] {
        let answer = node.client().await.request("GET", path, &[SSE], b"").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, reason), "{path}");
    }
    node.metric_becomes("umbel_sessions_closed_total{reason=\"bad_request\"}", 7.0).await;
    node.metric_becomes("umbel_subscriptions", 0.0).await;
}

#[tokio::test]
async fn what_a_route_does_not_offer_is_told() {
    let world = world().await;
    let node = world.node(0);
    for (method, path, headers, status, detail) in [
        ("GET", "/hears/1", &[SSE][..], 200, ""),
        ("GET", "/feeds/a", &HANDSHAKE[..], 400, "/feeds/{feed} is an event stream, no WebSocket"),
        ("GET", "/rooms/1", &[("accept", "application/json")], 400, "/rooms/{room} is a stream"),
        ("GET", "/rooms/1", &[SSE, ("last-event-id", "x")], 200, ""),
        ("POST", "/rooms/1", &[], 405, "this resource takes GET"),
        ("GET", "/rooms/1/2", &[], 404, "there is nothing at /rooms/1/2"),
        ("GET", "/topics/a/b", &[SSE], 400, "a slash of a topic is written %2F in the path"),
        ("GET", "/publish", &[SSE], 405, "this resource takes POST"),
        ("POST", "/", &[], 405, "this resource takes GET, HEAD"),
        ("GET", "/", &HANDSHAKE, 404, "there is nothing at /"),
    ] {
        let mut client = node.client().await;
        client.send(request(method, path, headers).as_bytes()).await;
        let answer = if status == 200 { client.head().await } else { client.answer().await };
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status != 200 {
            assert!(answer.problem().starts_with(detail), "{path}: {}", answer.text());
        }
    }
    let settings = "[[routes]]\npath = \"/a\"\ntransports = [\"websocket\"]\ntopics = [\"a\"]";
    let world = World::new().settings(settings).start().await;
    let answer = world.node(0).client().await.request("GET", "/a", &[SSE], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (426, "/a is a WebSocket"));
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{}\r\n", lines.concat())
}

#[tokio::test]
async fn a_route_at_the_root_leaves_the_page_where_it_is() {
    let settings = "[[routes]]\npath = \"/\"\ntopics = [\"a\"]\npublish_to = \"a\"\necho = false";
    let world = World::new().settings(settings).start().await;
    let node = world.node(0);
    let mut quiet = page(node).web_socket("ws://localhost:8080").await;
    let mut other = page(node).web_socket("ws://localhost:8080/").await;
    let mut stream = node.sse("/").await;
    quiet.send_text("1").await;
    assert_eq!(stream.data().await, "1");
    other.send_text("2").await;
    assert_eq!(quiet.text().await, "2", "its own did not come");
    for accept in ["text/html,*/*;q=0.8", "*/*", "application/json"] {
        let answer = node.client().await.request("GET", "/", &[("accept", accept)], b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{accept}");
    }
    let world = World::new().start().await;
    let answer = world.node(0).client().await.request("GET", "/", &[SSE], b"").await;
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn the_query_of_a_route_is_the_application_s() {
    let world = world().await;
    let node = world.node(0);
    let mut stream = node.sse("/rooms/1?topic=open.2&limit=5&after=x&echo=no").await;
    node.publish("open.2", "not meant").await;
    node.publish("open.1", "meant").await;
    assert_eq!(stream.data().await, "meant");
}

#[tokio::test]
async fn mistakes_in_routes_stop_the_start_with_their_lines() {
    let file = "[[routes]]\npath = \"/chat/{room}\"\ntopic = [\"chat.{rom}\"]\ninitial = \"all\"\n\n[[routes]]\npath = \"/ws\"\ntopics = [\"a\"]\nrequire = \"{a} == {sub}\"\n";
    let arguments = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0"];
    let (code, _, errors) = ConfiguredNode::run(&arguments, &[], Some(file)).await;
    assert_eq!(code, 2);
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        [
            "umbel: umbel.toml:1: `topics` is missing: what do sessions hear?",
            "umbel: umbel.toml:3: routes.topic: unknown key `topic`, did you mean `topics`?",
            "umbel: umbel.toml:4: routes.initial: \"all\" is not latest:N, such as \"latest:1\"",
            "umbel: umbel.toml:7: routes.path: /topics, /topics/…, /publish and /ws are the node's own, choose another path",
            "umbel: umbel.toml:9: routes.require: needs credentials, which this version doesn't check: the URL would be open to everybody",
        ],
    );
}
