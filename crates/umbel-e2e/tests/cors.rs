//! Pages of other origins: which may read answers, and what they are told before they ask.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use umbel_e2e::{Answer, ConfiguredNode, Page, SseClient, World};

const DEV: &str = "http://localhost:3000";

const SETTINGS: &str = "[listen]\norigins = [\"https://app.example.org\", \"http://localhost:3000\"]\n\
    [[topics]]\nmatch = \"open\"\nsubscribe = \"anyone\"\npublish = \"anyone\"";

/// What a browser asks before a script may publish with a header of ours.
fn question(origin: &str) -> [(&str, &str); 3] {
    [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,umbel-event"),
    ]
}

fn allowed(answer: &Answer) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        answer.header("access-control-allow-origin"),
        answer.header("access-control-allow-credentials"),
        answer.header("vary"),
    )
}

#[tokio::test]
async fn a_page_that_is_allowed_may_read_every_answer_refusals_too() {
    let world = World::new().settings(SETTINGS).start().await;
    let mut client = world.node(0).client().await;
    for (method, path, body, status) in [
        ("POST", "/topics/open", "x", 200),
        ("POST", "/topics/closed", "x", 403),
        ("POST", "/topics/a..b", "x", 400),
        ("GET", "/nowhere", "", 404),
        ("GET", "/topics/closed", "", 403),
        ("GET", "/", "", 200),
        ("PUT", "/publish", "", 405),
    ] {
        let answer = client.request(method, path, &[("origin", DEV)], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(allowed(&answer), (Some(DEV), Some("true"), Some("Origin")), "{path}");
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("Retry-After, Umbel-Session")
        );
    }
}

#[tokio::test]
async fn a_stream_says_it_in_its_own_head() {
    let world = World::new().settings(SETTINGS).start().await;
    let address = world.node(0).http();
    let stream = SseClient::open_with(address, "/topics/open", &[("origin", DEV)]).await;
    assert_eq!(allowed(&stream.head), (Some(DEV), Some("true"), Some("Origin")));
    let stream = SseClient::open_with(address, "/topics/open", &[("origin", "http://evil")]).await;
    assert_eq!(
        allowed(&stream.head),
        (None, None, Some("Origin")),
        "its page gets to read nothing"
    );
}

#[tokio::test]
async fn a_preflight_is_answered_for_those_who_are_allowed() {
    let world = World::new().settings(SETTINGS).start().await;
    let mut client = world.node(0).client().await;
    for path in ["/topics/open", "/publish", "/topics/closed", "/nowhere"] {
        let answer = client.request("OPTIONS", path, &question(DEV), b"").await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        assert_eq!(allowed(&answer), (Some(DEV), Some("true"), Some("Origin")));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in [
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "Traceparent",
            "Umbel-Event",
            "Umbel-Origin",
        ] {
            assert!(headers.split(", ").any(|allowed| allowed == name), "{name}: {headers}");
        }
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
    }
    let answer = client.request("OPTIONS", "/topics/open", &question("http://evil"), b"").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.problem(), "the origin `http://evil` is not among listen.origins");
    assert_eq!(allowed(&answer), (None, None, Some("Origin")));
    let answer = client.request("OPTIONS", "/topics/open", &[("origin", DEV)], b"").await;
    assert_eq!(answer.status, 405, "without a method to ask for it is no preflight");
}

#[tokio::test]
async fn a_page_can_publish_and_subscribe_from_another_port() {
    let world = World::new().settings(SETTINGS).start().await;
    let page = Page::of(DEV, world.node(0));
    let mut stream = page.event_source("http://localhost:8080/topics/open").await;
    let mut socket = page.web_socket("ws://localhost:8080/topics/open").await;
    let mut client = world.node(0).client().await;
    let headers = [("origin", DEV), ("content-type", "application/json"), ("umbel-event", "e")];
    let answer = client.request("POST", "/topics/open", &headers, b"{\"a\":1}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(stream.event().await.name, "e");
    assert_eq!(socket.text().await, "{\"a\":1}");
}

#[tokio::test]
async fn with_a_wildcard_nobody_gets_credentials() {
    let world = World::new().environment("UMBEL_LISTEN__ORIGINS", "*").start().await;
    let mut client = world.node(0).client().await;
    for origin in [DEV, "null"] {
        let answer = client.request("GET", "/", &[("origin", origin)], b"").await;
        assert_eq!(allowed(&answer), (Some("*"), None, None));
        let answer = client.request("OPTIONS", "/publish", &question(origin), b"").await;
        assert_eq!((answer.status, allowed(&answer)), (204, (Some("*"), None, None)));
    }
}

#[tokio::test]
async fn unless_it_is_set_nothing_is_said() {
    let world = World::new().start().await;
    let mut client = world.node(0).client().await;
    for (method, status) in [("GET", 200), ("OPTIONS", 405)] {
        let answer = client.request(method, "/", &question(DEV), b"").await;
        assert_eq!((answer.status, allowed(&answer)), (status, (None, None, None)));
    }
    let stream = SseClient::open_with(world.node(0).http(), "/topics/a", &[("origin", DEV)]).await;
    assert_eq!(allowed(&stream.head), (None, None, None));
}

#[tokio::test]
async fn an_origin_that_no_browser_sends_is_a_mistake() {
    let (code, _, errors) = ConfiguredNode::run(
        &["--listen=127.0.0.1:0", "--admin=127.0.0.1:0"],
        &[("UMBEL_LISTEN__ORIGINS", "http://a,http://localhost:3000/")],
        None,
    )
    .await;
    assert_eq!(code, 2);
    assert!(
        errors.starts_with("umbel: UMBEL_LISTEN__ORIGINS: listen.origins: `http://localhost:3000/` has more than scheme, host and port; write origins as browsers send them"),
        "{errors}"
    );
}
