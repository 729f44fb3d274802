//! Reading history: all that is asked for goes out in one pipeline, one pipeline at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::time::sleep;
use umbel_protocol::{GapReason, Topic};

use super::answer::{Answer, READ_MESSAGES, place, stands};
use super::archive::{Answered, Ask, Asked, Comparison};
use super::fault::Fault;
use super::interest::Interest;
use super::library::{self, Library, Work};
use super::metrics::{BrokerMetrics, ReadKind};
use super::settings::RedisSettings;
use crate::{FetchError, History, Mailbox, Parcel};

/// How many reads go out at once at most.
const BATCH: usize = 512;

/// How many of them may be for readers that want much.
const LARGE_READS: usize = 16;

/// How much a read for such a reader gives, in bytes: a part of the memory for history, within
/// these limits.
const LARGE_PART: usize = 16;
const LARGE_LIMITS: (usize, usize) = (64 * 1024, 512 * 1024);

/// How much all others of a pipeline give together, and each at least and at most.
const FOLLOW_BYTES: usize = 8 << 20;
const FOLLOW_LIMITS: (usize, usize) = (16 * 1024, 256 * 1024);

/// How long to rest when the server says that it can't answer now.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Asks the server for what the archive wants to know.
#[derive(Debug)]
pub(super) struct Reads {
    prefix: String,
    interest: Arc<Interest>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    metrics: Arc<BrokerMetrics>,
    started: Instant,
    /// How much a read for a reader that wants much gives.
    large_bytes: usize,
    /// What goes to each worker, by [`crate::WorkerId::index`]; empty between calls.
    parcels: Vec<Vec<Parcel>>,
    /// Topics whose keys are to be kept from expiring, or have what is too old.
    to_tend: Vec<(Topic, History)>,
}

impl Reads {
    pub(super) fn new(
        settings: &RedisSettings,
        interest: Arc<Interest>,
        mailboxes: Arc<[Arc<Mailbox>]>,
        metrics: Arc<BrokerMetrics>,
    ) -> Self {
        let parcels = mailboxes.iter().map(|_| Vec::new()).collect();
        let (least, most) = LARGE_LIMITS;
        Self {
            prefix: settings.prefix.clone(),
            interest,
            mailboxes,
            metrics,
            started: settings.started,
            large_bytes: (settings.history_bytes / LARGE_PART).clamp(least, most),
            parcels,
            to_tend: Vec::new(),
        }
    }

    /// Answers asks until the connection fails.
    ///
    /// When it is dropped midway, [`super::archive::Archive::lost`] must follow: what was asked isn't
    /// answered any more.
    pub(super) async fn serve(
        &mut self,
        mut commands: MultiplexedConnection,
        mut library: Library,
    ) -> Fault {
        let asked = self.interest.archive().asked();
        loop {
            while let Some(full) = self.mailboxes.iter().find(|mailbox| mailbox.is_full()) {
                full.room().await;
            }
            let (comparisons, asks) = {
                let mut archive = self.interest.archive();
                (archive.take_comparisons(BATCH), archive.take_asks(BATCH, LARGE_READS))
            };
            if asks.is_empty() && comparisons.is_empty() {
                asked.notified().await;
                continue;
            }
            let done = async {
                library.refresh(&mut commands).await?;
                self.read(&mut commands, &mut library, asks).await?;
                self.tend(&mut commands, &library).await?;
                self.compare(&mut commands, &library, comparisons).await
            };
            if let Err(fault) = done.await {
                return fault;
            }
        }
    }

    async fn read(
        &mut self,
        commands: &mut MultiplexedConnection,
        library: &mut Library,
        mut asks: Vec<Asked>,
    ) -> Result<(), Fault> {
        let mut is_new_library = false;
        while !asks.is_empty() {
            let values = match self.pipeline(library, &asks) {
                Ok(pipeline) => pipeline.query_async::<Vec<Value>>(commands).await?,
                Err(fault) => {
                    asks.drain(..).for_each(|asked| self.refused(&asked, &fault));
                    return Ok(());
                }
            };
            let mut again = Vec::new();
            for (asked, value) in asks.drain(..).zip(values) {
                match answer(value) {
                    Ok(answer) => self.answered(&asked, &answer),
                    Err(fault) if library::is_missing(&fault) && !is_new_library => {
                        again.push(asked);
                    }
                    Err(fault) if fault.kind.passes() => {
                        again.push(asked);
                        sleep(RETRY_PAUSE).await;
                    }
                    Err(fault) => self.refused(&asked, &fault),
                }
            }
            if !again.is_empty() {
                *library = Library::load(commands).await?;
                is_new_library = true;
            }
            asks = again;
        }
        Ok(())
    }

    /// Has the server say where quiet topics stand. Those for which it doesn't are asked for one by one.
    async fn compare(
        &mut self,
        commands: &mut MultiplexedConnection,
        library: &Library,
        comparisons: Vec<Comparison>,
    ) -> Result<(), Fault> {
        if comparisons.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(comparisons.len());
        pipeline.ignore_errors();
        let mut answers = Vec::new();
        if library.compares()
            && let Ok(call) = library.call(Work::Stands)
        {
            for Comparison { history, topics } in &comparisons {
                let mut command = call.clone();
                command.arg(topics.len());
                for (topic, _) in topics {
                    command.arg(format!("{}{topic}", self.prefix));
                }
                command.arg(history.seconds).arg(history.keep_seconds);
                pipeline.add_command(command);
                self.metrics.reads.of(ReadKind::Compare).add(1);
            }
            answers = pipeline.query_async::<Vec<Value>>(commands).await?;
        }
        let mut answers = answers.into_iter();
        let mut archive = self.interest.archive();
        for comparison in comparisons {
            let answer = answers.next().and_then(|answer| stands(answer).ok());
            archive.compared(comparison, answer);
        }
        Ok(())
    }

    /// Has the server look after keys. If it doesn't, the next read says again that it is due.
    async fn tend(
        &mut self,
        commands: &mut MultiplexedConnection,
        library: &Library,
    ) -> Result<(), Fault> {
        if self.to_tend.is_empty() {
            return Ok(());
        }
        let topics = std::mem::take(&mut self.to_tend);
        let mut pipeline = Pipeline::with_capacity(topics.len());
        pipeline.ignore_errors();
        for (topic, history) in &topics {
            let Ok(mut command) = library.call(Work::Tend) else {
                return Ok(());
            };
            command.arg(1).arg(format!("{}{topic}", self.prefix));
            pipeline.add_command(command.arg(history.seconds).arg(history.keep_seconds).clone());
        }
        let answers = pipeline.query_async::<Vec<Value>>(commands).await?;
        for ((topic, _), value) in topics.iter().zip(answers) {
            if let Value::ServerError(error) = value {
                let fault = Fault::said(&error);
                tracing::warn!(%topic, %fault, "Redis doesn't tend a topic's history");
            }
        }
        Ok(())
    }

    fn pipeline(&self, library: &Library, asks: &[Asked]) -> Result<Pipeline, Fault> {
        let mut pipeline = Pipeline::with_capacity(asks.len());
        pipeline.ignore_errors();
        let (least, most) = FOLLOW_LIMITS;
        let share = (FOLLOW_BYTES / asks.len()).clamp(least, most);
        for Asked { ask, after, history, .. } in asks {
            let (bytes, keep_seconds) = match ask {
                Ask::Follow(_) => (share, history.keep_seconds),
                Ask::Whole(_) | Ask::Page(..) => (self.large_bytes, 0),
            };
            let mut command = library.call(Work::Read)?;
            command.arg(1).arg(format!("{}{}", self.prefix, ask.topic()));
            command.arg(place(*after)).arg(READ_MESSAGES).arg(bytes);
            pipeline.add_command(command.arg(history.seconds).arg(keep_seconds).clone());
            self.metrics.reads.of(ReadKind::of(ask)).add(1);
        }
        Ok(pipeline)
    }

    fn answered(&mut self, asked: &Asked, answer: &Answer) {
        let received = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if answer.wants_tending {
            self.to_tend.push((asked.ask.topic().clone(), asked.history));
        }
        let interest = self.interest.clone();
        // Until all is handed on nobody may attach or read, who would then get it twice.
        let mut table = interest.lock();
        let answered = interest.archive().answered(asked, answer, received);
        self.metrics.malformed_entries.add(answered.malformed);
        self.metrics.repaired.add(answered.repaired);
        if answered.malformed > 0 {
            let (topic, entries) = (asked.ask.topic(), answered.malformed);
            tracing::warn!(%topic, entries, "History has entries that are no messages");
        }
        self.hand_on(&mut table, asked, answered);
    }

    fn refused(&mut self, asked: &Asked, fault: &Fault) {
        let topic = asked.ask.topic();
        tracing::warn!(%topic, %fault, "Redis doesn't give a topic's history");
        self.metrics.refused_reads.add(1);
        let error = FetchError { passes: fault.kind.passes(), text: fault.to_string() };
        let interest = self.interest.clone();
        let mut table = interest.lock();
        let answered = interest.archive().refused(asked, &error);
        self.hand_on(&mut table, asked, answered);
    }

    fn hand_on(&mut self, table: &mut super::interest::Table, asked: &Asked, answered: Answered) {
        let topic = asked.ask.topic();
        let Answered { mut parcels, is_first, was_refused, stand, .. } = answered;
        if matches!(asked.ask, Ask::Follow(_)) {
            let mut owed = table.checked(topic);
            if was_refused && let Some(interested) = table.workers_of(topic.as_str()) {
                owed = interested.workers;
            }
            if is_first && !owed.is_empty() {
                // They let sessions in before anybody knew where the topic stands.
                let reason = GapReason::BrokerLink;
                let gap = Parcel::Gap { topic: topic.clone(), reason, stand };
                owed.iter().for_each(|worker| self.parcels[worker.index()].push(gap.clone()));
            }
        }
        self.count_gaps(&parcels);
        let workers = table.workers_of(topic.as_str()).map(|interested| interested.workers);
        if let Some(workers) = workers {
            for parcel in parcels.drain(..) {
                workers.iter().for_each(|worker| self.parcels[worker.index()].push(parcel.clone()));
            }
        }
        for (mailbox, parcels) in self.mailboxes.iter().zip(&mut self.parcels) {
            mailbox.push_all(parcels);
        }
    }

    fn count_gaps(&self, parcels: &[Parcel]) {
        let gaps = parcels.iter().filter(|parcel| matches!(parcel, Parcel::Gap { .. })).count();
        self.metrics.gaps.add(gaps as u64);
    }
}

fn answer(value: Value) -> Result<Answer, Fault> {
    match value {
        Value::ServerError(error) => Err(Fault::said(&error)),
        value => Answer::parse(value),
    }
}
