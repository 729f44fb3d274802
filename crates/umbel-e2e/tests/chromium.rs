//! Pages in a real Chromium: what scripts see of a node through the browser's own `WebSocket`,
//! `EventSource` and `fetch`, and what the browser does by itself.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use serde_json::{Value, json};
use umbel_e2e::{Chromium, Node, Redis, Site, Tab, World, within};

/// One topic that has no history, those that have, and none besides.
const TOPICS: &str = "\
[[topics]]
match = \"open\"
subscribe = \"anyone\"
publish = \"anyone\"

[[topics]]
match = \"chat.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 100, seconds = 300 }
";

/// Where the application's pages come from is among the origins that a node allows.
const ORIGINS: &str = "UMBEL_LISTEN__ORIGINS";

/// A script with an `EventSource`. It reports strings of the connection, objects of the stream.
fn event_source(url: &str) -> String {
    format!(
        "const source = new EventSource({url:?});
        source.onopen = () => report('open');
        source.onerror = () => report(['connecting', 'open', 'closed'][source.readyState]);
        source.onmessage = event => report({{data: event.data}});
        for (const name of ['umbel.gap', 'umbel.moving'])
            source.addEventListener(name, event => report({{[name]: event.data}}));"
    )
}

/// A script with a `WebSocket` that reports what comes, and how it ends. The page's other scripts
/// find it as `socket`.
fn web_socket(url: &str) -> String {
    format!(
        "globalThis.socket = new WebSocket({url:?});
        socket.onopen = () => report('open');
        socket.onmessage = event => report({{data: event.data}});
        socket.onclose = event => report({{code: event.code, reason: event.reason}});"
    )
}

/// The same of the JSON dialect, with one command to begin with.
fn json_socket(node: &Node, command: &Value) -> String {
    let url = socket_url(node, "/ws");
    format!(
        "globalThis.socket = new WebSocket({url:?}, 'umbel.v1.json');
        socket.onopen = () => socket.send({:?});
        socket.onmessage = event => event.data.split('\\n').map(JSON.parse).forEach(report);
        socket.onclose = event => report({{code: event.code, reason: event.reason}});",
        command.to_string()
    )
}

fn url(node: &Node, path: &str) -> String {
    format!("http://{}{path}", node.http())
}

fn socket_url(node: &Node, path: &str) -> String {
    format!("ws://{}{path}", node.http())
}

/// The next object that a page reports. Of a connection that comes and goes there may be any number
/// of reports before it.
async fn message(tab: &mut Tab) -> Value {
    let next = async {
        loop {
            let report = tab.report().await;
            if report.is_object() {
                return report;
            }
        }
    };
    within("a message in the page", next).await
}

/// Waits for a report; what comes before it doesn't matter.
async fn reports(tab: &mut Tab, expected: &str) {
    within(expected, async { while tab.report().await != expected {} }).await;
}

fn data(text: &str) -> Value {
    json!({"data": text})
}

#[tokio::test]
async fn an_event_source_comes_back_to_a_restarted_node_and_misses_nothing() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(2).settings(TOPICS).broker(&redis.url());
    let mut world = world.environment(ORIGINS, &site.origin()).start().await;
    let script = event_source(&url(world.node(0), "/topics/chat.a"));
    let mut page = browser.page(&site.origin(), &script).await;
    assert_eq!(page.report().await, "open");
    world.node(1).publish("chat.a", "one").await;
    assert_eq!(page.report().await, data("one"));
    world.node(0).signal("TERM");
    reports(&mut page, "connecting").await;
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    for text in ["two", "three"] {
        world.node(1).publish("chat.a", text).await;
    }
    world.node_mut(0).start_again().await;
    for text in ["two", "three"] {
        assert_eq!(message(&mut page).await, data(text));
    }
    world.node(0).publish("chat.a", "four").await;
    assert_eq!(page.report().await, data("four"));
}

#[tokio::test]
async fn a_plain_socket_hears_and_says() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let world = World::new().environment(ORIGINS, &site.origin()).start().await;
    let node = world.node(0);
    let mut other = node.subscribe("x").await;
    let script = web_socket(&socket_url(node, "/topics/x"));
    let mut page = browser.page(&site.origin(), &script).await;
    assert_eq!(page.report().await, "open");
    node.publish("x", "t\u{e9}xt \u{1f33c}").await;
    assert_eq!(page.report().await, data("t\u{e9}xt \u{1f33c}"));
    assert_eq!(other.text().await, "t\u{e9}xt \u{1f33c}");
    page.run("socket.send('from the page')").await;
    assert_eq!(other.text().await, "from the page");
    assert_eq!(page.report().await, data("from the page"), "its own comes back");
    page.run("socket.close(1000, 'done')").await;
    assert_eq!(page.report().await, json!({"code": 1000, "reason": ""}));
}

#[tokio::test]
async fn the_json_dialect_works_in_a_page() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let world = World::new().environment(ORIGINS, &site.origin()).start().await;
    let node = world.node(0);
    let mut other = node.subscribe("x").await;
    let subscribe = json!({"id": 1, "op": "subscribe", "topic": "x"});
    let mut page = browser.page(&site.origin(), &json_socket(node, &subscribe)).await;
    assert_eq!(page.report().await["op"], "welcome");
    assert_eq!(page.report().await, json!({"id": 1, "op": "subscribed", "topic": "x"}));
    assert_eq!(page.value("socket.protocol").await, "umbel.v1.json");
    node.publish("x", "from outside").await;
    assert_eq!(page.report().await["text"], "from outside");
    assert_eq!(other.text().await, "from outside");
    let publish = json!({"id": 2, "op": "publish", "topic": "x", "echo": false, "data": {"n": 1}});
    page.run(&format!("socket.send({:?})", publish.to_string())).await;
    assert_eq!(other.json().await, json!({"n": 1}));
    assert_eq!(page.report().await, json!({"id": 2, "op": "published", "message_id": null}));
}

#[tokio::test]
async fn a_page_sees_that_a_topic_is_forbidden() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let world = World::new().settings(TOPICS).environment(ORIGINS, &site.origin()).start().await;
    let script = web_socket(&socket_url(world.node(0), "/topics/closed"));
    let mut page = browser.page(&site.origin(), &script).await;
    let closed = json!({"code": 4403, "reason": "subscribing to `closed` is not allowed"});
    assert_eq!(message(&mut page).await, closed);
}

/// The answer to a POST with what browsers ask for first, or the name of the error that `fetch`
/// throws at a page that may not read it.
async fn post(page: &Tab, url: &str) -> Value {
    let init = json!({
        "method": "POST",
        "headers": {"content-type": "application/json", "umbel-event": "message"},
        "body": "{\"n\":1}",
    });
    page.value(&format!(
        "fetch({url:?}, {init}).then(answer => answer.json(), error => error.name)"
    ))
    .await
}

#[tokio::test]
async fn a_page_that_is_allowed_reads_answers_and_streams() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let world = World::new().settings(TOPICS).environment(ORIGINS, &site.origin()).start().await;
    let node = world.node(0);
    let script = event_source(&url(node, "/topics/open"));
    let mut page = browser.page(&site.origin(), &script).await;
    assert_eq!(page.report().await, "open");
    let published = post(&page, &url(node, "/topics/open")).await;
    assert_eq!(published, json!({"topic": "open", "id": null, "receivers": 1}));
    assert_eq!(page.report().await, data("{\"n\":1}"));
    let refused = post(&page, &url(node, "/topics/closed")).await;
    assert_eq!(refused["detail"], "publishing to `closed` is not allowed");
}

#[tokio::test]
async fn a_page_of_another_origin_reads_nothing() {
    let (browser, site, other) =
        (Chromium::start().await, Site::start().await, Site::start().await);
    let world = World::new().settings(TOPICS).environment(ORIGINS, &site.origin()).start().await;
    let node = world.node(0);
    let mut subscriber = node.subscribe("open").await;
    let script = event_source(&url(node, "/topics/open"));
    let mut page = browser.page(&other.origin(), &script).await;
    assert_eq!(page.report().await, "closed", "the browser gives the stream up");
    assert_eq!(post(&page, &url(node, "/topics/open")).await, "TypeError");
    let blocked = page.errors().iter().filter(|error| error.contains("blocked by CORS policy"));
    assert_eq!(blocked.count(), 2, "nothing else keeps them from it");
    node.publish("open", "allowed").await;
    assert_eq!(subscriber.text().await, "allowed", "the page's POST was not even sent");
}

#[tokio::test]
async fn the_node_s_own_page_loads_and_its_lines_work() {
    let browser = Chromium::start().await;
    let world = World::new().start().await;
    let node = world.node(0);
    let mut page = browser.open(&url(node, "/")).await;
    assert_eq!(page.value("document.title").await, "Umbel");
    let lines = "[...document.querySelectorAll('pre')].map(line => line.textContent)";
    let lines = page.value(lines).await;
    let topic = url(node, "/topics/news");
    assert_eq!(lines[0], format!("curl -N {topic}"));
    assert_eq!(lines[2], format!("curl -d hello {topic}"));
    let subscribe = lines[1].as_str().unwrap();
    page.run(&format!("console.log = report; {subscribe}")).await;
    node.metric_becomes("umbel_subscriptions", 1.0).await;
    node.publish("news", "hello").await;
    assert_eq!(page.report().await, "hello");
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test]
async fn an_event_source_comes_back_after_a_passing_refusal_unless_it_is_strict() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let world = World::new().settings(TOPICS).environment(ORIGINS, &site.origin());
    let world = world.environment("UMBEL_LIMITS__SESSIONS", "1").start().await;
    let node = world.node(0);
    let first = node.sse("/topics/open,chat.a").await;
    let accept = [("accept", "text/event-stream")];
    let refused = node.client().await.request("GET", "/topics/open", &accept, b"").await;
    assert_eq!((refused.status, refused.header("content-type")), (200, Some(accept[0].1)));
    assert!(refused.text().contains("retry: "), "it is told when to come back: {refused:?}");

    let mut page = browser.page(&site.origin(), &event_source(&url(node, "/topics/open"))).await;
    assert_eq!(page.report().await, "open");
    assert_eq!(page.report().await, "connecting", "it means to come back");
    let strict = event_source(&url(node, "/topics/open?strict=1"));
    let mut strict = browser.page(&site.origin(), &strict).await;
    assert_eq!(strict.report().await, "closed", "a status ends it for good");

    node.metric_becomes("umbel_subscriptions", 2.0).await;
    drop(first);
    // Which had two.
    node.metric_becomes("umbel_subscriptions", 1.0).await;
    node.publish("open", "hello").await;
    assert_eq!(message(&mut page).await, data("hello"));
    assert_eq!(strict.value("1").await, 1, "its page still runs");
    assert_eq!(strict.errors().len(), 1, "it asked once");
}

#[tokio::test]
async fn a_page_sees_that_there_is_no_room() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    for (limit, code) in
        [("UMBEL_LIMITS__SESSIONS", 1013), ("UMBEL_LIMITS__SESSIONS_PER_ADDRESS", 4429)]
    {
        let world = World::new().settings(TOPICS).environment(ORIGINS, &site.origin());
        let world = world.environment(limit, "1").start().await;
        let _first = world.node(0).subscribe("open").await;
        for script in [
            web_socket(&socket_url(world.node(0), "/topics/open")),
            json_socket(world.node(0), &json!({"op": "ping"})),
        ] {
            let mut page = browser.page(&site.origin(), &script).await;
            let closed = message(&mut page).await;
            assert_eq!(closed["code"], code, "{limit}");
            assert_ne!(closed["reason"], "", "{limit}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_told_so_by_its_socket() {
    let (browser, site, other) =
        (Chromium::start().await, Site::start().await, Site::start().await);
    let world = World::new().environment(ORIGINS, &site.origin()).start().await;
    let node = world.node(0);
    let script = web_socket(&socket_url(node, "/topics/open"));

    let mut stranger = browser.page(&other.origin(), &script).await;
    let closed = message(&mut stranger).await;
    assert_eq!(closed["code"], 4403);
    let reason = closed["reason"].as_str().unwrap();
    assert!(reason.contains(&other.origin()), "{reason}");

    for origin in [site.origin(), url(node, "/")] {
        let mut page = browser.page(&origin, &script).await;
        assert_eq!(page.report().await, "open");
        node.publish("open", &origin).await;
        assert_eq!(page.report().await, data(&origin));
    }
}

#[tokio::test]
async fn a_drain_tells_pages_and_an_event_source_misses_nothing() {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(2).settings(TOPICS).broker(&redis.url());
    let world = world.environment(ORIGINS, &site.origin());
    let world = world.environment("UMBEL_DRAIN__PAUSE_SECONDS", "0");
    let mut world = world.environment("UMBEL_DRAIN__DRAIN_SECONDS", "1").start().await;
    let script = event_source(&url(world.node(0), "/topics/chat.a"));
    let mut stream = browser.page(&site.origin(), &script).await;
    assert_eq!(stream.report().await, "open");
    let script = json_socket(world.node(0), &json!({"op": "ping"}));
    let mut socket = browser.page(&site.origin(), &script).await;
    assert_eq!(socket.report().await["op"], "welcome");
    assert_eq!(socket.report().await["op"], "pong");
    world.node(0).publish("chat.a", "one").await;
    assert_eq!(stream.report().await, data("one"));

    world.node(0).signal("TERM");
    assert_ne!(stream.report().await["umbel.moving"], Value::Null);
    let moving = socket.report().await;
    assert_eq!(moving["op"], "moving");
    assert!(moving["reconnect_after_ms"].is_u64(), "{moving}");
    assert_eq!(socket.report().await["code"], 1012);

    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    world.node(1).publish("chat.a", "two").await;
    world.node_mut(0).start_again().await;
    assert_eq!(message(&mut stream).await, data("two"));
    world.node(0).publish("chat.a", "three").await;
    assert_eq!(stream.report().await, data("three"));
}
