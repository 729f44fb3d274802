//! Publishing: all that waits goes out in one pipeline, one pipeline at a time.
//!
//! So what is submitted for a topic keeps its order, and the more is published the less each costs.
//! A message that was sent and not answered may or may not have been published; it isn't sent again.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use umbel_protocol::{Delivery, envelope};

use super::fault::Fault;
use super::metrics::{BrokerMetrics, Outcome};
use crate::{PublishError, Published};

/// How much may wait to be published, in bytes; publishers wait for room beyond it.
const QUEUE_BYTES: usize = 16 << 20;

/// What a waiting message takes besides its bytes.
const JOB_BYTES: usize = 128;

/// How long a publisher waits for room.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// How long a publisher waits for the outcome: longer than a link may be silent.
const OUTCOME_WAIT: Duration = Duration::from_secs(8);

/// How many messages go out at once at most: the first waits for the last.
const BATCH: usize = 512;

/// Where workers leave what is to be published.
#[derive(Debug)]
pub(super) struct Publisher {
    prefix: String,
    jobs: mpsc::UnboundedSender<Job>,
    /// Bounds what waits.
    room: Arc<Semaphore>,
}

/// Where the link takes it from.
#[derive(Debug)]
pub(super) struct PublishQueue {
    jobs: mpsc::UnboundedReceiver<Job>,
    metrics: Arc<BrokerMetrics>,
}

/// A message on its way, whose outcome is still to come.
#[derive(Debug)]
pub(crate) struct Receipt {
    outcome: oneshot::Receiver<Result<u64, PublishError>>,
}

#[derive(Debug)]
struct Job {
    channel: String,
    payload: Vec<u8>,
    outcome: oneshot::Sender<Result<u64, PublishError>>,
    _room: OwnedSemaphorePermit,
}

#[allow(clippy::disallowed_methods, reason = "the semaphore bounds it, in bytes")]
pub(super) fn new(prefix: String, metrics: Arc<BrokerMetrics>) -> (Publisher, PublishQueue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    (Publisher { prefix, jobs: sender, room }, PublishQueue { jobs: receiver, metrics })
}

impl Publisher {
    /// Queues a message, waiting for room if there is none.
    pub(super) async fn submit(&self, delivery: &Delivery) -> Result<Receipt, PublishError> {
        let message = &delivery.message;
        let payload = if delivery.bare {
            message.payload.bytes().to_vec()
        } else {
            envelope::encode(message)
        };
        let weight = (payload.len() + JOB_BYTES).min(QUEUE_BYTES);
        let permits = u32::try_from(weight).expect("at most the whole queue, 16 MiB");
        let room = timeout(ROOM_WAIT, self.room.clone().acquire_many_owned(permits));
        let room = room.await.map_err(|_| PublishError::Behind)?;
        let channel = format!("{}{}", self.prefix, message.topic);
        let (sender, outcome) = oneshot::channel();
        let room = room.map_err(|_| ended())?;
        let job = Job { channel, payload, outcome: sender, _room: room };
        self.jobs.send(job).map_err(|_| ended())?;
        Ok(Receipt { outcome })
    }
}

impl Receipt {
    /// Waits for what became of the message.
    pub(crate) async fn outcome(self) -> Result<Published, PublishError> {
        match timeout(OUTCOME_WAIT, self.outcome).await {
            Ok(Ok(outcome)) => outcome.map(|receivers| Published { id: None, receivers }),
            Ok(Err(_)) => Err(PublishError::OutcomeUnknown(
                "the connection to Redis ended before the answer came".to_owned(),
            )),
            Err(_) => Err(PublishError::OutcomeUnknown(format!(
                "Redis did not answer within {} s",
                OUTCOME_WAIT.as_secs()
            ))),
        }
    }
}

impl PublishQueue {
    /// Publishes what is submitted until the connection fails.
    ///
    /// When it is dropped midway, the outcome of what was sent is unknown, and told so.
    pub(super) async fn serve(&mut self, mut commands: MultiplexedConnection) -> Fault {
        let mut batch = Vec::new();
        loop {
            self.fill(&mut batch).await;
            if let Err(fault) = self.publish(&mut commands, &mut batch).await {
                self.metrics.published.of(Outcome::Unknown).add(batch.len() as u64);
                return fault;
            }
        }
    }

    /// Refuses what is submitted while there is no connection. Never returns.
    pub(super) async fn refuse(&mut self, trouble: &str) {
        let mut batch = Vec::new();
        loop {
            self.fill(&mut batch).await;
            self.metrics.published.of(Outcome::Refused).add(batch.len() as u64);
            for job in batch.drain(..) {
                // A publisher that went away needs no answer.
                let _ = job.outcome.send(Err(PublishError::Unavailable(trouble.to_owned())));
            }
        }
    }

    /// Cancel safe: jobs are taken in the poll that returns.
    async fn fill(&mut self, batch: &mut Vec<Job>) {
        if self.jobs.recv_many(batch, BATCH).await == 0 {
            // All publishers are gone, and soon this thread.
            std::future::pending().await
        }
    }

    async fn publish(
        &self,
        commands: &mut MultiplexedConnection,
        batch: &mut Vec<Job>,
    ) -> Result<(), Fault> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        pipeline.ignore_errors();
        for job in batch.iter() {
            pipeline.cmd("PUBLISH").arg(&job.channel).arg(&job.payload);
        }
        let answers: Vec<Value> = pipeline.query_async(commands).await.map_err(Fault::from)?;
        self.metrics.publish_batches.add(1);
        for (job, answer) in batch.drain(..).zip(answers) {
            let outcome = outcome_of(answer);
            let counted = if outcome.is_ok() { Outcome::Published } else { Outcome::Refused };
            self.metrics.published.of(counted).add(1);
            // A publisher that went away needs no answer.
            let _ = job.outcome.send(outcome);
        }
        Ok(())
    }
}

fn outcome_of(answer: Value) -> Result<u64, PublishError> {
    match answer {
        Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or(0)),
        Value::ServerError(error) => {
            let fault = Fault::said(&error);
            if fault.kind.passes() {
                Err(PublishError::Unavailable(fault.to_string()))
            } else {
                Err(PublishError::Refused(fault.to_string()))
            }
        }
        other => Err(PublishError::OutcomeUnknown(format!("Redis answered {other:?}"))),
    }
}

fn ended() -> PublishError {
    PublishError::Unavailable("the node stops".to_owned())
}
