//! Messages from Redis, over the usual crate's pub/sub connection.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult};
use tokio::sync::Mutex;

use super::topics::Topics;
use crate::channels::Channels;

/// The channels that are subscribed; they stay so.
pub(super) struct RedisSource {
    channels: Channels,
    held: Mutex<Held>,
}

struct Held {
    sink: PubSubSink,
    channels: HashSet<String>,
}

impl RedisSource {
    /// Connects; the stream is what [`forward`] needs.
    pub(super) async fn connect(channels: &Channels) -> RedisResult<(Self, PubSubStream)> {
        let pubsub = Client::open(channels.url())?.get_async_pubsub().await?;
        let (sink, stream) = pubsub.split();
        let held = Mutex::new(Held { sink, channels: HashSet::new() });
        Ok((Self { channels: channels.clone(), held }, stream))
    }

    /// Returns once messages of `topic` come. The lock is held meanwhile: who comes second waits too.
    pub(super) async fn hold(&self, topic: &str) -> RedisResult<()> {
        let channel = self.channels.of(topic);
        let mut held = self.held.lock().await;
        if !held.channels.contains(&channel) {
            held.sink.subscribe(&channel).await?;
            held.channels.insert(channel);
        }
        Ok(())
    }
}

/// Hands each message to its topic, until Redis closes the connection.
pub(super) async fn forward(mut stream: PubSubStream, prefix: String, topics: Arc<Topics>) {
    while let Some(message) = stream.next().await {
        if let Some(topic) = message.get_channel_name().strip_prefix(&prefix) {
            topics.publish(topic, Bytes::copy_from_slice(message.get_payload_bytes()));
        }
    }
}
