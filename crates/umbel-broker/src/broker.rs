//! The broker that a node was configured with.

use std::fmt;
use std::time::Duration;

use umbel_protocol::{Delivery, MessageId, Topic};

use crate::redis::Confirmation;
use crate::{MemoryBroker, RedisBroker, WorkerId};

/// What carries messages. Closed: the node knows every kind.
#[derive(Debug)]
pub enum Broker {
    /// Within this process.
    Memory(MemoryBroker),
    /// Over Redis, between nodes.
    Redis(RedisBroker),
}

/// The broker has the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place in the topic's history; `None` for topics that are live only.
    pub id: Option<MessageId>,
    /// How many nodes it was handed to.
    pub receivers: u64,
}

/// Why a message wasn't published, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// What is to take it has been full for too long. It wasn't published.
    Behind,
    /// The broker can't take it now. It wasn't published.
    Unavailable(String),
    /// The broker won't take it, now or later, until an operator acts. It wasn't published.
    Refused(String),
    /// It may have been published or not.
    OutcomeUnknown(String),
}

/// A worker's attachment to a topic, perhaps still to be confirmed.
#[derive(Debug)]
#[must_use = "only once it is confirmed nothing is missed"]
pub struct Attachment(Option<Confirmation>);

/// How long a publisher waits for a worker that has more to fan out than it may hold.
const ROOM_WAIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Publishes one message. What one caller publishes to one topic, waiting for each, keeps its
    /// order.
    ///
    /// Waits up to two seconds for workers that are behind, and with Redis up to eight more for its
    /// answer. If it is dropped before it returns, the message may be published or not.
    pub async fn publish(&self, delivery: Delivery) -> Result<Published, PublishError> {
        match self {
            Self::Memory(memory) => match memory.try_publish(delivery) {
                Ok(published) => Ok(published),
                Err(full) => tokio::time::timeout(ROOM_WAIT, memory.publish_with_room(full))
                    .await
                    .map_err(|_| PublishError::Behind),
            },
            Self::Redis(redis) => redis.publish(delivery).await,
        }
    }

    /// Publishes messages, of one topic in their order, without a round trip for each. The results
    /// are in the order of the messages.
    pub async fn publish_all(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Vec<Result<Published, PublishError>> {
        let mut results = Vec::with_capacity(deliveries.len());
        match self {
            Self::Memory(_) => {
                for delivery in deliveries {
                    results.push(self.publish(delivery).await);
                }
            }
            Self::Redis(redis) => {
                let mut receipts = Vec::with_capacity(deliveries.len());
                for delivery in deliveries {
                    receipts.push(redis.submit(delivery).await);
                }
                for receipt in receipts {
                    results.push(match receipt {
                        Ok(receipt) => receipt.outcome().await,
                        Err(error) => Err(error),
                    });
                }
            }
        }
        results
    }

    /// Has messages of `topic` put into the worker's mailbox from now on. What is published once
    /// the attachment is [confirmed](Attachment::confirmed) arrives.
    pub fn attach(&self, worker: WorkerId, topic: &Topic) -> Attachment {
        match self {
            Self::Memory(memory) => {
                memory.attach(worker, topic);
                Attachment(None)
            }
            Self::Redis(redis) => Attachment(redis.attach(worker, topic)),
        }
    }

    /// Undoes [`Broker::attach`]. Some messages may still arrive.
    pub fn detach(&self, worker: WorkerId, topic: &Topic) {
        match self {
            Self::Memory(memory) => memory.detach(worker, topic),
            Self::Redis(redis) => redis.detach(worker, topic),
        }
    }

    /// Why the broker can't be relied on now, if so.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(redis) => redis.trouble(),
        }
    }
}

impl Attachment {
    /// Waits until the broker has confirmed it. If it doesn't within two seconds, the worker gets a
    /// gap of the topic once it has.
    ///
    /// If it is dropped midway, the worker stays attached.
    pub async fn confirmed(self) {
        if let Some(confirmation) = self.0 {
            confirmation.wait().await;
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind => write!(
                f,
                "there was no room for the message for {} s: too much is published",
                ROOM_WAIT.as_secs()
            ),
            Self::Unavailable(text) | Self::Refused(text) => f.write_str(text),
            Self::OutcomeUnknown(text) => {
                write!(f, "the message may have been published or not: {text}")
            }
        }
    }
}

impl std::error::Error for PublishError {}
