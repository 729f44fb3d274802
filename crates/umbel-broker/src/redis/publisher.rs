//! Publishing: all that waits goes out in one pipeline, one pipeline at a time.
//!
//! So what is submitted for a topic keeps its order, and the more is published the less each costs.
//! A message that was sent and not answered may or may not have been published; it isn't sent again,
//! unless it has a key by which the server knows it. What the server surely didn't take is sent
//! again for a while.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use sha1::{Digest, Sha1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use umbel_protocol::{IdempotencyKey, MessageId, SessionId, Topic, TraceParent, envelope};

use super::fault::{Fault, FaultKind};
use super::library::{self, Library, Work};
use super::metrics::{BrokerMetrics, Outcome};
use crate::history::History;
use crate::{Publish, PublishError, Published};

/// How much may wait to be published, in bytes; publishers wait for room beyond it.
const QUEUE_BYTES: usize = 16 << 20;

/// What a waiting message takes besides its bytes.
const JOB_BYTES: usize = 256;

/// How long a publisher waits for room.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// How long a publisher waits for the outcome: longer than a link may be silent.
const OUTCOME_WAIT: Duration = Duration::from_secs(8);

/// How many messages go out at once at most: the first waits for the last.
const BATCH: usize = 512;

/// For how long what the server surely didn't take is sent again, and how often.
const RETRY_FOR: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How long replicas have to confirm what was published. Nothing else is done meanwhile over the
/// connection, and the probe must come back within 3 s.
const REPLICAS_WAIT: Duration = Duration::from_secs(1);

/// How a reused key is refused.
const KEY_USED: &str = "UMBELKEY";

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
    /// Messages with keys, of which nobody knows whether they were published.
    unsettled: Vec<Job>,
    /// How many replicas must have a message that is kept before its publisher is told that it is.
    wait_replicas: u32,
    metrics: Arc<BrokerMetrics>,
}

/// What became of a batch.
struct Exchanged {
    answers: Vec<Value>,
    /// Why it isn't known whether enough replicas have it.
    unconfirmed: Option<String>,
}

/// A message on its way, whose outcome is still to come.
#[derive(Debug)]
pub(crate) struct Receipt {
    outcome: oneshot::Receiver<Result<Published, PublishError>>,
}

#[derive(Debug)]
struct Job {
    channel: String,
    payload: bytes::Bytes,
    form: Form,
    /// What the server said last, if it surely didn't take it and wasn't asked again since.
    refused: Option<PublishError>,
    outcome: oneshot::Sender<Result<Published, PublishError>>,
    trace: Option<Box<TraceParent>>,
    _room: OwnedSemaphorePermit,
}

/// How a message is published.
#[derive(Debug)]
enum Form {
    /// By `PUBLISH`, as it is.
    Plain,
    /// By the library, which adds the header.
    Placed(Placed),
}

#[derive(Debug)]
struct Placed {
    fields: Vec<u8>,
    origin: Option<SessionId>,
    history: Option<History>,
    /// The key by which the server knows that it has the message already.
    once: Option<String>,
}

#[allow(clippy::disallowed_methods, reason = "the semaphore bounds it, in bytes")]
pub(super) fn new(
    prefix: String,
    wait_replicas: u32,
    metrics: Arc<BrokerMetrics>,
) -> (Publisher, PublishQueue) {
    let (sender, jobs) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let queue = PublishQueue { jobs, unsettled: Vec::new(), wait_replicas, metrics };
    (Publisher { prefix, jobs: sender, room }, queue)
}

impl Publisher {
    /// Queues a message, waiting for room if there is none.
    pub(super) async fn submit(&self, publish: Publish) -> Result<Receipt, PublishError> {
        let Publish { mut delivery, history, key } = publish;
        let message = &delivery.message;
        let history = history.filter(|_| !delivery.bare);
        let (payload, form) = if history.is_some() || key.is_some() {
            let fields = envelope::fields(message);
            let once = key.map(|key| self.once_key(&message.topic, &key));
            let placed = Placed { fields, origin: message.origin, history, once };
            (message.payload.bytes().clone(), Form::Placed(placed))
        } else if delivery.bare {
            (message.payload.bytes().clone(), Form::Plain)
        } else {
            (envelope::encode(message).into(), Form::Plain)
        };
        let weight = (payload.len() + JOB_BYTES).min(QUEUE_BYTES);
        let permits = u32::try_from(weight).expect("at most the whole queue, 16 MiB");
        let room = timeout(ROOM_WAIT, self.room.clone().acquire_many_owned(permits));
        let room = room.await.map_err(|_| PublishError::Behind)?;
        let channel = format!("{}{}", self.prefix, message.topic);
        let (sender, outcome) = oneshot::channel();
        let room = room.map_err(|_| ended())?;
        let trace = delivery.message.trace.take();
        let (refused, outcome_to) = (None, sender);
        let job = Job { channel, payload, form, refused, outcome: outcome_to, trace, _room: room };
        self.jobs.send(job).map_err(|_| ended())?;
        Ok(Receipt { outcome })
    }

    /// Where it is remembered that a message was published; in a Cluster beside its topic.
    fn once_key(&self, topic: &Topic, key: &IdempotencyKey) -> String {
        let mut name = format!("{{{}{topic}}}:once:", self.prefix);
        for byte in Sha1::digest(key.as_str().as_bytes()) {
            write!(name, "{byte:02x}").expect("a string takes all text");
        }
        name
    }
}

impl Receipt {
    /// Waits for what became of the message.
    pub(crate) async fn outcome(self) -> Result<Published, PublishError> {
        match timeout(OUTCOME_WAIT, self.outcome).await {
            Ok(Ok(outcome)) => outcome,
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
    pub(super) async fn serve(
        &mut self,
        mut commands: MultiplexedConnection,
        mut library: Library,
    ) -> Fault {
        // What an earlier connection left open is sent first, so that order is kept.
        let mut batch = std::mem::take(&mut self.unsettled);
        batch.retain(|job| !job.outcome.is_closed());
        self.metrics.publish_retries.add(batch.len() as u64);
        loop {
            if batch.is_empty() {
                self.fill(&mut batch).await;
            }
            let mut batch = Unsettled { queue: self, jobs: std::mem::take(&mut batch) };
            if let Err(fault) = batch.publish(&mut commands, &mut library).await {
                return fault;
            }
        }
    }

    /// Refuses what is submitted while there is no connection. Never returns.
    pub(super) async fn refuse(&mut self, trouble: &str) {
        let mut batch = Vec::new();
        loop {
            self.unsettled.retain(|job| !job.outcome.is_closed());
            self.fill(&mut batch).await;
            self.metrics.published.of(Outcome::Refused).add(batch.len() as u64);
            for job in batch.drain(..) {
                // A publisher that went away needs no answer.
                let _ = job.outcome.send(Err(PublishError::Unavailable(trouble.to_owned())));
            }
        }
    }

    /// The server doesn't take a message.
    fn refused(&mut self, job: Job, fault: &Fault) {
        let refusal = refusal(fault);
        if !matches!(refusal, PublishError::KeyUsed) {
            let (channel, trace) = (&job.channel, job.trace.as_deref());
            let trace_id = trace.map(|parent| tracing::field::display(parent.trace));
            tracing::warn!(channel, %fault, trace_id, "Redis doesn't take a message");
        }
        self.metrics.settle(job, Err(refusal));
    }

    /// Cancel safe: jobs are taken in the poll that returns.
    async fn fill(&mut self, batch: &mut Vec<Job>) {
        if self.jobs.recv_many(batch, BATCH).await == 0 {
            // All publishers are gone, and soon this thread.
            std::future::pending().await
        }
    }
}

/// Messages that are being published. If that is broken off, those with a key are sent again over
/// the next connection.
struct Unsettled<'q> {
    queue: &'q mut PublishQueue,
    jobs: Vec<Job>,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        for mut job in self.jobs.drain(..) {
            if let Some(refused) = job.refused.take() {
                self.queue.metrics.settle(job, Err(refused));
            } else if job.has_key() && !job.outcome.is_closed() {
                self.queue.unsettled.push(job);
            } else {
                self.queue.metrics.published.of(Outcome::Unknown).add(1);
            }
        }
    }
}

impl Unsettled<'_> {
    async fn publish(
        &mut self,
        commands: &mut MultiplexedConnection,
        library: &mut Library,
    ) -> Result<(), Fault> {
        let started = Instant::now();
        library.refresh(commands).await?;
        let mut is_new_library = false;
        while !self.jobs.is_empty() {
            let Exchanged { answers, unconfirmed } = self.exchange(commands, library).await?;
            let mut again = Vec::new();
            let mut needs_library = false;
            for (mut job, answer) in self.jobs.drain(..).zip(answers) {
                let fault = match outcome_of(answer) {
                    Ok(published) => {
                        let missed = unconfirmed.as_ref().filter(|_| published.id.is_some());
                        let unknown = |text: &String| PublishError::OutcomeUnknown(text.clone());
                        self.queue
                            .metrics
                            .settle(job, missed.map_or(Ok(published), |text| Err(unknown(text))));
                        continue;
                    }
                    Err(fault) => fault,
                };
                let is_missing = library::is_missing(&fault);
                needs_library |= is_missing;
                let may_pass = is_missing && !is_new_library
                    || fault.kind.is_passing_refusal() && started.elapsed() < RETRY_FOR;
                if may_pass {
                    job.refused = Some(refusal(&fault));
                    again.push(job);
                } else {
                    self.queue.refused(job, &fault);
                }
            }
            self.queue.metrics.publish_retries.add(again.len() as u64);
            let waits = !again.is_empty();
            self.jobs = again;
            if needs_library && waits {
                *library = Library::load(commands).await?;
                is_new_library = true;
            } else if waits {
                sleep(RETRY_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn exchange(
        &mut self,
        commands: &mut MultiplexedConnection,
        library: &Library,
    ) -> Result<Exchanged, Fault> {
        let mut pipeline = Pipeline::with_capacity(self.jobs.len());
        pipeline.ignore_errors();
        let mut sent = Vec::with_capacity(self.jobs.len());
        for mut job in self.jobs.drain(..) {
            job.refused = None;
            match job.command(library) {
                Ok(command) => {
                    pipeline.add_command(command);
                    sent.push(job);
                }
                Err(fault) => self.queue.refused(job, &fault),
            }
        }
        self.jobs = sent;
        if self.jobs.is_empty() {
            return Ok(Exchanged { answers: Vec::new(), unconfirmed: None });
        }
        let replicas = self.queue.wait_replicas;
        let waits = replicas > 0 && self.jobs.iter().any(Job::is_kept);
        if waits {
            // It covers what this connection wrote, and all that was written before: also a message
            // whose key is repeated, which is why that is a write.
            pipeline.cmd("WAIT").arg(replicas).arg(REPLICAS_WAIT.as_secs() * 1000);
        }
        let mut answers: Vec<Value> = pipeline.query_async(commands).await.map_err(Fault::from)?;
        self.queue.metrics.publish_batches.add(1);
        let confirmed = if waits { answers.pop() } else { None };
        let unconfirmed = confirmed.and_then(|answer| unconfirmed(&answer, replicas));
        if let Some(fault) = &unconfirmed {
            tracing::warn!(fault, "Published, but too few replicas have confirmed it");
        }
        Ok(Exchanged { answers, unconfirmed })
    }
}

impl Job {
    fn has_key(&self) -> bool {
        matches!(self.form, Form::Placed(Placed { once: Some(_), .. }))
    }

    fn is_kept(&self) -> bool {
        matches!(self.form, Form::Placed(Placed { history: Some(_), .. }))
    }

    fn command(&self, library: &Library) -> Result<Cmd, Fault> {
        let Form::Placed(Placed { fields, origin, history, once }) = &self.form else {
            let mut command = redis::cmd("PUBLISH");
            command.arg(&self.channel).arg(&self.payload[..]);
            return Ok(command);
        };
        let mut command = library.call(Work::Publish)?;
        match once {
            Some(once) => command.arg(2).arg(&self.channel).arg(once),
            None => command.arg(1).arg(&self.channel),
        };
        command.arg(&self.payload[..]);
        match history {
            Some(History { messages, seconds, keep_seconds }) => {
                command.arg("messages").arg(messages).arg("seconds").arg(seconds);
                command.arg("keep").arg(keep_seconds);
            }
            None => {
                command.arg("messages").arg(0);
            }
        }
        command.arg("fields").arg(&fields[..]);
        if let Some(origin) = origin {
            command.arg("origin").arg(origin.to_string());
        }
        if let Some(trace) = self.trace.as_ref().filter(|_| library.takes_trace()) {
            command.arg("trace").arg(trace.to_string());
        }
        Ok(command)
    }
}

impl BrokerMetrics {
    fn settle(&self, job: Job, outcome: Result<Published, PublishError>) {
        let counted = match &outcome {
            Ok(_) => Outcome::Published,
            Err(PublishError::OutcomeUnknown(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        self.published.of(counted).add(1);
        if let Ok(published) = &outcome {
            self.receivers.add(published.receivers);
        }
        // A publisher that went away needs no answer.
        let _ = job.outcome.send(outcome);
    }
}

fn outcome_of(answer: Value) -> Result<Published, Fault> {
    let receivers = |count: i64| u64::try_from(count).unwrap_or(0);
    let malformed = |what: &Value| {
        Fault::new(FaultKind::Protocol, format!("Redis answered {what:?} to a publish"))
    };
    match answer {
        Value::Int(count) => Ok(Published { id: None, receivers: receivers(count) }),
        Value::ServerError(error) => Err(Fault::said(&error)),
        Value::Array(parts) => match &parts[..] {
            [Value::BulkString(id), Value::Int(count)] => {
                let text = String::from_utf8_lossy(id);
                let id = match &*text {
                    "" => None,
                    id => Some(id.parse::<MessageId>().map_err(|_| malformed(&parts[0]))?),
                };
                Ok(Published { id, receivers: receivers(*count) })
            }
            _ => Err(malformed(&Value::Array(parts))),
        },
        other => Err(malformed(&other)),
    }
}

/// Why the answer to `WAIT` isn't that as many replicas as wanted have all that was published.
fn unconfirmed(answer: &Value, wanted: u32) -> Option<String> {
    let said = match answer {
        Value::Int(count) if *count >= i64::from(wanted) => return None,
        Value::Int(count) => format!("{count} have within {} s", REPLICAS_WAIT.as_secs()),
        Value::ServerError(error) => Fault::said(error).to_string(),
        other => format!("Redis answered {other:?} to WAIT"),
    };
    Some(format!("broker.wait_replicas: {wanted} replicas were to confirm it: {said}"))
}

fn refusal(fault: &Fault) -> PublishError {
    let text = fault.to_string();
    match fault.kind {
        _ if text.starts_with(KEY_USED) => PublishError::KeyUsed,
        // It was executed, whatever it did.
        FaultKind::Protocol => PublishError::OutcomeUnknown(text),
        kind if kind.passes() => PublishError::Unavailable(text),
        _ => PublishError::Refused(text),
    }
}

fn ended() -> PublishError {
    PublishError::Unavailable("the node stops".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_replicas_confirm_or_it_is_said_how_many() {
        assert_eq!(unconfirmed(&Value::Int(2), 2), None);
        assert_eq!(unconfirmed(&Value::Int(3), 2), None);
        assert!(unconfirmed(&Value::Int(1), 2).unwrap().contains("1 have within 1 s"));
        assert!(unconfirmed(&Value::Nil, 1).is_some());
    }

    #[test]
    fn answers_are_receivers_and_ids() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let id = MessageId { epoch: 1, offset: 2 };
        for (answer, expected) in [
            (Value::Int(3), Published { id: None, receivers: 3 }),
            (
                Value::Array(vec![bulk(&id.to_string()), Value::Int(1)]),
                Published { id: Some(id), receivers: 1 },
            ),
            (Value::Array(vec![bulk(""), Value::Int(0)]), Published { id: None, receivers: 0 }),
        ] {
            assert_eq!(outcome_of(answer).unwrap(), expected);
        }
        for answer in
            [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("x"), Value::Int(0)])]
        {
            let fault = outcome_of(answer).unwrap_err();
            assert!(matches!(refusal(&fault), PublishError::OutcomeUnknown(_)));
        }
    }
}
