//! Spellings of a topic that is forbidden: none reaches it, and every way of naming a topic comes
//! to the same verdict.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fmt::Write as _;

use serde_json::json;
use umbel_e2e::{Bystander, HANDSHAKE, Node, Redis, World};

/// Everything below `public` is open, nothing below `secret` is.
fn rules() -> String {
    format!(
        "{}[[topics]]\nmatch = \"public.**\"\nsubscribe = \"anyone\"\npublish = \"anyone\"\n\
         [[topics]]\nmatch = \"secret.**\"\n",
        Bystander::RULE
    )
}

/// What is said to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is none.
    NoName,
    /// It is one, and not for this client.
    Forbidden,
    /// It is one of its own, below `public`.
    Open,
}

use Verdict::{Forbidden, NoName, Open};

impl Verdict {
    fn of(status: u16) -> Self {
        match status {
            200 | 101 => Open,
            400 => NoName,
            403 => Forbidden,
            other => panic!("a name is answered with {other}"),
        }
    }
}

/// What is no name.
const NO_NAMES: &[&str] = &[
    // What is encoded once too often stays as it is, and `%` is in no name.
    "%73ecret.x",
    "secret%2ex",
    "secret%2Ex",
    "secret%252ex",
    "%2e%2e",
    "public.x%2fsecret.x",
    "secret.x%00",
    // Dots and slashes that climb, or divide nothing.
    ".",
    "..",
    "../secret.x",
    "./secret.x",
    "public.x/../secret.x",
    "public.x/./secret.x",
    "public/../secret.x",
    "public.x/..",
    "/secret.x",
    "secret.x/",
    "secret.x.",
    ".secret.x",
    "secret..x",
    "public..secret.x",
    "public.x//secret.x",
    "public./secret.x",
    "public.x...secret.x",
    "/",
    "//",
    // What a name doesn't have.
    "",
    " secret.x",
    "secret.x ",
    "secret. x",
    "secret.x\t",
    "secret.x\r\n",
    "secret.x\n",
    "secret.x\0",
    "\0secret.x",
    "secret\0.x",
    "secret.x?",
    "secret.x#",
    "secret.x;a=b",
    "secret\\x",
    "public.x\\..\\secret.x",
    "secret.*",
    "secret.**",
    "*",
    "**",
    "public.*",
    "{secret.x}",
    "\"secret.x\"",
    "'secret.x'",
    "secret.x|",
    "$secret.x",
    "(secret.x)",
    "[secret.x]",
    "<secret.x>",
    "secret.x&topic",
    // A comma separates names where several may stand, and is in none.
    "public.x,secret.x",
    "secret.x,",
    ",secret.x",
    "public.x,,",
    // What names of the node's own begin with.
    "!probe",
    "!probe:node",
    "~secret.x",
    "~",
    "{umbel:secret.x}",
    // Look-alikes: full stops of other kinds, other alphabets, letters that fold or compose.
    "secret\u{ff0e}x",
    "secret\u{2024}x",
    "secret\u{3002}x",
    "\u{455}ecret.x",
    "\u{ff53}ecret.x",
    "s\u{ff45}cret.x",
    "\u{17f}ecret.x",
    "secret.x\u{301}",
    "secret\u{200b}.x",
    "\u{feff}secret.x",
    "secret.x\u{202e}",
    "secret\u{2f}\u{338}x",
    "secret\u{2215}x",
    "\u{24e2}ecret.x",
    "\u{7f}secret.x",
    "\u{80}secret.x",
    "public.\u{e9}",
];

/// Names that are their own, and no business of this client.
const FORBIDDEN_NAMES: &[&str] = &[
    "secret.x",
    "secret.x.y",
    "secret.x/y",
    "secret.~x",
    "SECRET.x",
    "Secret.x",
    "sECRET.X",
    "secret",
    "secret/x",
    "secret:x",
    "secret-x",
    "umbel:secret.x",
    "umbel:public.x",
    "umbel:umbel:secret.x",
    "umbel:",
    "public",
    "public/x",
    "PUBLIC.x",
    "public-x.secret",
    "-secret.x",
    "x.secret.x",
    "other",
];

/// Names below `public`, whatever they look like.
const OPEN_NAMES: &[&str] = &[
    "public.x",
    "public.secret.x",
    "public.x/secret.x",
    "public.x:secret.x",
    "public.~",
    "public.umbel:x",
    "public.x~",
    "public.x@y=z+w",
];

/// Names, as they are once everything is decoded.
fn names() -> Vec<(String, Verdict)> {
    let (just, too_long) = ("x".repeat(248), "x".repeat(249));
    let mut names = vec![(format!("public.{just}"), Open), (format!("public.{too_long}"), NoName)];
    for (listed, verdict) in [(NO_NAMES, NoName), (FORBIDDEN_NAMES, Forbidden), (OPEN_NAMES, Open)]
    {
        names.extend(listed.iter().map(|name| ((*name).to_owned(), verdict)));
    }
    names
}

/// Each byte percent-encoded, so that nothing but the node's decoding is between.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02x}").unwrap();
        text
    })
}

/// Names a topic in every way there is, and gives what each came to.
async fn verdicts(node: &Node, name: &str) -> Vec<(&'static str, Verdict)> {
    let encoded = encoded(name);
    let in_path = format!("/topics/{encoded}");
    let in_query = format!("/topics?topic={encoded}");
    let beside = format!("/topics/public.beside?topic={encoded}");
    let sse = [("accept", "text/event-stream")];
    let mut verdicts = Vec::new();
    for (way, path, headers) in [
        ("SSE, in the path", &in_path, &sse[..]),
        ("SSE, in the query", &in_query, &sse),
        ("SSE, beside another", &beside, &sse),
        ("WebSocket, in the path", &in_path, &HANDSHAKE),
        ("WebSocket, in the query", &in_query, &HANDSHAKE),
    ] {
        let mut client = node.client().await;
        client.send(&umbel_e2e::request("GET", path, headers, b"")).await;
        verdicts.push((way, Verdict::of(client.head().await.status)));
    }
    let mut client = node.client().await;
    let answer = client.post(&in_path, "text/plain", b"x").await;
    verdicts.push(("POST, in the path", Verdict::of(answer.status)));
    let body = json!({"topic": name, "text": "x"}).to_string();
    let answer = client.post("/publish", "application/json", body.as_bytes()).await;
    let status = answer.json()["status"].as_u64().unwrap_or(200);
    verdicts.push(("POST, in the body", Verdict::of(status.try_into().unwrap())));
    let mut session = node.json().await;
    for command in [
        json!({"op": "publish", "topic": name, "text": "x"}),
        json!({"op": "subscribe", "topic": name}),
        json!({"op": "subscribe", "topics": [{"topic": "public.beside"}, {"topic": name}]}),
    ] {
        let reply = session.command(&command).await;
        verdicts.push(("JSON dialect", of_reply(&reply)));
    }
    verdicts
}

fn of_reply(reply: &serde_json::Value) -> Verdict {
    match (reply["op"].as_str().unwrap(), reply["code"].as_str()) {
        // It may have been subscribed a moment ago.
        ("published" | "subscribed", _) | ("error", Some("already_subscribed")) => Open,
        ("error", Some("bad_topic")) => NoName,
        ("error", Some("forbidden")) => Forbidden,
        _ => panic!("{reply}"),
    }
}

#[tokio::test]
async fn every_way_of_naming_a_topic_comes_to_the_same_verdict() {
    let world = World::new().settings(&rules()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    for (name, verdict) in names() {
        for (way, got) in verdicts(node, &name).await {
            // In a URL these are two names, or one and nothing.
            let verdict = match name.as_str() {
                "public.x,secret.x" if way.contains("in the path") && !way.contains("POST") => {
                    Forbidden
                }
                _ => verdict,
            };
            assert_eq!(got, verdict, "{way}: {name:?}");
        }
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Request targets as they are sent, with nothing encoded for them.
#[tokio::test]
async fn no_spelling_of_a_url_opens_what_is_forbidden() {
    let world = World::new().settings(&rules()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    for (target, status) in [
        // The same topic.
        ("/topics/secret.x", 403),
        ("/topics/%73ecret.x", 403),
        ("/topics/%73%65%63%72%65%74%2e%78", 403),
        ("/topics/secret%2Ex", 403),
        ("/topics/secret%2ex", 403),
        ("/topics?topic=secret.x", 403),
        ("/topics/?topic=secret.x", 403),
        ("/topics?topic=%73ecret%2ex", 403),
        ("/topics?%74opic=secret.x", 403),
        ("/topics/secret.x#public.x", 403),
        ("http://elsewhere/topics/secret.x", 403),
        ("/topics/secret.x?topic=public.x", 403),
        ("/topics/public.x?topic=secret.x", 403),
        ("/topics/public.x,secret.x", 403),
        ("/topics/public.x%2Csecret.x", 403),
        ("/topics/public.x%2csecret.x,public.y", 403),
        ("/topics?topic=public.x&topic=secret.x", 403),
        ("/topics?topic=public.x&&topic=secret.x&", 403),
        // Encoded twice, cut off, overlong, not text.
        ("/topics/%2573ecret.x", 400),
        ("/topics/secret%252ex", 400),
        ("/topics?topic=%2573ecret.x", 400),
        ("/topics/secret%", 400),
        ("/topics/secret%2", 400),
        ("/topics/secret%zzx", 400),
        ("/topics/secret%u002ex", 400),
        ("/topics/%c1%b3ecret.x", 400),
        ("/topics/secret%c0%aex", 400),
        ("/topics/secret%e0%80%aex", 400),
        ("/topics/secret.x%00", 400),
        ("/topics/secret.x%ff", 400),
        ("/topics?topic=secret%c0%aex", 400),
        ("/topics?topic=secret.x%00", 400),
        ("/topics?topic=secret%zzx", 400),
        ("/topics?topic=+secret.x", 400),
        ("/topics?topic=public.x,secret.x", 400),
        ("/topics?topic=public.x%2Csecret.x", 400),
        // Paths that climb; they are taken as they are written.
        ("/topics/public.x/../secret.x", 400),
        ("/topics/../topics/secret.x", 400),
        ("/topics/./secret.x", 400),
        ("/topics//secret.x", 400),
        ("/topics/public.x%2F..%2Fsecret.x", 400),
        ("/topics/%2e%2e/secret.x", 400),
        ("/topics/secret.x/", 400),
        ("/topics/secret.x;a=b", 400),
        ("/topics/..;/secret.x", 400),
        ("/topics/public.x%5c..%5csecret.x", 400),
        ("/topics/public.x,", 400),
        ("/topics/,public.x", 400),
        // Other names of the resource are none.
        ("//topics/secret.x", 404),
        ("/Topics/secret.x", 404),
        ("/TOPICS/secret.x", 404),
        ("/%74opics/secret.x", 404),
        ("/topics%2Fsecret.x", 404),
        ("/x/../topics/secret.x", 404),
        ("/./topics/secret.x", 404),
        ("/;/topics/secret.x", 404),
        ("/topics;/secret.x", 404),
        ("/topics\\secret.x", 404),
        ("/%2e/topics/secret.x", 404),
        // Other names of the parameter are none either.
        ("/topics?Topic=secret.x", 400),
        ("/topics?topic[]=secret.x", 400),
        ("/topics?topics=secret.x", 400),
        ("/topics?topic.x=secret.x", 400),
        ("/topics?", 400),
        ("/topics?topic", 400),
        ("/topics?topic=", 400),
        ("/topics?;topic=secret.x", 400),
    ] {
        for headers in [&[("accept", "text/event-stream")][..], &HANDSHAKE] {
            let answer = node.client().await.request("GET", target, headers, b"").await;
            assert_eq!(answer.status, status, "{target}: {}", answer.text());
        }
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// Bytes that no client of ours would send.
#[tokio::test]
async fn bytes_beyond_ascii_in_a_target_name_nothing() {
    let world = World::new().settings(&rules()).start().await;
    let node = world.node(0);
    let bystander = Bystander::beside(node).await;
    for name in [
        &b"\xc1\xb3ecret.x"[..],
        b"secret\xc0\xaex",
        b"secret\xef\xbc\x8ex",
        b"secret.x\xff",
        b"secret\x80x",
        b"secret\x00x",
        b"secret\x0bx",
        b"secret\x7fx",
        b"secret\tx",
        "\u{455}ecret.x".as_bytes(),
    ] {
        for before in [&b"/topics/"[..], b"/topics?topic="] {
            let mut client = node.client().await;
            client.send(&[b"GET ", before, name, b" HTTP/1.1\r\nhost: x\r\n\r\n"].concat()).await;
            let status = client.answer().await.status;
            assert_eq!(status, 400, "{}{}", before.escape_ascii(), name.escape_ascii());
        }
    }
    bystander.noticed_nothing().await;
    node.is_left_empty().await;
}

/// With Redis in between it shows where names lead: to no channel outside of `public`.
#[tokio::test]
async fn no_spelling_leads_to_a_channel_that_is_forbidden() {
    let redis = Redis::start(&[]).await;
    let world = World::new().settings(&rules()).broker(&redis.url()).start().await;
    let node = world.node(0);
    let (mut sessions, mut open) = (Vec::new(), Vec::new());
    for (name, verdict) in names() {
        let mut session = node.json().await;
        let reply = session.command(&json!({"op": "subscribe", "topic": name})).await;
        assert_eq!(of_reply(&reply), verdict, "{name:?}");
        node.client().await.post(&format!("/topics/{}", encoded(&name)), "text/plain", b"x").await;
        if verdict == Open {
            open.push(format!("umbel:{name}"));
        }
        sessions.push(session);
    }
    open.sort_unstable();
    redis.channels_become(&open.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let received = "umbel_messages_received_total{source=\"http\"}";
    node.metric_becomes(received, f64::from(u32::try_from(open.len()).unwrap())).await;
    let secret = redis.command(&["PUBLISH", "umbel:secret.x", "for nobody here"]).await;
    assert_eq!(secret.trim(), "0");
}
