//! The HTTP surface: publishing, and the way into sessions, by the node's own URLs and the
//! application's.

mod connection;
mod cors;
mod page;
mod problem;
mod publish;
mod query;
mod route;
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
