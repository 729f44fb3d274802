//! The HTTP surface: publishing, and the way into sessions, by the node's own URLs and the
//! application's.

mod body;
pub(crate) mod client_address;
mod connection;
mod cors;
mod event_stream;
mod framing;
mod http2;
mod page;
mod place;
mod poll;
mod preface;
mod problem;
pub mod proxy_header;
mod publish;
mod publish_count;
mod query;
mod refusal;
mod route;
mod service;
mod socket;
mod subscribe;
mod websocket;

pub(crate) use body::{AnswerBody, Piece};
pub(crate) use connection::{CONNECTION_BYTES, Connection, serve};
pub(crate) use problem::Problem;

use hyper::Response;

/// What the node answers with.
pub(crate) type Answer = Response<AnswerBody>;
