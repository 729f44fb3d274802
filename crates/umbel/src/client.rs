//! What `umbel publish`, `umbel subscribe` and `umbel health` do: the client's side of the dialects, and
//! of the admin listener.

mod backoff;
mod connection;
mod dialog;
mod event_reader;
mod event_stream;
mod failure;
mod health;
mod input;
mod missing;
mod node_url;
mod output;
mod place;
mod publisher;
mod received;
mod redis_link;
mod subscriber;
mod web_socket;

use std::fmt::Display;
use std::io::Write as _;

use umbel_protocol::Topic;

pub(crate) use failure::Failure;
pub(crate) use health::{Checkup, Question};
pub(crate) use input::{Input, Messages};
pub(crate) use node_url::NodeUrl;
pub(crate) use output::{Form, Output};
pub(crate) use place::{Place, StreamPlace, TopicPlaces};
pub(crate) use publisher::{Publication, Publisher};
pub(crate) use redis_link::RedisLink;
pub(crate) use subscriber::{Subscriber, Subscription};

/// The longest message that is sent or taken, in bytes. Far above what nodes take unless told
/// otherwise; it keeps a mistaken pipe or peer from filling the memory.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// A topic from the command line.
pub(crate) fn topic(name: &str) -> Result<Topic, Failure> {
    Topic::new(name).map_err(|error| Failure::Usage(format!("`{name}`: {error}")))
}

/// Says something on the standard error, where it doesn't mix with messages.
pub(crate) fn tell(text: impl Display) {
    // If nobody listens there, there is nobody to tell that either.
    let _ = writeln!(std::io::stderr(), "umbel: {text}");
}
