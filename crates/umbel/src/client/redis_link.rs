//! Publishing straight to Redis.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use umbel_broker::RedisUrl;
use umbel_protocol::Topic;

use super::Failure;

/// The command connection to one Redis server.
pub(crate) struct RedisLink {
    url: RedisUrl,
    channel: String,
    connection: Option<MultiplexedConnection>,
}

impl RedisLink {
    /// Whether a URL is one of Redis, as nodes take them for their broker.
    pub(crate) fn is_meant(url: &str) -> bool {
        RedisUrl::is_meant(url)
    }

    /// A link that connects with its first message.
    pub(crate) fn new(url: &str, prefix: &str, topic: &Topic) -> Result<Self, Failure> {
        // What can't be read can't be told from its password either.
        let url = RedisUrl::parse(url).map_err(|error| {
            Failure::Usage(format!("what --url gives is not a URL of Redis: {error}"))
        })?;
        Ok(Self { url, channel: format!("{prefix}{topic}"), connection: None })
    }

    /// The channel that the topic's messages go over.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Publishes a payload as it is and gives how many of Redis' clients received it.
    pub(super) async fn publish(&mut self, payload: &[u8]) -> Result<u64, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.url).await?),
        };
        let mut command = redis::cmd("PUBLISH");
        command.arg(&self.channel).arg(payload);
        command.query_async(connection).await.map_err(Failure::Redis)
    }
}

async fn connect(url: &RedisUrl) -> Result<MultiplexedConnection, Failure> {
    let info = url.connection_info().await.map_err(|error| Failure::NoMaster(error.to_string()))?;
    // The caller has one deadline for all; the crate's own are shorter than what one may ask for.
    let no_deadlines =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = Client::open(info).map_err(Failure::Redis)?;
    let connected = client.get_multiplexed_async_connection_with_config(&no_deadlines).await;
    connected.map_err(Failure::Redis)
}
