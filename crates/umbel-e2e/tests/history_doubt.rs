//! Topics with history of which a node can't know enough: sessions that are let in while Redis is
//! away or refuses to answer, messages that are gone or unreadable in the middle, clients that come
//! back to several topics of which one is out of order. Whatever may be missing is told, and nobody
//! waits for what another lacks.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use umbel_e2e::{Fault, Node, Proxy, Redis, SseClient, WebSocketClient, World, within};

const SETTINGS: &str = "\
[broker]
check_seconds = 1
history_mib = 1

[[topics]]
match = \"feed.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 300 }

[[topics]]
match = \"brief.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 2 }

[[topics]]
match = \"last.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1, seconds = 300 }
";

/// A node and the line to its Redis.
struct Bed {
    world: World,
    line: Proxy,
    redis: Redis,
}

impl Bed {
    async fn new() -> Self {
        let redis = Redis::start(&[]).await;
        let line = Proxy::before(redis.port()).await;
        let broker = format!("redis://{}", line.address());
        let world = World::new().settings(SETTINGS).broker(&broker).start().await;
        Self { world, line, redis }
    }

    fn node(&self) -> &Node {
        self.world.node(0)
    }

    /// Cuts the line until it is mended.
    async fn cut(&self) {
        self.line.set(Fault::Cut);
        self.node().becomes_unready().await;
    }

    async fn mend(&self) {
        self.line.set(Fault::None);
        self.node().wait_until_ready().await;
    }

    /// Publishes as a program does that speaks to Redis only. Returns the message's id.
    async fn publish(&self, topic: &str, text: &str) -> String {
        let seconds = if topic.starts_with("brief") { "2" } else { "300" };
        let messages = if topic.starts_with("last") { "1" } else { "1000" };
        let key = format!("umbel:{topic}");
        let command = ["FCALL", "umbel_publish", "1", &key, text, "seconds", seconds];
        let answer = self.redis.command(&[&command[..], &["messages", messages]].concat()).await;
        answer.lines().next().unwrap().to_owned()
    }

    async fn back(&self, path: &str, id: &str) -> SseClient {
        SseClient::open_with(self.node().http(), path, &[("last-event-id", id)]).await
    }

    async fn poll(&self, path: &str) -> Value {
        self.node().client().await.get(path).await.json()
    }
}

/// A session that is let in while Redis is away doesn't know where it begins. It is told so, and
/// once more with its place when the link is back: what was published between it may have missed.
#[tokio::test]
async fn who_was_let_in_while_redis_was_away_is_told_the_place_when_it_is_back() {
    let bed = Bed::new().await;
    bed.publish("feed.1", "before").await;
    bed.cut().await;
    let mut now = bed.node().sse("/topics/feed.1").await;
    assert_eq!(now.gap("feed.1").await, "broker_link");
    let id = bed.publish("feed.1", "missed").await;
    bed.mend().await;
    assert_eq!(now.gap("feed.1").await, "broker_link");
    assert_eq!(now.last_event_id(), id);
    bed.publish("feed.1", "after").await;
    assert_eq!(now.data().await, "after");
}

/// The same when messages pour in, so that one comes before the server has said where the topic
/// stands.
#[tokio::test]
async fn a_message_that_comes_before_the_place_does_not_hide_what_was_missed() {
    let bed = Bed::new().await;
    bed.cut().await;
    let mut now = bed.node().sse("/topics/feed.1").await;
    assert_eq!(now.gap("feed.1").await, "broker_link");
    bed.publish("feed.1", "missed").await;
    let publish = async {
        for number in 0.. {
            bed.publish("feed.1", &number.to_string()).await;
        }
    };
    let watch = async {
        // The answer to what the node asks takes as long again as the confirmation before it.
        bed.line.set(Fault::Delay(Duration::from_millis(150)));
        within("the second gap", async {
            assert_eq!(now.gap("feed.1").await, "broker_link");
            let first: u32 = now.data().await.parse().unwrap();
            for number in first + 1..first + 20 {
                assert_eq!(now.data().await, number.to_string());
            }
        })
        .await;
    };
    tokio::select! {
        () = publish => {}
        () = watch => {}
    }
}

/// `latest:N` of a topic that can't be asked for when the session opens.
#[tokio::test]
async fn the_newest_of_a_topic_come_late_with_their_place() {
    let bed = Bed::new().await;
    for text in ["1", "2", "3"] {
        bed.publish("feed.1", text).await;
    }
    bed.cut().await;
    let open = async {
        let mut latest = bed.node().sse("/topics/feed.1,feed.2?after=latest:2").await;
        for topic in ["feed.1", "feed.2"] {
            assert_eq!(latest.gap(topic).await, "broker_link");
        }
        latest
    };
    let path = "/topics/feed.1?after=latest:2&gap=close";
    let (mut latest, mut plain) =
        tokio::join!(open, WebSocketClient::open(bed.node().http(), path));
    bed.mend().await;
    // Nothing comes of the other, but its place.
    let mut got = Vec::new();
    for _ in 0..4 {
        let event = latest.event().await;
        assert!(!event.id.is_empty(), "{event:?}");
        got.push(event.data);
    }
    got.sort();
    let gap = |topic| format!("{{\"topic\":\"{topic}\",\"reason\":\"broker_link\"}}");
    assert_eq!(got, ["2".to_owned(), "3".to_owned(), gap("feed.1"), gap("feed.2")]);
    let id = latest.last_event_id().to_owned();
    for topic in ["feed.1", "feed.2"] {
        bed.publish(topic, topic).await;
    }
    let mut back = bed.back("/topics/feed.1,feed.2", &id).await;
    let mut got = [back.data().await, back.data().await];
    got.sort();
    assert_eq!(got, ["feed.1", "feed.2"]);
    // Who would rather be closed is closed.
    plain.closed_with(4410).await;
}

/// Messages that are too old, and still in Redis since nobody trimmed the topic.
#[tokio::test]
async fn what_grew_too_old_while_the_link_was_down_is_told() {
    let bed = Bed::new().await;
    let mut stream = bed.node().sse("/topics/brief.1").await;
    bed.publish("brief.1", "1").await;
    assert_eq!(stream.data().await, "1");
    bed.cut().await;
    bed.publish("brief.1", "2").await;
    bed.publish("brief.1", "3").await;
    sleep(Duration::from_millis(2100)).await;
    bed.publish("brief.1", "4").await;
    assert_eq!(bed.redis.command(&["XLEN", "umbel:brief.1"]).await, "4");
    bed.mend().await;
    assert_eq!(stream.gap("brief.1").await, "too_old");
    assert_eq!(stream.data().await, "4");
}

/// A history of one message is ahead of what is still on its way: nobody is told a gap for that.
#[tokio::test]
async fn a_short_history_costs_nobody_what_comes_by_the_channel() {
    let bed = Bed::new().await;
    let mut stream = bed.node().sse("/topics/last.1").await;
    let mut first = bed.publish("last.1", "0").await;
    assert_eq!(stream.data().await, "0");
    bed.line.set(Fault::Delay(Duration::from_millis(50)));
    let mut strangers = Vec::new();
    for number in 1..60 {
        let id = bed.publish("last.1", &number.to_string()).await;
        if number % 10 == 0 {
            // Its place is one that the node hasn't heard of: it asks the server.
            drop(bed.back("/topics/last.1", &id).await);
            first = id;
            // So it does for a place of another life; who has it doesn't wait until all is quiet.
            strangers.push(bed.back("/topics/last.1", "0123456789abcdef-3").await);
            let stranger = strangers.last_mut().unwrap();
            assert_eq!(stranger.gap("last.1").await, "unknown_epoch");
            stranger.data().await;
        }
        sleep(Duration::from_millis(5)).await;
    }
    for number in 1..60 {
        assert_eq!(stream.data().await, number.to_string());
    }
    // The last ones are here before the server's answer is, and nothing comes behind them.
    for number in 60..63 {
        bed.publish("last.1", &number.to_string()).await;
    }
    let mut stranger = bed.back("/topics/last.1", "0123456789abcdef-3").await;
    assert_eq!(stranger.gap("last.1").await, "unknown_epoch");
    assert_eq!(stranger.data().await, "62");
    for number in 60..63 {
        assert_eq!(stream.data().await, number.to_string());
    }
    let mut back = bed.back("/topics/last.1", &first).await;
    assert_eq!(back.gap("last.1").await, "too_old");
    assert_eq!(back.data().await, "62");
    let metrics = bed.node().metrics().await;
    let reads = metrics.value("umbel_broker_reads_total{kind=\"follow\"}");
    assert!(reads < 40.0, "{reads} reads");
}

/// A history that is read in pages has entries in the middle that are no messages.
#[tokio::test]
async fn entries_that_nobody_can_read_do_not_hold_up_a_reader_of_pages() {
    let bed = Bed::new().await;
    let first = bed.publish("feed.1", "first").await;
    let (epoch, _) = first.split_once('-').unwrap();
    let long = "x".repeat(4000);
    for _ in 0..100 {
        bed.publish("feed.1", &long).await;
    }
    let add = ["XADD", "umbel:feed.1", "102-9999999999999", "e", epoch, "m", "unreadable"];
    assert_eq!(bed.redis.command(&add).await, "102-9999999999999");
    let mut stream = bed.node().sse("/topics/feed.1").await;
    bed.publish("feed.1", "next").await;
    assert_eq!(stream.data().await, "next");
    let mut back = bed.back("/topics/feed.1", &first).await;
    for _ in 0..100 {
        assert_eq!(back.data().await.len(), long.len());
    }
    assert_eq!(back.data().await, "next");
    bed.publish("feed.1", "live").await;
    assert_eq!(back.data().await, "live");
    // Two pages or a few more, not one per turn.
    let metrics = bed.node().metrics().await;
    let pages = metrics.value("umbel_broker_reads_total{kind=\"page\"}");
    assert!(pages < 20.0, "{pages} pages were read");
}

/// An entry at the end that doesn't say of which epoch it is.
#[tokio::test]
async fn an_entry_without_an_epoch_is_told_once_at_most() {
    let bed = Bed::new().await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    bed.publish("feed.1", "1").await;
    assert_eq!(stream.data().await, "1");
    bed.redis.command(&["XADD", "umbel:feed.1", "2-9999999999999", "by", "hand"]).await;
    // Several checks find it.
    sleep(Duration::from_millis(3500)).await;
    bed.node().metric_becomes("umbel_gaps_total{reason=\"rewound\"}", 0.0).await;
    bed.publish("feed.1", "3").await;
    assert_eq!(stream.gap("feed.1").await, "rewound");
    assert_eq!(stream.data().await, "3");
}

/// More of them than a read gives, at the end and in the middle.
#[tokio::test]
async fn a_long_run_of_entries_by_hand_is_passed_over_once() {
    let bed = Bed::new().await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    let first = bed.publish("feed.1", "1").await;
    bed.publish("feed.1", "2").await;
    assert_eq!((stream.data().await, stream.data().await), ("1".to_owned(), "2".to_owned()));
    let mut client = bed.redis.client().await;
    let long = "x".repeat(4000);
    for offset in 3..300 {
        let place = format!("{offset}-9999999999999");
        let add = ["XADD", "umbel:feed.1", &place, "by", "hand", "m", &long];
        assert_eq!(client.command(&add).await, place);
    }
    // A few checks find them.
    sleep(Duration::from_millis(2500)).await;
    bed.node().metric_becomes("umbel_broker_gaps_total", 0.0).await;
    for text in ["300", "301"] {
        bed.publish("feed.1", text).await;
    }
    assert_eq!(stream.gap("feed.1").await, "rewound", "behind them begins another epoch");
    assert_eq!((stream.data().await, stream.data().await), ("300".to_owned(), "301".to_owned()));
    // One more is the last that there is.
    let add = ["XADD", "umbel:feed.1", "302-9999999999999", "by", "hand"];
    assert_eq!(client.command(&add).await, "302-9999999999999");
    let mut back = bed.back("/topics/feed.1", &first).await;
    assert_eq!(back.data().await, "2");
    assert_eq!(back.gap("feed.1").await, "rewound");
    assert_eq!((back.data().await, back.data().await), ("300".to_owned(), "301".to_owned()));
    let other = World::new().settings(SETTINGS).broker(&bed.redis.url()).start().await;
    let mut now = other.node(0).sse("/topics/feed.1").await;
    bed.publish("feed.1", "303").await;
    for stream in [&mut stream, &mut back, &mut now] {
        assert_eq!(stream.gap("feed.1").await, "rewound");
        assert_eq!(stream.data().await, "303");
    }
    let metrics = bed.node().metrics().await;
    for kind in ["follow", "whole", "page"] {
        let reads = metrics.value(&format!("umbel_broker_reads_total{{kind=\"{kind}\"}}"));
        assert!(reads < 20.0, "{reads} of {kind}");
    }
}

/// Of two topics the server refuses one.
#[tokio::test]
async fn a_topic_that_cannot_be_read_keeps_no_other_from_its_session() {
    let bed = Bed::new().await;
    bed.redis.command(&["SET", "umbel:feed.1", "a string"]).await;
    for text in ["1", "2", "3"] {
        bed.publish("feed.2", text).await;
    }
    let mut session = bed.node().json().await;
    let topics = json!([{"topic": "feed.1", "after": "0"}, {"topic": "feed.2", "after": "0"}]);
    let command = json!({"id": 1, "op": "subscribe", "topics": topics});
    session.command(&command).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        let message = session.json().await;
        if message["op"] == "message" {
            got.push(message["text"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(got, ["1", "2", "3"]);
    let mut stream = bed.node().sse("/topics/feed.1,feed.2?after=latest:1").await;
    assert_eq!(stream.gap("feed.1").await, "broker_link");
    assert_eq!(stream.data().await, "3");
}

/// The server refuses a topic at first; what it has of it when it doesn't any more, whoever comes
/// back gets at once, without a message that wakes the topic.
#[tokio::test]
async fn a_topic_that_was_refused_is_known_again_without_a_message() {
    let bed = Bed::new().await;
    let first = bed.publish("feed.9", "1").await;
    bed.publish("feed.9", "2").await;
    bed.redis.command(&["SET", "umbel:feed.1", "a string"]).await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    assert_eq!(stream.gap("feed.1").await, "broker_link");
    bed.redis.command(&["RENAME", "umbel:feed.9", "umbel:feed.1"]).await;
    // The next check finds out.
    assert_eq!(stream.gap("feed.1").await, "broker_link");
    let mut back = bed.back("/topics/feed.1", &first).await;
    assert_eq!(back.data().await, "2");
}

/// A poll over several topics with little room: a busy topic doesn't keep a quiet one out.
#[tokio::test]
async fn each_topic_of_a_poll_has_its_share() {
    let bed = Bed::new().await;
    for number in 0..20 {
        bed.publish("feed.1", &number.to_string()).await;
    }
    bed.publish("feed.2", "quiet").await;
    for _ in 0..5 {
        let answer = bed.poll("/topics/feed.1,feed.2?after=latest:20&limit=4").await;
        let messages = answer["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 4, "what one leaves the other may have");
        assert!(messages.iter().any(|message| message["text"] == "quiet"), "{answer}");
    }
}
