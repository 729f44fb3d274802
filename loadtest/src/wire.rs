//! The bytes on the wire, as pure functions over slices: no sockets, no clock.

pub mod accept_key;
pub mod chunked;
pub mod event_stream;
pub mod frame;
pub mod message_id;
pub mod object;
pub mod payload;
pub mod publish_line;
pub mod publish_results;
pub mod resp;
pub mod response;
pub mod subscribe;
