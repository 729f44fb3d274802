//! Who records where a message has been.

use std::fmt::Debug;

use umbel_protocol::{Delivery, Timestamp, TraceParent};

/// Is told of messages whose trace is recorded, as they come to the node from the broker's server and
/// before a worker has them. It must not wait: the thread that reads from the server tells it.
pub trait Witness: Debug + Send + Sync {
    /// A message came. Gives the span that what is done with it next has for its parent.
    fn received(&self, delivery: &Delivery, parent: &TraceParent, now: Timestamp) -> TraceParent;
}
