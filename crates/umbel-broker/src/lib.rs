//! What carries messages between publishers and workers.
//!
//! A [`Broker`] takes messages from anyone and puts each into the [`Mailbox`] of every worker that
//! is attached to its topic, in one order per topic. It knows no sockets, no sessions and no
//! dialects. Of topics with [`History`] it keeps what was published for a while, and gives it to
//! [`Reader`]s. There is the embedded [`MemoryBroker`], which serves one node, and the
//! [`RedisBroker`], over which any number of nodes share their topics.

mod broker;
mod clock;
mod history;
mod mailbox;
mod memory;
mod once;
mod redis;
mod witness;
mod workers;

pub use broker::{Attachment, Broker, Canaries, FetchError, Publish, PublishError, Published};
pub use clock::wall;
pub use history::{History, Read, Reader};
pub use mailbox::{Mailbox, Parcel};
pub use memory::MemoryBroker;
pub use redis::{
    BrokerMetrics, LIBRARY, RedisBroker, RedisSettings, RedisUrl, RedisUrlError, families,
};
pub use witness::Witness;
pub use workers::WorkerId;
