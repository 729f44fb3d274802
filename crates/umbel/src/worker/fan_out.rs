//! The fan-out: from the mailbox to the sockets.

use std::rc::Rc;

use umbel_broker::Parcel;
use umbel_protocol::Delivery;

use super::Worker;
use crate::clock::WallClock;
use crate::trace::FanOut;

/// The most messages that are appended before sessions are written. With more, what waits would
/// be written in larger pieces, but the first message of a batch would wait for the last.
const BATCH_MESSAGES: usize = 1024;

/// The most payload bytes of a batch, for the same reason: a few milliseconds of encoding.
const BATCH_BYTES: usize = 1 << 20;

/// How many sessions are written before the rest of the worker gets its turn: about 0.3 ms.
const WRITES_PER_TURN: usize = 64;

/// How many bytes may be written in one turn, for large messages.
const BYTES_PER_TURN: u64 = 1 << 20;

/// How many bytes were written is looked at every so many writes.
const WRITES_PER_LOOK: usize = 8;

/// A time of publishing so far ahead of our own clock, in microseconds, is another clock's doing.
const CLOCKS_DIFFER: u64 = 1000;

/// A batch vector that grew beyond this is given back.
const KEEP_BATCH: usize = 4096;

/// Fans out whatever comes into the worker's mailbox. Never returns.
pub(super) async fn fan_out(worker: &Rc<Worker>) {
    let mut batch = Vec::new();
    loop {
        worker.mailbox.take(&mut batch).await;
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_len(rest));
            worker.append(now);
            let steps = worker.pace.steps();
            worker.write_due().await;
            worker.pace.settle(steps).await;
            worker.observe_fan_out(now);
            rest = later;
        }
        worker.retry_waiting();
        batch.clear();
        batch.shrink_to(KEEP_BATCH);
    }
}

/// How many of the parcels make a batch: at least one.
fn batch_len(parcels: &[Parcel]) -> usize {
    let mut bytes = 0;
    let within = |parcel: &&Parcel| {
        if let Parcel::Message(delivery) = parcel {
            bytes += delivery.message.payload.bytes().len();
        }
        bytes <= BATCH_BYTES
    };
    parcels.iter().take(BATCH_MESSAGES).take_while(within).count().max(1)
}

impl Worker {
    /// Appends a batch to the logs.
    ///
    /// HOT PATH.
    fn append(&self, batch: &[Parcel]) {
        let mut hub = self.hub.borrow_mut();
        let wall = WallClock::of(self.clock);
        for parcel in batch {
            match parcel {
                Parcel::Message(delivery) => {
                    let published = wall.when(delivery.message.published);
                    let is_ahead = published > delivery.received.saturating_add(CLOCKS_DIFFER);
                    self.metrics.published_in_future.add(is_ahead.into());
                    hub.append(delivery, published.min(delivery.received));
                }
                // Its turn comes when the others are written.
                Parcel::Canary(_) => {}
                Parcel::Gap { topic, reason, stand } => {
                    let now = self.clock.micros();
                    let concerned = hub.append_gap(topic, *reason, *stand, now);
                    self.metrics.gaps.of(*reason).add(concerned);
                    self.close_on_gap(&hub, topic);
                }
            }
        }
        hub.mark_appended();
    }

    /// Writes every session for which something is due, with a pause for others now and then.
    async fn write_due(&self) {
        while self.write_some_due() {
            tokio::task::yield_now().await;
        }
    }

    /// Writes the next due sessions; whether there may be more.
    ///
    /// HOT PATH.
    fn write_some_due(&self) -> bool {
        let mut hub = self.hub.borrow_mut();
        let written_before = hub.written_bytes();
        let mut is_more = true;
        for turn in 0..WRITES_PER_TURN {
            let looks = turn % WRITES_PER_LOOK == WRITES_PER_LOOK - 1;
            if looks && hub.written_bytes() - written_before > BYTES_PER_TURN {
                break;
            }
            let Some(session) = hub.next_due() else {
                is_more = false;
                break;
            };
            self.write_out(&mut hub, session);
        }
        // For all of a turn: to read the clock costs a tenth of a write, and they are about as late.
        self.observe_waits(&mut hub);
        is_more
    }

    fn observe_fan_out(&self, batch: &[Parcel]) {
        let now = self.clock.micros();
        for parcel in batch {
            match parcel {
                Parcel::Message(delivery) => {
                    let span = now.saturating_sub(delivery.received);
                    self.metrics.fan_out_seconds.observe(span, 1);
                    if delivery.message.trace.is_some() {
                        self.trace_fan_out(delivery, now);
                    }
                }
                Parcel::Canary(published) => {
                    self.metrics.canary_seconds.observe(now.saturating_sub(*published), 1);
                }
                Parcel::Gap { .. } => {}
            }
        }
    }

    /// Has what was done with a message recorded.
    #[cold]
    fn trace_fan_out(&self, delivery: &Delivery, now: u64) {
        if let Some(tracer) = &self.tracer {
            let subscriptions = self.hub.borrow().subscriber_count(&delivery.message.topic);
            let age = now.saturating_sub(delivery.received);
            let fan_out = FanOut { worker: self.id.index(), subscriptions, age };
            tracer.fanned_out(delivery, fan_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::{Message, Payload, Timestamp, Topic};

    fn delivery(bytes: usize) -> Parcel {
        Parcel::Message(Delivery {
            message: Message {
                topic: Topic::new("a").unwrap(),
                payload: Payload::binary(vec![0; bytes]),
                event: None,
                published: Timestamp(0),
                origin: None,
                trace: None,
                id: None,
            },
            received: 0,
            bare: false,
            life: 0,
        })
    }

    #[test]
    fn a_batch_is_bounded_by_messages_and_bytes_and_never_empty() {
        assert_eq!(batch_len(&vec![delivery(1); 5]), 5);
        assert_eq!(batch_len(&vec![delivery(1); 2000]), BATCH_MESSAGES);
        assert_eq!(batch_len(&vec![delivery(BATCH_BYTES / 4); 9]), 4);
        assert_eq!(batch_len(&vec![delivery(BATCH_BYTES + 1); 2]), 1);
    }
}
