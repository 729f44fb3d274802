//! From the bytes of a subscribe connection to the workers' mailboxes.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use redis::{Value, ValueCodec};
use tokio_util::codec::Decoder;
use umbel_protocol::{Delivery, GapReason, Timestamp, Topic, envelope};

use super::archive::{Archive, Fit};
use super::fault::{Fault, FaultKind};
use super::interest::{Interest, Interested, Table};
use super::metrics::{BrokerMetrics, Form};
use crate::{Mailbox, Parcel, Witness};

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
    /// What one message of a topic with history leads to; empty between calls.
    fitted: Vec<Parcel>,
    metrics: Arc<BrokerMetrics>,
    witness: Option<Arc<dyn Witness>>,
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
        witness: Option<Arc<dyn Witness>>,
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
            fitted: Vec::new(),
            metrics,
            witness,
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
        let times = Times { received: self.micros(), now: crate::clock::wall() };
        let mut table = interest.lock();
        let mut archive = interest.archive();
        // What came before a trouble is handed on: the archive counts on it.
        let mut trouble = Ok(());
        for value in std::mem::take(&mut self.values) {
            if trouble.is_ok() {
                trouble = self.handle(value, &mut table, &mut archive, times, &mut taken);
            }
        }
        drop(archive);
        // Under the lock, so that who attaches next is behind what came before.
        for (mailbox, parcels) in self.mailboxes.iter().zip(&mut self.parcels) {
            mailbox.push_all(parcels);
        }
        drop(table);
        trouble?;
        taken.full = self.mailboxes.iter().find(|mailbox| mailbox.is_full()).cloned();
        Ok(taken)
    }

    fn handle(
        &mut self,
        value: Value,
        table: &mut Table,
        archive: &mut Archive,
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
                    && let Some(interested) = table.workers_of(name)
                {
                    self.message(interested, archive, payload.into(), times);
                }
            }
            (b"subscribe" | b"unsubscribe", _) => {
                if let Some(name) = channel.strip_prefix(&self.prefix) {
                    let to_check = table.answered(name, |worker, topic| {
                        self.metrics.gaps.add(1);
                        self.parcels[worker.index()].push(Parcel::Gap {
                            topic: topic.clone(),
                            reason: GapReason::BrokerLink,
                            stand: None,
                        });
                    });
                    if let Some(topic) = to_check {
                        archive.confirmed(&topic);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(
        &mut self,
        interested: Interested<'_>,
        archive: &mut Archive,
        bytes: Bytes,
        times: Times,
    ) {
        let Interested { topic, workers, owed, has_history } = interested;
        let form = if bytes.starts_with(&envelope::MAGIC) { Form::Envelope } else { Form::Plain };
        let mut message = match envelope::decode(topic, bytes, times.now) {
            Ok(message) => message,
            Err(error) => return self.malformed(topic, &error),
        };
        self.metrics.messages.of(form).add(1);
        if !has_history {
            // Whoever keeps its history: here nobody could come back to it.
            message.id = None;
        }
        let is_placed = message.id.is_some();
        let mut delivery = Delivery { message, received: times.received, bare: false, life: 0 };
        if delivery.message.trace.is_some() {
            self.tell_witness(&mut delivery, times.now);
        }
        let parcels = &mut self.parcels;
        let mut give = |worker: crate::WorkerId, parcel| parcels[worker.index()].push(parcel);
        if !is_placed {
            self.metrics.unplaced.add(u64::from(has_history));
            return workers.hand_out(delivery, give);
        }
        match archive.received(topic, delivery, &mut self.fitted) {
            Fit::Next => {}
            Fit::First(stand) => {
                for worker in owed.iter() {
                    let (topic, reason) = (topic.clone(), GapReason::BrokerLink);
                    self.metrics.gaps.add(1);
                    give(worker, Parcel::Gap { topic, reason, stand: Some(stand) });
                }
            }
            Fit::Duplicate => self.metrics.duplicates.add(1),
            Fit::Held => self.metrics.held.add(1),
        }
        for parcel in self.fitted.drain(..) {
            match parcel {
                Parcel::Message(delivery) => workers.hand_out(delivery, &mut give),
                gap @ Parcel::Gap { .. } => {
                    self.metrics.gaps.add(1);
                    workers.iter().for_each(|worker| give(worker, gap.clone()));
                }
                Parcel::Canary(_) => unreachable!("canaries aren't messages of a topic"),
            }
        }
    }

    /// Has the message's arrival recorded, and what is done with it next be part of that.
    #[cold]
    fn tell_witness(&self, delivery: &mut Delivery, now: Timestamp) {
        let Some((witness, parent)) = self.witness.as_ref().zip(delivery.message.trace.as_deref())
        else {
            return;
        };
        let received = witness.received(delivery, parent, now);
        delivery.message.trace = Some(Box::new(received));
    }

    /// Something begins like an envelope and isn't one: nobody can be given it.
    fn malformed(&self, topic: &Topic, error: &envelope::EnvelopeError) {
        self.metrics.messages.of(Form::Malformed).add(1);
        tracing::warn!(%topic, %error, "A malformed message came from Redis and is dropped");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{History, WorkerId};
    use std::time::Duration;

    /// Messages that were read together with a refusal are handed on: the archive counts on it.
    #[test]
    fn what_came_before_a_refusal_is_handed_on() {
        let mailboxes: Arc<[_]> = [Arc::new(Mailbox::new(1))].into();
        let interest = Arc::new(Interest::new(Duration::from_secs(2), 1 << 20));
        let topic = Topic::new("a").unwrap();
        let history = History { messages: 10, seconds: 300, keep_seconds: 300 };
        let _confirmation = interest.attach(WorkerId::new(0).unwrap(), &topic, Some(history));
        let metrics = Arc::<BrokerMetrics>::default();
        let mut intake = Intake::new(
            "umbel:".to_owned(),
            "umbel:!probe".to_owned(),
            1 << 20,
            Instant::now(),
            mailboxes.clone(),
            metrics,
            None,
        );
        let header = b"\xffU\x01\x01\x100000000a00000001\x02\x011\0x";
        let mut input = b"*3\r\n$7\r\nmessage\r\n$7\r\numbel:a\r\n$26\r\n".to_vec();
        input.extend_from_slice(header);
        input.extend_from_slice(b"\r\n-NOPERM no such channel for you\r\n");
        intake.buffer().extend_from_slice(&input);
        let fault = intake.take(&interest).unwrap_err();
        assert!(fault.to_string().contains("no such channel"), "{fault}");
        assert!(mailboxes[0].is_full(), "the message is there");
    }
}
