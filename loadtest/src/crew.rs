//! The processes that hold sessions, from the coordinator's side: started, ordered, heard with deadlines, and ended.
//!
//! Orders go to their standard inputs, what they say comes from their standard outputs, one JSON object per line. All
//! outputs are in one epoll set, in which the coordinator may have other things too.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};

use crate::fleet::orders::{self, Lines};
use crate::interrupt;
use crate::os::poller::{Poller, Ready};
use crate::os::process::ends_within;

/// How often the coordinator looks up while it waits.
const LOOK: Duration = Duration::from_millis(100);
/// Time that a holder has to be gone: the kernel closes all its sockets first.
const GONE: Duration = Duration::from_secs(10);
/// Bytes that are read at a time: as many as a pipe has.
const BUFFER: usize = 64 * 1024;

/// A kind of holder: what it is told, and what it says.
pub trait Kind {
    /// The hidden subcommand that is one.
    const SUBCOMMAND: &'static str;
    /// What it is told.
    type Order: Serialize;
    /// What it says.
    type Said: DeserializeOwned;
    /// How its sessions are.
    type State: Clone + Default + fmt::Debug;

    /// How its sessions are, if it says so.
    fn state(said: &Self::Said) -> Option<&Self::State>;

    /// Adds another holder's.
    fn add(sum: &mut Self::State, other: &Self::State);
}

/// All holders; dropping it ends them.
pub struct Crew<K: Kind> {
    holders: Vec<Holder<K::State>>,
    poller: Poller,
    buffer: Box<[u8]>,
    /// Said and not heard yet: bounded by what one wait reads.
    said: VecDeque<(usize, K::Said)>,
}

#[derive(Debug)]
struct Holder<S> {
    child: Child,
    orders: ChildStdin,
    out: ChildStdout,
    lines: Lines,
    state: S,
}

impl<K: Kind> Crew<K> {
    /// Starts `count` holders, which have nothing to hold yet.
    pub fn start(count: usize) -> Result<Self> {
        let mut crew = Self {
            holders: Vec::with_capacity(count),
            poller: Poller::new()?,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            said: VecDeque::new(),
        };
        for number in 0..count {
            let holder = Holder::start(K::SUBCOMMAND)?;
            crew.holders.push(holder);
            crew.poller.add_level(&crew.holders[number].out, number as u64)?;
        }
        Ok(crew)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.holders.len()
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.holders.iter().map(|holder| holder.child.id()).collect()
    }

    /// How all sessions are.
    pub fn state(&self) -> K::State {
        let mut sum = K::State::default();
        for holder in &self.holders {
            K::add(&mut sum, &holder.state);
        }
        sum
    }

    /// Where something else may be added, under tokens that begin at [`Crew::count`].
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Gives holder `number` an order.
    pub fn order(&mut self, number: usize, order: &K::Order) -> Result<()> {
        let orders = &mut self.holders[number].orders;
        let given = orders.write_all(&orders::line(order)?).and_then(|()| orders.flush());
        given.with_context(|| format!("holder {number} takes no orders"))
    }

    /// Gives all the same.
    pub fn order_all(&mut self, order: &K::Order) -> Result<()> {
        (0..self.holders.len()).try_for_each(|number| self.order(number, order))
    }

    /// Waits until `pick` has found an answer of each holder in what they say; says which holders haven't answered when
    /// nothing was heard or changed for `patience`. `watch` looks on meanwhile, some times a second.
    pub fn answers<T>(
        &mut self,
        patience: Duration,
        pick: impl Fn(K::Said) -> Option<T>,
        watch: &mut impl FnMut(&Self) -> Result<()>,
    ) -> Result<Vec<Option<T>>> {
        let mut answers: Vec<Option<T>> = self.holders.iter().map(|_| None).collect();
        self.answers_to(&mut answers, patience, pick, watch)?;
        Ok(answers)
    }

    /// The same for the answers that are missing yet.
    pub fn answers_to<T>(
        &mut self,
        answers: &mut [Option<T>],
        patience: Duration,
        pick: impl Fn(K::Said) -> Option<T>,
        watch: &mut impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let mut deadline = Instant::now() + patience;
        while answers.iter().any(Option::is_none) && Instant::now() < deadline {
            if let Some((number, said)) = self.hear(LOOK, &mut |_, _| Ok(()))? {
                deadline = Instant::now() + patience;
                if let Some(answer) = pick(said) {
                    answers[number] = Some(answer);
                }
            }
            watch(self)?;
        }
        Ok(())
    }

    /// Listens until `end`.
    pub fn listen_until(
        &mut self,
        end: Instant,
        watch: &mut impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.hear(left.min(LOOK), &mut |_, _| Ok(()))?;
            watch(self)?;
        }
        Ok(())
    }

    /// The next thing that is said, and by whom, within `timeout`; `other` serves what else is in the poller, which may
    /// end the wait too.
    pub fn hear(
        &mut self,
        timeout: Duration,
        other: &mut impl FnMut(Ready, &Poller) -> Result<()>,
    ) -> Result<Option<(usize, K::Said)>> {
        interrupt::check()?;
        if self.said.is_empty() {
            for index in 0..self.poller.wait(Some(timeout))? {
                let ready = self.poller.ready(index);
                match usize::try_from(ready.token) {
                    Ok(number) if number < self.holders.len() => self.read(number)?,
                    _ => other(ready, &self.poller)?,
                }
            }
        }
        let Some((number, said)) = self.said.pop_front() else {
            return Ok(None);
        };
        if let Some(state) = K::state(&said) {
            self.holders[number].state.clone_from(state);
        }
        Ok(Some((number, said)))
    }

    fn read(&mut self, number: usize) -> Result<()> {
        let holder = &mut self.holders[number];
        if !holder.lines.fill(&holder.out, &mut self.buffer)? {
            bail!("holder {number} has ended by itself");
        }
        while let Some(line) = holder.lines.take() {
            let said = orders::parse(&line);
            let said = said.with_context(|| format!("holder {number} can't be understood"))?;
            self.said.push_back((number, said));
        }
        Ok(())
    }
}

/// All must have answered.
pub fn all<T>(answers: Vec<Option<T>>, what: &str, patience: Duration) -> Result<Vec<T>> {
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    ensure!(
        missing == 0,
        "{missing} of {} holders haven't {what}, and nothing was heard for {patience:?}",
        answers.len()
    );
    Ok(answers.into_iter().flatten().collect())
}

impl<S: Default> Holder<S> {
    /// In a process group of its own, so that Ctrl-C reaches the coordinator alone, which ends it in order.
    fn start(subcommand: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("can't start a holder")?;
        let orders = child.stdin.take().context("a holder has no input")?;
        let out = child.stdout.take().context("a holder has no output")?;
        Ok(Self { child, orders, out, lines: Lines::default(), state: S::default() })
    }
}

impl<K: Kind> Drop for Crew<K> {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // It fails only if the process is gone already.
            let _ = holder.child.kill();
        }
        for holder in &mut self.holders {
            if ends_within(&holder.child, GONE).unwrap_or(true) {
                let _ = holder.child.wait();
            } else {
                eprintln!("holder process {} is still there after {GONE:?}", holder.child.id());
            }
        }
    }
}
