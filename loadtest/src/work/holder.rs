//! A process that holds sessions: one thread, one epoll loop, orders from its standard input.

mod dues;
mod hearing;
mod notes;
mod pauses;
mod rate;
mod sessions;
mod slot;
mod subscription;
mod timers;

use std::io::{self, Stdout, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::orders::{Opening, Order, Said};
use crate::fleet::orders::{self, Lines};
use crate::load::{self, BUFFER, Patience, clock};
use crate::os::poller::Poller;
use sessions::Sessions;

const ORDERS: u64 = u64::MAX;
/// How long a wait for events lasts at most.
const LOOK_UP: Duration = Duration::from_millis(50);
/// How often its state is told.
const TELL: Duration = Duration::from_millis(250);
/// At the end: how often all subscriptions are looked through.
const CHECK: Duration = Duration::from_millis(50);
/// At the end: time without progress when each subscription has had its last message. What it lacks before that one
/// could come only out of order.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// At the end: time without progress when all have all: what comes again would come by then.
const LINGER: Duration = Duration::from_millis(500);

/// Holds sessions until its orders end.
pub fn run() -> Result<()> {
    let mut holder = Holder::new()?;
    while holder.turn()? {}
    Ok(())
}

struct Holder {
    poller: Poller,
    buffer: Box<[u8]>,
    orders: Lines,
    out: Stdout,
    sessions: Option<Sessions>,
    wait: Wait,
    /// Nap between looks: rounds are awaited, so that nobody asks for the time of each receipt.
    gathers: bool,
    told_at: Instant,
}

/// What the coordinator waits for.
enum Wait {
    Nothing,
    /// That all sessions are open.
    Opened(Patience),
    /// So many receipts.
    Received(u64),
    /// The end of all that was published.
    End(Box<End>),
}

struct End {
    published: Vec<u64>,
    patience: Patience,
    stragglers: Patience,
    linger: Patience,
    checked_at: Option<Instant>,
}

impl Holder {
    fn new() -> Result<Self> {
        let poller = Poller::new()?;
        poller.add_level(io::stdin(), ORDERS).context("orders must come through a pipe")?;
        Ok(Self {
            poller,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            orders: Lines::default(),
            out: io::stdout(),
            sessions: None,
            wait: Wait::Nothing,
            gathers: false,
            told_at: Instant::now(),
        })
    }

    /// One look at everything; false when there are no more orders.
    fn turn(&mut self) -> Result<bool> {
        let events = self.poller.wait(Some(self.timeout()))?;
        for index in 0..events {
            let ready = self.poller.ready(index);
            if ready.token != ORDERS {
                if let Some(sessions) = &mut self.sessions {
                    sessions.serve(ready, &self.poller, &mut self.buffer);
                }
            } else if !self.take_orders()? {
                return Ok(false);
            }
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.work(clock::nanos(), &self.poller, &mut self.buffer);
        }
        self.answer()?;
        self.tell()?;
        if self.gathers {
            load::gather(events);
        }
        Ok(true)
    }

    fn timeout(&self) -> Duration {
        let next = self.sessions.as_ref().and_then(Sessions::next);
        let left = next.map(|due| Duration::from_nanos(due.saturating_sub(clock::nanos())));
        left.map_or(LOOK_UP, |left| left.min(LOOK_UP))
    }

    fn take_orders(&mut self) -> Result<bool> {
        let mut more = self.orders.fill(io::stdin(), &mut self.buffer)?;
        while let Some(line) = self.orders.take() {
            more &= self.obey(orders::parse(&line)?)?;
        }
        Ok(more)
    }

    /// False when all is to be closed.
    fn obey(&mut self, order: Order) -> Result<bool> {
        if let Order::Open(opening) = order {
            self.open(*opening)?;
            return Ok(true);
        }
        let sessions = self.sessions.as_mut().context("the first order must be to open")?;
        match order {
            Order::Open(_) => {}
            Order::Begin => sessions.begin(),
            Order::Storm => sessions.storm(),
            Order::Tell => {
                let told = Said::Told(sessions.state().clone());
                self.say(&told)?;
            }
            Order::Await { received } => {
                self.gathers = true;
                self.wait = Wait::Received(received);
            }
            Order::End { published } => {
                sessions.finish();
                self.wait = Wait::End(Box::new(End::new(published, sessions.patience())));
            }
            Order::Close => return Ok(false),
        }
        Ok(true)
    }

    fn open(&mut self, opening: Opening) -> Result<()> {
        let sessions = Sessions::new(opening)?;
        self.wait = Wait::Opened(Patience::new(sessions.patience()));
        self.sessions = Some(sessions);
        Ok(())
    }

    /// Answers when what is waited for has happened.
    fn answer(&mut self) -> Result<()> {
        let Some(sessions) = &mut self.sessions else {
            return Ok(());
        };
        let said = match &mut self.wait {
            Wait::Nothing => None,
            Wait::Opened(patience) => {
                let is_over = sessions.are_open() || patience.is_over(sessions.most_open());
                is_over.then(|| Said::Opened(sessions.state().clone()))
            }
            Wait::Received(count) => (sessions.received() >= *count).then_some(Said::Reached),
            Wait::End(end) => end
                .is_over(sessions)
                .then(|| Said::Report(Box::new(sessions.report(&end.published)))),
        };
        let Some(said) = said else {
            return Ok(());
        };
        self.wait = Wait::Nothing;
        self.say(&said)
    }

    fn tell(&mut self) -> Result<()> {
        if self.told_at.elapsed() < TELL {
            return Ok(());
        }
        let Some(state) = self.sessions.as_mut().map(|sessions| sessions.state().clone()) else {
            return Ok(());
        };
        self.told_at = Instant::now();
        self.say(&Said::State(state))
    }

    fn say(&mut self, said: &Said) -> Result<()> {
        self.out.write_all(&orders::line(said)?)?;
        Ok(self.out.flush()?)
    }
}

impl End {
    fn new(published: Vec<u64>, patience: Duration) -> Self {
        Self {
            published,
            patience: Patience::new(patience),
            stragglers: Patience::new(patience.min(STRAGGLERS)),
            linger: Patience::new(patience.min(LINGER)),
            checked_at: None,
        }
    }

    /// All have all, or what lacks doesn't come. Each session opens and each message comes at most once in the sense of
    /// its progress, so that this ends.
    fn is_over(&mut self, sessions: &Sessions) -> bool {
        if self.checked_at.is_some_and(|at| at.elapsed() < CHECK) {
            return false;
        }
        self.checked_at = Some(Instant::now());
        let progress = sessions.received() + sessions.most_open();
        let [no_more, no_stragglers, no_doubles] =
            [&mut self.patience, &mut self.stragglers, &mut self.linger]
                .map(|it| it.is_over(progress));
        if no_more || !sessions.are_open() {
            return no_more;
        }
        let published = &self.published;
        (no_doubles && !sessions.lack_something(published))
            || (no_stragglers && !sessions.lack_the_last(published))
    }
}
