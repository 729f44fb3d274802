//! Topics with history on a Redis that refuses, is used by other programs too, or holds what no
//! node wrote: publishers get a status and the server's words, the operator a line, nobody else
//! notices.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use umbel_e2e::{Node, Redis, SseClient, WebSocketClient, World, eventually, within};

const SETTINGS: &str = "\
[broker]
check_seconds = 1

[[topics]]
match = \"feed.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 300 }

[[topics]]
match = \"brief.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 1000, seconds = 1 }
keep_seconds = 60

[[topics]]
match = \"live.*\"
subscribe = \"anyone\"
publish = \"anyone\"
";

struct Bed {
    world: World,
    redis: Redis,
}

impl Bed {
    async fn new(arguments: &[&str]) -> Self {
        let redis = Redis::start(arguments).await;
        let world = World::new().settings(SETTINGS).broker(&redis.url()).start().await;
        Self { world, redis }
    }

    fn node(&self) -> &Node {
        self.world.node(0)
    }

    /// A session that has got the first message of `feed.1`, and knows the place behind it.
    async fn session(&self) -> (WebSocketClient, String) {
        let mut session = self.node().json().await;
        let reply = session.command(&json!({"op": "subscribe", "topic": "feed.1"})).await;
        assert_eq!(reply["op"], "subscribed");
        let id = published(self.node(), "feed.1", "first").await;
        assert_eq!(session.json().await["text"], "first");
        (session, id)
    }
}

async fn published(node: &Node, topic: &str, text: &str) -> String {
    let path = format!("/topics/{topic}");
    let answer = node.client().await.post(&path, "text/plain", text.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Publishes to a topic with history, which isn't taken; status and detail.
async fn refused(node: &Node) -> (u16, String) {
    let answer = node.client().await.post("/topics/feed.1", "text/plain", b"refused").await;
    (answer.status, answer.problem())
}

fn offset(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

async fn poll(node: &Node, path: &str) -> Value {
    let answer = node.client().await.request("GET", path, &[], b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn texts(answer: &Value) -> Vec<&str> {
    let messages = answer["messages"].as_array().unwrap().iter();
    messages.map(|message| message["text"].as_str().unwrap()).collect()
}

/// A header field of an envelope.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(value.len()).unwrap()], value].concat()
}

#[tokio::test]
async fn broken_envelopes_are_counted_and_nobody_is_given_them() {
    let bed = Bed::new(&[]).await;
    let (mut session, _) = bed.session().await;
    let magic = b"\xffU\x01";
    let epoch = field(1, b"0123456789abcdef");
    let broken = [
        magic.to_vec(),
        [&magic[..], &[1]].concat(),
        [&magic[..], &[1, 200], b"short"].concat(),
        [&magic[..], &field(1, b"not a number at."), &field(2, b"2"), b"\0x"].concat(),
        [&magic[..], &epoch, &field(2, b"two"), b"\0x"].concat(),
        [&magic[..], &epoch, &field(2, &[b'9'; 200]), b"\0x"].concat(),
        [&magic[..], &epoch, b"\0x"].concat(),
        [&magic[..], &epoch, &field(2, b"2"), &field(5, b"x"), b"\0{"].concat(),
        [&magic[..], &vec![b'x'; 200_000]].concat(),
    ];
    assert_eq!(broken.len(), 9);
    let mut client = bed.redis.client().await;
    for payload in &broken {
        let receivers = client.command_bytes(&[b"PUBLISH", b"umbel:feed.1", payload]).await;
        assert_eq!(receivers, "1");
    }
    let series = "umbel_broker_messages_total{form=\"malformed\"}";
    bed.node().metric_becomes(series, 9.0).await;
    let logged = bed.node().logs("A malformed message came").await;
    assert!((1..=9).contains(&logged), "{logged} lines for 9 messages");
    let id = published(bed.node(), "feed.1", "second").await;
    let message = session.json().await;
    assert_eq!((&message["text"], offset(&id)), (&json!("second"), 2), "nothing came between");
}

/// Well-formed envelopes with places that history doesn't have.
#[tokio::test]
async fn forged_ids_delay_nobody() {
    let bed = Bed::new(&[]).await;
    let (mut session, id) = bed.session().await;
    let (epoch, _) = id.split_once('-').unwrap();
    let mut client = bed.redis.client().await;
    let forged = |epoch: &str, offset: &str, text: &str| {
        let fields = [field(1, epoch.as_bytes()), field(2, offset.as_bytes())].concat();
        [b"\xffU\x01", &fields[..], b"\0", text.as_bytes()].concat()
    };
    for payload in
        [forged(epoch, "1", "again"), forged(epoch, "0", "zero"), forged(epoch, "0001", "padded")]
    {
        client.command_bytes(&[b"PUBLISH", b"umbel:feed.1", &payload]).await;
    }
    assert_eq!(offset(&published(bed.node(), "feed.1", "second").await), 2);
    let message = session.json().await;
    assert_eq!(message["text"], "second", "{message}");
    // What isn't the next one waits for those before it, of which Redis has none.
    let payload = forged("00000000deadbeef", "7", "elsewhere");
    client.command_bytes(&[b"PUBLISH", b"umbel:feed.1", &payload]).await;
    let gap = session.json().await;
    assert_eq!((&gap["op"], &gap["reason"]), (&json!("gap"), &json!("rewound")), "{gap}");
    assert_eq!(session.json().await["text"], "elsewhere");
    // Then the server's own go on, with a word.
    published(bed.node(), "feed.1", "third").await;
    let gap = session.json().await;
    assert_eq!(gap["op"], "gap", "{gap}");
    let mut got = Vec::new();
    while got.last() != Some(&json!("third")) {
        let message = session.json().await;
        assert_eq!(message["op"], "message", "{message}");
        got.push(message["text"].clone());
    }
    published(bed.node(), "feed.1", "fourth").await;
    assert_eq!(session.json().await["text"], "fourth");
}

#[tokio::test]
async fn entries_that_were_written_by_hand_are_passed_over() {
    let bed = Bed::new(&[]).await;
    let (mut session, id) = bed.session().await;
    let (epoch, _) = id.split_once('-').unwrap();
    let mut client = bed.redis.client().await;
    let add = ["XADD", "umbel:feed.1"];
    for (place, fields) in [
        ("2-9999999999999", &["e", epoch, "m", "no message"][..]),
        ("3-9999999999999", &["e", epoch, "m", "\u{ff}U\u{1}"]),
        ("4-9999999999999", &["e", epoch]),
    ] {
        let answer = client.command(&[&add[..], &[place], fields].concat()).await;
        assert_eq!(answer, place);
    }
    assert_eq!(offset(&published(bed.node(), "feed.1", "five").await), 5);
    let message = session.json().await;
    assert_eq!(message["text"], "five", "{message}");
    bed.node().metric_becomes("umbel_broker_malformed_entries_total", 3.0).await;
    assert_eq!(bed.node().logs("History has entries that are no messages").await, 1);
    // Whoever comes back gets what are messages.
    let answer = poll(bed.node(), &format!("/topics/feed.1?after={id}")).await;
    assert_eq!((texts(&answer), &answer["gaps"]), (vec!["five"], &json!([])));
    // Without an epoch nobody knows what the entry stands for: another one begins.
    client.command(&[&add[..], &["6-9999999999999", "x", "y"]].concat()).await;
    let next = published(bed.node(), "feed.1", "seven").await;
    assert!(offset(&next) == 7 && !next.starts_with(epoch), "{next}");
    assert_eq!(session.json().await["op"], "gap");
    assert_eq!(session.json().await["text"], "seven");
    // Nor does it with an id that Redis made up.
    client.command(&[&add[..], &["*", "x", "y"]].concat()).await;
    assert_ne!(bed.redis.command(&["XLEN", "umbel:feed.1"]).await, "0");
}

/// A stream that another program filled, before any node.
#[tokio::test]
async fn a_stream_of_another_program_s_is_no_history() {
    let bed = Bed::new(&[]).await;
    let mut client = bed.redis.client().await;
    for number in 0..10 {
        client.command(&["XADD", "umbel:feed.2", "*", "number", &number.to_string()]).await;
    }
    let answer = poll(bed.node(), "/topics/feed.2?after=latest:5").await;
    assert_eq!(texts(&answer), [""; 0]);
    let mut stream = bed.node().sse("/topics/feed.2").await;
    let id = published(bed.node(), "feed.2", "ours").await;
    assert!(offset(&id) > 1_700_000_000_000, "offsets go on behind what there is: {id}");
    let event = stream.event().await;
    let event = if event.name == "umbel.gap" { stream.event().await } else { event };
    assert_eq!((event.data.as_str(), event.id), ("ours", id.clone()));
    published(bed.node(), "feed.2", "more").await;
    assert_eq!(stream.data().await, "more");
    let mut again =
        SseClient::open_with(bed.node().http(), "/topics/feed.2", &[("last-event-id", &id)]).await;
    assert_eq!(again.data().await, "more");
}

#[tokio::test]
async fn a_key_of_another_type_is_told_to_all_who_need_it() {
    let bed = Bed::new(&[]).await;
    bed.redis.command(&["SET", "umbel:feed.1", "a string"]).await;
    let mut session = bed.node().json().await;
    let reply = session.command(&json!({"op": "subscribe", "topic": "feed.1"})).await;
    assert_eq!(reply["op"], "subscribed", "live messages may come: {reply}");
    let (status, detail) = refused(bed.node()).await;
    assert_eq!(status, 502);
    assert!(detail.contains("WRONGTYPE"), "{detail}");
    bed.node().logs("Redis doesn't take a message").await;
    bed.node().logs("Redis doesn't give a topic's history").await;
    let answer = bed.node().client().await.get("/topics/feed.1?after=0").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    // Other topics know nothing of it.
    let mut other = bed.node().sse("/topics/feed.2").await;
    published(bed.node(), "feed.2", "fine").await;
    assert_eq!(other.data().await, "fine");
    // It passes with the key.
    bed.redis.command(&["DEL", "umbel:feed.1"]).await;
    published(bed.node(), "feed.1", "first").await;
    loop {
        let message = session.json().await;
        if message["op"] == "message" {
            assert_eq!(message["text"], "first");
            break;
        }
        assert_eq!(message["op"], "gap", "{message}");
    }
}

/// Publishing with history is refused while the server takes no writes; what is live only, and
/// reading, go on.
async fn takes_no_writes(bed: &Bed, said: &str) {
    let node = bed.node();
    let (mut session, id) = bed.session().await;
    let second = published(node, "feed.1", "second").await;
    session.json().await;
    match said {
        "OOM" => bed.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await,
        "NOREPLICAS" => bed.redis.command(&["CONFIG", "SET", "min-replicas-to-write", "3"]).await,
        "MISCONF" => {
            // The file can't be replaced by a new one.
            std::fs::create_dir(bed.redis.directory().join("dump.rdb")).unwrap();
            bed.redis.command(&["CONFIG", "SET", "save", "3600 1"]).await;
            bed.redis.command(&["BGSAVE"]).await;
            eventually("the failed save", || async {
                let info = bed.redis.command(&["INFO", "persistence"]).await;
                info.contains("rdb_last_bgsave_status:err").then_some("OK".to_owned())
            })
            .await
        }
        other => panic!("{other}"),
    };
    let (status, detail) = refused(node).await;
    assert_eq!(status, 503, "{detail}");
    assert!(detail.contains(said) && detail.contains("look at its memory and disk"), "{detail}");
    node.logs("Redis doesn't take a message").await;
    let command = json!({"op": "publish", "topic": "feed.1", "text": "refused"});
    let reply = session.command(&command).await;
    assert_eq!((&reply["op"], &reply["code"]), (&json!("error"), &json!("unavailable")));
    let lines =
        "{\"topic\":\"feed.1\",\"text\":\"refused\"}\n{\"topic\":\"live.1\",\"text\":\"x\"}";
    let path = "/publish";
    let answer = node.client().await.post(path, "application/x-ndjson", lines.as_bytes()).await;
    assert!(answer.text().contains(said), "{}", answer.text());
    // Live messages pass, unless the server refuses even those.
    let mut live = node.subscribe("live.1").await;
    node.publish("live.1", "passes").await;
    assert_eq!(live.text().await, "passes");
    // So does reading: what the node keeps, and what it must ask for.
    assert_eq!(texts(&poll(node, &format!("/topics/feed.1?after={id}")).await), ["second"]);
    let world = World::new().settings(SETTINGS).broker(&bed.redis.url()).start().await;
    let fresh = poll(world.node(0), &format!("/topics/feed.1?after={id}")).await;
    assert_eq!((texts(&fresh), &fresh["cursor"]), (vec!["second"], &json!(second)));
    assert_eq!(node.readiness().await.0, 200);

    bed.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    bed.redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    bed.redis.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    let id = published(node, "feed.1", "third").await;
    assert_eq!(offset(&id), 3, "nothing of what was refused is there");
    assert_eq!(session.json().await["text"], "third");
}

#[tokio::test]
async fn a_server_without_memory_is_told_and_still_read() {
    takes_no_writes(&Bed::new(&[]).await, "OOM").await;
}

#[tokio::test]
async fn a_server_whose_disk_fails_is_told_and_still_read() {
    takes_no_writes(&Bed::new(&[]).await, "MISCONF").await;
}

#[tokio::test]
async fn a_server_without_enough_replicas_is_told_and_still_read() {
    takes_no_writes(&Bed::new(&[]).await, "NOREPLICAS").await;
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_told_and_left() {
    let bed = Bed::new(&[]).await;
    let (mut session, _) = bed.session().await;
    bed.redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    // The probe may end the link just when a message is sent again: nobody knows what became of it.
    let told = eventually("a refusal", || async {
        let (status, detail) = refused(bed.node()).await;
        assert!([503, 504].contains(&status), "{status} {detail}");
        (status == 503).then_some(detail)
    });
    let detail = told.await;
    assert!(detail.contains("name the master"), "{detail}");
    bed.node().becomes_unready().await;
    bed.redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    bed.node().wait_until_ready().await;
    // Nobody knows what the master had besides.
    published(bed.node(), "feed.1", "second").await;
    let gap = session.json().await;
    assert_eq!((&gap["op"], &gap["reason"]), (&json!("gap"), &json!("rewound")));
    assert_eq!(session.json().await["text"], "second");
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_waited_for() {
    // A fifth of a second per key, once there are any.
    let slowly = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"];
    let mut bed = Bed::new(&slowly).await;
    let (mut session, _) = bed.session().await;
    let mut client = bed.redis.client().await;
    for number in 0..100 {
        client.command(&["SET", &format!("filler{number}"), &"x".repeat(2000)]).await;
    }
    assert_eq!(client.command(&["SAVE"]).await, "OK");
    bed.redis.kill();
    bed.node().becomes_unready().await;
    bed.redis.start_again().await;
    eventually("the server's words", || async {
        let (_, text) = bed.node().readiness().await;
        text.contains("LOADING").then_some(())
    })
    .await;
    let (status, detail) = refused(bed.node()).await;
    assert_eq!(status, 503);
    assert!(detail.contains("LOADING"), "{detail}");
    bed.node().logs("LOADING").await;
    bed.node().wait_until_ready().await;
    assert_eq!(offset(&published(bed.node(), "feed.1", "second").await), 2);
    assert_eq!(session.json().await["op"], "gap");
    assert_eq!(session.json().await["text"], "second");
}

#[tokio::test]
async fn a_library_that_is_gone_is_loaded_again() {
    let bed = Bed::new(&[]).await;
    let (mut session, id) = bed.session().await;
    let mut client = bed.redis.client().await;
    for number in 2..5 {
        client.command(&["FUNCTION", "FLUSH"]).await;
        let next = published(bed.node(), "feed.1", &number.to_string()).await;
        assert_eq!(offset(&next), number);
        assert_eq!(session.json().await["text"], number.to_string());
    }
    client.command(&["FUNCTION", "FLUSH"]).await;
    let world = World::new().settings(SETTINGS).broker(&bed.redis.url()).start().await;
    client.command(&["FUNCTION", "FLUSH"]).await;
    let answer = poll(world.node(0), &format!("/topics/feed.1?after={id}")).await;
    assert_eq!(texts(&answer), ["2", "3", "4"]);
}

#[tokio::test]
async fn a_library_that_could_not_be_loaded_is_tried_again() {
    let bed = Bed::new(&["--maxmemory", "1"]).await;
    let (status, detail) = refused(bed.node()).await;
    assert!(status == 503 && detail.contains("OOM"), "{status} {detail}");
    bed.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually("history", || async {
        let answer = bed.node().client().await.post("/topics/feed.1", "text/plain", b"x").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Servers before version 7, and those of some providers.
#[tokio::test]
async fn where_there_are_no_functions_scripts_do_the_same() {
    let none = ["--rename-command", "FCALL", "", "--rename-command", "FUNCTION", ""];
    let bed = Bed::new(&none).await;
    let (mut session, id) = bed.session().await;
    let mut client = bed.redis.client().await;
    assert!(client.command(&["FCALL", "umbel_version", "0"]).await.contains("unknown command"));
    for number in 2..5 {
        client.command(&["SCRIPT", "FLUSH"]).await;
        let next = published(bed.node(), "feed.1", &number.to_string()).await;
        assert_eq!(offset(&next), number);
        assert_eq!(session.json().await["text"], number.to_string());
    }
    client.command(&["SCRIPT", "FLUSH"]).await;
    let world = World::new().settings(SETTINGS).broker(&bed.redis.url()).start().await;
    client.command(&["SCRIPT", "FLUSH"]).await;
    let answer = poll(world.node(0), &format!("/topics/feed.1?after={id}")).await;
    assert_eq!(texts(&answer), ["2", "3", "4"]);
    let headers = [("idempotency-key", "once"), ("content-type", "text/plain")];
    let mut ids = Vec::new();
    for node in [bed.node(), world.node(0)] {
        let answer = node.client().await.request("POST", "/topics/feed.1", &headers, b"5").await;
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(bed.redis.command(&["XLEN", "umbel:feed.1"]).await, "5");
}

#[tokio::test]
async fn a_user_who_may_not_call_functions_is_told() {
    let redis = Redis::start(&[]).await;
    let mut admin = redis.client().await;
    let rules = [
        "ACL",
        "SETUSER",
        "edge",
        "on",
        ">pass",
        "~umbel:*",
        "&umbel:*",
        "+@all",
        "-fcall",
        "-evalsha",
        "-function",
    ];
    assert_eq!(admin.command(&rules).await, "OK");
    let url = redis.url().replace("redis://", "redis://edge:pass@");
    let world = World::new().settings(SETTINGS).broker(&url).start().await;
    let (status, detail) = refused(world.node(0)).await;
    assert_eq!(status, 502, "{detail}");
    assert!(detail.contains("NOPERM") && detail.contains("the server's ACL"), "{detail}");
    world.node(0).logs("Redis doesn't take a message").await;
    // What is live only needs no function.
    let mut live = world.node(0).subscribe("live.1").await;
    world.node(0).publish("live.1", "passes").await;
    assert_eq!(live.text().await, "passes");
    // With the rules that the README names all works.
    let rules = [
        "ACL",
        "SETUSER",
        "narrow",
        "on",
        ">pass",
        "resetchannels",
        "~umbel:*",
        "~{umbel:*",
        "&umbel:*",
        "-@all",
        "+subscribe",
        "+unsubscribe",
        "+publish",
        "+ping",
        "+hello",
        "+info",
        "+client",
        "+eval",
        "+fcall",
        "+function|load",
        "+xadd",
        "+xtrim",
        "+xlen",
        "+xrange",
        "+xrevrange",
        "+expire",
        "+exists",
        "+pttl",
        "+time",
        "+get",
        "+set",
    ];
    assert_eq!(admin.command(&rules).await, "OK");
    let url = redis.url().replace("redis://", "redis://narrow:pass@");
    let world = World::new().settings(SETTINGS).broker(&url).start().await;
    let mut stream = world.node(0).sse("/topics/feed.1").await;
    let headers = [("idempotency-key", "once"), ("content-type", "text/plain")];
    let mut client = world.node(0).client().await;
    let answer = client.request("POST", "/topics/feed.1", &headers, b"works").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stream.data().await, "works");
    // Also of a topic whose messages are all too old.
    for place in ["1-1000", "2-1000"] {
        let add = ["XADD", "umbel:feed.2", place, "e", "0123456789abcdef", "m", "old"];
        assert_eq!(admin.command(&add).await, place);
    }
    let answer = poll(world.node(0), "/topics/feed.2?after=0").await;
    assert_eq!(texts(&answer), [""; 0], "{answer}");
}

#[tokio::test]
async fn redis_cli_and_a_python_client_publish_with_history() {
    let bed = Bed::new(&[]).await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    let opened = stream.last_event_id().to_owned();
    let port = bed.redis.port().to_string();
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", &port, "fcall", "umbel_publish", "1", "umbel:feed.1", "{\"by\": \"cli\"}"]);
    cli.args(["kind", "json", "event", "typed", "messages", "1000", "seconds", "300"]);
    let output = within("redis-cli", cli.output()).await;
    let output = output.expect("redis-cli is installed (Debian: apt-get install redis-tools)");
    let said = String::from_utf8(output.stdout).unwrap();
    let event = stream.event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), ("typed", "{\"by\": \"cli\"}"));
    assert_eq!(said.lines().collect::<Vec<_>>(), [event.id.as_str(), "1"]);
    let script = "\
import sys, redis
server = redis.Redis(port=int(sys.argv[1]))
for number in range(3):
    id, receivers = server.fcall('umbel_publish', 1, 'umbel:feed.1', f'from python {number}')
print(id.decode())
key = '{umbel:feed.1}:once:order-17'
first = server.fcall('umbel_publish', 2, 'umbel:feed.1', key, 'once')
assert first == server.fcall('umbel_publish', 2, 'umbel:feed.1', key, 'once')
try:
    server.fcall('umbel_publish', 2, 'umbel:feed.1', key, 'another')
except redis.ResponseError as error:
    print(error)
";
    let mut python = Command::new("/usr/bin/python3");
    let output = within("Python", python.args(["-c", script, &port]).output()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let hint = "(Debian: apt-get install python3-redis)";
    assert!(output.status.success(), "{} {hint}", String::from_utf8_lossy(&output.stderr));
    let mut last = String::new();
    for number in 0..3 {
        let event = stream.event().await;
        assert_eq!(event.data, format!("from python {number}"));
        last = event.id;
    }
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], last);
    assert_eq!(lines[1], "UMBELKEY another message was published with this key");
    assert_eq!(stream.data().await, "once");
    // All of it can be resumed from.
    let headers = [("last-event-id", opened.as_str())];
    let mut back = SseClient::open_with(bed.node().http(), "/topics/feed.1", &headers).await;
    assert_eq!(back.event().await.name, "typed");
    for number in 0..3 {
        assert_eq!(back.data().await, format!("from python {number}"));
    }
    assert_eq!(back.data().await, "once");
}

#[tokio::test]
async fn a_function_that_is_called_wrongly_says_what_is_wrong_and_publishes_nothing() {
    let bed = Bed::new(&[]).await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    let mut client = bed.redis.client().await;
    for (arguments, said) in [
        (&["0"][..], "ERR umbel_publish takes a topic's key and a payload"),
        (&["1", "umbel:feed.1"], "ERR umbel_publish takes a topic's key and a payload"),
        (&["1", "umbel:feed.1", "x", "message", "5"], "ERR umbel_publish has no option message"),
        (&["1", "umbel:feed.1", "x", "messages"], "ERR the option messages has no value"),
        (&["1", "umbel:feed.1", "x", "messages", "many"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "seconds", "0"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "seconds", "nan"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "keep", "60.5"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "keep", "1e18"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "messages", "inf"], "ERR messages, seconds and keep must"),
        (&["1", "umbel:feed.1", "x", "origin", "me"], "ERR origin must be 16 hexadecimal digits"),
        (&["1", "umbel:feed.1", "x", "event", "umbel.gap"], "ERR event must be"),
        (&["1", "umbel:feed.1", "x", "event", "a\nb"], "ERR event must be"),
        (&["1", "umbel:feed.1", "x", "kind", "xml"], "ERR kind must be text, json or binary"),
        (&["1", "umbel:feed.1", "{", "kind", "json"], "ERR the payload is not JSON"),
    ] {
        let command = [&["FCALL", "umbel_publish"], arguments].concat();
        let answer = client.command(&command).await;
        assert!(answer.starts_with(said), "{arguments:?}: {answer}");
    }
    let not_utf8 = [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"a\xe2\x82", b"\xf4\x90\x80\x80"];
    for bytes in not_utf8 {
        let call = [&b"FCALL"[..], b"umbel_publish", b"1", b"umbel:feed.1"];
        for (options, said) in [
            ([bytes, b"kind", b"text"], "ERR the payload is not UTF-8"),
            ([bytes, b"kind", b"json"], "ERR the payload is not UTF-8"),
            ([b"x", b"event", bytes], "ERR event must be"),
        ] {
            let answer = client.command_bytes(&[&call[..], &options].concat()).await;
            assert!(answer.starts_with(said), "{bytes:?}: {answer}");
        }
    }
    assert_eq!(client.command(&["EXISTS", "umbel:feed.1"]).await, "0");
    let text = "\u{e4}\u{20ac}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}";
    let command = ["FCALL", "umbel_publish", "1", "umbel:feed.1", text, "kind", "text"];
    client.command(&[&command[..], &["event", text]].concat()).await;
    let event = stream.event().await;
    assert_eq!((event.name.as_str(), event.data.as_str()), (text, text));
    published(bed.node(), "feed.1", "only this").await;
    assert_eq!(stream.data().await, "only this");
}

/// Whoever publishes by a plain `PUBLISH` reaches who listens, and nobody who comes back.
#[tokio::test]
async fn a_plain_publish_is_live_without_an_id_and_counted() {
    let bed = Bed::new(&[]).await;
    let mut stream = bed.node().sse("/topics/feed.1").await;
    let id = published(bed.node(), "feed.1", "first").await;
    assert_eq!(stream.data().await, "first");
    bed.redis.command(&["PUBLISH", "umbel:feed.1", "plain"]).await;
    assert_eq!(stream.data().await, "plain");
    assert_eq!(stream.last_event_id(), id, "it has no place");
    bed.node().metric_becomes("umbel_broker_messages_without_id_total", 1.0).await;
    assert_eq!(offset(&published(bed.node(), "feed.1", "second").await), 2);
    assert_eq!(stream.data().await, "second");
    let answer = poll(bed.node(), "/topics/feed.1?after=0").await;
    assert_eq!((texts(&answer), &answer["gaps"]), (vec!["first", "second"], &json!([])));
}

/// Keys of topics that are listened to live on, those of others go after their time; old messages
/// go, and where the topic stood is kept.
#[tokio::test]
async fn keys_live_as_long_as_they_are_of_use() {
    let bed = Bed::new(&[]).await;
    let mut stream = bed.node().sse("/topics/brief.1").await;
    for number in 0..40 {
        published(bed.node(), "brief.1", &number.to_string()).await;
        assert_eq!(stream.data().await, number.to_string());
    }
    let ttl =
        || async { bed.redis.command(&["TTL", "umbel:brief.1"]).await.parse::<i64>().unwrap() };
    assert!((1..=60).contains(&ttl().await), "{}", ttl().await);
    // All but the last message is taken off by the check of a quiet topic.
    eventually("the end of the messages' time", || async {
        (bed.redis.command(&["XLEN", "umbel:brief.1"]).await == "1").then_some(())
    })
    .await;
    bed.redis.command(&["EXPIRE", "umbel:brief.1", "25"]).await;
    eventually("a longer life", || async { (ttl().await > 45).then_some(()) }).await;
    drop(stream);
    bed.redis.channels_become(&[]).await;
    bed.redis.command(&["EXPIRE", "umbel:brief.1", "25"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(ttl().await < 25, "nobody listens");
}
