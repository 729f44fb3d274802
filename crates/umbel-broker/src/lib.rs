//! What carries messages between publishers and workers.
//!
//! A [`Broker`] takes messages from anyone and puts each into the [`Mailbox`] of every worker that
//! is attached to its topic, in one order per topic. It knows no sockets, no sessions and no
//! dialects. So far there is the embedded [`MemoryBroker`], which serves one node.

mod broker;
mod mailbox;
mod memory;
mod workers;

pub use broker::{Broker, PublishError, Published};
pub use mailbox::Mailbox;
pub use memory::MemoryBroker;
pub use workers::WorkerId;
