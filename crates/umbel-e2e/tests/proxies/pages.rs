//! Pages in a real browser, when no node is there for a while.

use std::net::SocketAddr;

use serde_json::{Value, json};
use umbel_e2e::{
    Answer, Chromium, Front, HANDSHAKE, HttpClient, Product, Redis, Site, Tab, World, eventually,
    within,
};

use super::{TOPICS, held, post};

const EVENT_STREAM: [(&str, &str); 1] = [("accept", "text/event-stream")];

/// What a page reports until it has reported all of these, in any order.
async fn reports_all(page: &mut Tab, expected: &[Value]) -> Vec<Value> {
    let mut seen = Vec::new();
    while !expected.iter().all(|report| seen.contains(report)) {
        seen.push(page.report().await);
        println!("the page reports {:?}", seen.last());
    }
    seen
}

/// The code that pages are given for proxies that answer with statuses.
fn subscribe() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/proxies/README.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, code) = page.split_once("```js\n").unwrap();
    code.split_once("```").unwrap().0.to_owned()
}

/// A message as both of a page's streams report it.
fn from_both(text: &str) -> [Value; 2] {
    [json!({"data": text}), json!({"again": text})]
}

/// A page with an `EventSource`, left to itself; one that gets a status for failures, which it opens
/// again by that code; and a WebSocket that it opens again when it closes.
fn script(front: SocketAddr) -> String {
    format!(
        "{}
        subscribe('http://{front}/topics/chat.a?strict=1', event => report({{again: event.data}}));
        const source = new EventSource('http://{front}/topics/chat.a');
        source.onopen = () => report('stream open');
        source.onmessage = event => report({{data: event.data}});
        source.onerror = () => {{ if (source.readyState === EventSource.CLOSED) report('finished'); }};
        const connect = () => {{
            const socket = new WebSocket('ws://{front}/topics/chat.a');
            socket.onopen = () => report('socket open');
            socket.onclose = event => {{ report({{code: event.code}}); setTimeout(connect, 500); }};
        }};
        connect();",
        subscribe()
    )
}

async fn get(front: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    HttpClient::connect(front).await.request("GET", path, headers, b"").await
}

/// What a proxy answers by itself, to each as it understands.
async fn check_own_answers(front: SocketAddr) {
    let origin = [("origin", "http://a.example.org")];
    let stream = [&EVENT_STREAM[..], &origin].concat();
    let mut times = Vec::new();
    for _ in 0..5 {
        let answer = get(front, "/topics/chat.a?after=0&strict=0", &stream).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.header("cache-control"), Some("no-store, no-transform"));
        let allowed = ["access-control-allow-origin", "access-control-allow-credentials"];
        assert_eq!(
            allowed.map(|name| answer.header(name)),
            [Some("http://a.example.org"), Some("true")]
        );
        assert_eq!(answer.header("vary"), Some("Origin"));
        let text = answer.text();
        let time = text.strip_prefix("retry: ");
        let time = time.and_then(|rest| rest.strip_suffix("\n\n: no node answered\n\n"));
        let time = time.and_then(|time| time.parse::<u64>().ok());
        times.push(time.unwrap_or_else(|| panic!("{answer:?}")));
    }
    assert!(times.iter().all(|time| (3_000..10_000).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| *time != times[0]), "by chance: {times:?}");
    let upgrade = [&HANDSHAKE[..], &EVENT_STREAM].concat();
    for answer in [
        get(front, "/topics/chat.a?x=1&strict=1", &EVENT_STREAM).await,
        get(front, "/topics/chat.a", &upgrade).await,
        get(front, "/topics/chat.a?after=0", &[("accept", "application/json")]).await,
        post(front, "/topics/chat.a", &EVENT_STREAM, "x").await,
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("cache-control"), Some("no-store, no-transform"));
        assert_eq!(answer.json()["title"], "No node answered");
    }
}

pub(super) async fn they_come_back_when_no_node_was_there(product: Product) {
    let (browser, site) = (Chromium::start().await, Site::start().await);
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(2).lasting_ports().settings(TOPICS).broker(&redis.url());
    let mut world = world.environment("UMBEL_LISTEN__ORIGINS", &site.origin()).start().await;
    let proxy = Front::before(product, world.nodes()).await;
    let front = proxy.address();
    let mut page = browser.page(&site.origin(), &script(front)).await;
    eventually("the page's three sessions", || async {
        let open = held(world.node(0)).await + held(world.node(1)).await;
        (open == 3).then_some(())
    })
    .await;
    world.node(0).publish("chat.a", "before").await;
    reports_all(&mut page, &from_both("before")).await;
    for index in [0, 1] {
        world.node(index).signal("KILL");
        world.node_mut(index).exit_code().await;
    }
    // Once more than a check and a try late: the proxy knows that nobody is there.
    eventually("the proxy to have no node", || async {
        (post(front, "/topics/chat.b", &[], "x").await.status == 503).then_some(())
    })
    .await;
    check_own_answers(front).await;
    // The page meets all of it: the stream that ends, the refused upgrade, the status.
    reports_all(&mut page, &[json!("stream open"), json!({"code": 1006})]).await;
    // A page of another origin isn't even shown which.
    let is_status = |error: &String| error.contains("strict=1") && error.contains("CORS");
    within("the status in the page", async {
        while !page.errors().iter().any(is_status) {
            // Refused upgrades go on meanwhile.
            page.report().await;
        }
    })
    .await;

    world.node_mut(1).start_again().await;
    for text in ["one", "two"] {
        world.node(1).publish("chat.a", text).await;
    }
    // Once both streams have the second they are back.
    let mut seen = reports_all(&mut page, &from_both("two")).await;
    world.node(1).publish("chat.a", "three").await;
    seen.extend(reports_all(&mut page, &from_both("three")).await);
    for name in ["data", "again"] {
        let messages: Vec<_> = seen.iter().filter_map(|report| report[name].as_str()).collect();
        assert_eq!(messages, ["one", "two", "three"], "each once: {seen:?}");
    }
    assert!(!seen.contains(&json!("finished")), "{seen:?}");
}
