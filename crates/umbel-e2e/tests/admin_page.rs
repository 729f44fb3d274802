//! The admin listener's page in a real Chromium: its numbers follow their causes, it asks before it
//! changes anything, and it can be read on a desk and on a phone, by day and by night.
//!
//! With `UMBEL_SCREENSHOTS` set to a directory, pictures of it are left there.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "admin_page/changes.rs"]
mod changes;
#[path = "admin_page/pictures.rs"]
mod pictures;
#[path = "admin_page/reader.rs"]
mod reader;

use serde_json::json;
use umbel_e2e::{Chromium, Clock, Crowd, HttpClient, Load, Redis, World};

use reader::{assert_calm, assert_legible, is_hidden, open, rate_is, says, says_what, text};

const RULES: &str = include_str!("admin_page/rules.toml");

/// Scrapes of a large node that has every family, for layouts that mustn't break.
const LARGE: &str = include_str!("admin_page/large.js");

#[tokio::test]
async fn its_numbers_follow_their_causes() {
    let browser = Chromium::start().await;
    let world = World::new().workers(2).settings(RULES).start().await;
    let node = world.node(0);
    let mut page = open(&browser, node).await;
    says(&page, "#sessions", "0").await;
    says(&page, "#ready", "Ready").await;
    says(&page, "#version", env!("CARGO_PKG_VERSION")).await;
    says(&page, "#broker-state", "memory").await;
    says_what(&page, "#trouble-calm", |text| text.starts_with("Nothing"), "a calm line").await;

    let (doors, clock) = ([node.http()], Clock::start());
    let crowd = Crowd::start(&doors, 41, 4, clock).await;
    says(&page, "#sessions", "41").await;
    says(&page, "#sessions-websocket", "20").await;
    says(&page, "#sessions-sse", "21").await;
    says(&page, "#subscriptions", "41").await;
    says(&page, "#messages-in", "0 /s").await;

    // 4 topics of 10 sessions with 25 messages a second each. The machine may be slower.
    let load = Load::start(&doors, 4, 25, clock);
    rate_is(&page, "#messages-in", 40.0, 130.0).await;
    rate_is(&page, "#deliveries", 400.0, 1300.0).await;
    says(&page, "#rule-rows tr:first-child th", "crowd.*").await;
    rate_is(&page, "#rule-rows tr:first-child td:nth-of-type(2)", 400.0, 1300.0).await;
    says(&page, "#rule-rows tr:nth-child(2) td:nth-of-type(2)", "0 /s").await;
    says_what(&page, "#whole", |text| text == "100 %" || text.starts_with(">99"), "all").await;
    says_what(&page, "#p99", |text| text.ends_with('s'), "a latency").await;
    says_what(&page, "#coalescing", |text| text.parse().is_ok_and(|it: f64| it >= 1.0), "1").await;
    says_what(&page, "#held-legend", |text| text.contains("tables"), "what holds memory").await;
    load.stop().await;
    says(&page, "#messages-in", "0 /s").await;
    says(&page, "#deliveries", "0 /s").await;

    drop(crowd);
    says(&page, "#sessions", "0").await;
    // Which reason a client that vanishes has depends on what its end finds.
    let sum = |text: &str| text.split(' ').filter_map(|word| word.parse::<u32>().ok()).sum::<u32>();
    says_what(&page, "#closed-rows", |text| sum(text) == 41, "41 that closed").await;
    assert_calm(&mut page, &[]);
}

#[tokio::test]
async fn a_slow_consumer_shows() {
    let browser = Chromium::start().await;
    let settings = format!("[limits]\nbehind_bytes = 100000\n{RULES}");
    let world = World::new().settings(&settings).start().await;
    let node = world.node(0);
    let mut page = open(&browser, node).await;
    says_what(&page, "#trouble-calm", |text| text.starts_with("Nothing"), "a calm line").await;
    let _stuck = node.subscribe_without_reading("crowd.stuck").await;
    let big = "x".repeat(10_000);
    let mut publisher = node.client().await;
    let slow = "umbel_slow_consumers_total{policy=\"disconnect\"}";
    while node.metrics().await.value(slow) < 1.0 {
        for _ in 0..50 {
            publisher.post("/topics/crowd.stuck", "text/plain", big.as_bytes()).await;
        }
    }
    says(&page, "#trouble-rows th", "slow consumer: disconnect").await;
    says(&page, "#trouble-rows td:nth-of-type(1)", "1").await;
    says(&page, "#trouble-rows td:nth-of-type(2)", "1").await;
    is_hidden(&page, "#trouble-calm").await;
    says_what(&page, "#closed-rows", |text| text.contains("slow"), "the reason").await;
    assert_calm(&mut page, &[]);
}

#[tokio::test]
async fn it_says_what_the_broker_is_like_and_why_the_node_is_not_ready() {
    let browser = Chromium::start().await;
    let mut redis = Redis::start(&[]).await;
    let world = World::new().settings(RULES).broker(&redis.url()).start().await;
    let node = world.node(0);
    let mut page = open(&browser, node).await;
    says(&page, "#broker-state", "Redis, up").await;
    is_hidden(&page, "#broker-memory").await;
    let _session = node.subscribe("crowd.0").await;
    says(&page, "#broker-topics", "1").await;
    says_what(&page, "#broker-probe", |text| text.ends_with('s'), "a round trip").await;
    redis.kill();
    says(&page, "#broker-state", "Redis, down").await;
    says(&page, "#ready", "Not ready").await;
    let (_, reason) = node.readiness().await;
    says_what(&page, "#reason", |text| text == reason.trim(), &reason).await;
    redis.start_again().await;
    says(&page, "#broker-state", "Redis, up").await;
    says(&page, "#ready", "Ready").await;
    assert_calm(&mut page, &["/readyz"]);
}

#[tokio::test]
async fn it_says_that_the_node_is_gone_and_goes_on_when_it_is_back() {
    let browser = Chromium::start().await;
    let mut world = World::new().settings(RULES).start().await;
    let mut page = open(&browser, world.node(0)).await;
    says(&page, "#sessions", "0").await;
    is_hidden(&page, "#gone").await;
    world.node(0).signal("KILL");
    world.node_mut(0).exit_code().await;
    let is = |text: &str| text.contains("answer") && text.contains("from ");
    says_what(&page, "#gone", is, "that it is gone").await;
    says(&page, "#ready", "No answer").await;
    world.node_mut(0).start_again().await;
    is_hidden(&page, "#gone").await;
    says(&page, "#ready", "Ready").await;
    let _session = world.node(0).subscribe("crowd.0").await;
    says(&page, "#sessions", "1").await;
    assert_calm(&mut page, &["ERR_"]);
}

#[tokio::test]
async fn while_nobody_looks_it_asks_for_nothing() {
    let browser = Chromium::start().await;
    let world = World::new().start().await;
    let node = world.node(0);
    let page = open(&browser, node).await;
    says(&page, "#sessions", "0").await;
    let see = |state: &str| {
        format!(
            "Object.defineProperty(document, 'visibilityState', {{value: '{state}', configurable: true}}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    page.value(&see("hidden")).await;
    // A scrape may be under way still. Then there are none, over several periods of the page.
    let scrapes = "performance.getEntriesByName(new URL('/metrics', location)).length";
    let later = |seconds: u32| {
        format!("new Promise(done => setTimeout(() => done({scrapes}), {seconds}000))")
    };
    let before = page.value(&later(2)).await;
    let after = page.value(&later(4)).await;
    assert_eq!(before, after);
    let _session = node.subscribe("news").await;
    assert_eq!(text(&page, "#sessions").await.as_deref(), Some("0"));
    page.value(&see("visible")).await;
    says(&page, "#sessions", "1").await;
}

#[tokio::test]
async fn nothing_is_cut_or_hard_to_read_however_much_there_is() {
    let browser = Chromium::start().await;
    let world = World::new().start().await;
    let mut page = open(&browser, world.node(0)).await;
    says(&page, "#sessions", "0").await;
    for (width, height) in [(360, 740), (700, 900), (1000, 800), (1280, 900), (1920, 1080)] {
        page.resize(width, height).await;
        for is_dark in [false, true] {
            page.prefer_dark(is_dark).await;
            assert_legible(&page, &format!("{width} px, dark: {is_dark}")).await;
        }
        // In one go: the page's own scrapes come in between otherwise.
        let large = page.value(&format!("{LARGE}.then(() => look.faults())")).await;
        assert_eq!(large, json!([]), "a large node at {width} px");
    }
    let expected = [
        ("#sessions", "1,234,567"),
        ("#pending", "98,765"),
        ("#whole", "75.0 %"),
        ("#limit-part", "61.7 %"),
        ("#rule-rows tr:first-child td:nth-of-type(2)", "200 k/s"),
        ("#rule-rows tr:nth-child(2) th", "<i>not HTML</i>"),
        ("#rules-more", "and 12 more with fewer"),
        ("#broker-skew", "−12.3 ms"),
        ("#busy", "75.0 %"),
        ("#p99", "995 µs"),
        ("#trouble-rows th", "slow consumer: disconnect"),
    ];
    let (selectors, texts): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    let look = format!("{LARGE}.then(() => look.texts({}))", json!(selectors));
    assert_eq!(page.value(&look).await, json!(texts));
    assert_calm(&mut page, &[]);
}

#[tokio::test]
async fn what_it_is_made_of_is_the_nodes_alone() {
    let world = World::new().start().await;
    let mut client = HttpClient::connect(world.node(0).admin()).await;
    for path in ["/", "/page/page.js", "/page/style.css", "/page/icon.svg"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(client.get("/page/").await.status, 404);
}
