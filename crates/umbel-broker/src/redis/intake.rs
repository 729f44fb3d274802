//! From the bytes of a subscribe connection to the workers' mailboxes.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use redis::{Value, ValueCodec};
use tokio_util::codec::Decoder;
use umbel_protocol::{Delivery, GapReason, Message, Payload, Timestamp, Topic, envelope};

use super::fault::{Fault, FaultKind};
use super::interest::{Interest, Table};
use super::metrics::{BrokerMetrics, Form};
use crate::workers::WorkerSet;
use crate::{Mailbox, Parcel};

/// How much is read at once at most. What comes in one read is handed on in one go, so that a
/// mailbox can be over its bound by this much.
const READ_BYTES: usize = 256 * 1024;

/// Takes a subscribe connection's bytes apart.
#[derive(Debug)]
pub(super) struct Intake {
    prefix: String,
    probe_channel: String,
    message_bytes: usize,
    started: Instant,
    codec: Codec,
    input: BytesMut,
    values: Vec<Value>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// What goes to each worker, by [`crate::WorkerId::index`]; empty between calls.
    parcels: Vec<Vec<Parcel>>,
    metrics: Arc<BrokerMetrics>,
}

/// The crate's parser, which doesn't say what it holds.
#[derive(Default)]
struct Codec(ValueCodec);

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValueCodec")
    }
}

/// What came besides messages for workers.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What came by the probe's channel, the newest.
    pub(super) echo: Option<Vec<u8>>,
    /// A worker that has no room for more.
    pub(super) full: Option<Arc<Mailbox>>,
}

impl Intake {
    pub(super) fn new(
        prefix: String,
        probe_channel: String,
        message_bytes: usize,
        started: Instant,
        mailboxes: Arc<[Arc<Mailbox>]>,
        metrics: Arc<BrokerMetrics>,
    ) -> Self {
        Self {
            prefix,
            probe_channel,
            message_bytes,
            started,
            codec: Codec::default(),
            input: BytesMut::new(),
            values: Vec::new(),
            parcels: mailboxes.iter().map(|_| Vec::new()).collect(),
            mailboxes,
            metrics,
        }
    }

    /// Where to read to.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.input.reserve(READ_BYTES);
        &mut self.input
    }

    /// Handles everything that is complete in what was read.
    pub(super) fn take(&mut self, interest: &Interest) -> Result<Taken, Fault> {
        while let Some(value) = self.codec.0.decode(&mut self.input)? {
            self.values.push(value);
        }
        if self.input.len() > self.message_bytes + READ_BYTES {
            let text = format!("a message is longer than {} bytes", self.message_bytes);
            return Err(Fault::new(FaultKind::Protocol, text));
        }
        let mut taken = Taken::default();
        let times = Times { received: self.micros(), now: wall() };
        let mut table = interest.lock();
        for value in std::mem::take(&mut self.values) {
            self.handle(value, &mut table, times, &mut taken)?;
        }
        // Under the lock, so that who attaches next is behind what came before.
        for (mailbox, parcels) in self.mailboxes.iter().zip(&mut self.parcels) {
            mailbox.push_all(parcels);
        }
        drop(table);
        taken.full = self.mailboxes.iter().find(|mailbox| mailbox.is_full()).cloned();
        Ok(taken)
    }

    fn handle(
        &mut self,
        value: Value,
        table: &mut Table,
        times: Times,
        taken: &mut Taken,
    ) -> Result<(), Fault> {
        let parts = match value {
            Value::Array(parts) => parts,
            Value::ServerError(error) => return Err(Fault::said(&error)),
            _ => return Ok(()),
        };
        let Ok([Value::BulkString(word), Value::BulkString(channel), third]) =
            <[Value; 3]>::try_from(parts)
        else {
            return Ok(());
        };
        let Ok(channel) = std::str::from_utf8(&channel) else {
            return Ok(());
        };
        match (&word[..], third) {
            (b"message", Value::BulkString(payload)) => {
                if channel == self.probe_channel {
                    taken.echo = Some(payload);
                } else if let Some(name) = channel.strip_prefix(&self.prefix)
                    && let Some((topic, workers)) = table.workers_of(name)
                {
                    self.message(topic, workers, payload.into(), times);
                }
            }
            (b"subscribe" | b"unsubscribe", _) => {
                if let Some(name) = channel.strip_prefix(&self.prefix) {
                    table.answered(name, |worker, topic| {
                        self.metrics.gaps.add(1);
                        self.parcels[worker.index()].push(Parcel::Gap {
                            topic: topic.clone(),
                            reason: GapReason::BrokerLink,
                        });
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self, topic: &Topic, workers: WorkerSet, bytes: Bytes, times: Times) {
        let has_header = bytes.starts_with(&envelope::MAGIC);
        let (message, form) = match envelope::decode(topic, bytes.clone(), times.now) {
            Ok(message) if has_header => (message, Form::Envelope),
            Ok(message) => (message, Form::Plain),
            Err(error) => {
                tracing::debug!(%topic, %error, "Message passed on as bytes");
                (as_bytes(topic, bytes, times.now), Form::Malformed)
            }
        };
        self.metrics.messages.of(form).add(1);
        let delivery = Delivery { message, received: times.received, bare: false };
        let mut last = None;
        for worker in workers.iter() {
            if let Some(before) = last.replace(worker) {
                self.parcels[before.index()].push(Parcel::Message(delivery.clone()));
            }
        }
        if let Some(last) = last {
            self.parcels[last.index()].push(Parcel::Message(delivery));
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// When what is handled now came.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// By the node's own clock, in microseconds.
    received: u64,
    now: Timestamp,
}

fn as_bytes(topic: &Topic, bytes: Bytes, published: Timestamp) -> Message {
    Message {
        topic: topic.clone(),
        payload: Payload::binary(bytes),
        event: None,
        published,
        origin: None,
        id: None,
    }
}

fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
