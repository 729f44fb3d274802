//! Thousands of clients that come back by themselves, and what they were given.

mod client;
mod figures;
mod tally;

pub use figures::{Counts, Latency, Phase};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;

use self::client::Client;
use self::figures::Figures;
use crate::load::Clock;
use crate::{Way, eventually};

/// Clients of the topics of a [`Load`](crate::Load), each in a task of its own: half of them as a
/// browser's `EventSource`, half by the JSON dialect. They come before the first message and check
/// the number of each one.
///
/// Clients at rest hold a socket and a few hundred bytes, so that there can be 10 000.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the clients of a crowd share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// The number that each client expects next.
    next: Box<[AtomicU32]>,
    topics: usize,
    /// How many are in: connected and subscribed.
    inside: AtomicUsize,
    figures: Mutex<Figures>,
}

/// How many clients come at once at the beginning; the next come when these are in.
const COMPANY: usize = 250;

/// How many irregularities are kept with their circumstances.
const SAMPLES: usize = 30;

impl Crowd {
    /// Brings so many clients in through these doors, and spreads them over the topics. Returns once
    /// all are in.
    pub async fn start(doors: &[SocketAddr], clients: usize, topics: usize, clock: Clock) -> Self {
        let shared = Arc::new(Shared {
            clock,
            next: (0..clients).map(|_| AtomicU32::new(1)).collect(),
            topics,
            inside: AtomicUsize::new(0),
            figures: Mutex::new(Figures::new()),
        });
        let mut crowd = Self { shared, tasks: JoinSet::new() };
        for number in 0..clients {
            // Both ways are on every topic and behind every door.
            let way = if number % 2 == 0 { Way::Sse } else { Way::Json };
            let door = doors[number / 2 % doors.len()];
            crowd.tasks.spawn(Client::new(number, way, door, crowd.shared.clone()).live());
            if (number + 1) % COMPANY == 0 || number + 1 == clients {
                crowd.inside_becomes(number + 1).await;
            }
        }
        crowd
    }

    /// Waits until every client is in.
    pub async fn all_in(&mut self) {
        self.inside_becomes(self.shared.next.len()).await;
    }

    /// How many are in.
    pub fn inside(&self) -> usize {
        self.shared.inside.load(Ordering::Relaxed)
    }

    /// Says what is going on: latencies are kept apart by it.
    pub fn enter(&self, phase: Phase) {
        self.shared.lock().phase = phase;
    }

    /// Waits until every client has what was published, the last numbers of each topic. What hasn't
    /// come by the deadline is lost.
    pub async fn finish(&mut self, last: &[u32]) {
        let all = crate::wait::poll_until(|| async {
            let missing = self.shared.outstanding(last);
            (missing, missing == 0)
        });
        if let Err(missing) = all.await {
            let mut figures = self.shared.lock();
            figures.counts.lost += missing;
            figures.sample(format!("{missing} at the end never came"));
        }
        self.fail_with_clients();
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// The first irregularities, with their circumstances.
    pub fn samples(&self) -> Vec<String> {
        self.shared.lock().samples.clone()
    }

    /// How long messages took in a phase.
    pub fn latency(&self, phase: Phase) -> Latency {
        self.shared.lock().latency(phase)
    }

    /// How many times clients tried to come back in each second since then, by the test's clock.
    pub fn returns_by_second(&self, since: u64) -> Vec<u64> {
        figures::by_second(&self.shared.lock().returns, since)
    }

    /// How many times clients tried to come back in the worst second since then, wherever that
    /// begins.
    pub fn worst_second(&self, since: u64) -> usize {
        figures::worst_second(&self.shared.lock().returns, since)
    }

    async fn inside_becomes(&mut self, count: usize) {
        eventually("the clients to be in", || async { (self.inside() == count).then_some(()) })
            .await;
        self.fail_with_clients();
    }

    /// Clients never end by themselves but by a panic, which is the test's.
    fn fail_with_clients(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.expect("no client fails");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap()
    }

    /// The topic of a client. Neighbours of both ways and behind all doors share one.
    fn topic(&self, client: usize) -> usize {
        client / 4 % self.topics
    }

    /// How many messages of the ends of topics clients haven't.
    fn outstanding(&self, last: &[u32]) -> u64 {
        let behind = |(client, next): (usize, &AtomicU32)| {
            let end = last[self.topic(client)] + 1;
            u64::from(end.saturating_sub(next.load(Ordering::Relaxed)))
        };
        self.next.iter().enumerate().map(behind).sum()
    }

    fn came_back(&self) {
        let now = self.clock.micros();
        self.lock().returns.push(now);
    }

    fn delivered(&self, published: u64, since: u64) {
        let took = Duration::from_micros(self.clock.micros().saturating_sub(published));
        self.lock().delivered(took, published < since);
    }
}
