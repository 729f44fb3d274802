//! Nodes that share a Redis server: what passes between them, and what happens when it fails.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::Duration;

use serde_json::json;
use umbel_e2e::{Fault, Opcode, Proxy, Redis, WebSocketClient, World, eventually};

async fn two_nodes(redis: &Redis) -> World {
    World::new().nodes(2).broker(&redis.url()).start().await
}

#[tokio::test]
async fn what_is_published_anywhere_reaches_everyone_in_one_order() {
    let redis = Redis::start(&[]).await;
    let world = two_nodes(&redis).await;
    let (here, there) = (world.node(0), world.node(1));
    let mut plain = here.subscribe("news").await;
    let mut other = there.subscribe("news").await;
    let mut sse = there.sse("/topics/news").await;
    let mut json = here.json().await;
    json.hold("news").await;

    let mut publisher = here.client().await;
    let answer = publisher.post("/topics/news", "text/plain", b"by POST").await;
    assert_eq!(answer.json(), json!({"topic": "news", "id": null, "receivers": 2}));
    other.send_text("by a session").await;
    for client in [&mut plain, &mut other] {
        assert_eq!(client.text().await, "by POST");
        assert_eq!(client.text().await, "by a session");
    }
    assert_eq!(redis.command(&["PUBLISH", "umbel:news", "by anyone"]).await, "2");
    let bytes = [0xff, 0x00, b'U', b'\n'];
    redis.client().await.command_bytes(&[b"PUBLISH", b"umbel:news", &bytes]).await;
    redis.client().await.command_bytes(&[b"PUBLISH", b"umbel:news", b"{\"a\":\n[1]}"]).await;
    for client in [&mut plain, &mut other] {
        assert_eq!(client.text().await, "by anyone");
        let frame = client.message().await;
        assert_eq!((frame.opcode, &frame.payload[..]), (Opcode::Binary, &bytes[..]));
        assert_eq!(client.text().await, "{\"a\":\n[1]}");
    }
    for expected in ["by POST", "by a session", "by anyone"] {
        assert_eq!(json.json().await["text"], expected);
        assert_eq!(sse.data().await, expected);
    }
    assert_eq!(json.json().await["base64"], "/wBVCg==");
    assert_eq!(json.json().await["data"], json!({"a": [1]}));
}

#[tokio::test]
async fn a_message_keeps_its_event_kind_time_and_origin_between_nodes() {
    let redis = Redis::start(&[]).await;
    let world = two_nodes(&redis).await;
    let mut here = world.node(0).json().await;
    let mut there = world.node(1).json().await;
    here.hold("chat").await;
    there.hold("chat").await;
    let publish = json!({"id": 1, "op": "publish", "topic": "chat", "text": "[1]", "event": "typed", "echo": false});
    let reply = here.command(&publish).await;
    assert_eq!(reply, json!({"id": 1, "op": "published", "message_id": null}));
    let message = there.json().await;
    assert_eq!(message["text"], "[1]", "text stays text, although it looks like JSON");
    assert_eq!(message["event"], "typed");
    assert!(message["time"].as_u64().unwrap() > 1_700_000_000_000);
    world.node(1).publish("chat", "next").await;
    assert_eq!(here.json().await["text"], "next", "its own message didn't come back");
    // What looks like a header and isn't one is counted, and nobody gets it.
    redis
        .client()
        .await
        .command_bytes(&[b"PUBLISH", b"umbel:chat", b"\xffU\x01\x05\x01x\0a"])
        .await;
    assert_eq!(there.json().await["text"], "next");
    world.node(1).publish("chat", "last").await;
    assert_eq!(there.json().await["text"], "last");
    world.node(1).metric_becomes("umbel_broker_messages_total{form=\"malformed\"}", 1.0).await;
}

#[tokio::test]
async fn a_node_is_subscribed_to_what_its_sessions_hold_and_no_more() {
    let redis = Redis::start(&[]).await;
    let world = two_nodes(&redis).await;
    assert_eq!(redis.channels().await, [""; 0]);
    let mut json = world.node(0).json().await;
    for topic in ["a", "b"] {
        json.hold(topic).await;
    }
    let sse = world.node(1).sse("/topics/b,c").await;
    assert_eq!(redis.channels().await, ["umbel:a", "umbel:b", "umbel:c"]);
    assert_eq!(redis.command(&["PUBSUB", "NUMSUB", "umbel:b"]).await, "umbel:b\n2");
    let reply = json.command(&json!({"op": "unsubscribe", "topic": "a"})).await;
    assert_eq!(reply["op"], "unsubscribed");
    redis.channels_become(&["umbel:b", "umbel:c"]).await;
    drop(sse);
    redis.channels_become(&["umbel:b"]).await;
    drop(json);
    redis.channels_become(&[]).await;
}

#[tokio::test]
async fn open_means_subscribed() {
    let redis = Redis::start(&[]).await;
    let world = World::new().workers(2).broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut publisher = redis.client().await;
    for round in 0..100 {
        let topic = format!("fresh.{round}");
        let channel = format!("umbel:{topic}");
        let mut publish = async |text: &str| publisher.command(&["PUBLISH", &channel, text]).await;
        if round % 2 == 0 {
            let mut client = node.subscribe(&topic).await;
            assert_eq!(publish("now").await, "1");
            assert_eq!(client.text().await, "now");
        } else {
            let mut client = node.sse(&format!("/topics/{topic}")).await;
            assert_eq!(publish("now").await, "1");
            assert_eq!(client.data().await, "now");
        }
    }
}

#[tokio::test]
async fn a_lost_link_is_told_and_mended() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::before(redis.port()).await;
    let world = World::new().broker(&format!("redis://{}", proxy.address())).start().await;
    let node = world.node(0);
    let mut json = node.json().await;
    json.hold("a").await;
    json.hold("b").await;
    let mut sse = node.sse("/topics/a").await;
    let mut plain = node.subscribe("a").await;
    let mut strict = node.subscribe("a?gap=close").await;
    node.publish("a", "before").await;
    assert_eq!(plain.text().await, "before");
    assert_eq!(strict.text().await, "before");
    assert_eq!(json.json().await["text"], "before");
    assert_eq!(sse.data().await, "before");

    proxy.set(Fault::Cut);
    let text = node.becomes_unready().await;
    assert!(text.contains("can't be used"), "{text}");
    let answer = node.client().await.post("/topics/a", "text/plain", b"lost").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let many = b"[{\"topic\":\"a\",\"text\":\"x\"},{\"topic\":\"a/\",\"text\":\"x\"}]";
    let answer = node.client().await.post("/publish", "application/json", many).await;
    assert_eq!(answer.status, 200, "one of them failed for a reason of its own");
    assert_eq!(answer.json()[0]["status"], 503);
    let reply = json.command(&json!({"id": 7, "op": "publish", "topic": "a", "text": "x"})).await;
    assert_eq!((&reply["id"], &reply["code"]), (&json!(7), &json!("unavailable")));

    proxy.set(Fault::None);
    node.wait_until_ready().await;
    let mut told = [json.json().await, json.json().await];
    told.sort_by_key(|gap| gap["topic"].to_string());
    for (gap, topic) in told.iter().zip(["a", "b"]) {
        assert_eq!(*gap, json!({"op": "gap", "topic": topic, "reason": "broker_link"}));
    }
    let event = sse.event().await;
    assert_eq!(event.name, "umbel.gap");
    assert_eq!(event.data, "{\"topic\":\"a\",\"reason\":\"broker_link\"}");
    assert!(strict.closed_with(4410).await.contains("lost"));
    node.metric_becomes("umbel_gaps_total{reason=\"broker_link\"}", 5.0).await;
    node.publish("a", "after").await;
    assert_eq!(plain.text().await, "after", "a plain session sees no frame that is no message");
    assert_eq!(json.json().await["text"], "after");
    assert_eq!(sse.data().await, "after");
}

#[tokio::test]
async fn a_link_that_swallows_is_found() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::before(redis.port()).await;
    let world = World::new().broker(&format!("redis://{}", proxy.address())).start().await;
    let node = world.node(0);
    for fault in [Fault::SwallowRequests, Fault::SwallowAnswers] {
        proxy.set(fault);
        let text = node.becomes_unready().await;
        assert!(text.contains("no echo of the probe"), "{text}");
        proxy.set(Fault::None);
        node.wait_until_ready().await;
    }
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let mut client = node.subscribe("slow").await;
    node.publish("slow", "late").await;
    assert_eq!(client.text().await, "late");
    assert_eq!(node.readiness().await.0, 200, "slow is not dead");
}

#[tokio::test]
async fn a_server_that_hangs_or_becomes_a_replica_is_found() {
    let redis = Redis::start(&[]).await;
    let world = two_nodes(&redis).await;
    let node = world.node(0);
    let mut json = node.json().await;
    json.hold("a").await;
    redis.signal("STOP");
    let text = node.becomes_unready().await;
    assert!(text.contains("no echo of the probe within 3 s"), "{text}");
    redis.signal("CONT");
    node.wait_until_ready().await;
    assert_eq!(json.json().await["op"], "gap");

    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let text = node.becomes_unready().await;
    assert!(text.contains("replica"), "{text}");
    let answer = node.client().await.post("/topics/a", "text/plain", b"x").await;
    assert_eq!(answer.status, 503);
    assert!(answer.problem().contains("name the master"), "{}", answer.problem());
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    node.wait_until_ready().await;
    node.metric_exceeds("umbel_broker_failures_total{cause=\"read_only\"}", 0.0).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut redis = Redis::absent(&[]).await;
    let world = World::new().broker(&redis.url()).start_unready().await;
    let node = world.node(0);
    eventually("the reason", || async {
        node.becomes_unready().await.contains(&redis.url()).then_some(())
    })
    .await;
    let live = umbel_e2e::HttpClient::connect(node.admin()).await.get("/livez").await;
    assert_eq!(live.status, 200, "it is alive all the same");
    let answer = node.client().await.post("/topics/a", "text/plain", b"x").await;
    assert_eq!(answer.status, 503);
    // A session is let in after a while, and told once there is something to hear.
    let mut sse = node.sse("/topics/a").await;
    redis.start_again().await;
    node.wait_until_ready().await;
    assert_eq!(sse.event().await.name, "umbel.gap");
    node.publish("a", "at last").await;
    assert_eq!(sse.data().await, "at last");
    redis.kill();
    node.becomes_unready().await;
    redis.start_again().await;
    node.wait_until_ready().await;
    assert_eq!(sse.event().await.name, "umbel.gap");
}

#[tokio::test]
async fn readiness_may_ignore_the_broker_but_says_if_asked_for_it() {
    let mut redis = Redis::absent(&[]).await;
    let world = World::new()
        .broker(&redis.url())
        .environment("UMBEL_BROKER__READY_WITHOUT", "true")
        .start()
        .await;
    let node = world.node(0);
    let with_broker =
        || async { umbel_e2e::HttpClient::connect(node.admin()).await.get("/readyz?broker").await };
    assert_eq!(node.readiness().await.0, 200);
    assert_eq!(with_broker().await.status, 503);
    redis.start_again().await;
    eventually("the broker", || async { (with_broker().await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn refusals_of_the_server_are_told_in_its_words() {
    let redis = Redis::start(&["--requirepass", "secret"]).await;
    let url = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    for (broker, said) in [(redis.url(), "NOAUTH"), (url(":wrong"), "WRONGPASS")] {
        let world = World::new().broker(&broker).start_unready().await;
        let said_in = eventually("the server's words", || async {
            let (_, text) = world.node(0).readiness().await;
            text.contains(said).then_some(text)
        });
        let text = said_in.await;
        assert!(text.contains("check user and password"), "{text}");
        assert!(!text.contains("wrong"), "the password isn't shown: {text}");
    }
    let mut admin = redis.client().await;
    admin.command(&["AUTH", "secret"]).await;
    let rules =
        ["ACL", "SETUSER", "edge", "on", ">pass", "~umbel:*", "&umbel:*", "+@all", "-publish"];
    assert_eq!(admin.command(&rules).await, "OK");
    let world = World::new().broker(&url("edge:pass")).start_unready().await;
    eventually("the server's words", || async {
        let (_, text) = world.node(0).readiness().await;
        text.contains("the server's ACL").then_some(())
    })
    .await;
    assert_eq!(admin.command(&["ACL", "SETUSER", "edge", "+publish"]).await, "OK");
    world.node(0).wait_until_ready().await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_still_carries_messages() {
    let redis = Redis::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    let world = two_nodes(&redis).await;
    let mut client = world.node(1).subscribe("a").await;
    world.node(0).publish("a", "passes").await;
    assert_eq!(client.text().await, "passes");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "3"]).await;
    world.node(0).publish("a", "passes too").await;
    assert_eq!(client.text().await, "passes too");
    assert_eq!(world.node(0).readiness().await.0, 200);
}

#[tokio::test]
async fn a_prefix_keeps_applications_apart() {
    let redis = Redis::start(&[]).await;
    let settings = "[broker]\nprefix = \"other/app:\"\n";
    let world = World::new().broker(&redis.url()).settings(settings).start().await;
    let mut client = world.node(0).subscribe("a").await;
    assert_eq!(redis.command(&["PUBLISH", "umbel:a", "not for it"]).await, "0");
    assert_eq!(redis.command(&["PUBLISH", "other/app:a", "for it"]).await, "1");
    assert_eq!(client.text().await, "for it");
}

#[tokio::test]
async fn a_message_longer_than_any_body_cuts_the_link_and_is_told() {
    let redis = Redis::start(&[]).await;
    let world = two_nodes(&redis).await;
    let mut json = world.node(0).json().await;
    json.hold("a").await;
    let large = vec![b'x'; 3 << 20];
    redis.client().await.command_bytes(&[b"PUBLISH", b"umbel:a", &large]).await;
    let gap = json.json().await;
    assert_eq!(gap["op"], "gap", "{gap}");
    world.node(0).wait_until_ready().await;
    world.node(0).publish("a", "goes on").await;
    assert_eq!(json.json().await["text"], "goes on");
}

#[tokio::test]
async fn a_route_without_envelope_gives_a_plain_subscriber_the_bare_payload() {
    let redis = Redis::start(&[]).await;
    let settings = "[[routes]]\npath = \"/orders\"\ntopics = [\"orders.done\"]\n\
        publish_to = \"orders.new\"\nenvelope = false\n";
    let world = World::new().settings(settings).broker(&redis.url()).start().await;
    let mut backend = redis.client().await;
    backend.command(&["SUBSCRIBE", "umbel:orders.new"]).await;
    let mut client = WebSocketClient::open(world.node(0).http(), "/orders").await;
    client.send_text("{\"item\":7}").await;
    assert_eq!(backend.next().await, "message\numbel:orders.new\n{\"item\":7}");
    redis.command(&["PUBLISH", "umbel:orders.done", "7"]).await;
    assert_eq!(client.text().await, "7");
}
