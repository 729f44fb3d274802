//! A process that holds clients' ends: one thread, one epoll loop, orders from its standard input.
//!
//! Between two looks at its sockets it waits for orders alone, so that a node's writes wake it seldom and for many
//! sessions at once, as they would wake nobody if the clients were on other machines.

use std::io::{self, Stdout, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::orders::{self, Lines, Order, Said, State};
use super::receipts::Tally;
use super::sessions::Sessions;
use crate::os::poller::{Poller, timespec};

const ORDERS: u64 = u64::MAX;
/// Longest message that can be received.
const BUFFER: usize = 256 * 1024;
/// How long a wait for events lasts at most while there is something to begin or to tell.
const LOOK_UP: Duration = Duration::from_millis(5);
/// The same while nothing is to be done but to hold.
const HOLD: Duration = Duration::from_millis(500);
/// Time between two looks while sessions are opened, while they are held, and while a message is awaited: the last is
/// the error of a time of receipt.
const NAP_OPENING: Duration = Duration::from_millis(5);
const NAP_HOLDING: Duration = Duration::from_millis(20);
const NAP_LISTENING: Duration = Duration::from_millis(1);
/// With so many events in one look the next follows at once.
const PLENTY: usize = 256;
/// How often a change is told.
const TELL: Duration = Duration::from_millis(250);

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
    doing: Doing,
    told: State,
    told_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Opening,
    Holding,
    Listening,
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
            doing: Doing::Holding,
            told: State::default(),
            told_at: Instant::now(),
        })
    }

    /// One look at everything; false when there are no more orders.
    fn turn(&mut self) -> Result<bool> {
        if let Some(sessions) = &mut self.sessions {
            sessions.begin_due(&self.poller);
        }
        let timeout = if self.doing == Doing::Holding { HOLD } else { LOOK_UP };
        let events = self.poller.wait(Some(timeout))?;
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
        self.tell()?;
        if events < PLENTY {
            self.nap()?;
        }
        Ok(true)
    }

    fn take_orders(&mut self) -> Result<bool> {
        let more = self.orders.fill(io::stdin(), &mut self.buffer)?;
        while let Some(line) = self.orders.take() {
            self.obey(orders::parse(&line)?)?;
        }
        Ok(more)
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        if let Order::Open(opening) = order {
            self.sessions = Some(Sessions::new(opening)?);
            self.doing = Doing::Opening;
            return Ok(());
        }
        let sessions = self.sessions.as_mut().context("the first order must be to open")?;
        let said = match order {
            Order::Open(_) => return Ok(()),
            Order::Expect { sequence } => {
                sessions.expect(sequence)?;
                self.doing = Doing::Listening;
                Said::Listening { sequence }
            }
            Order::Report => return self.report(),
            Order::Close => {
                let integrity = sessions.close();
                Said::Closed { integrity, state: sessions.state().clone() }
            }
        };
        self.say(&said)
    }

    fn report(&mut self) -> Result<()> {
        self.doing = Doing::Holding;
        let tally = self.sessions.as_ref().and_then(Sessions::tally);
        match tally.map(|tally| Said::Received(tally.receipts())) {
            Some(said) => self.say(&said),
            None => Ok(()),
        }
    }

    /// Tells what has changed.
    fn tell(&mut self) -> Result<()> {
        let Some(sessions) = &mut self.sessions else {
            return Ok(());
        };
        if self.doing == Doing::Opening && sessions.are_opened() {
            self.doing = Doing::Holding;
            self.told = sessions.state().clone();
            return self.say(&Said::Opened(self.told.clone()));
        }
        if self.told_at.elapsed() >= TELL && *sessions.state() != self.told {
            (self.told, self.told_at) = (sessions.state().clone(), Instant::now());
            self.say(&Said::State(self.told.clone()))?;
        }
        let done = self.sessions.as_ref().and_then(Sessions::tally).is_some_and(Tally::is_done);
        if self.doing == Doing::Listening && done { self.report() } else { Ok(()) }
    }

    fn say(&mut self, said: &Said) -> Result<()> {
        self.out.write_all(&orders::line(said)?)?;
        Ok(self.out.flush()?)
    }

    /// Waits for orders alone.
    fn nap(&self) -> io::Result<()> {
        let nap = match self.doing {
            Doing::Opening => NAP_OPENING,
            Doing::Holding => NAP_HOLDING,
            Doing::Listening => NAP_LISTENING,
        };
        let stdin = io::stdin();
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timespec(nap))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
