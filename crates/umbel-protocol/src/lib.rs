//! What Umbel's parts and its clients agree on: topics, messages and the dialects that carry them.
//!
//! This crate is pure. It does no I/O, reads no clock, knows neither tokio nor sockets nor a
//! broker, so that every rule of the wire is tested as a function from bytes to bytes.
//!
//! - [`Topic`] and [`TopicPattern`]: what clients name and what the operator's rules match.
//! - [`Message`], [`Payload`], [`EventName`], [`MessageId`]: what is published.
//! - [`Position`], [`After`], [`Cursor`]: where a reader of a topic's history stands.
//! - [`Dialect`]: how a message becomes frames for plain WebSocket, JSON WebSocket and SSE.
//! - [`json`]: the commands and replies of the JSON dialect.
//! - [`publish`]: the body of `POST /publish`.
//! - [`TraceParent`]: which trace a message belongs to.
//! - [`history`]: the answer to a poll.
//! - [`websocket`] and [`sse`]: the framing that we emit.
//! - [`envelope`]: the header of messages within Redis.

mod cursor;
mod dialect;
pub mod envelope;
mod fields;
pub mod history;
pub mod json;
mod message;
mod payload;
pub mod publish;
pub mod sse;
mod topic;
mod trace;
pub mod websocket;

pub use cursor::{After, Composite, CompositeTopics, Cursor, CursorError};
pub use dialect::{Dialect, GapReason, Style};
pub use message::{
    Delivery, EventName, EventNameError, IdempotencyKey, IdempotencyKeyError, Message, MessageId,
    ParseMessageIdError, ParseSessionIdError, Position, SessionId, Stand, Timestamp,
};
pub use payload::{Payload, PayloadError, PayloadKind};
pub use topic::{
    Topic, TopicError, TopicPattern, TopicPatternError, decode_path_segment, topics_in_path,
};
pub use trace::{SpanId, TraceId, TraceParent, TraceParentError};
