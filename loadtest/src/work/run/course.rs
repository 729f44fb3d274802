//! The course of a run: opening, warm-up, window, end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::directory::Directory;
use super::faults::Faults;
use super::feeding::Feeding;
use super::meter::Reading;
use super::notes::{self, Ended, Held, Marks, Notes};
use super::plan::Plan;
use super::series::{Counts, Series};
use super::servers::Servers;
use super::storm::Storm;
use super::waiting::Waiting;
use super::{Crew, backlog};
use crate::cost::{socket_memory, socket_slabs};
use crate::os::cores::{self, Affinity};
use crate::work::orders::{Order, Report, Said, State};
use crate::work::progress::Progress;

/// The longest wait without a look around.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at what happens beside the messages.
const GLANCE: Duration = Duration::from_millis(5);

/// All that runs; dropping it ends the holders first, then the servers.
pub struct Course<'a> {
    plan: &'a Plan,
    crew: Crew,
    feeding: Option<Feeding>,
    servers: Servers,
    core: Option<usize>,
    faults: Faults,
    storm: Option<Storm>,
    notes: Notes,
}

/// Runs it; what servers write goes into `directory`.
pub fn run(plan: &Plan, directory: &Directory) -> Result<Ended> {
    let everywhere = Affinity::of_this_thread()?;
    plan.load_core.map(cores::pin_to).transpose()?;
    let servers = Servers::start(plan, everywhere, directory.path())?;
    let notes = Notes { pss_before: servers.memory().map(|(_, pss)| pss), ..Notes::default() };
    let mut course = Course {
        plan,
        crew: Crew::start(plan.holders)?,
        feeding: None,
        core: servers.core(),
        servers,
        faults: Faults::new(&plan.work.faults, plan.patience()),
        storm: None,
        notes,
    };
    course.open()?;
    course.feeding = Feeding::begin(plan, &course.servers, &course.crew)?;
    course.warm_up()?;
    course.window()?;
    let reports = course.end()?;
    let Course { notes, feeding, .. } = course;
    Ok(Ended { notes, reports, feeding })
}

impl Course<'_> {
    /// Opens all sessions; it goes on as long as it comes on.
    fn open(&mut self) -> Result<()> {
        let openings = self.plan.openings(self.servers.places())?;
        let (began, count) = (Instant::now(), self.plan.work.sessions.count);
        for (holder, opening) in openings.into_iter().enumerate() {
            self.crew.order(holder, &Order::Open(Box::new(opening)))?;
        }
        let seconds = super::float(count as u64) / self.plan.work.sessions.open_per_second;
        let mut progress = Progress::new("opening", seconds);
        let mut waiting = Waiting::new(self.crew.count(), self.plan.patience());
        while !waiting.is_over() {
            let heard = self.hear(LOOK)?;
            let state = self.crew.state();
            waiting.look(&state).with_context(|| {
                format!("{} of {count} sessions are open; {:?}", state.open, state.reasons)
            })?;
            if let Some((holder, Said::Opened(_))) = heard {
                waiting.answered(holder);
            }
            let line = format!("{} of {count} sessions, {} refused", state.open, state.refused);
            progress.tell(began.elapsed().as_secs_f64(), &line);
        }
        progress.clear();
        self.notes.open_seconds = began.elapsed().as_secs_f64();
        Ok(())
    }

    fn warm_up(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs_f64(self.plan.work.window.warm_up_seconds);
        while !self.is_over(end) {
            let wait = self.feed(end)?;
            self.hear(wait.min(end.saturating_duration_since(Instant::now())))?;
        }
        Ok(())
    }

    fn window(&mut self) -> Result<()> {
        let seconds = self.plan.work.window.seconds;
        let mut progress = Progress::new(&self.plan.scenario, seconds);
        self.crew.order_all(&Order::Begin)?;
        if let Some(feeding) = &mut self.feeding {
            feeding.begin_window();
        }
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(seconds);
        self.ask(end)?;
        let reading = self.read()?;
        self.notes.before = self.marks();
        let wanted = self.plan.work.sessions.count as u64;
        self.notes.opened = self.crew.state().open;
        self.notes.problems.extend(notes::not_open(self.notes.opened, wanted));
        let mut series = Series::begin(self.counts(Duration::ZERO));
        let mut look_at = Duration::ZERO;
        while !self.is_over(end) {
            let now = begin.elapsed();
            // A closed loop may turn very fast.
            if now >= look_at {
                look_at = now + GLANCE;
                self.happen(now)?;
                progress.tell(now.as_secs_f64(), &self.line(&series));
            }
            if now >= series.due() {
                let counts = self.counts(now);
                series.enter(counts, self.crew.state().open);
            }
            let wait = self.feed(end)?.min(series.due().saturating_sub(now));
            self.hear(wait.min(self.until_next_event(begin)))?;
        }
        self.ask(end)?;
        self.notes.spent = Some(self.read()?.since(&reading));
        if let Some(feeding) = &mut self.feeding {
            feeding.end_window();
        }
        self.notes.after = self.marks();
        let (before, after) = (self.notes.before, self.notes.after);
        self.notes.problems.extend(backlog::problem(&self.plan.work, before, after));
        self.notes.held = self.hold()?;
        self.notes.series = Some(series);
        self.settle(begin)?;
        progress.clear();
        Ok(())
    }

    /// Has all holders tell how they are now, so that receipts are counted up to the time at which clocks are read;
    /// meanwhile what is due before `end` is published, but no round is begun.
    fn ask(&mut self, end: Instant) -> Result<()> {
        let is_closed = self.plan.work.is_closed_loop();
        let end = if is_closed { Instant::now() } else { end };
        self.crew.order_all(&Order::Tell)?;
        let mut waiting = Waiting::new(self.crew.count(), self.plan.patience());
        while !waiting.is_over() {
            let wait = self.feed(end)?;
            if let Some((holder, Said::Told(_))) = self.hear(wait)? {
                waiting.answered(holder);
            }
            waiting.look(&self.crew.state()).context("holders don't tell how they are")?;
        }
        Ok(())
    }

    /// What was begun in the window is finished after it: faults end, and messages are confirmed.
    fn settle(&mut self, begin: Instant) -> Result<()> {
        let deadline = Instant::now() + self.plan.patience();
        loop {
            self.happen(begin.elapsed())?;
            let outstanding = self.feeding.as_ref().map_or(0, Feeding::outstanding);
            if self.faults.are_over() && outstanding == 0 {
                break;
            }
            if self.faults.are_over() && Instant::now() > deadline {
                let problem = format!("{outstanding} messages were never confirmed");
                self.notes.problems.push(problem);
                break;
            }
            let wait = self.feed(begin)?;
            self.hear(wait)?;
        }
        if let Some(storm) = &self.storm {
            self.notes.us_per_connect = storm.us_per_connect();
            self.notes.back_seconds = storm.back_seconds();
            if storm.back_seconds().is_none() {
                let state = self.crew.state();
                let problem = format!(
                    "the sessions of the storm weren't all back at the window's end: {} were open",
                    state.open
                );
                self.notes.problems.push(problem);
            }
        }
        Ok(())
    }

    /// Lets sessions receive what is under way, and has the holders' reports.
    fn end(&mut self) -> Result<Vec<Report>> {
        let published = match &self.feeding {
            Some(feeding) => feeding.published(),
            None => vec![0; self.plan.spread.topic_count()],
        };
        self.crew.order_all(&Order::End { published })?;
        let count = self.crew.count();
        let mut reports: Vec<Option<Report>> = vec![None; count];
        // Holders have the patience themselves.
        let mut waiting = Waiting::new(count, 2 * self.plan.patience());
        while !waiting.is_over() {
            if let Some((holder, Said::Report(report))) = self.hear(LOOK)? {
                reports[holder] = Some(*report);
                waiting.answered(holder);
            }
            if let Some(feeding) = &mut self.feeding {
                feeding.turn(true, &mut self.crew)?;
            }
            waiting.look(&self.crew.state()).context("holders don't report")?;
        }
        self.notes.problems.extend(self.servers.problems());
        self.crew.order_all(&Order::Close)?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// Whether `end` has come, and the round that it came in is whole.
    fn is_over(&self, end: Instant) -> bool {
        let under_way = self.feeding.as_ref().is_some_and(Feeding::is_under_way);
        Instant::now() >= end && !under_way
    }

    /// Publishes what is due before `end`; says how long there is nothing to do.
    fn feed(&mut self, end: Instant) -> Result<Duration> {
        let wait = match &mut self.feeding {
            Some(feeding) => feeding.turn(Instant::now() >= end, &mut self.crew)?,
            None => LOOK,
        };
        Ok(wait.min(LOOK))
    }

    /// The next thing that a holder says within `timeout`, while the publisher is served.
    fn hear(&mut self, timeout: Duration) -> Result<Option<(usize, Said)>> {
        let feeding = &mut self.feeding;
        let heard = self.crew.hear(timeout, &mut |ready, poller| match feeding {
            Some(feeding) => feeding.serve(ready, poller),
            None => Ok(()),
        })?;
        if let (Some((holder, said)), Some(feeding)) = (&heard, &mut self.feeding) {
            feeding.hear(*holder, said);
        }
        Ok(heard)
    }

    /// Storm and faults, if it is time.
    fn happen(&mut self, now: Duration) -> Result<()> {
        self.faults.turn(now, &mut self.servers)?;
        let state = self.crew.state();
        match (&mut self.storm, self.plan.work.sessions.storm) {
            (Some(storm), _) if storm.is_news(&state) => {
                let pids = self.crew.pids();
                storm.end(&state, &Reading::take(&self.servers, self.core, &pids)?);
            }
            (None, Some(due)) if now.as_secs_f64() >= due.at_seconds => {
                let reading = self.read()?;
                self.crew.order_all(&Order::Storm)?;
                self.storm = Some(Storm::begin(self.plan, due.steady, &state, reading));
            }
            _ => {}
        }
        Ok(())
    }

    fn until_next_event(&self, begin: Instant) -> Duration {
        let storm = self.plan.work.sessions.storm.filter(|_| self.storm.is_none());
        let storm = storm.map(|storm| Duration::from_secs_f64(storm.at_seconds));
        let next = storm.into_iter().chain(self.faults.due()).min();
        // What is overdue waits for something else: a node that is to start again must end first.
        next.map_or(LOOK, |next| next.saturating_sub(begin.elapsed()).max(GLANCE))
    }

    fn read(&self) -> Result<Reading> {
        Reading::take(&self.servers, self.core, &self.crew.pids())
    }

    fn marks(&self) -> Marks {
        let feeding = self.feeding.as_ref();
        Marks {
            messages: feeding.map_or(0, Feeding::messages),
            expected: feeding.map_or(0, Feeding::expected),
            received: self.crew.state().received,
        }
    }

    fn counts(&self, at: Duration) -> Counts {
        let messages = self.feeding.as_ref().map_or(0, Feeding::messages);
        Counts::new(at, messages, &self.crew.state(), self.servers.time())
    }

    fn hold(&self) -> Result<Held> {
        Ok(Held {
            memory: self.servers.memory(),
            socket_bytes: socket_memory::read()?,
            socket_slab_bytes: socket_slabs::read(),
            descriptors: self.servers.descriptors(),
        })
    }

    fn line(&self, series: &Series) -> String {
        let State { open, lost, refused, .. } = self.crew.state();
        format!(
            "{open} sessions, {:.0} deliveries/s, {refused} refused, {lost} lost",
            series.rate()
        )
    }
}
