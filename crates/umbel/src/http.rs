//! The HTTP surface: publishing, and the way into sessions.

mod connection;
mod page;
mod problem;
mod publish;
mod query;
mod service;
mod subscribe;
mod websocket;

pub(crate) use connection::{Connection, serve};
pub(crate) use problem::Problem;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

/// What the node answers with: a whole body at once. Streams are sessions, not answers.
pub(crate) type Answer = Response<Full<Bytes>>;
