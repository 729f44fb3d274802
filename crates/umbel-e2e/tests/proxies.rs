//! Nodes behind proxies with the settings of `deploy/proxies`: what sessions and publishers see through
//! them, while all is well, and when nodes leave, are killed, or are gone.
//!
//! `HAProxy` and nginx are tried with each change; Envoy by `make proxies`, which installs it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "proxies/failing.rs"]
mod failing;
#[path = "proxies/pages.rs"]
mod pages;
#[path = "proxies/passing.rs"]
mod passing;

use std::net::SocketAddr;

use umbel_e2e::{Answer, HttpClient, Node, Product, SseClient};

/// Live topics, and those with history.
const TOPICS: &str = "\
[[topics]]
match = \"**\"
subscribe = \"anyone\"
publish = \"anyone\"

[[topics]]
match = \"chat.*\"
subscribe = \"anyone\"
publish = \"anyone\"
history = { messages = 100, seconds = 300 }
";

/// A session of a node, not what a proxy answers in its place.
async fn session(front: SocketAddr, topic: &str) -> SseClient {
    let stream = SseClient::open(front, &format!("/topics/{topic}")).await;
    assert!(stream.head.header("umbel-session").is_some(), "{:?}", stream.head);
    stream
}

async fn post(front: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    HttpClient::connect(front).await.request("POST", path, headers, body.as_bytes()).await
}

/// How many sessions a node has.
async fn held(node: &Node) -> usize {
    let metrics = node.metrics().await;
    let open =
        |transport| metrics.value(&format!("umbel_sessions_open{{transport=\"{transport}\"}}"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let all = (open("sse") + open("websocket")) as usize;
    all
}

/// Each case for each proxy.
macro_rules! cases {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod haproxy {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::Product::HaProxy).await; })*
        }
        mod nginx {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::Product::Nginx).await; })*
        }
        mod envoy {
            $(
                #[tokio::test]
                #[ignore = "needs Envoy: make proxies"]
                async fn $case() { super::$module::$case(super::Product::Envoy).await; }
            )*
        }
    };
}

cases! {
    passing::messages_pass_both_ways_at_once,
    passing::silence_between_heartbeats_ends_no_session_and_a_silent_node_does,
    passing::nodes_know_whom_a_session_is_from_and_their_refusals_pass,
    failing::a_killed_node_s_clients_come_back_through_the_other,
    failing::what_was_sent_is_sent_again_only_if_that_does_no_harm,
    failing::nobody_notices_a_node_that_leaves,
    pages::they_come_back_when_no_node_was_there,
}
