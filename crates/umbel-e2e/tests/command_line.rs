//! The commands, as one uses them in a shell.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use serde_json::{Value, json};
use umbel_e2e::{ConfiguredNode, Fault, Node, Program, Proxy, Redis, World};

/// The oldest messages of a slow consumer are dropped.
const DROPPING: &str = "\
[limits]
behind_bytes = 200000
[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
on_slow = \"drop\"
";

/// Topics with history, and others.
const HISTORY: &str = "\
[[topics]]
match = \"chat.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 3, seconds = 300 }
[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
";

const TRANSPORTS: [&str; 2] = ["ws", "sse"];

fn url(node: &Node) -> String {
    format!("http://{}", node.http())
}

/// `umbel subscribe`, once it has said that it is subscribed.
async fn subscribe(node: &Node, arguments: &[&str]) -> Program {
    subscribe_at(&url(node), arguments).await
}

async fn subscribe_at(url: &str, arguments: &[&str]) -> Program {
    let mut program = Program::start(&[&["subscribe", "--url", url], arguments].concat());
    program.says("subscribed to").await;
    program
}

/// A line to a node that can be cut, and the node's URL over it.
async fn proxied(node: &Node) -> (Proxy, String) {
    let proxy = Proxy::before(node.http().port()).await;
    let url = format!("http://{}", proxy.address());
    (proxy, url)
}

/// Cuts the line, and waits until the subscriber has lost its session.
async fn cut(proxy: &Proxy, subscriber: &mut Program) {
    proxy.set(Fault::Cut);
    subscriber.says("coming back in").await;
}

async fn publish(node: &Node, arguments: &[&str], input: &[u8]) -> umbel_e2e::Output {
    Program::run(&[&["publish", "--url", &url(node)], arguments].concat(), input).await
}

#[track_caller]
fn succeeded(output: &umbel_e2e::Output) {
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}

/// Nothing on the standard output, one line with this text on the standard error.
#[track_caller]
fn failed(output: &umbel_e2e::Output, code: i32, text: &str) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.starts_with("umbel: ") && output.stderr.contains(text), "{output:?}");
}

/// A line of JSON but for its `time`, which must be a number.
fn without_time(line: &str) -> Value {
    let mut object: Value = serde_json::from_str(line).unwrap();
    let time = object.as_object_mut().unwrap().remove("time");
    assert!(time.is_none_or(|time| time.is_u64()), "{line}");
    object
}

fn with_topic(topic: &str, mut fields: Value) -> Value {
    fields["topic"] = topic.into();
    fields
}

#[tokio::test]
async fn what_is_published_is_printed_by_subscribers_of_both_transports() {
    let world = World::new().start().await;
    let node = world.node(0);
    for transport in TRANSPORTS {
        let mut subscriber =
            subscribe(node, &["a/b", "--transport", transport, "--count", "4"]).await;
        let output = publish(node, &["a/b", "hello"], b"").await;
        succeeded(&output);
        assert_eq!(output.stdout, "published to a/b, received by 1 node with subscribers\n");
        succeeded(&publish(node, &["a/b", "{\"x\": 1}", "--event", "typed"], b"").await);
        succeeded(&publish(node, &["a/b", "-", "--binary"], b"\xff\0").await);
        succeeded(&publish(node, &["a/b"], "two\nlines".as_bytes()).await);
        for line in ["hello", "{\"x\": 1}", "base64:/wA=", "two", "lines"] {
            assert_eq!(subscriber.line().await, line, "{transport}");
        }
        succeeded(&subscriber.finish().await);
        node.metric_becomes("umbel_subscriptions", 0.0).await;
    }
    let output = publish(node, &["a/b", "nobody hears"], b"").await;
    assert_eq!(output.stdout, "published to a/b, received by 0 nodes with subscribers\n");
}

#[tokio::test]
async fn json_shows_all_that_the_transport_knows() {
    let world = World::new().start().await;
    let node = world.node(0);
    for transport in TRANSPORTS {
        let mut subscriber = subscribe(node, &["a", "--json", "--transport", transport]).await;
        for arguments in [
            &["a", "42"][..],
            &["a", "42", "--json"],
            &["a", "[1]", "--text", "--event", "e"],
            &["a", "x", "--binary", "--event", "e"],
        ] {
            succeeded(&publish(node, arguments, b"").await);
        }
        // SSE has no time and doesn't say what is text and what is JSON.
        let (has_time, number, list) = match transport {
            "ws" => (true, json!({"data": 42}), json!({"event": "e", "text": "[1]"})),
            _ => (false, json!({"text": "42"}), json!({"event": "e", "data": [1]})),
        };
        let binary = json!({"event": "e", "base64": "eA=="});
        for fields in [json!({"text": "42"}), number, list, binary] {
            let line = subscriber.line().await;
            assert_eq!(line.contains("\"time\":"), has_time, "{line}");
            assert_eq!(without_time(&line), with_topic("a", fields));
        }
    }
}

#[tokio::test]
async fn several_topics_are_told_apart_where_the_transport_can() {
    let world = World::new().start().await;
    let node = world.node(0);
    for (transport, lines) in [("ws", ["a\tx", "b\ty"]), ("sse", ["x", "y"])] {
        let mut subscriber =
            subscribe(node, &["a", "b", "--transport", transport, "--count", "2"]).await;
        succeeded(&publish(node, &["a", "x"], b"").await);
        succeeded(&publish(node, &["b", "y"], b"").await);
        assert_eq!([subscriber.line().await, subscriber.line().await], lines);
        succeeded(&subscriber.finish().await);
    }
}

#[tokio::test]
async fn each_line_is_a_message_in_order_and_as_it_comes() {
    let world = World::new().start().await;
    let node = world.node(0);
    let mut subscriber = subscribe(node, &["log"]).await;
    let mut publisher = Program::start(&["publish", "log", "--lines", "--url", &url(node)]);
    for number in 0..50 {
        publisher.write(format!("line {number}\n").as_bytes()).await;
        assert_eq!(subscriber.line().await, format!("line {number}"));
    }
    let many: Vec<_> = (0..500).map(|number| number.to_string()).collect();
    publisher.write(format!("{}\n\nlast", many.join("\n")).as_bytes()).await;
    let output = publisher.finish().await;
    succeeded(&output);
    assert_eq!(output.stdout, "published 552 messages to log\n");
    for number in many {
        assert_eq!(subscriber.line().await, number);
    }
    assert_eq!(subscriber.line().await, "");
    assert_eq!(subscriber.line().await, "last");
    node.metric_becomes("umbel_publish_requests_total{status=\"200\"}", 552.0).await;
}

#[tokio::test]
async fn lines_go_over_one_connection_and_over_another_once_it_was_closed() {
    let mut world = World::new().start().await;
    let target = url(world.node(0));
    let mut publisher = Program::start(&["publish", "log", "--lines", "--url", &target]);
    publisher.write(b"1\n2\n3\n").await;
    let node = world.node(0);
    node.metric_becomes("umbel_messages_received_total{source=\"http\"}", 3.0).await;
    node.metric_becomes("umbel_connections_accepted_total", 1.0).await;
    world.node_mut(0).restart().await;
    let node = world.node(0);
    let mut subscriber = subscribe(node, &["log"]).await;
    publisher.write(b"4\n").await;
    assert_eq!(subscriber.line().await, "4");
    assert_eq!(publisher.finish().await.stdout, "published 4 messages to log\n");
}

#[tokio::test]
async fn the_first_line_that_is_refused_ends_it() {
    let world = World::new().settings("[limits]\npayload_bytes = 5\n").start().await;
    let node = world.node(0);
    let mut subscriber = subscribe(node, &["log"]).await;
    let output = publish(node, &["log", "--lines"], b"good\ntoo long\nnever\n").await;
    let refusal = "line 2, those before it were published: the node refused with 413: body is longer than 5 bytes";
    failed(&output, 1, refusal);
    assert_eq!(subscriber.line().await, "good");
    succeeded(&publish(node, &["log", "next"], b"").await);
    assert_eq!(subscriber.line().await, "next");
}

#[tokio::test]
async fn refusals_are_one_line_and_an_exit_code() {
    let rules = "[[topics]]\nmatch = \"open\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\nkind = \"json\"\n\n\
                 [[topics]]\nmatch = \"shut\"\n";
    let world = World::new().settings(rules).start().await;
    let node = world.node(0);
    for (arguments, code, text) in [
        (&["a b", "x"][..], 2, "`a b`: topic name has ' ' at byte 1"),
        (&["open", "x", "--lines"], 2, "--lines reads the standard input"),
        (&["open", "x", "--event", "umbel.x"], 2, "are reserved"),
        (&["open", "x", "--url", "news"], 2, "`news` is not a URL such as"),
        (&["open", "x", "--url", "https://127.0.0.1"], 2, "needs TLS"),
        (&["open", "x"], 1, "the node refused with 400: payload is not JSON"),
        (&["shut", "{}"], 1, "the node refused with 403: publishing to `shut` is not allowed"),
        (
            &["open", "{}", "--url", "http://127.0.0.1:1"],
            1,
            "can't connect to http://127.0.0.1:1: Connection refused",
        ),
    ] {
        let output = if arguments.contains(&"--url") {
            Program::run(&[&["publish"], arguments].concat(), b"").await
        } else {
            publish(node, arguments, b"").await
        };
        failed(&output, code, text);
    }
    for transport in TRANSPORTS {
        for (topic, url, code, text) in [
            ("a..b", url(node), 2, "`a..b`: topic name has an empty segment"),
            ("open", "redis://127.0.0.1".to_owned(), 2, "messages come from a node"),
            ("open", "http://127.0.0.1:1".to_owned(), 1, "can't connect to http://127.0.0.1:1"),
            ("shut", url(node), 1, "subscribing to `shut` is not allowed"),
            ("open", format!("{}/elsewhere", url(node)), 1, "the node refused with 404"),
        ] {
            let arguments = ["subscribe", topic, "--url", &url, "--transport", transport];
            failed(&Program::run(&arguments, b"").await, code, text);
        }
    }
}

#[tokio::test]
async fn what_answers_must_be_a_node() {
    let world = World::new().start().await;
    // The admin listener speaks HTTP, but not this.
    let admin = format!("http://{}", world.node(0).admin());
    failed(&Program::run(&["publish", "a", "x", "--url", &admin], b"").await, 1, "refused with 4");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for command in
        [&["publish", "a", "x"][..], &["subscribe", "a"], &["subscribe", "a", "--transport", "sse"]]
    {
        let arguments = [command, &["--url", &silent, "--timeout-seconds", "1"]].concat();
        failed(&Program::run(&arguments, b"").await, 1, "the node's answer didn't come within 1 s");
    }
}

#[tokio::test]
async fn a_subscriber_comes_back_after_the_node_was_restarted() {
    for transport in TRANSPORTS {
        let mut world = World::new().start().await;
        let mut subscriber = subscribe(world.node(0), &["a", "--transport", transport]).await;
        succeeded(&publish(world.node(0), &["a", "before"], b"").await);
        assert_eq!(subscriber.line().await, "before");
        world.node_mut(0).restart().await;
        let lost = subscriber.says("coming back in").await;
        if transport == "ws" {
            assert!(lost.contains("closed the session with 1012: reconnect"), "{lost}");
        }
        subscriber.says("subscribed again; what was published to a in between is missing").await;
        succeeded(&publish(world.node(0), &["a", "after"], b"").await);
        assert_eq!(subscriber.line().await, "after", "{transport}");
    }
}

async fn lines(subscriber: &mut Program, count: usize) -> Vec<String> {
    let mut lines = Vec::with_capacity(count);
    for _ in 0..count {
        lines.push(subscriber.line().await);
    }
    lines
}

async fn goes_on_where_it_was(node: &Node, transport: &str, topic: &str, begin: &[&str]) {
    let (proxy, proxied) = proxied(node).await;
    node.publish(topic, "early").await;
    let arguments = [&[topic, "--transport", transport], begin].concat();
    let mut subscriber = subscribe_at(&proxied, &arguments).await;
    if !begin.is_empty() {
        assert_eq!(subscriber.line().await, "early");
    }
    // Cut where it began, and behind a message.
    for (away, back) in [("1", "2"), ("3", "4")] {
        cut(&proxy, &mut subscriber).await;
        node.publish(topic, away).await;
        proxy.set(Fault::None);
        subscriber.says("subscribed again; nothing is missing").await;
        assert_eq!(subscriber.line().await, away, "{transport}");
        node.publish(topic, back).await;
        assert_eq!(subscriber.line().await, back, "{transport}");
    }
    subscriber.signal("TERM");
    let output = subscriber.finish().await;
    succeeded(&output);
    assert_eq!(output.stdout, "", "nothing came twice");
}

#[tokio::test]
async fn a_subscriber_goes_on_where_it_was_when_its_connection_was_cut() {
    let world = World::new().settings(HISTORY).start().await;
    let node = world.node(0);
    let from_0 = ["--after", "0"];
    tokio::join!(
        goes_on_where_it_was(node, "ws", "chat.1", &[]),
        goes_on_where_it_was(node, "sse", "chat.2", &[]),
        goes_on_where_it_was(node, "ws", "chat.3", &from_0),
        goes_on_where_it_was(node, "sse", "chat.4", &from_0),
    );
}

/// Those of `topics` that have history go on; of `live` the subscriber says what `missing` is.
async fn names_what_is_live(node: &Node, transport: &str, topics: [&str; 3], missing: &str) {
    let [.., live] = topics;
    let (proxy, proxied) = proxied(node).await;
    let arguments = [&topics[..], &["--json", "--transport", transport]].concat();
    let mut subscriber = subscribe_at(&proxied, &arguments).await;
    let text_of = |line: String| without_time(&line)["text"].as_str().unwrap().to_owned();
    for topic in topics {
        node.publish(topic, &format!("before {topic}")).await;
        assert_eq!(text_of(subscriber.line().await), format!("before {topic}"));
    }
    cut(&proxy, &mut subscriber).await;
    for topic in topics {
        node.publish(topic, &format!("away {topic}")).await;
    }
    proxy.set(Fault::None);
    let again = subscriber.says("subscribed again").await;
    assert_eq!(again, format!("umbel: subscribed again; {missing}\n"), "{transport}");
    let with_history = topics.into_iter().filter(|topic| topic.starts_with("chat."));
    let away: Vec<_> = with_history.map(|topic| format!("away {topic}")).collect();
    let lines = lines(&mut subscriber, away.len()).await;
    let mut texts: Vec<_> = lines.into_iter().map(text_of).collect();
    // Topics have no common order.
    texts.sort();
    assert_eq!(texts, away, "{transport}");
    node.publish(live, "after").await;
    assert_eq!(text_of(subscriber.line().await), "after", "{transport}");
}

#[tokio::test]
async fn of_several_topics_those_with_history_go_on_and_the_others_are_named() {
    let world = World::new().settings(HISTORY).start().await;
    let node = world.node(0);
    let several = "what was published to live.1, live.2 in between is missing";
    // The ids of a stream over one topic with history don't say which it is.
    let unnamed = "what was published in between to topics without history is missing";
    tokio::join!(
        names_what_is_live(
            node,
            "ws",
            ["chat.1", "chat.2", "live.0"],
            "what was published to live.0 in between is missing"
        ),
        names_what_is_live(
            node,
            "sse",
            ["chat.3", "chat.4", "live.3"],
            "what was published to live.3 in between is missing"
        ),
        names_what_is_live(node, "ws", ["chat.5", "live.1", "live.2"], several),
        names_what_is_live(node, "sse", ["chat.6", "live.4", "live.5"], unnamed),
    );
}

#[tokio::test]
async fn what_a_restarted_node_has_lost_is_told_as_a_gap() {
    for transport in TRANSPORTS {
        let mut world = World::new().settings(HISTORY).start().await;
        let arguments = ["chat.2", "live", "chat.1", "--transport", transport];
        let mut subscriber = subscribe(world.node(0), &arguments).await;
        world.node(0).publish("chat.1", "before").await;
        subscriber.line().await;
        // The memory broker's history ends with its node: nobody knows any more that chat.2 had none.
        world.node_mut(0).restart().await;
        let again = subscriber.says("subscribed again").await;
        let missing =
            "there is a gap in chat.2, chat.1; what was published to live in between is missing";
        assert_eq!(again, format!("umbel: subscribed again; {missing}\n"), "{transport}");
        subscriber.says("gap: messages of chat.1 may be missing (unknown_epoch)").await;
        world.node(0).publish("chat.1", "after").await;
        assert!(subscriber.line().await.ends_with("after"), "{transport}");
    }
}

#[tokio::test]
async fn what_redis_holds_comes_also_from_a_restarted_node() {
    let redis = Redis::start(&[]).await;
    let mut world = World::new().broker(&redis.url()).settings(HISTORY).start().await;
    for (transport, topic) in TRANSPORTS.into_iter().zip(["chat.1", "chat.2"]) {
        let (proxy, proxied) = proxied(world.node(0)).await;
        let mut subscriber = subscribe_at(&proxied, &[topic, "--transport", transport]).await;
        world.node(0).publish(topic, "before").await;
        assert_eq!(subscriber.line().await, "before");
        cut(&proxy, &mut subscriber).await;
        world.node_mut(0).restart().await;
        let key = format!("umbel:{topic}");
        redis.command(&["FCALL", "umbel_publish", "1", &key, "meanwhile"]).await;
        proxy.set(Fault::None);
        subscriber.says("subscribed again; nothing is missing").await;
        world.node(0).publish(topic, "after").await;
        assert_eq!(lines(&mut subscriber, 2).await, ["meanwhile", "after"], "{transport}");
    }
}

async fn is_told_what_is_too_old(node: &Node, transport: &str, topic: &str) {
    let (proxy, proxied) = proxied(node).await;
    let mut subscriber = subscribe_at(&proxied, &[topic, "--transport", transport]).await;
    node.publish(topic, "0").await;
    assert_eq!(subscriber.line().await, "0");
    cut(&proxy, &mut subscriber).await;
    for number in 1..6 {
        node.publish(topic, &number.to_string()).await;
    }
    proxy.set(Fault::None);
    subscriber.says(&format!("subscribed again; there is a gap in {topic}")).await;
    subscriber.says(&format!("gap: messages of {topic} are missing (too_old)")).await;
    assert_eq!(lines(&mut subscriber, 3).await, ["3", "4", "5"], "{transport}");
    // Who was told goes on behind the gap.
    cut(&proxy, &mut subscriber).await;
    proxy.set(Fault::None);
    subscriber.says("subscribed again; nothing is missing").await;
}

#[tokio::test]
async fn messages_that_history_has_no_more_are_told_as_missing() {
    let world = World::new().settings(HISTORY).start().await;
    let node = world.node(0);
    tokio::join!(
        is_told_what_is_too_old(node, "ws", "chat.1"),
        is_told_what_is_too_old(node, "sse", "chat.2"),
    );
}

#[tokio::test]
async fn a_subscriber_begins_where_it_is_told() {
    let world = World::new().settings(HISTORY).start().await;
    let node = world.node(0);
    let mut earlier = subscribe(node, &["chat.1", "chat.2", "--transport", "sse", "--json"]).await;
    for (topic, text) in [("chat.1", "a"), ("chat.2", "b"), ("chat.1", "c"), ("chat.2", "d")] {
        node.publish(topic, text).await;
    }
    earlier.line().await;
    let id_in = |line: String| {
        let object: Value = serde_json::from_str(&line).unwrap();
        object["message_id"].as_str().unwrap().to_owned()
    };
    let behind_b = id_in(earlier.line().await);
    let mut of_one = subscribe(node, &["chat.1", "--json", "--after", "0"]).await;
    let behind_a = id_in(of_one.line().await);
    for (transport, topics, after, expected) in [
        ("ws", &["chat.1"][..], "0", &["a", "c"][..]),
        ("sse", &["chat.1"], "0", &["a", "c"]),
        ("ws", &["chat.1"], &behind_a, &["c"]),
        ("sse", &["chat.1"], &behind_a, &["c"]),
        ("ws", &["chat.1", "chat.2"], "0", &["chat.1\ta", "chat.1\tc", "chat.2\tb", "chat.2\td"]),
        ("ws", &["chat.1", "chat.2"], "latest:1", &["chat.1\tc", "chat.2\td"]),
        ("sse", &["chat.1", "chat.2", "live"], "latest:1", &["c", "d"]),
        ("sse", &["chat.2", "chat.1"], &behind_b, &["c", "d"]),
    ] {
        let arguments = [topics, &["--transport", transport, "--after", after]].concat();
        let mut subscriber = subscribe(node, &arguments).await;
        let mut lines = lines(&mut subscriber, expected.len()).await;
        if topics.len() > 1 {
            lines.sort();
        }
        assert_eq!(lines, expected, "{transport} {topics:?} {after}");
    }
    // From elsewhere.
    for transport in TRANSPORTS {
        let foreign = ["chat.1", "--transport", transport, "--after", "00000000deadbeef-1"];
        let mut subscriber = subscribe(node, &foreign).await;
        subscriber.says("gap: messages of chat.1 may be missing (unknown_epoch)").await;
        assert_eq!(lines(&mut subscriber, 2).await, ["a", "c"]);
    }
}

#[tokio::test]
async fn a_place_that_can_not_hold_is_refused() {
    let world = World::new().settings(HISTORY).start().await;
    let target = url(world.node(0));
    let id = "00000000000000ab-7";
    for (transport, topics, after, code, text) in [
        ("ws", &["chat.1"][..], "x", 2, "--after: cursor is neither 0, a message id"),
        ("sse", &["chat.1"], "latest:-1", 2, "--after: latest: takes a number from 0 to"),
        ("sse", &["chat.1"], "AQAB", 2, "--after: composite cursor ends within a topic"),
        ("ws", &["chat.1", "chat.2"], id, 2, "--after: a message id is a place in one topic"),
        ("ws", &["chat.1"], "AQB3LSoAAAAAAAAAqwc", 2, "is for SSE: --transport sse"),
        // What only the node knows.
        ("sse", &["chat.1", "chat.2"], id, 1, "the node refused with 400: `after` is the position"),
        ("sse", &["live"], "0", 1, "the node refused with 400: `after` needs a topic with history"),
        ("ws", &["live"], "0", 1, "the node refused (no_history): topic `live` keeps no history"),
    ] {
        let options = ["--url", &target, "--transport", transport, "--after", after];
        let arguments = [&["subscribe"], topics, &options].concat();
        failed(&Program::run(&arguments, b"").await, code, text);
    }
}

#[tokio::test]
async fn a_node_that_hangs_is_noticed_by_its_silence() {
    let world = World::new().settings("[node]\nheartbeat_seconds = 1\n").start().await;
    let node = world.node(0);
    // Of three heartbeats a WebSocket knows by its welcome; a stream is told.
    let mut web_socket = subscribe(node, &["a"]).await;
    let mut stream = subscribe(node, &["a", "--transport", "sse", "--silence-seconds", "3"]).await;
    node.signal("STOP");
    for subscriber in [&mut web_socket, &mut stream] {
        subscriber.says("the node was silent for 3 s; coming back in").await;
    }
    node.signal("CONT");
    for subscriber in [&mut web_socket, &mut stream] {
        subscriber.says("subscribed again").await;
    }
}

#[tokio::test]
async fn a_gap_is_told_on_the_standard_error() {
    let world = World::new().settings(DROPPING).start().await;
    let node = world.node(0);
    for transport in TRANSPORTS {
        let mut subscriber = subscribe(node, &["a", "--transport", transport]).await;
        // Stopped, so that its pipe and its socket fill.
        subscriber.signal("STOP");
        let block = "x".repeat(60_000);
        for _ in 0..200 {
            node.publish("a", &block).await;
        }
        subscriber.signal("CONT");
        let drained = async { while !subscriber.line().await.ends_with("end") {} };
        let end = async { node.publish("a", "end").await };
        tokio::join!(drained, end);
        subscriber.says("gap: messages of a are missing (slow)").await;
    }
}

#[tokio::test]
async fn interrupting_a_subscriber_is_a_good_end() {
    let world = World::new().start().await;
    for (transport, signal) in TRANSPORTS.into_iter().zip(["INT", "TERM"]) {
        let subscriber = subscribe(world.node(0), &["a", "--transport", transport]).await;
        subscriber.signal(signal);
        succeeded(&subscriber.finish().await);
    }
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_does_not_hold_up_an_interrupt() {
    let world = World::new().settings(DROPPING).start().await;
    let node = world.node(0);
    let subscriber = subscribe(node, &["a"]).await;
    let block = "x".repeat(60_000);
    for _ in 0..200 {
        node.publish("a", &block).await;
    }
    // It takes no more: what is left waits at the node.
    node.metric_exceeds("umbel_log_bytes", 0.0).await;
    subscriber.signal("INT");
    assert_eq!(subscriber.abandon().await, Some(0));
}

#[tokio::test]
async fn a_subscriber_ends_quietly_with_the_pipe_it_prints_to() {
    let world = World::new().start().await;
    for transport in TRANSPORTS {
        // Also if no further message shows it that nobody reads.
        let mut subscriber = subscribe(world.node(0), &["a", "--transport", transport]).await;
        succeeded(&publish(world.node(0), &["a", "x"], b"").await);
        assert_eq!(subscriber.line().await, "x");
        subscriber.close_output();
        succeeded(&subscriber.finish().await);
    }
}

#[tokio::test]
async fn what_is_published_to_redis_reaches_the_subscribers_of_nodes() {
    let redis = Redis::start(&[]).await;
    let url = redis.url();
    for prefix in ["umbel:", "live/"] {
        let settings = format!("[broker]\nprefix = \"{prefix}\"\n");
        let world = World::new().broker(&url).settings(&settings).start().await;
        let mut subscriber = subscribe(world.node(0), &["a/b", "--json"]).await;
        let mut publish = vec!["publish", "a/b", "--url", &url];
        if prefix != "umbel:" {
            publish.extend(["--prefix", prefix]);
        }
        for (arguments, input, fields) in [
            (&["{\"x\": 1}"][..], &b""[..], json!({"data": {"x": 1}})),
            (&["-"], b"two\nlines\n", json!({"text": "two\nlines\n"})),
            (&[], b"\xff\0", json!({"base64": "/wA="})),
        ] {
            let output = Program::run(&[&publish, arguments].concat(), input).await;
            succeeded(&output);
            let summary = format!("published to {prefix}a/b, received by 1 client of Redis\n");
            assert_eq!(output.stdout, summary);
            assert_eq!(without_time(&subscriber.line().await), with_topic("a/b", fields));
        }
        let output = Program::run(&[&publish[..], &["--lines"]].concat(), b"1\n2\n3\n").await;
        assert_eq!(output.stdout, format!("published 3 messages to {prefix}a/b\n"));
        for number in ["1", "2", "3"] {
            let fields = json!({"text": number});
            assert_eq!(without_time(&subscriber.line().await), with_topic("a/b", fields));
        }
    }
}

#[tokio::test]
async fn what_redis_refuses_is_told() {
    let redis = Redis::start(&["--requirepass", "right"]).await;
    let url = redis.url();
    let publish = async |url: &str| Program::run(&["publish", "a", "x", "--url", url], b"").await;
    failed(&publish("redis://127.0.0.1:1").await, 1, "Redis: Connection refused");
    failed(&publish(&url).await, 1, "NOAUTH");
    let with_password = |word| url.replace("redis://", &format!("redis://:{word}@"));
    let refused = publish(&with_password("wr0ng")).await;
    failed(&refused, 1, "Redis: ");
    assert!(!refused.stderr.contains("wr0ng"), "{refused:?}");
    assert_eq!(publish(&with_password("right")).await.code, Some(0));
    let arguments = ["publish", "a", "x", "--event", "e", "--url", &url];
    failed(&Program::run(&arguments, b"").await, 2, "carries neither a kind nor an event");
    redis.signal("STOP");
    let arguments = ["publish", "a", "x", "--timeout-seconds", "1", "--url", &url];
    let late = Program::run(&arguments, b"").await;
    redis.signal("CONT");
    failed(&late, 1, "the answer of Redis didn't come within 1 s");
}

#[tokio::test]
async fn the_library_that_is_printed_serves_nodes_that_may_not_load_it() {
    let redis = Redis::start(&[]).await;
    let rights = ["on", ">secret", "~*", "&*", "+@all", "-function", "-script"];
    let user = [&["ACL", "SETUSER", "nodes"], &rights[..]].concat();
    assert_eq!(redis.command(&user).await, "OK");
    let printed = Program::run(&["redis-library"], b"").await;
    succeeded(&printed);
    let load = ["FUNCTION", "LOAD", "REPLACE", &printed.stdout];
    assert_eq!(redis.command(&load).await, "umbel");
    let broker = redis.url().replace("redis://", "redis://nodes:secret@");
    let world = World::new().broker(&broker).settings(HISTORY).start().await;
    let node = world.node(0);
    for text in ["one", "two"] {
        node.publish("chat.1", text).await;
    }
    let mut subscriber = subscribe(node, &["chat.1", "--after", "0"]).await;
    assert_eq!(lines(&mut subscriber, 2).await, ["one", "two"]);
}

/// `umbel health` with these flags about what has its admin listener there.
async fn health(admin: impl std::fmt::Display, flags: &[&str]) -> umbel_e2e::Output {
    let url = format!("http://{admin}");
    Program::run(&[&["health", "--url", &url], flags].concat(), b"").await
}

#[tokio::test]
async fn a_node_without_its_broker_is_live_and_not_ready() {
    let redis = Redis::absent(&[]).await;
    let world = World::new().broker(&redis.url()).start_unready().await;
    let admin = world.node(0).admin();
    let live = health(admin, &[]).await;
    succeeded(&live);
    assert_eq!(live.stdout, "the node is live\n");
    failed(&health(admin, &["--ready"]).await, 1, "the node isn't ready: ");
}

#[tokio::test]
async fn a_node_that_leaves_is_live_and_not_ready_until_it_is_gone() {
    let settings = "[drain]\npause_seconds = 60\ndeadline_seconds = 120\n";
    let mut world = World::new().settings(settings).start().await;
    let admin = world.node(0).admin();
    let ready = health(admin, &["--ready"]).await;
    succeeded(&ready);
    assert_eq!(ready.stdout, "the node is ready\n");
    world.node(0).signal("TERM");
    world.node(0).becomes_unready().await;
    failed(&health(admin, &["--ready"]).await, 1, "the node isn't ready: the node leaves");
    succeeded(&health(admin, &[]).await);
    world.node(0).signal("INT");
    world.node_mut(0).exit_code().await;
    failed(&health(admin, &[]).await, 1, "can't connect to http://127.0.0.1:");
}

#[tokio::test]
async fn only_the_admin_listener_of_a_node_that_answers_makes_it_healthy() {
    let world = World::new().start().await;
    let node = world.node(0);
    // The other listener, where /livez is nothing.
    failed(
        &health(node.http(), &[]).await,
        1,
        "404 Not Found at /livez, which is at its listen.admin",
    );
    let second = ["--timeout-seconds", "1"];
    let late = "the node's answer didn't come within 1 s";
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    failed(&health(silent.local_addr().unwrap(), &second).await, 1, late);
    node.signal("STOP");
    let stopped = health(node.admin(), &second).await;
    node.signal("CONT");
    failed(&stopped, 1, late);
    failed(
        &Program::run(&["health", "--url", "here"], b"").await,
        2,
        "`here` is not a URL such as",
    );
}

#[tokio::test]
async fn health_is_asked_where_the_node_s_variable_says() {
    let world = World::new().start().await;
    // In a container all addresses are listened at, and its own loopback is asked.
    let admin = format!("0.0.0.0:{}", world.node(0).admin().port());
    for (admin, code, text) in [
        (admin.as_str(), 0, ""),
        ("127.0.0.1:1", 1, "umbel: can't connect to http://127.0.0.1:1: "),
        ("9464", 2, "umbel: UMBEL_LISTEN__ADMIN: listen.admin: "),
    ] {
        let variables =
            [("UMBEL_LISTEN__ADMIN", admin), ("UMBEL_NODE__WORKERS", "nobody's business")];
        let (exit_code, _, errors) = ConfiguredNode::run(&["health"], &variables, None).await;
        assert!(exit_code == code && errors.starts_with(text), "{admin}: {exit_code} {errors}");
        assert_eq!(errors.lines().count(), usize::from(code != 0), "{errors}");
    }
}

#[tokio::test]
async fn check_config_tells_all_mistakes_with_their_lines() {
    let file = "[limits]\npayload_bytes = \"big\"\nbody_byte = 5\n\n[[topics]]\nmatch = \"a.*\"\n\n[[topics]]\nmatch = \"*.b\"\n";
    let (code, output, errors) = ConfiguredNode::run(
        &["check-config", "--listen", "nonsense"],
        &[("UMBEL_BROKER__URL", "ftp://me:secret@x")],
        Some(file),
    )
    .await;
    assert_eq!((code, output.as_str()), (2, ""));
    let lines: Vec<_> = errors.lines().collect();
    for (line, start) in lines.iter().zip([
        "umbel: umbel.toml:2: limits.payload_bytes",
        "umbel: umbel.toml:3: unknown key `limits.body_byte`",
        "umbel: umbel.toml:8: `*.b` and `a.*` of line 5",
        "umbel: UMBEL_BROKER__URL: broker.url",
        "umbel: --listen: listen.http",
    ]) {
        assert!(line.starts_with(start), "{errors}");
    }
    assert_eq!(lines.len(), 5, "{errors}");
    assert!(!errors.contains("secret"), "{errors}");
}

#[tokio::test]
async fn check_config_tells_each_setting_and_where_it_came_from() {
    // A node runs with these settings already; its ports are its own.
    let world = World::new().start().await;
    let http = world.node(0).http().to_string();
    let file =
        "[node]\nheartbeat_seconds = 7\n\n[[topics]]\nmatch = \"chat.*\"\nsubscribe = \"anyone\"\n";
    let (code, output, errors) = ConfiguredNode::run(
        &["check-config", "--listen", &http],
        &[("UMBEL_NODE__WORKERS", "2"), ("UMBEL_BROKER__URL", "redis://me:secret@cache:1")],
        Some(file),
    )
    .await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let gap = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = output.lines().map(gap).collect();
    for expected in [
        &format!("http = \"{http}\" # --listen"),
        "admin = \"127.0.0.1:9464\" # default",
        "url = \"redis://me:***@cache:1\" # UMBEL_BROKER__URL",
        "workers = 2 # UMBEL_NODE__WORKERS",
        "heartbeat_seconds = 7 # umbel.toml:2",
        "[[topics]] # umbel.toml:4",
        "match = \"chat.*\"",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in\n{output}");
    }
    let (code, again, errors) = ConfiguredNode::run(&["check-config"], &[], Some(&output)).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| gap(line.split('#').next().unwrap())).collect()
    };
    assert_eq!(values(&again), values(&output), "its output is a file for --config");
}

#[tokio::test]
async fn completions_are_printed_for_each_shell_and_end_with_their_pipe() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Program::run(&["completions", shell], b"").await;
        succeeded(&output);
        assert!(output.stdout.contains("check-config"), "{shell}");
        let mut program = Program::start(&["completions", shell]);
        program.close_output();
        succeeded(&program.finish().await);
    }
    let output = Program::run(&["completions", "tcsh"], b"").await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("[possible values: bash, zsh, fish]"), "{output:?}");
}
