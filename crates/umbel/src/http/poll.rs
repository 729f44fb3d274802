//! History as JSON, and long-poll: for networks that break streams.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use umbel_broker::{Read, Reader};
use umbel_protocol::history::{self, Item};
use umbel_protocol::{After, GapReason, Position, Topic};

use super::body::Piece;
use super::place::{Composite, Place, composite};
use super::query::HistoryQuery;
use super::service::Exchange;
use super::{Answer, Problem};
use crate::admission::Refusal;
use crate::drain::Stage;
use crate::ledger::Charge;
use crate::session::{From, Granted, Hold};
use crate::worker::{Held, Limit, Polled, ReadFrom, Worker};

/// How many messages an answer has unless it is said.
const DEFAULT_LIMIT: usize = 100;

/// How much an answer has at most, but for one message: a slow client must get it within the time
/// for which its connection may be idle.
const MAX_BYTES: usize = 256 * 1024;

/// How long the broker may take to say where a topic stands.
const PLACE_WAIT: Duration = Duration::from_secs(2);

/// A poll on its way.
struct Poll {
    worker: Rc<Worker>,
    holds: Vec<Hold>,
    readers: Vec<Reader>,
    /// Topics of which the request has a cursor that isn't ours, until that is told.
    lost: Vec<Topic>,
    composite: Option<Composite>,
    limit: usize,
    bytes: usize,
    /// What the answer takes in memory.
    charge: Charge,
}

impl Exchange {
    /// Answers with what comes after the request's cursor in these topics: at once if there is
    /// anything, else as soon as there is or its time is over.
    pub(super) async fn poll(
        self,
        topics: Vec<Topic>,
        asked: HistoryQuery,
    ) -> Result<Answer, Problem> {
        let worker = self.worker.clone();
        let polled = self.polled(topics, asked).await;
        let outcome = match &polled {
            Ok((_, true)) => Polled::Something,
            Ok((_, false)) => Polled::Nothing,
            Err(_) => Polled::Refused,
        };
        worker.metrics.polls.of(outcome).add(1);
        polled.map(|(answer, _)| answer)
    }

    async fn polled(
        self,
        topics: Vec<Topic>,
        asked: HistoryQuery,
    ) -> Result<(Answer, bool), Problem> {
        let mut granted = self.grant_all(topics).await?;
        if let Some(live) = granted.iter().find(|granted| granted.history.is_none()) {
            let text = format!("no_history: topic `{}` keeps no history", live.topic);
            return Err(Problem::bad_request(text));
        }
        if self.worker.is_over_share(Held::Replays) {
            self.worker.metrics.limited.of(Limit::Memory).add(1);
            return Err(Refusal::Memory.problem());
        }
        let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
        let newest = From::After(After::Latest(u32::try_from(limit).expect("at most 1000")));
        for topic in &mut granted {
            topic.from = newest;
        }
        let place = Place::of(self.request.headers(), asked.after);
        place.settle(&mut granted, From::After(After::Latest(0))).map_err(Problem::bad_request)?;
        let composite = composite(&granted).map_err(Problem::bad_request)?;
        let wait = Duration::from_secs(asked.wait_seconds.unwrap_or(0));
        // Who waits is a session like others, as long as it waits.
        let _seat = match asked.wait_seconds {
            None | Some(0) => None,
            Some(_) => Some(self.seat().map_err(Refusal::problem)?),
        };
        let mut poll = Poll::begin(&self.worker, granted, composite, limit).await;
        let answer = poll.wait(Instant::now() + wait).await?;
        let has_something = !answer.is_empty();
        let document = answer.finish(&poll.cursor()?);
        let mut charge = poll.charge;
        charge.set(document.len());
        Ok((written(Piece::new(document, Some(charge))), has_something))
    }
}

impl Poll {
    async fn begin(
        worker: &Rc<Worker>,
        topics: Vec<Granted>,
        composite: Option<Composite>,
        limit: usize,
    ) -> Self {
        let begin = |granted: &Granted| Hold::begin(worker, &granted.topic, granted.history);
        let mut holds: Vec<_> = topics.iter().map(begin).collect();
        for hold in &mut holds {
            hold.confirmed().await;
        }
        let is_lost = |granted: &&Granted| granted.from == From::UnknownCursor;
        let lost = topics.iter().filter(is_lost).map(|granted| granted.topic.clone()).collect();
        let reader = |granted: Granted| match granted.from {
            From::After(after) => Reader::new(granted.topic, after),
            From::UnknownCursor | From::Now => Reader::new(granted.topic, After::Latest(0)),
        };
        Self {
            worker: worker.clone(),
            holds,
            readers: topics.into_iter().map(reader).collect(),
            lost,
            composite,
            limit,
            bytes: worker.limits.body_bytes.min(MAX_BYTES),
            charge: Charge::new(&worker.ledger, Held::Replays, 0),
        }
    }

    /// Reads until there is something or the time is over.
    async fn wait(&mut self, deadline: Instant) -> Result<history::Answer, Problem> {
        let news = Arc::new(Notify::new());
        loop {
            // Registered before it is read, so that nothing comes in between.
            for hold in &self.holds {
                self.worker.broker.wait(hold.topic(), &news);
            }
            let answer = self.read().await?;
            if !answer.is_empty() || Instant::now() >= deadline {
                return Ok(answer);
            }
            let waiting = Waiting::begin(&self.worker);
            let is_over = tokio::select! {
                waited = timeout_at(deadline, news.notified()) => waited.is_err(),
                () = self.worker.wants_polls_gone() => true,
            };
            drop(waiting);
            if is_over {
                return Ok(answer);
            }
        }
    }

    async fn read(&mut self) -> Result<history::Answer, Problem> {
        let mut answer = history::Answer::default();
        for topic in self.lost.drain(..) {
            answer.gap(&topic, GapReason::UnknownEpoch);
        }
        // Each has a place in the cursor, also those for which there is no room any more.
        for reader in &mut self.readers {
            if let Some(reason) = locate(&self.worker, reader).await? {
                answer.gap(reader.topic(), reason);
            }
        }
        // Each has its share, so that no busy topic keeps another out; what one leaves others may have.
        let (mut left, count) = (self.limit, self.readers.len());
        let begin = fastrand::usize(..count);
        for has_share in [true, false] {
            for step in 0..count {
                let share = if has_share { left.div_ceil(count - step) } else { left };
                let at = (begin + step) % count;
                left -= self.read_topic(at, share, &mut answer).await?;
            }
        }
        Ok(answer)
    }

    /// Adds what comes next of a topic, at most so many messages; how many that were.
    async fn read_topic(
        &mut self,
        at: usize,
        most: usize,
        answer: &mut history::Answer,
    ) -> Result<usize, Problem> {
        let reader = &mut self.readers[at];
        let mut left = most;
        while left > 0
            && answer.bytes() < self.bytes
            && let Some(page) = next(&self.worker, reader, self.bytes - answer.bytes()).await?
        {
            take_page(page, reader, answer, &mut left);
            self.charge.set(answer.bytes());
        }
        Ok(most - left)
    }

    /// Where the next poll goes on.
    fn cursor(&self) -> Result<String, Problem> {
        let positions: Vec<_> =
            self.readers.iter().map(|reader| reader.stand().map(|stand| stand.position)).collect();
        let unknown = || Problem::unavailable("the broker can't say where the topic stands");
        match &self.composite {
            Some((_, names)) => {
                let mut cursor = Vec::new();
                names.write(&mut cursor, &positions);
                String::from_utf8(cursor).map_err(|_| unknown())
            }
            None => positions.first().copied().flatten().ok_or_else(unknown).map(|p| p.to_string()),
        }
    }
}

/// A poll that waits, for as long as this lives.
struct Waiting<'w>(&'w Worker);

impl<'w> Waiting<'w> {
    fn begin(worker: &'w Worker) -> Self {
        worker.metrics.polls_waiting.add(1.0);
        Self(worker)
    }
}

impl Worker {
    /// Ready when a poll shall not wait any longer, since the node leaves: each somewhere within the
    /// time in which sessions are moved.
    async fn wants_polls_gone(&self) {
        let mut stages = self.stages.clone();
        // An error says that the node is gone.
        let _ = stages.wait_for(|stage| *stage >= Stage::Moving).await;
        let millis = fastrand::u64(0..=u64::from(self.drain_seconds) * 1000);
        let hurries = stages.wait_for(|stage| *stage >= Stage::Hurried);
        let _ = tokio::time::timeout(Duration::from_millis(millis), hurries).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.metrics.polls_waiting.add(-1.0);
    }
}

/// Writes as much of a page as there is room for. What is left is read again.
fn take_page(page: Vec<Item>, reader: &mut Reader, answer: &mut history::Answer, left: &mut usize) {
    for item in page {
        match item {
            Item::Gap(reason, position) => {
                answer.gap(reader.topic(), reason);
                reader.skip_to(position);
            }
            Item::Message(delivery) if *left > 0 => {
                answer.message(&delivery.message);
                *left -= 1;
                reader.skip_to(Position(delivery.message.id));
            }
            Item::Message(_) => break,
        }
    }
}

/// Finds a reader's place, and what can't be given of what it wants.
async fn locate(worker: &Worker, reader: &mut Reader) -> Result<Option<GapReason>, Problem> {
    if reader.stand().is_some() {
        return Ok(None);
    }
    match read(worker, reader, 0).await? {
        Read::Located { gap, .. } => Ok(gap),
        _ => unreachable!("the place comes before what is behind it"),
    }
}

/// The next items of a topic, if there are any.
async fn next(
    worker: &Worker,
    reader: &mut Reader,
    bytes: usize,
) -> Result<Option<Vec<Item>>, Problem> {
    match read(worker, reader, bytes).await? {
        Read::Page(items) => {
            worker.metrics.resume_reads.of(ReadFrom::of(reader)).add(1);
            Ok(Some(items))
        }
        _ => Ok(None),
    }
}

/// Reads, and fetches what is missing.
async fn read(worker: &Worker, reader: &mut Reader, bytes: usize) -> Result<Read, Problem> {
    let deadline = Instant::now() + PLACE_WAIT;
    loop {
        match worker.broker.read(reader, None, bytes) {
            Read::Missing => match timeout_at(deadline, worker.broker.fetch(reader)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Problem::unavailable(error.to_string())),
                Err(_) => {
                    let text =
                        format!("the broker did not answer within {} s", PLACE_WAIT.as_secs());
                    return Err(Problem::unavailable(text));
                }
            },
            read => return Ok(read),
        }
    }
}

fn written(document: Piece) -> Answer {
    let mut answer = Response::new(document.into());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    answer
}
