//! The holders, from the coordinator's side: started, ordered, heard with deadlines, and ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::orders::{self, Order, Said, State};
use crate::interrupt;
use crate::os::process::ends_within;

/// Answers that may wait to be heard: a holder that has more to say waits.
const UNHEARD: usize = 256;
/// How often the coordinator looks up while it waits.
const LOOK: Duration = Duration::from_millis(100);
/// Time that a holder has to be gone: the kernel closes all its sockets first.
const GONE: Duration = Duration::from_secs(10);

/// All holders; dropping it ends them.
#[derive(Debug)]
pub struct Crew {
    holders: Vec<Holder>,
    heard: Option<Receiver<(usize, Heard)>>,
}

#[derive(Debug)]
struct Holder {
    child: Child,
    orders: ChildStdin,
    reader: Option<JoinHandle<()>>,
    state: State,
}

/// What a reader passes on.
#[derive(Debug)]
enum Heard {
    Said(Said),
    /// There will be no more.
    Ended(Result<()>),
}

impl Crew {
    /// Starts `count` holders, which have nothing to hold yet.
    pub fn start(count: usize) -> Result<Self> {
        let (tell, heard) = sync_channel(UNHEARD);
        let mut crew = Self { holders: Vec::with_capacity(count), heard: Some(heard) };
        for number in 0..count {
            crew.holders.push(Holder::start(number, tell.clone())?);
        }
        Ok(crew)
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<u32> {
        self.holders.iter().map(|holder| holder.child.id()).collect()
    }

    /// How all sessions are.
    pub fn state(&self) -> State {
        let mut sum = State::default();
        for holder in &self.holders {
            sum.add(&holder.state);
        }
        sum
    }

    /// Gives holder `number` an order.
    pub fn order(&mut self, number: usize, order: &Order) -> Result<()> {
        let orders = &mut self.holders[number].orders;
        let given = orders.write_all(&orders::line(order)?).and_then(|()| orders.flush());
        given.with_context(|| format!("holder {number} takes no orders"))
    }

    /// Gives all the same.
    pub fn order_all(&mut self, order: &Order) -> Result<()> {
        (0..self.holders.len()).try_for_each(|number| self.order(number, order))
    }

    /// Waits until `pick` has found an answer of each holder in what they say; says which holders haven't answered when
    /// nothing was heard or changed for `patience`. `watch` looks on meanwhile, some times a second.
    pub fn answers<T>(
        &mut self,
        patience: Duration,
        pick: impl Fn(Said) -> Option<T>,
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
        pick: impl Fn(Said) -> Option<T>,
        watch: &mut impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let mut deadline = Instant::now() + patience;
        while answers.iter().any(Option::is_none) && Instant::now() < deadline {
            if let Some((number, said)) = self.hear(LOOK)? {
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
            self.hear(left.min(LOOK))?;
            watch(self)?;
        }
        Ok(())
    }

    /// The next thing that is said within `timeout`.
    fn hear(&mut self, timeout: Duration) -> Result<Option<(usize, Said)>> {
        interrupt::check()?;
        let heard = self.heard.as_ref().context("the crew is being dismissed")?;
        let (number, said) = match heard.recv_timeout(timeout) {
            Ok((number, Heard::Said(said))) => (number, said),
            Ok((number, Heard::Ended(Ok(())))) => bail!("holder {number} has ended by itself"),
            Ok((number, Heard::Ended(Err(error)))) => {
                return Err(error.context(format!("holder {number} can't be understood")));
            }
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all holders have ended"),
        };
        if let Said::State(state) | Said::Opened(state) | Said::Closed { state, .. } = &said {
            self.holders[number].state.clone_from(state);
        }
        Ok(Some((number, said)))
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

impl Holder {
    /// In a process group of its own, so that Ctrl-C reaches the coordinator alone, which ends it in order.
    fn start(number: usize, tell: SyncSender<(usize, Heard)>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("hold").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("can't start a holder")?;
        let orders = child.stdin.take().context("a holder has no input")?;
        let said = child.stdout.take().context("a holder has no output")?;
        let thread = std::thread::Builder::new().name(format!("holder {number}"));
        let reader = thread.spawn(move || pass_on(number, said, &tell))?;
        Ok(Self { child, orders, reader: Some(reader), state: State::default() })
    }
}

fn pass_on(number: usize, said: ChildStdout, tell: &SyncSender<(usize, Heard)>) {
    let pass = |line: std::io::Result<Vec<u8>>| -> Result<bool> {
        let said = orders::parse(&line?)?;
        // Nobody listens any more when the crew is dismissed.
        Ok(tell.send((number, Heard::Said(said))).is_ok())
    };
    let mut ended = Ok(());
    for line in BufReader::new(said).split(b'\n') {
        match pass(line) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    let _ = tell.send((number, Heard::Ended(ended)));
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Readers that wait to be heard go on and see their end.
        self.heard = None;
        for holder in &mut self.holders {
            // It fails only if the process is gone already.
            let _ = holder.child.kill();
        }
        for holder in &mut self.holders {
            if !ends_within(&holder.child, GONE).unwrap_or(true) {
                eprintln!("holder process {} is still there after {GONE:?}", holder.child.id());
                continue;
            }
            let _ = holder.child.wait();
            if let Some(reader) = holder.reader.take() {
                let _ = reader.join();
            }
        }
    }
}
