//! Topics with history: resuming by every transport, history as JSON, idempotent publishing. Every
//! case runs on the memory broker and over Redis.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use umbel_e2e::{Node, Redis, SseClient, WebSocketClient, World, eventually};

/// Topics with history, one that shows its newest value at once, one with little of it, and one
/// that is live only.
const SETTINGS: &str = "\
[[topics]]
match = \"chat.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 100, seconds = 300 }

[[topics]]
match = \"state.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 5, seconds = 300 }
on_subscribe = { latest = 1 }

[[topics]]
match = \"short.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 100, seconds = 1 }

[[topics]]
match = \"live.*\"
subscribe = \"anyone\"
publish = \"anyone\"

[[routes]]
path = \"/rooms/{room}\"
topics = [\"chat.{room}\"]
publish_to = \"chat.{room}\"
initial = \"latest:2\"

[[routes]]
path = \"/poll/{room}\"
transports = [\"poll\"]
topics = [\"chat.{room}\"]
";

/// A node, and the Redis that it may be on.
struct Bed {
    world: World,
    redis: Option<Redis>,
}

impl Bed {
    async fn memory() -> Self {
        Self { world: World::new().workers(2).settings(SETTINGS).start().await, redis: None }
    }

    async fn redis() -> Self {
        let redis = Redis::start(&[]).await;
        let world = World::new().workers(2).settings(SETTINGS).broker(&redis.url());
        Self { world: world.start().await, redis: Some(redis) }
    }

    fn node(&self) -> &Node {
        self.world.node(0)
    }
}

/// Runs a case on each broker.
macro_rules! on_both_brokers {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        mod memory {
            $(
                $(#[$meta])*
                #[tokio::test]
                async fn $name() {
                    super::$name(&super::Bed::memory().await).await;
                }
            )*
        }
        mod redis {
            $(
                $(#[$meta])*
                #[tokio::test]
                async fn $name() {
                    super::$name(&super::Bed::redis().await).await;
                }
            )*
        }
    };
}

on_both_brokers!(
    an_event_source_that_comes_back_misses_nothing,
    a_client_cut_before_its_first_message_loses_nothing,
    a_stream_over_several_topics_resumes_all_of_them,
    a_cursor_over_several_topics_serves_other_lists_of_them,
    a_json_session_resumes_with_position_and_recovered,
    what_history_has_no_more_is_told,
    a_cursor_of_another_life_is_told,
    a_cursor_from_another_server_does_not_end_a_stream,
    the_newest_come_first_where_that_is_asked,
    a_route_s_first_connect_gets_the_newest_and_a_return_what_it_missed,
    plain_sockets_get_the_newest_and_no_positions,
    old_messages_are_gone_after_their_time,
    replay_and_live_join_while_messages_pour_in,
    a_session_may_unsubscribe_and_subscribe_while_it_catches_up,
    echo_is_off_live_and_not_in_a_replay,
    history_reads_as_json,
    a_poll_waits_for_the_first_message,
    polls_and_streams_share_their_cursors,
    a_key_is_published_once,
    a_slow_consumer_reads_on_from_history,
    a_large_history_comes_whole,
    what_does_not_fit_in_memory_is_told_or_read_elsewhere,
    resuming_works_over_http2,
);

async fn publish(node: &Node, topic: &str, text: &str) -> String {
    let path = format!("/topics/{topic}");
    let answer = node.client().await.post(&path, "text/plain", text.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn publish_all(node: &Node, topic: &str, numbers: std::ops::Range<u32>) {
    let numbers: Vec<_> = numbers.collect();
    let mut client = node.client().await;
    for chunk in numbers.chunks(1000) {
        let lines: Vec<_> = chunk
            .iter()
            .map(|number| json!({"topic": topic, "text": number.to_string()}).to_string())
            .collect();
        let body = lines.join("\n");
        let answer = client.post("/publish", "application/x-ndjson", body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.text().contains("error"), "{}", answer.text());
    }
}

async fn resumed(node: &Node, path: &str, id: &str) -> SseClient {
    SseClient::open_with(node.http(), path, &[("last-event-id", id)]).await
}

/// The data of the next so many unnamed events.
async fn data(stream: &mut SseClient, count: usize) -> Vec<String> {
    let mut data = Vec::with_capacity(count);
    for _ in 0..count {
        data.push(stream.data().await);
    }
    data
}

fn offset(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

async fn subscribe(session: &mut WebSocketClient, topic: &str, after: &str) -> Value {
    let command = json!({"id": 1, "op": "subscribe", "topic": topic, "after": after});
    session.command(&command).await
}

async fn poll(node: &Node, path: &str) -> Value {
    let headers = [("accept", "application/json")];
    let answer = node.client().await.request("GET", path, &headers, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Accept"));
    answer.json()
}

fn texts(answer: &Value) -> Vec<&str> {
    let messages = answer["messages"].as_array().unwrap().iter();
    messages.map(|message| message["text"].as_str().unwrap()).collect()
}

async fn an_event_source_that_comes_back_misses_nothing(bed: &Bed) {
    let node = bed.node();
    let mut stream = node.sse("/topics/chat.1").await;
    let id = publish(node, "chat.1", "one").await;
    assert_eq!(offset(&id), 1);
    let event = stream.event().await;
    assert_eq!((event.data.as_str(), event.id.as_str()), ("one", id.as_str()));
    let id = stream.last_event_id().to_owned();
    drop(stream);
    for text in ["two", "three"] {
        publish(node, "chat.1", text).await;
    }
    let mut stream = resumed(node, "/topics/chat.1", &id).await;
    assert_eq!(data(&mut stream, 2).await, ["two", "three"]);
    let last = publish(node, "chat.1", "four").await;
    assert_eq!(stream.data().await, "four");
    assert_eq!(stream.last_event_id(), last);
    // The header beats the URL, which a browser repeats as it was first.
    let mut stream = resumed(node, &format!("/topics/chat.1?after={id}"), &last).await;
    publish(node, "chat.1", "five").await;
    assert_eq!(stream.data().await, "five");
    let mut stream = node.sse(&format!("/topics/chat.1?after={id}")).await;
    assert_eq!(data(&mut stream, 4).await, ["two", "three", "four", "five"]);
    node.metric_becomes("umbel_resumes_total{outcome=\"recovered\"}", 3.0).await;
    node.metric_becomes("umbel_resumes_total{outcome=\"gap\"}", 0.0).await;
    // What was published when the stream had just opened may have come either way.
    node.metric_exceeds("umbel_replayed_total", 5.0).await;
}

async fn a_client_cut_before_its_first_message_loses_nothing(bed: &Bed) {
    let node = bed.node();
    // Of a topic that was never published, and of one that was.
    for round in 0..2 {
        let stream = node.sse("/topics/chat.1").await;
        let id = stream.last_event_id().to_owned();
        assert_eq!(offset(&id), round);
        drop(stream);
        publish(node, "chat.1", &round.to_string()).await;
        let mut stream = resumed(node, "/topics/chat.1", &id).await;
        assert_eq!(stream.data().await, round.to_string());
    }
}

async fn a_stream_over_several_topics_resumes_all_of_them(bed: &Bed) {
    let node = bed.node();
    let path = "/topics/chat.1,chat.2,live.1";
    let mut stream = node.sse(path).await;
    let opened = stream.last_event_id().to_owned();
    let mut seen = vec![opened.clone()];
    for (topic, text) in [("chat.1", "a"), ("chat.2", "b"), ("chat.1", "c")] {
        publish(node, topic, text).await;
        assert_eq!(stream.data().await, text);
        seen.push(stream.last_event_id().to_owned());
    }
    node.publish("live.1", "d").await;
    assert_eq!(stream.data().await, "d");
    assert_eq!(stream.last_event_id(), seen[3], "what is live only has no place of its own");
    // From each place just the rest comes, of each topic in order.
    let all = ["a", "b", "c"];
    for (place, id) in seen.iter().enumerate() {
        let mut stream = resumed(node, path, id).await;
        let mut rest = data(&mut stream, 3 - place).await;
        rest.sort();
        assert_eq!(rest, all[place..]);
        assert_eq!(stream.last_event_id(), seen[3]);
        node.publish("live.1", "end").await;
        assert_eq!(stream.data().await, "end", "nothing is doubled");
    }
}

async fn a_cursor_over_several_topics_serves_other_lists_of_them(bed: &Bed) {
    let node = bed.node();
    let stream = node.sse("/topics/chat.1,chat.2").await;
    let cursor = stream.last_event_id().to_owned();
    for topic in ["chat.1", "chat.2", "chat.3"] {
        publish(node, topic, topic).await;
    }
    // Foreign topics are ignored, missing ones start live.
    let mut stream = resumed(node, "/topics/chat.3,chat.2", &cursor).await;
    assert_eq!(stream.data().await, "chat.2");
    publish(node, "chat.3", "live").await;
    assert_eq!(stream.data().await, "live");
    let mut stream = resumed(node, "/topics/chat.1", &cursor).await;
    assert_eq!(stream.data().await, "chat.1");
    assert!(stream.last_event_id().contains('-'), "one topic has a plain id");
}

async fn a_json_session_resumes_with_position_and_recovered(bed: &Bed) {
    let node = bed.node();
    let mut session = node.json().await;
    let reply = session.command(&json!({"op": "subscribe", "topic": "chat.1"})).await;
    assert_eq!((&reply["op"], reply.get("recovered")), (&json!("subscribed"), None));
    assert_eq!(offset(reply["position"].as_str().unwrap()), 0);
    let first = publish(node, "chat.1", "one").await;
    let message = session.json().await;
    assert_eq!((&message["message_id"], &message["text"]), (&json!(first), &json!("one")));
    for text in ["two", "three"] {
        publish(node, "chat.1", text).await;
    }
    let mut back = node.json().await;
    let reply = subscribe(&mut back, "chat.1", &first).await;
    let expected = json!({"id": 1, "op": "subscribed", "topic": "chat.1", "position": first, "recovered": true});
    assert_eq!(reply, expected);
    assert_eq!(back.json().await["text"], "two");
    assert_eq!(back.json().await["text"], "three");
    let last = publish(node, "chat.1", "four").await;
    let message = back.json().await;
    assert_eq!((&message["message_id"], &message["text"]), (&json!(last), &json!("four")));
    // Several at once, each with a place of its own or none.
    publish(node, "chat.2", "x").await;
    let mut many = node.json().await;
    many.send_text(
        &json!({"op": "subscribe", "topics": [
            {"topic": "chat.1", "after": last},
            {"topic": "chat.2", "after": "0"},
            {"topic": "live.1"},
        ]})
        .to_string(),
    )
    .await;
    let replies = [many.json().await, many.json().await, many.json().await];
    assert_eq!(replies[0]["recovered"], true);
    assert_eq!(replies[1]["recovered"], true);
    assert_eq!(offset(replies[1]["position"].as_str().unwrap()), 0);
    assert_eq!(replies[2], json!({"op": "subscribed", "topic": "live.1"}));
    assert_eq!(many.json().await["text"], "x");
}

async fn what_history_has_no_more_is_told(bed: &Bed) {
    let node = bed.node();
    let first = publish(node, "state.1", "0").await;
    publish_all(node, "state.1", 1..10).await;
    let mut stream = resumed(node, "/topics/state.1", &first).await;
    assert_eq!(stream.gap("state.1").await, "too_old");
    assert_eq!(data(&mut stream, 5).await, ["5", "6", "7", "8", "9"]);
    let mut session = node.json().await;
    let reply = subscribe(&mut session, "state.1", &first).await;
    assert_eq!(reply["recovered"], false);
    let gap = session.json().await;
    assert_eq!((&gap["op"], &gap["reason"]), (&json!("gap"), &json!("too_old")));
    let position = gap["position"].as_str().unwrap();
    assert_eq!(offset(position), 5, "{gap}");
    for number in 5..10 {
        assert_eq!(session.json().await["text"], number.to_string());
    }
    // From there nothing is missing: who was told isn't told again.
    let mut stream = resumed(node, "/topics/state.1", position).await;
    assert_eq!(data(&mut stream, 5).await, ["5", "6", "7", "8", "9"]);
    // A place ahead of all.
    let (epoch, _) = first.split_once('-').unwrap();
    let reply = subscribe(&mut node.json().await, "state.1", &format!("{epoch}-99")).await;
    assert_eq!(
        (&reply["recovered"], offset(reply["position"].as_str().unwrap())),
        (&json!(false), 10)
    );
    let mut stream = resumed(node, "/topics/state.1", &format!("{epoch}-99")).await;
    assert_eq!(stream.gap("state.1").await, "future");
    publish(node, "state.1", "next").await;
    assert_eq!(stream.data().await, "next");
    let answer = poll(node, &format!("/topics/state.1?after={first}")).await;
    assert_eq!(answer["gaps"], json!([{"topic": "state.1", "reason": "too_old"}]));
    node.metric_becomes("umbel_gaps_total{reason=\"too_old\"}", 2.0).await;
    node.metric_becomes("umbel_gaps_total{reason=\"future\"}", 2.0).await;
}

async fn a_cursor_of_another_life_is_told(bed: &Bed) {
    let node = bed.node();
    publish(node, "chat.1", "one").await;
    let foreign = "00000000deadbeef-1";
    let mut stream = resumed(node, "/topics/chat.1", foreign).await;
    assert_eq!(stream.gap("chat.1").await, "unknown_epoch");
    assert_eq!(stream.data().await, "one", "what there is comes");
    let mut session = node.json().await;
    assert_eq!(subscribe(&mut session, "chat.1", foreign).await["recovered"], false);
    assert_eq!(session.json().await["reason"], "unknown_epoch");
    assert_eq!(session.json().await["text"], "one");
    // Of a topic that never was.
    let mut session = node.json().await;
    let reply = subscribe(&mut session, "chat.9", foreign).await;
    assert_eq!(
        (&reply["recovered"], offset(reply["position"].as_str().unwrap())),
        (&json!(false), 0)
    );
    assert_eq!(session.json().await["reason"], "unknown_epoch");
}

async fn a_cursor_from_another_server_does_not_end_a_stream(bed: &Bed) {
    let node = bed.node();
    publish(node, "chat.1", "before").await;
    for id in ["42", "x\u{e4}", "AQIDBA", &"9".repeat(5000)] {
        let mut stream = resumed(node, "/topics/chat.1", id).await;
        assert_eq!(stream.gap("chat.1").await, "unknown_epoch", "{id:.9}");
        let next = publish(node, "chat.1", id.get(..1).unwrap()).await;
        assert_eq!(stream.data().await, id[..1]);
        assert_eq!(stream.last_event_id(), next, "from now on it has ours");
    }
    // In a URL it is a mistake.
    for (after, reason) in [
        ("42", "`after`: cursor is neither 0, a message id"),
        ("AQ", "`after`: composite cursor ends within a topic"),
        ("latest:x", "`after`: latest: takes a number"),
    ] {
        let path = format!("/topics/chat.1?after={after}");
        let headers = [("accept", "text/event-stream")];
        let answer = node.client().await.request("GET", &path, &headers, b"").await;
        assert_eq!(answer.status, 400);
        assert!(answer.problem().starts_with(reason), "{}", answer.text());
    }
    let path = "/topics/chat.1,chat.2?after=00000000deadbeef-1";
    let answer =
        node.client().await.request("GET", path, &[("accept", "text/event-stream")], b"").await;
    assert!(answer.problem().contains("the position of one topic"), "{}", answer.text());
    let mut session = node.json().await;
    let reply = subscribe(&mut session, "chat.1", "AQIDBA").await;
    assert_eq!((&reply["op"], &reply["code"]), (&json!("error"), &json!("bad_request")));
}

async fn the_newest_come_first_where_that_is_asked(bed: &Bed) {
    let node = bed.node();
    publish_all(node, "state.1", 0..8).await;
    // By the rule.
    let mut stream = node.sse("/topics/state.1").await;
    assert_eq!(stream.data().await, "7");
    let mut session = node.json().await;
    let reply = session.command(&json!({"op": "subscribe", "topic": "state.1"})).await;
    assert_eq!(reply.get("recovered"), None, "nothing was named");
    assert_eq!(session.json().await["text"], "7");
    // By the client.
    let mut stream = node.sse("/topics/state.1?after=latest:3").await;
    assert_eq!(data(&mut stream, 3).await, ["5", "6", "7"]);
    let mut session = node.json().await;
    assert_eq!(subscribe(&mut session, "state.1", "latest:99").await["recovered"], true);
    for number in 3..8 {
        assert_eq!(session.json().await["text"], number.to_string());
    }
    // None at all, and none of a topic that never was.
    let mut stream = node.sse("/topics/state.1,state.2?after=latest:0").await;
    publish(node, "state.1", "8").await;
    publish(node, "state.2", "first").await;
    let mut got = data(&mut stream, 2).await;
    got.sort();
    assert_eq!(got, ["8", "first"]);
    // With a cursor the rule says nothing.
    let id = stream.last_event_id().to_owned();
    let mut stream = resumed(node, "/topics/state.1,state.2", &id).await;
    publish(node, "state.1", "9").await;
    assert_eq!(stream.data().await, "9");
}

async fn a_route_s_first_connect_gets_the_newest_and_a_return_what_it_missed(bed: &Bed) {
    let node = bed.node();
    publish_all(node, "chat.r", 0..4).await;
    let mut stream = node.sse("/rooms/r").await;
    assert_eq!(data(&mut stream, 2).await, ["2", "3"]);
    let id = stream.last_event_id().to_owned();
    drop(stream);
    publish_all(node, "chat.r", 4..8).await;
    let mut stream = resumed(node, "/rooms/r", &id).await;
    assert_eq!(data(&mut stream, 4).await, ["4", "5", "6", "7"]);
    let mut socket = WebSocketClient::open(node.http(), "/rooms/r").await;
    assert_eq!(socket.text().await, "6");
    assert_eq!(socket.text().await, "7");
    socket.send_text("8").await;
    assert_eq!(socket.text().await, "8");
    assert_eq!(stream.data().await, "8");
    let answer = poll(node, "/poll/r?after=latest:2").await;
    assert_eq!(texts(&answer), ["7", "8"]);
    let cursor = answer["cursor"].as_str().unwrap();
    assert_eq!(texts(&poll(node, &format!("/poll/r?after={cursor}")).await), [""; 0]);
}

async fn plain_sockets_get_the_newest_and_no_positions(bed: &Bed) {
    let node = bed.node();
    publish_all(node, "chat.1", 0..5).await;
    publish_all(node, "chat.2", 5..7).await;
    let mut socket =
        WebSocketClient::open(node.http(), "/topics/chat.1,chat.2?after=latest:2").await;
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(socket.text().await);
    }
    got.sort();
    assert_eq!(got, ["3", "4", "5", "6"]);
    publish(node, "chat.2", "live").await;
    assert_eq!(socket.text().await, "live");
}

async fn old_messages_are_gone_after_their_time(bed: &Bed) {
    let node = bed.node();
    let first = publish(node, "short.1", "one").await;
    let last = publish(node, "short.1", "two").await;
    let published = Instant::now();
    let is_gone = || async {
        texts(&poll(node, "/topics/short.1?after=latest:9").await).is_empty().then_some(())
    };
    umbel_e2e::eventually("the end of the messages' time", is_gone).await;
    assert!(published.elapsed() >= Duration::from_millis(900), "{:?}", published.elapsed());
    // Where the topic stood is still known: who had everything missed nothing.
    let mut session = node.json().await;
    let reply = subscribe(&mut session, "short.1", &last).await;
    assert_eq!((&reply["recovered"], &reply["position"]), (&json!(true), &json!(last)));
    let mut session = node.json().await;
    let reply = subscribe(&mut session, "short.1", &first).await;
    assert_eq!((&reply["recovered"], &reply["position"]), (&json!(false), &json!(last)));
    assert_eq!(session.json().await["reason"], "too_old");
    let third = publish(node, "short.1", "three").await;
    assert_eq!(offset(&third), 3, "offsets go on");
    assert_eq!(session.json().await["text"], "three");
}

/// Sessions come while messages pour in, from places far and near, by each transport; each gets
/// every message behind its place once and in order.
async fn replay_and_live_join_while_messages_pour_in(bed: &Bed) {
    const MESSAGES: u32 = 3000;
    let node = bed.node();
    let first = publish(node, "chat.1", "start").await;
    let (epoch, _) = first.split_once('-').unwrap();
    let publisher = async {
        let mut client = node.client().await;
        for number in 0..MESSAGES {
            let text = number.to_string();
            let answer = client.post("/topics/chat.1", "text/plain", text.as_bytes()).await;
            assert_eq!(answer.status, 200);
        }
    };
    let comers = async {
        let mut clients = tokio::task::JoinSet::new();
        for place in 0..60_u64 {
            let at = poll(node, "/topics/chat.1?after=latest:0").await;
            let now = offset(at["cursor"].as_str().unwrap());
            let behind = now.saturating_sub(place).max(1);
            let (http, id) = (node.http(), format!("{epoch}-{behind}"));
            clients.spawn(async move {
                if place % 2 == 0 {
                    let mut stream =
                        SseClient::open_with(http, "/topics/chat.1", &[("last-event-id", &id)])
                            .await;
                    for expected in behind + 1..=u64::from(MESSAGES) + 1 {
                        let event = stream.event().await;
                        assert_eq!(event.name, "message", "{event:?}");
                        assert_eq!(offset(&event.id), expected);
                        assert_eq!(event.data, (expected - 2).to_string());
                    }
                } else {
                    let mut session = WebSocketClient::open(http, "/ws").await;
                    session.json().await;
                    let reply = subscribe(&mut session, "chat.1", &id).await;
                    assert_eq!(reply["recovered"], true);
                    for expected in behind + 1..=u64::from(MESSAGES) + 1 {
                        let message = session.json().await;
                        assert_eq!(offset(message["message_id"].as_str().unwrap()), expected);
                    }
                }
            });
        }
        clients.join_all().await;
    };
    tokio::join!(publisher, comers);
}

async fn a_session_may_unsubscribe_and_subscribe_while_it_catches_up(bed: &Bed) {
    let node = bed.node();
    publish_all(node, "chat.1", 0..100).await;
    publish_all(node, "chat.2", 0..3).await;
    let mut session = node.json().await;
    // One frame, so that all is asked for before anything is written.
    let commands = [
        json!({"id": 1, "op": "subscribe", "topic": "chat.1", "after": "0"}),
        json!({"id": 2, "op": "subscribe", "topic": "chat.1"}),
        json!({"id": 3, "op": "unsubscribe", "topic": "chat.1"}),
        json!({"id": 4, "op": "unsubscribe", "topic": "chat.1"}),
        json!({"id": 5, "op": "subscribe", "topic": "chat.2", "after": "0"}),
        json!({"id": 6, "op": "subscribe", "topic": "chat.1", "after": "latest:1"}),
    ];
    session.send_text(&commands.map(|command| command.to_string()).join("\n")).await;
    let mut replies = Vec::new();
    let mut texts = Vec::new();
    while replies.len() < 6 || texts.len() < 4 {
        let said = session.json().await;
        match said.get("text") {
            Some(text) => texts.push(format!("{}:{}", said["topic"], text)),
            None => replies.push((
                said["id"].as_u64().unwrap(),
                said["op"].clone(),
                said["code"].clone(),
            )),
        }
    }
    let op = |id: u64, op: &str| (id, json!(op), Value::Null);
    let error = |id: u64, code: &str| (id, json!("error"), json!(code));
    assert_eq!(
        replies,
        [
            op(1, "subscribed"),
            error(2, "already_subscribed"),
            op(3, "unsubscribed"),
            error(4, "not_subscribed"),
            op(5, "subscribed"),
            op(6, "subscribed"),
        ]
    );
    texts.sort();
    let expected = [("chat.1", 99), ("chat.2", 0), ("chat.2", 1), ("chat.2", 2)];
    assert_eq!(texts, expected.map(|(topic, text)| format!("{:?}:{:?}", topic, text.to_string())));
    publish(node, "chat.1", "live").await;
    assert_eq!(session.json().await["text"], "live");
    drop(session);
    node.metric_becomes("umbel_subscriptions", 0.0).await;
}

async fn echo_is_off_live_and_not_in_a_replay(bed: &Bed) {
    let node = bed.node();
    let mut session = node.json().await;
    let subscribed = session.command(&json!({"op": "subscribe", "topic": "chat.1"})).await;
    assert_eq!(subscribed["op"], "subscribed");
    let own = json!({"op": "publish", "topic": "chat.1", "text": "own", "echo": false});
    let published = session.command(&own).await;
    let id = published["message_id"].as_str().unwrap();
    publish(node, "chat.1", "other").await;
    assert_eq!(session.json().await["text"], "other");
    let mut back = node.json().await;
    subscribe(&mut back, "chat.1", "0").await;
    let message = back.json().await;
    assert_eq!((&message["text"], &message["message_id"]), (&json!("own"), &json!(id)));
}

async fn history_reads_as_json(bed: &Bed) {
    let node = bed.node();
    let empty = poll(node, "/topics/chat.1").await;
    assert_eq!((&empty["messages"], &empty["gaps"]), (&json!([]), &json!([])));
    assert_eq!(offset(empty["cursor"].as_str().unwrap()), 0);
    let mut client = node.client().await;
    let headers = [("content-type", "application/json"), ("umbel-event", "typed")];
    let answer = client.request("POST", "/topics/chat.1", &headers, b"{\"a\": [1]}").await;
    let id = answer.json()["id"].clone();
    let answer = poll(node, "/topics/chat.1").await;
    assert_eq!(answer["cursor"], id);
    let message = &answer["messages"][0];
    assert_eq!(message["message_id"], id);
    assert_eq!((&message["topic"], &message["event"]), (&json!("chat.1"), &json!("typed")));
    assert_eq!(message["data"], json!({"a": [1]}));
    assert!(message["time"].as_u64().unwrap() > 1_700_000_000_000);
    publish_all(node, "chat.1", 0..20).await;
    // What the broker has taken comes to the node a moment later.
    eventually("the last message", || async {
        (texts(&poll(node, "/topics/chat.1?limit=1").await) == ["19"]).then_some(())
    })
    .await;
    // By a query alone, as `curl` asks for it.
    let answer = client.get("/topics/chat.1?after=0&limit=3").await.json();
    assert_eq!(answer["messages"].as_array().unwrap().len(), 3);
    let cursor = answer["cursor"].as_str().unwrap().to_owned();
    let answer = poll(node, &format!("/topics/chat.1?after={cursor}&limit=5")).await;
    assert_eq!(texts(&answer), ["2", "3", "4", "5", "6"]);
    // Without a cursor the newest.
    assert_eq!(texts(&poll(node, "/topics/chat.1?limit=2").await), ["18", "19"]);
    assert_eq!(
        client.get("/topics/chat.1,live.1?limit=2").await.problem(),
        "no_history: topic `live.1` keeps no history"
    );
    // The whole of it, over several topics, in pieces.
    publish_all(node, "chat.2", 20..40).await;
    let (mut cursor, mut all) = (None::<String>, Vec::new());
    for _ in 0..6 {
        let after = cursor.map_or("latest:100".to_owned(), |cursor| cursor);
        let answer = poll(node, &format!("/topics/chat.2,chat.1?after={after}&limit=7")).await;
        all.extend(texts(&json!({"messages": answer["messages"].as_array().unwrap().iter().filter(|m| m["text"].is_string()).collect::<Vec<_>>()})).iter().map(|text| text.parse::<u32>().unwrap()));
        cursor = Some(answer["cursor"].as_str().unwrap().to_owned());
    }
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
}

async fn a_poll_waits_for_the_first_message(bed: &Bed) {
    let node = bed.node();
    let cursor = publish(node, "chat.1", "one").await;
    let path = format!("/topics/chat.1?after={cursor}&wait=30");
    let waits = async {
        let asked = Instant::now();
        let answer = poll(node, &path).await;
        assert_eq!(texts(&answer), ["two"]);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    };
    let comes = async {
        // The worker is attached as long as it waits.
        node.metric_becomes("umbel_polls_waiting", 1.0).await;
        publish(node, "chat.1", "two").await;
    };
    tokio::join!(waits, comes);
    // At once if there is something; its time over if there is nothing.
    let asked = Instant::now();
    let two = poll(node, &path).await;
    assert_eq!(texts(&two), ["two"]);
    assert!(asked.elapsed() < Duration::from_secs(5));
    let cursor = two["cursor"].as_str().unwrap().to_owned();
    let answer = poll(node, &format!("/topics/chat.1?after={cursor}&wait=1")).await;
    assert_eq!(answer, json!({"messages": [], "cursor": cursor, "gaps": []}));
    // Over several topics, whichever is first.
    let opened = poll(node, "/topics/chat.2,chat.3?after=latest:0").await;
    let cursor = opened["cursor"].as_str().unwrap();
    let path = format!("/topics/chat.2,chat.3?after={cursor}&wait=30");
    let (answer, ()) = tokio::join!(poll(node, &path), async {
        node.metric_becomes("umbel_polls_waiting", 1.0).await;
        publish(node, "chat.3", "three").await;
    });
    assert_eq!(texts(&answer), ["three"]);
    node.metric_becomes("umbel_polls_waiting", 0.0).await;
    node.metric_becomes("umbel_polls_total{outcome=\"nothing\"}", 2.0).await;
}

async fn polls_and_streams_share_their_cursors(bed: &Bed) {
    let node = bed.node();
    for path in ["/topics/chat.1", "/topics/chat.1,chat.2"] {
        let mut stream = node.sse(path).await;
        publish(node, "chat.1", "by stream").await;
        assert_eq!(stream.data().await, "by stream");
        let cursor = stream.last_event_id().to_owned();
        drop(stream);
        publish(node, "chat.1", "by poll").await;
        let answer = poll(node, &format!("{path}?after={cursor}")).await;
        assert_eq!(texts(&answer), ["by poll"]);
        publish(node, "chat.1", "by stream again").await;
        let mut stream = resumed(node, path, answer["cursor"].as_str().unwrap()).await;
        assert_eq!(stream.data().await, "by stream again");
    }
}

async fn a_key_is_published_once(bed: &Bed) {
    let node = bed.node();
    for (topic, has_id) in [("chat.1", true), ("live.1", false)] {
        let mut socket = node.subscribe(topic).await;
        let path = format!("/topics/{topic}");
        let mut client = node.client().await;
        let mut send = async |key: &str, body: &[u8]| {
            client.request("POST", &path, &[("idempotency-key", key)], body).await
        };
        let first = send("order 17", b"one").await;
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.json()["id"].is_string(), has_id);
        let again = send("order 17", b"one").await;
        assert_eq!(again.json(), first.json(), "the same answer");
        let other = send("order 17", b"two").await;
        assert_eq!(other.status, 422);
        assert_eq!(other.problem(), "another message was published with this idempotency key");
        assert_eq!(send("order 18", b"two").await.status, 200);
        for expected in ["one", "two"] {
            assert_eq!(socket.text().await, expected);
        }
        let body = format!(
            "{{\"topic\":\"{topic}\",\"text\":\"three\",\"key\":\"k\"}}\n{{\"topic\":\"{topic}\",\"text\":\"three\",\"key\":\"k\"}}\n{{\"topic\":\"{topic}\",\"text\":\"four\",\"key\":\"k\"}}"
        );
        let answer = client.post("/publish", "application/x-ndjson", body.as_bytes()).await;
        let results: Vec<Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(results[0]["id"], results[1]["id"]);
        assert_eq!(results[2]["status"], 422);
        // Who shall not hear it is no part of the message: a client that comes back is another.
        let mut session = node.json().await;
        for _ in 0..2 {
            session = node.json().await;
            let command = json!({"op": "publish", "topic": topic, "text": "three", "key": "k", "echo": false});
            let reply = session.command(&command).await;
            assert_eq!(reply["message_id"], results[0]["id"], "{reply}");
        }
        let command = json!({"op": "publish", "topic": topic, "text": "x", "key": "k"});
        assert_eq!(session.command(&command).await["code"], "bad_request");
        node.publish(topic, "end").await;
        for expected in ["three", "end"] {
            assert_eq!(socket.text().await, expected);
        }
    }
}

/// Under `drop` a topic with history loses nothing: a client that fell behind gets what it lacks
/// when it reads again.
async fn a_slow_consumer_reads_on_from_history(bed: &Bed) {
    let settings = "\
[limits]
behind_bytes = 65536

[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 300 }
on_slow = \"drop\"
";
    let world = World::new().settings(settings);
    let world = match &bed.redis {
        Some(redis) => world.broker(&redis.url()),
        None => world,
    };
    let world = world.start().await;
    let node = world.node(0);
    let mut stuck = node.subscribe_without_reading("feed").await;
    let mut fine = node.subscribe("feed").await;
    let filler = "x".repeat(16_000);
    let mut client = node.client().await;
    for number in 0..200 {
        let text = format!("{number}:{filler}");
        assert_eq!(client.post("/topics/feed", "text/plain", text.as_bytes()).await.status, 200);
        assert!(fine.text().await.starts_with(&format!("{number}:")));
    }
    node.metric_exceeds("umbel_slow_consumers_total{policy=\"drop\"}", 0.5).await;
    for number in 0..200 {
        let text = stuck.text().await;
        assert!(text.starts_with(&format!("{number}:")), "{number}: {text:.20}");
    }
    client.post("/topics/feed", "text/plain", b"live").await;
    assert_eq!(stuck.text().await, "live");
    let metrics = node.metrics().await;
    node.metric_becomes("umbel_gaps_total{reason=\"slow\"}", 0.0).await;
    assert!(metrics.value("umbel_deliveries_skipped_total{reason=\"catch_up\"}") > 0.0);
}

/// More than a node keeps at hand or reads at once.
/// More than a node may keep, over several topics: the memory broker gives up the oldest and says
/// so, over Redis all of it is still there.
async fn what_does_not_fit_in_memory_is_told_or_read_elsewhere(bed: &Bed) {
    const TOPICS: u64 = 8;
    let settings = "\
[broker]
history_mib = 1

[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 300 }
";
    let world = World::new().workers(2).settings(settings);
    let world = match &bed.redis {
        Some(redis) => world.broker(&redis.url()),
        None => world,
    };
    let world = world.start().await;
    let node = world.node(0);
    let mut firsts = Vec::new();
    for topic in 0..TOPICS {
        firsts.push(publish(node, &format!("feed.{topic}"), "first").await);
    }
    let filler = "x".repeat(10_000);
    for round in 0..40 {
        let lines: Vec<_> = (0..TOPICS)
            .map(|topic| {
                let topic = format!("feed.{topic}");
                json!({"topic": topic, "text": format!("{round}:{filler}")}).to_string()
            })
            .collect();
        let body = lines.join("\n");
        let answer =
            node.client().await.post("/publish", "application/x-ndjson", body.as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
    let mut given = 0;
    for (topic, first) in firsts.iter().enumerate() {
        let mut session = node.json().await;
        let reply = subscribe(&mut session, &format!("feed.{topic}"), first).await;
        assert_eq!(reply["recovered"], bed.redis.is_some(), "{reply}");
        let mut last = offset(first);
        if bed.redis.is_none() {
            let gap = session.json().await;
            assert_eq!(gap["reason"], "too_old", "{gap}");
            last = offset(gap["position"].as_str().unwrap());
        }
        while last < 41 {
            let message = session.json().await;
            last += 1;
            assert_eq!(offset(message["message_id"].as_str().unwrap()), last);
            given += 1;
        }
    }
    let all = 40 * TOPICS;
    match bed.redis {
        Some(_) => assert_eq!(given, all),
        // As much as fits in 1 MiB.
        None => assert!((50..110).contains(&given), "{given}"),
    }
    if bed.redis.is_none() {
        node.metric_exceeds("umbel_history_bytes", 500_000.0).await;
    }
    let held = node.metrics().await.value("umbel_history_bytes");
    assert!(held <= f64::from(1 << 20), "{held}");
}

async fn a_large_history_comes_whole(bed: &Bed) {
    let settings = "\
[broker]
history_mib = 1

[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 2000, seconds = 300 }
";
    let world = World::new().settings(settings);
    let world = match &bed.redis {
        Some(redis) => world.broker(&redis.url()),
        None => world.environment("UMBEL_BROKER__HISTORY_MIB", "64"),
    };
    let world = world.start().await;
    let node = world.node(0);
    let filler = "x".repeat(4000);
    for chunk in 0..10 {
        let lines: Vec<_> = (0..200)
            .map(|n| {
                json!({"topic": "feed", "text": format!("{}:{filler}", chunk * 200 + n)})
                    .to_string()
            })
            .collect();
        let body = lines.join("\n");
        let answer =
            node.client().await.post("/publish", "application/x-ndjson", body.as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
    let mut json = node.json().await;
    assert_eq!(subscribe(&mut json, "feed", "0").await["recovered"], true);
    let mut sse = resumed(node, "/topics/feed,other", &{
        // A cursor over two topics, so that each frame is copied with a line of its own.
        let opened = node.sse("/topics/other,feed?after=latest:0").await;
        opened.last_event_id().to_owned()
    })
    .await;
    publish(node, "feed", "2000:").await;
    assert!(sse.data().await.starts_with("2000:"));
    let mut sse = node.sse("/topics/feed?after=0").await;
    for number in 0..=2000 {
        let expected = format!("{number}:");
        assert!(json.json().await["text"].as_str().unwrap().starts_with(&expected), "{number}");
        if number > 0 {
            // The oldest was trimmed when the last one came, before this stream was opened.
            if number == 1 {
                assert_eq!(sse.gap("feed").await, "too_old");
            }
            assert!(sse.data().await.starts_with(&expected), "{number}");
        }
    }
    let mut sse = node.sse("/topics/feed,other?after=latest:1500").await;
    for number in 501..=2000 {
        assert!(sse.data().await.starts_with(&format!("{number}:")), "{number}");
    }
}

async fn resuming_works_over_http2(bed: &Bed) {
    let node = bed.node();
    let mut client = node.http2().await;
    for path in ["/topics/chat.1", "/topics/chat.1,chat.2"] {
        let opened = poll(node, &format!("{path}?after=latest:0")).await;
        publish_all(node, "chat.1", 0..90).await;
        let id = opened["cursor"].as_str().unwrap();
        let mut stream = client.sse_with(path, &[("last-event-id", id)]).await;
        for number in 0..90 {
            assert_eq!(stream.event().await.data, number.to_string());
        }
        publish(node, "chat.1", "live").await;
        assert_eq!(stream.event().await.data, "live");
    }
}
