//! The HTTP surface: publishing, and the way into sessions.

mod body;
mod connection;
mod event_stream;
mod http2;
mod page;
mod preface;
mod problem;
mod publish;
mod query;
mod service;
mod socket;
mod subscribe;
mod websocket;

pub(crate) use body::{AnswerBody, Piece};
pub(crate) use connection::{Connection, serve};
pub(crate) use problem::Problem;

use hyper::Response;

/// What the node answers with.
pub(crate) type Answer = Response<AnswerBody>;
