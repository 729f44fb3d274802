//! Publishes at the scenario's pace.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Crew;
use super::plan::Plan;
use super::receipts::Receipts;
use super::servers::Servers;
use crate::load::clock;
use crate::load::pacing::Schedule;
use crate::os::poller::{Poller, Ready};
use crate::wire::payload::Template;
use crate::work::file::Pace;
use crate::work::orders::{Order, Said};
use crate::work::publisher::{Feed, PublishFigures, Publisher};
use crate::work::script::Script;
use crate::work::shape::Spread;
use hdrhistogram::Histogram;

/// The longest wait without a look whether a round is over in time.
const LOOK: Duration = Duration::from_millis(50);

/// A publisher, and when it has what to publish.
pub struct Feeding {
    publisher: Publisher,
    spread: Spread,
    pace: Pacing,
    /// Messages so far, over all topics.
    messages: u64,
}

enum Pacing {
    Open(Box<Open>),
    Closed(Box<Closed>),
}

struct Open {
    schedule: Schedule,
    /// How many sessions have each topic.
    subscribers: Vec<u64>,
    /// Receipts that there are to be.
    expected: u64,
}

struct Closed {
    at_hand: usize,
    pause: Duration,
    patience: Duration,
    receipts: Receipts,
    round: Round,
}

/// What a closed loop waits for.
enum Round {
    /// The next begins then.
    Due(Instant),
    /// Those holders haven't all yet.
    UnderWay { since: Instant, missing: Vec<bool> },
}

impl Feeding {
    /// Connects, and begins now; nothing if the scenario publishes nothing.
    pub fn begin(plan: &Plan, servers: &Servers, crew: &Crew) -> Result<Option<Self>> {
        let Some(publish) = plan.work.publish else {
            return Ok(None);
        };
        let feed = Feed {
            by: publish.by,
            place: Some(servers.publish().clone()),
            redis: servers.channels().cloned(),
            script: plan.script.as_deref().map(Script::parse).transpose()?,
            // What fails is repeated, and mustn't come twice.
            keyed: !plan.work.faults.is_empty(),
        };
        let template = Template::new(publish.payload_bytes).context("the payload is too small")?;
        let mut publisher = Publisher::connect(&feed, template, publish.batch, plan.patience())?;
        publisher.register(crew.poller(), crew.count() as u64)?;
        let pace = match plan.work.pace {
            Pace::Open { per_second } => {
                let interval = Duration::try_from_secs_f64(1.0 / per_second)?.as_nanos();
                let interval = u64::try_from(interval)?.max(1);
                Pacing::Open(Box::new(Open {
                    schedule: Schedule::new(clock::nanos(), interval, u64::MAX),
                    subscribers: plan.spread.subscribers(),
                    expected: 0,
                }))
            }
            Pace::Closed { at_hand, pause_seconds } => Pacing::Closed(Box::new(Closed {
                at_hand,
                pause: Duration::from_secs_f64(pause_seconds),
                patience: plan.patience(),
                receipts: Receipts::new(plan),
                round: Round::Due(Instant::now()),
            })),
        };
        Ok(Some(Self { publisher, spread: plan.spread.clone(), pace, messages: 0 }))
    }

    /// Adds what is due, unless it `ends`, and sends what can be sent; says how long nothing will be due.
    pub fn turn(&mut self, ends: bool, crew: &mut Crew) -> Result<Duration> {
        if let Pacing::Closed(closed) = &mut self.pace {
            closed.look(&self.publisher, crew)?;
        }
        let wait = match &mut self.pace {
            _ if ends => LOOK,
            Pacing::Open(open) => {
                let schedule = open.schedule;
                for number in schedule.due(clock::nanos(), self.messages) {
                    let topic = self.spread.topic_of_message(number);
                    self.publisher.add(topic, schedule.due_at(number));
                    open.expected += open.subscribers[topic];
                    self.messages = number + 1;
                }
                let next = schedule.due_at(self.messages);
                Duration::from_nanos(next.saturating_sub(clock::nanos()))
            }
            Pacing::Closed(closed) => match closed.round {
                Round::Due(at) if at > Instant::now() => at - Instant::now(),
                Round::Due(_) => self.begin_round(crew)?,
                Round::UnderWay { .. } => LOOK,
            },
        };
        self.publisher.pump(crew.poller())?;
        Ok(self.publisher.wakes_in().map_or(wait, |wakes| wait.min(wakes)))
    }

    fn begin_round(&mut self, crew: &mut Crew) -> Result<Duration> {
        let Pacing::Closed(closed) = &mut self.pace else {
            return Ok(LOOK);
        };
        let before = closed.receipts.expected().to_vec();
        let now = clock::nanos();
        for _ in 0..closed.at_hand {
            let topic = self.spread.topic_of_message(self.messages);
            self.publisher.add(topic, now);
            closed.receipts.add(topic);
            self.messages += 1;
        }
        let expected = closed.receipts.expected();
        let grown = expected.iter().zip(&before).map(|(expected, before)| expected > before);
        let missing: Vec<bool> = grown.collect();
        for number in (0..missing.len()).filter(|number| missing[*number]) {
            crew.order(number, &Order::Await { received: expected[number] })?;
        }
        closed.round = Round::UnderWay { since: Instant::now(), missing };
        Ok(LOOK)
    }

    /// Takes in what a holder says.
    pub fn hear(&mut self, holder: usize, said: &Said) {
        if let (Pacing::Closed(closed), Said::Reached) = (&mut self.pace, said)
            && let Round::UnderWay { missing, .. } = &mut closed.round
        {
            missing[holder] = false;
        }
    }

    /// Whether a round of a closed loop is under way.
    pub fn is_under_way(&self) -> bool {
        match &self.pace {
            Pacing::Open(_) => false,
            Pacing::Closed(closed) => matches!(closed.round, Round::UnderWay { .. }),
        }
    }

    /// Lets its connection be served.
    pub fn serve(&mut self, ready: Ready, poller: &Poller) -> Result<()> {
        self.publisher.serve(ready, poller)
    }

    /// The window begins: what was due before it doesn't count.
    pub fn begin_window(&mut self) {
        self.publisher.begin_window(clock::nanos());
    }

    /// The window ends: what is due after it doesn't count.
    pub fn end_window(&mut self) {
        self.publisher.end_window(clock::nanos());
    }

    /// From when messages of the window were due until they were confirmed.
    pub fn take_times(&mut self) -> Histogram<u64> {
        self.publisher.take_times()
    }

    /// Messages that aren't confirmed.
    pub fn outstanding(&self) -> usize {
        self.publisher.outstanding()
    }

    /// Messages so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many receipts there are to be of them, if all sessions stay.
    pub fn expected(&self) -> u64 {
        match &self.pace {
            Pacing::Open(open) => open.expected,
            Pacing::Closed(closed) => closed.receipts.total(),
        }
    }

    /// How many messages each topic has had.
    pub fn published(&self) -> Vec<u64> {
        let mut published = self.publisher.published().to_vec();
        published.resize(self.spread.topic_count(), 0);
        published
    }

    /// What publishing came to.
    pub fn figures(&self) -> PublishFigures {
        self.publisher.figures()
    }
}

impl Closed {
    /// Ends the round if all have everything. What takes longer than the patience is an error.
    fn look(&mut self, publisher: &Publisher, crew: &Crew) -> Result<()> {
        let Round::UnderWay { since, missing } = &self.round else {
            return Ok(());
        };
        let outstanding = publisher.outstanding();
        if outstanding == 0 && !missing.contains(&true) {
            self.round = Round::Due(Instant::now() + self.pause);
            return Ok(());
        }
        let (received, expected) = (crew.state().received, self.receipts.total());
        ensure!(
            since.elapsed() < self.patience,
            "{} of {expected} receipts are missing {:?} after a round's begin; {outstanding} messages aren't confirmed",
            expected.saturating_sub(received),
            self.patience
        );
        Ok(())
    }
}
