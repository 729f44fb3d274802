//! The harness of the end-to-end tests: real node processes, real sockets.
//!
//! A [`World`] owns every process that it started and ends it when it is dropped. Clients are
//! written here, in plain bytes, so that a mistake in the node's own encoders or in a library that
//! both would use can't hide. HTTP/2 alone is the `h2` crate's, beside a client that sends any frame.
//! What pages see is shown by a real browser. Every wait has a deadline and panics with what it waited
//! for.

#![allow(clippy::unwrap_used, reason = "whatever fails here fails the test, with its place")]
#![allow(clippy::missing_panics_doc, reason = "every function here panics when the test fails")]

mod body;
mod browser;
mod bystander;
mod cgroup;
mod chromium;
mod collector;
mod crowd;
mod front;
mod haproxy;
mod http;
mod http2;
mod load;
mod metrics;
mod namespace;
mod node;
mod pour;
mod program;
mod prometheus;
mod promtool;
mod proxy;
mod redis;
mod sentinel;
mod site;
mod sse;
mod wait;
mod watcher;
mod websocket;
mod world;

pub use browser::Page;
pub use bystander::Bystander;
pub use cgroup::MemoryGroup;
pub use chromium::{Chromium, Tab};
pub use collector::{Answers, Collector, SeenSpan};
pub use crowd::{Counts, Crowd, Latency, Phase};
pub use front::{Backend, Front, Product};
pub use haproxy::{HaProxy, Server};
pub use http::{Answer, HttpClient, request};
pub use http2::{Http2Client, Http2Stream, RawFrame, RawHttp2};
pub use load::{Clock, Load, Numbered};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use node::{ConfiguredNode, Node};
pub use pour::{Poured, converse, pour, raise_descriptor_limit};
pub use program::{Output, Program};
pub use prometheus::{Prometheus, Series};
pub use promtool::promtool;
pub use proxy::{Fault, Proxy};
pub use redis::{Redis, RedisClient};
pub use sentinel::{Sentinel, Watched};
pub use site::Site;
pub use sse::SseClient;
pub use wait::{DEADLINE, eventually, within};
pub use watcher::{Publisher, Record, Seen, Watcher, Way};
pub use websocket::{Frame, HANDSHAKE, Opcode, WebSocketClient, masked_frame};
pub use world::{World, WorldBuilder};
