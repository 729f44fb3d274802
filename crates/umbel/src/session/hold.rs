//! A topic on its way to a session: attached at the broker, and begun at the right place.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use umbel_broker::{Attachment, History, Read, Reader};
use umbel_hub::Terms;
use umbel_protocol::{After, GapReason, Position, Topic};

use super::SessionRef;
use super::catch_up::CatchUp;
use crate::worker::Worker;

/// A topic that a session may hold.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) topic: Topic,
    pub(crate) terms: Terms,
    pub(crate) history: Option<History>,
    pub(crate) from: From,
    /// Whether its client said from where on it wants it.
    pub(crate) has_cursor: bool,
}

/// From where on a session gets a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Now,
    After(After),
    /// From now on; it has a cursor, but not one of ours.
    UnknownCursor,
}

/// How a topic begins for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Beginning {
    /// What comes behind this follows; `None` without history, or if the broker can't say.
    pub(crate) position: Option<Position>,
    /// Why that isn't all that the session lacks.
    pub(crate) gap: Option<GapReason>,
    /// Whether nothing is missing behind what the session named; `None` if it named nothing.
    pub(crate) recovered: Option<bool>,
}

/// A topic that a session is about to hold. While there is one, the worker stays attached to the
/// topic, although nobody may hold it yet; if then nobody does, it is left.
pub(crate) struct Hold {
    worker: Rc<Worker>,
    topic: Topic,
    attachment: Option<Attachment>,
    deadline: Instant,
    /// Whether somebody holds the topic by now.
    is_held: bool,
}

/// How long a session waits for the broker to find its place.
const PLACE_WAIT: Duration = Duration::from_secs(2);

/// How long to rest between attempts to fetch.
const FETCH_PAUSE: Duration = Duration::from_millis(100);

impl Hold {
    /// Attaches the worker to the topic.
    pub(crate) fn begin(worker: &Rc<Worker>, topic: &Topic, history: Option<History>) -> Self {
        *worker.attaching.borrow_mut().entry(topic.clone()).or_default() += 1;
        let attachment = Some(worker.broker.attach(worker.id, topic, history));
        let deadline = Instant::now() + PLACE_WAIT;
        Self { worker: worker.clone(), topic: topic.clone(), attachment, deadline, is_held: false }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Waits for the broker, so that no message is missed from then on.
    pub(crate) async fn confirmed(&mut self) {
        if let Some(attachment) = self.attachment.take()
            && !attachment.confirmed().await
        {
            self.worker.metrics.unconfirmed.add(1);
        }
    }

    /// Waits for the broker and lets the session hold the topic, which it must not hold yet, or
    /// begin to catch up with it. A session that is gone meanwhile is passed over.
    pub(crate) async fn complete(mut self, session: SessionRef, granted: &Granted) -> Beginning {
        self.confirmed().await;
        match granted.from {
            _ if granted.history.is_none() => self.join(session, granted),
            From::Now => self.join(session, granted),
            From::UnknownCursor => {
                let joined = self.join(session, granted);
                Beginning { gap: Some(GapReason::UnknownEpoch), ..joined }
            }
            From::After(after) => self.catch_up(session, granted, after).await,
        }
    }

    /// Somebody holds the topic now, so that the worker stays attached without this.
    pub(crate) fn fulfil(mut self) {
        self.is_held = true;
    }

    /// Lets the session hold the topic from now on.
    fn join(self, session: SessionRef, granted: &Granted) -> Beginning {
        let mut hub = self.worker.hub.borrow_mut();
        if Worker::staying_mut(&mut hub, session).is_none() {
            return Beginning::default();
        }
        let stand = match hub.stand(&self.topic) {
            Some(stand) => stand,
            None => granted.history.and_then(|_| self.worker.broker.stand(&self.topic)),
        };
        hub.subscribe(session.key, &self.topic, granted.terms, stand)
            .expect("the caller has looked whether it holds the topic");
        Beginning {
            position: stand.map(|stand| stand.position),
            // Who doesn't know where it begins can't come back without missing something.
            gap: granted.history.filter(|_| stand.is_none()).map(|_| GapReason::BrokerLink),
            recovered: None,
        }
    }

    async fn catch_up(self, session: SessionRef, granted: &Granted, after: After) -> Beginning {
        let mut reader = Reader::new(self.topic.clone(), after);
        let (begins, is_late) = match self.locate(&mut reader).await {
            Located::At(beginning) => (beginning, false),
            // What it has missed comes once the broker can be asked.
            Located::Later => {
                let position = match after {
                    After::Position(position) => Some(position),
                    After::Latest(_) => None,
                };
                let gap = Some(GapReason::BrokerLink);
                (Beginning { position, gap, recovered: Some(false) }, position.is_none())
            }
            Located::Never => {
                let joined = self.join(session, granted);
                let gap = Some(GapReason::BrokerLink);
                return Beginning { gap, recovered: Some(false), ..joined };
            }
        };
        let worker = self.worker.clone();
        let mut hub = worker.hub.borrow_mut();
        if let Some(state) = Worker::staying_mut(&mut hub, session) {
            let mut catch_up = CatchUp::new(self, reader, granted.terms);
            if is_late {
                catch_up.join.begin_late();
            }
            state.catch_ups.get_or_insert_default().push(catch_up);
        }
        begins
    }

    async fn locate(&self, reader: &mut Reader) -> Located {
        let broker = &self.worker.broker;
        loop {
            match broker.read(reader, None, 0) {
                Read::Located { position, gap, is_complete } => {
                    return Located::At(Beginning {
                        position: Some(position),
                        gap,
                        recovered: Some(is_complete),
                    });
                }
                Read::Missing => {}
                Read::Page(_) | Read::Joined(_) | Read::Ahead => {
                    unreachable!("the place comes before what is behind it")
                }
            }
            match timeout_at(self.deadline, broker.fetch(reader)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !error.passes => return Located::Never,
                Ok(Err(_)) if Instant::now() + FETCH_PAUSE < self.deadline => {
                    sleep(FETCH_PAUSE).await;
                }
                Ok(Err(_)) | Err(_) => return Located::Later,
            }
        }
    }
}

/// Whether the broker says where a session begins.
enum Located {
    At(Beginning),
    /// It can't in time.
    Later,
    /// It refuses to.
    Never,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut attaching = self.worker.attaching.borrow_mut();
        let count = attaching.get_mut(&self.topic).expect("it was counted");
        *count -= 1;
        if *count > 0 {
            return;
        }
        attaching.remove(&self.topic);
        drop(attaching);
        if !self.is_held {
            self.worker.leave_unless_held(&self.topic);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({})", self.topic)
    }
}
