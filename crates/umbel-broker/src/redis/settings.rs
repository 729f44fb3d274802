//! How Redis is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::url::RedisUrl;
use crate::Witness;

/// How a node uses Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The server, or who knows it.
    pub url: RedisUrl,
    /// What all channels and keys begin with.
    pub prefix: String,
    /// The largest message that is taken from a channel, in bytes.
    pub message_bytes: usize,
    /// How long a topic stays subscribed after its last session left.
    pub linger: Duration,
    /// How often it is asked where quiet topics with history stand.
    pub check_every: Duration,
    /// How much history stays at hand, in bytes.
    pub history_bytes: usize,
    /// How many replicas must have a message with history before it counts as published; 0: none.
    pub wait_replicas: u32,
    /// Whether the probes go on to the workers as canaries.
    pub canary: bool,
    /// From when the node's own clock counts: what [`umbel_protocol::Delivery::received`] is
    /// measured from.
    pub started: Instant,
    /// Who is told of messages whose trace is recorded.
    pub witness: Option<Arc<dyn Witness>>,
}
