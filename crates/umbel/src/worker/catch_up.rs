//! Sessions that catch up with a topic: piece after piece of its history, each as soon as the one
//! before is written, until nothing lies between them and what comes live.

use std::time::Duration;

use umbel_broker::FetchError;
use umbel_hub::{Hub, SessionKey};
use umbel_protocol::{GapReason, Position, Topic};

use super::Worker;
use crate::session::{CatchUp, CatchUps, Fetch, Next, Session, SessionRef, Told};

/// How much of a topic's history is read at a time: what a socket takes in one go.
const PIECE_BYTES: usize = 64 * 1024;

/// How long a session rests when its broker can't be asked.
const FETCH_PAUSE: Duration = Duration::from_secs(1);

/// What became of an attempt to go on.
enum Step {
    /// There is something to write.
    Given(CatchUp),
    /// The session holds the topic.
    Joined,
    /// It is to be tried again when what is in the mailbox is fanned out.
    Wait(CatchUp),
    /// The broker must be asked.
    Fetch(CatchUp),
}

impl Worker {
    /// Gives a session, to which all is written, what comes next of the topics that it catches up
    /// with; whether there is something to write.
    pub(super) fn catch_up(&self, hub: &mut Hub<Session>, key: SessionKey) -> bool {
        loop {
            let session = hub.get_mut(key).expect("it was written to a moment ago");
            let Some(next) = session.catch_ups.as_mut().and_then(|catch_ups| catch_ups.next())
            else {
                session.catch_ups.take_if(|catch_ups| catch_ups.is_empty());
                // A gap may be all that there was to tell.
                return !hub.is_drained(key);
            };
            let session = SessionRef { key, id: session.id };
            let mut missed = false;
            let step = self.step(hub, session, next, &mut missed);
            if missed && self.close_if_missed(hub, key) {
                return false;
            }
            match step {
                Step::Joined => {}
                Step::Given(catch_up) => {
                    Worker::catch_ups(hub, key).push_front(catch_up);
                    return true;
                }
                Step::Wait(catch_up) => {
                    if Worker::catch_ups(hub, key).wait(catch_up) {
                        self.waiting.borrow_mut().push(session);
                    }
                }
                Step::Fetch(catch_up) => {
                    let catch_ups = Worker::catch_ups(hub, key);
                    if catch_ups.is_fetching() {
                        catch_ups.lack(catch_up);
                    } else {
                        let fetch = Fetch(self.fetches.get());
                        self.fetches.set(fetch.0 + 1);
                        catch_ups.begin_fetch(fetch, catch_up.topic());
                        self.fetch(session, fetch, catch_up);
                    }
                }
            }
        }
    }

    fn catch_ups(hub: &mut Hub<Session>, key: SessionKey) -> &mut CatchUps {
        let session = hub.get_mut(key).expect("only open sessions catch up");
        session.catch_ups.get_or_insert_default()
    }

    fn step(
        &self,
        hub: &mut Hub<Session>,
        session: SessionRef,
        mut catch_up: CatchUp,
        missed: &mut bool,
    ) -> Step {
        let told = |told: Told| match told {
            Told::Read(from) => self.metrics.resume_reads.of(from).add(1),
            Told::Gap(reason) => {
                *missed = true;
                self.metrics.gaps.of(reason).add(1);
            }
        };
        let segments = &mut self.segments.borrow_mut();
        let join = &mut catch_up.join;
        match join.next(hub, session.key, &self.broker, segments, PIECE_BYTES, told) {
            Next::Write => Step::Given(catch_up),
            Next::Wait => Step::Wait(catch_up),
            Next::Fetch => Step::Fetch(catch_up),
            Next::Hold(stand) => {
                hub.subscribe(session.key, catch_up.topic(), catch_up.terms, Some(stand))
                    .expect("a session doesn't hold what it catches up with");
                catch_up.hold.fulfil();
                Step::Joined
            }
        }
    }

    /// Asks the broker, and goes on when it has answered.
    fn fetch(&self, session: SessionRef, fetch: Fetch, mut catch_up: CatchUp) {
        let worker = self.rc();
        self.tasks.spawn(Box::pin(async move {
            let fetched = worker.broker.fetch(&mut catch_up.join.reader).await;
            if let Err(error) = &fetched {
                tracing::debug!(topic = %catch_up.topic(), %error, "History can't be read");
                tokio::time::sleep(FETCH_PAUSE).await;
            }
            worker.fetched(session, fetch, catch_up, fetched);
        }));
    }

    fn fetched(
        &self,
        session: SessionRef,
        fetch: Fetch,
        catch_up: CatchUp,
        fetched: Result<(), FetchError>,
    ) {
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return;
        };
        let Some(catch_ups) = &mut state.catch_ups else {
            return;
        };
        if !catch_ups.end_fetch(fetch) {
            return;
        }
        match fetched {
            Ok(()) => catch_ups.push_front(catch_up),
            // Others may have more luck.
            Err(error) if error.passes => catch_ups.lack(catch_up),
            Err(_) => {
                self.give_up(&mut hub, session, catch_up);
                if self.close_if_missed(&mut hub, session.key) {
                    return;
                }
            }
        }
        self.flush(&mut hub, session.key);
    }

    /// What the session lacks can't be had; it goes on with what comes.
    fn give_up(&self, hub: &mut Hub<Session>, session: SessionRef, catch_up: CatchUp) {
        let topic = catch_up.topic().clone();
        let stand = hub.stand(&topic).unwrap_or_else(|| self.broker.stand(&topic));
        let position = stand.map(|stand| stand.position);
        self.tell_gap(hub, session.key, &topic, GapReason::BrokerLink, position);
        hub.subscribe(session.key, &topic, catch_up.terms, stand)
            .expect("a session doesn't hold what it catches up with");
        catch_up.hold.fulfil();
    }

    /// Goes on with those for whom this worker had to do something else first.
    pub(super) fn retry_waiting(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let mut hub = self.hub.borrow_mut();
        for session in waiting {
            if let Some(state) = Worker::alive_mut(&mut hub, session) {
                if let Some(catch_ups) = &mut state.catch_ups {
                    catch_ups.end_wait();
                }
                self.flush(&mut hub, session.key);
            }
        }
    }

    /// Tells a session of a gap in what it is about to get.
    pub(crate) fn tell_gap(
        &self,
        hub: &mut Hub<Session>,
        key: SessionKey,
        topic: &Topic,
        reason: GapReason,
        position: Option<Position>,
    ) {
        hub.tell_gap(key, topic, reason, position);
        self.metrics.gaps.of(reason).add(1);
    }
}
