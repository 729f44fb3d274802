//! The broker that a node was configured with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use umbel_protocol::{Delivery, IdempotencyKey, MessageId, Stand, Topic};

use crate::redis::Confirmation;
use crate::{History, MemoryBroker, Read, Reader, RedisBroker, WorkerId};

/// What carries messages. Closed: the node knows every kind.
#[derive(Debug)]
pub enum Broker {
    /// Within this process.
    Memory(MemoryBroker),
    /// Over Redis, between nodes.
    Redis(RedisBroker),
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The message. A [bare](Delivery::bare) one has no place in history.
    pub delivery: Delivery,
    /// What of its topic is kept; `None`: it is live only.
    pub history: Option<History>,
    /// What it is recognised by if it is sent again.
    pub key: Option<IdempotencyKey>,
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
    /// Another message was published under its key. It wasn't published.
    KeyUsed,
}

/// What became of the node's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canaries {
    /// How many were sent.
    pub sent: u64,
    /// How many of them never came back.
    pub lost: u64,
}

/// Why history couldn't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// Whether another attempt may succeed without anybody's help.
    pub passes: bool,
    /// What the broker said.
    pub text: String,
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
    pub async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        match self {
            Self::Memory(memory) => match memory.try_publish(publish) {
                Ok(outcome) => outcome,
                Err(full) => tokio::time::timeout(ROOM_WAIT, memory.publish_with_room(full))
                    .await
                    .unwrap_or(Err(PublishError::Behind)),
            },
            Self::Redis(redis) => redis.publish(publish).await,
        }
    }

    /// Publishes messages, of one topic in their order, without a round trip for each. The results
    /// are in the order of the messages.
    pub async fn publish_all(
        &self,
        publishes: Vec<Publish>,
    ) -> Vec<Result<Published, PublishError>> {
        let mut results = Vec::with_capacity(publishes.len());
        match self {
            Self::Memory(_) => {
                for publish in publishes {
                    results.push(self.publish(publish).await);
                }
            }
            Self::Redis(redis) => {
                let mut receipts = Vec::with_capacity(publishes.len());
                for publish in publishes {
                    receipts.push(redis.submit(publish).await);
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
    /// the attachment is [confirmed](Attachment::confirmed) arrives. All attachments to a topic name
    /// the same history.
    pub fn attach(&self, worker: WorkerId, topic: &Topic, history: Option<History>) -> Attachment {
        match self {
            Self::Memory(memory) => {
                memory.attach(worker, topic, history);
                Attachment(None)
            }
            Self::Redis(redis) => Attachment(redis.attach(worker, topic, history)),
        }
    }

    /// Undoes [`Broker::attach`]. Some messages may still arrive.
    pub fn detach(&self, worker: WorkerId, topic: &Topic) {
        match self {
            Self::Memory(memory) => memory.detach(worker, topic),
            Self::Redis(redis) => redis.detach(worker, topic),
        }
    }

    /// Reads what comes next of a topic that a worker is attached to, without waiting: up to
    /// `up_to`, or to where the topic stands, at most about `bytes`.
    pub fn read(&self, reader: &mut Reader, up_to: Option<Stand>, bytes: usize) -> Read {
        match self {
            Self::Memory(memory) => memory.read(reader, up_to, bytes),
            Self::Redis(redis) => redis.read(reader, up_to, bytes),
        }
    }

    /// Fetches what [`Broker::read`] said is missing. Readers of one topic share what is fetched as
    /// far as possible. An error says why nothing could be fetched now.
    ///
    /// Cancel safe: what wasn't fetched can be asked for again.
    pub async fn fetch(&self, reader: &mut Reader) -> Result<(), FetchError> {
        match self {
            Self::Memory(_) => {
                let text = "the memory broker has nothing to fetch from".to_owned();
                Err(FetchError { passes: false, text })
            }
            Self::Redis(redis) => redis.fetch(reader).await,
        }
    }

    /// Where a topic with history stands that a worker is attached to, if that is known.
    pub fn stand(&self, topic: &Topic) -> Option<Stand> {
        match self {
            Self::Memory(memory) => memory.stand(topic),
            Self::Redis(redis) => redis.stand(topic),
        }
    }

    /// What the node keeps of topics' history, in bytes.
    pub fn history_bytes(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.history_bytes(),
            Self::Redis(redis) => redis.history_bytes(),
        }
    }

    /// Notifies `reader` once when a topic with history, that a worker is attached to, goes on.
    /// Forgets it when nobody else holds it.
    pub fn wait(&self, topic: &Topic, reader: &Arc<Notify>) {
        match self {
            Self::Memory(memory) => memory.wait(topic, reader),
            Self::Redis(redis) => redis.wait(topic, reader),
        }
    }

    /// Takes a share of what is to be done now and then. To be called about once a second.
    pub fn tend(&self) {
        match self {
            Self::Memory(memory) => memory.tend(),
            // Its thread does.
            Self::Redis(_) => {}
        }
    }

    /// Sends a canary through the memory broker, published `now` by the node's clock; Redis' link
    /// sends its own. To be called about once a second.
    pub fn release_canary(&self, now: u64) {
        match self {
            Self::Memory(memory) => memory.release_canary(now),
            Self::Redis(_) => {}
        }
    }

    /// How many canaries were sent, and how many of them never came back.
    pub fn canaries(&self) -> Canaries {
        match self {
            Self::Memory(memory) => Canaries { sent: memory.canaries(), lost: 0 },
            Self::Redis(redis) => redis.canaries(),
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
    /// Waits until the broker has confirmed it; whether it has. If it doesn't within two seconds, the
    /// worker gets a gap of the topic once it has.
    ///
    /// If it is dropped midway, the worker stays attached.
    pub async fn confirmed(self) -> bool {
        match self.0 {
            Some(confirmation) => confirmation.wait().await,
            None => true,
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
            Self::KeyUsed => f.write_str("another message was published with this idempotency key"),
        }
    }
}

impl std::error::Error for PublishError {}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for FetchError {}
