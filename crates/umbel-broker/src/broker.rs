//! The broker that a node was configured with.

use std::fmt;
use std::time::Duration;

use umbel_protocol::{Delivery, MessageId, Topic};

use crate::{MemoryBroker, WorkerId};

/// What carries messages. Closed: the node knows every kind.
#[derive(Debug)]
pub enum Broker {
    /// Within this process.
    Memory(MemoryBroker),
}

/// The broker has the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place in the topic's history; `None` for topics that are live only.
    pub id: Option<MessageId>,
    /// How many nodes it was handed to.
    pub receivers: u64,
}

/// Why a message wasn't published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishError;

/// How long a publisher waits for a worker that has more to fan out than it may hold.
const ROOM_WAIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Publishes one message. What one caller publishes to one topic, waiting for each, keeps its
    /// order.
    ///
    /// Waits up to two seconds for workers that are behind. Cancel safe: the message is published
    /// in the same poll that returns, or not at all.
    pub async fn publish(&self, delivery: Delivery) -> Result<Published, PublishError> {
        match self {
            Self::Memory(memory) => match memory.try_publish(delivery) {
                Ok(published) => Ok(published),
                Err(full) => tokio::time::timeout(ROOM_WAIT, memory.publish_with_room(full))
                    .await
                    .map_err(|_| PublishError),
            },
        }
    }

    /// Has messages of `topic` put into the worker's mailbox from now on. Returns when the broker
    /// has confirmed it: what is published after that arrives.
    #[allow(clippy::unused_async, reason = "a broker beyond a network confirms later")]
    pub async fn attach(&self, worker: WorkerId, topic: &Topic) {
        match self {
            Self::Memory(memory) => memory.attach(worker, topic),
        }
    }

    /// Undoes [`Broker::attach`]. Some messages may still arrive.
    pub fn detach(&self, worker: WorkerId, topic: &Topic) {
        match self {
            Self::Memory(memory) => memory.detach(worker, topic),
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workers were behind for more than {} s", ROOM_WAIT.as_secs())
    }
}

impl std::error::Error for PublishError {}
