//! Which topics a link is subscribed to, and which it should be.
//!
//! Workers say what they hold; the link turns that into SUBSCRIBE and UNSUBSCRIBE and reports what
//! the server has confirmed. A topic that nobody holds any more stays subscribed for a while
//! (`broker.linger_seconds`), since most come back. There is one command under way per change and the server
//! answers in order, so a topic is confirmed when all its answers have come and the last command
//! was SUBSCRIBE; no interleaving of attaching and detaching can leave it subscribed for nobody or
//! unsubscribed for somebody.

mod table;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;
use umbel_protocol::Topic;

use super::archive::Archive;
use crate::WorkerId;
use crate::history::History;
pub(super) use table::{Interested, Table};

/// How long [`Confirmation::wait`] waits for the server.
const CONFIRMATION_WAIT: Duration = Duration::from_secs(2);

/// The interest of all workers of a node in the topics of one link.
#[derive(Debug)]
pub(super) struct Interest {
    table: Mutex<Table>,
    /// What is known of those topics that have history. Locked behind the table where both are.
    archive: Mutex<Archive>,
    /// There are changes for the link to make.
    changed: Notify,
}

/// A topic that a worker was attached to and that the server hasn't confirmed yet.
#[derive(Debug)]
pub(crate) struct Confirmation {
    interest: Arc<Interest>,
    worker: WorkerId,
    topic: Topic,
    confirmed: OwnedNotified,
    deadline: Instant,
}

impl Confirmation {
    /// Waits for the server, but no longer than two seconds after the worker was attached: then
    /// its sessions are told of a gap once the confirmation comes. Whether it came.
    pub(crate) async fn wait(self) -> bool {
        let came = tokio::time::timeout_at(self.deadline, self.confirmed).await.is_ok();
        if !came {
            self.interest.lock().owe(self.worker, &self.topic);
        }
        came
    }
}

impl Interest {
    /// No interest yet. A topic stays subscribed for `linger` after its last session left, and
    /// `history_bytes` of what was published stay at hand.
    pub(super) fn new(linger: Duration, history_bytes: usize) -> Self {
        Self {
            table: Mutex::new(Table::new(linger)),
            archive: Mutex::new(Archive::new(history_bytes)),
            changed: Notify::new(),
        }
    }

    /// Has messages of `topic` given to the worker from the server's confirmation on; `None` if it
    /// has confirmed it already.
    pub(super) fn attach(
        self: &Arc<Self>,
        worker: WorkerId,
        topic: &Topic,
        history: Option<History>,
    ) -> Option<Confirmation> {
        let confirmed = {
            let mut table = self.lock();
            let confirmed = table.attach(worker, topic, history.is_some());
            if let Some(history) = history {
                self.archive().follow(topic, history);
            }
            confirmed?
        };
        self.changed.notify_one();
        let deadline = Instant::now() + CONFIRMATION_WAIT;
        Some(Confirmation {
            interest: self.clone(),
            worker,
            topic: topic.clone(),
            confirmed,
            deadline,
        })
    }

    /// Undoes [`Interest::attach`].
    pub(super) fn detach(&self, worker: WorkerId, topic: &Topic) {
        if self.lock().detach(worker, topic, Instant::now()) {
            self.changed.notify_one();
        }
    }

    /// Waits until there may be changes to make.
    ///
    /// Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Finds the topics that nobody has held for long.
    pub(super) fn sweep(&self) {
        if self.lock().sweep(Instant::now()) {
            self.changed.notify_one();
        }
    }

    /// Gives up what is known of topics that nobody holds any more, and pages that came long ago.
    pub(super) fn forget_removed(&self) {
        let mut table = self.lock();
        let removed = table.take_removed();
        let mut archive = self.archive();
        for topic in &removed {
            archive.forget(topic);
        }
        archive.forget_old_pages();
    }

    /// The link is gone.
    pub(super) fn lost(&self) {
        let mut table = self.lock();
        table.lost();
        self.archive().lost();
    }

    /// What is known of topics with history; for short.
    pub(super) fn archive(&self) -> MutexGuard<'_, Archive> {
        self.archive.lock().expect("no code that can panic runs under this lock")
    }

    /// The table; for short.
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code that can panic runs under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::worker;

    const LINGER: Duration = Duration::from_secs(2);

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_link_hears_of_the_first_topic_that_lingers() {
        let interest = Arc::new(Interest::new(LINGER, 0));
        for name in ["a", "b"] {
            drop(interest.attach(worker(0), &topic(name), None));
        }
        let hears = async || tokio::time::timeout(LINGER, interest.changed()).await.is_ok();
        assert_eq!((hears().await, hears().await), (true, false), "two came");
        interest.detach(worker(0), &topic("a"));
        assert!(hears().await);
        interest.detach(worker(0), &topic("b"));
        assert!(!hears().await, "it looks after topics that linger already");
    }

    #[tokio::test(start_paused = true)]
    async fn attaching_waits_for_the_answer_but_not_for_ever() {
        let interest = Arc::new(Interest::new(LINGER, 0));
        let attach = interest.attach(worker(0), &topic("a"), None).unwrap().wait();
        let server = async {
            interest.changed().await;
            assert_eq!(interest.lock().take_changes(9).subscribe, [topic("a")]);
            tokio::time::sleep(CONFIRMATION_WAIT / 2).await;
            interest.lock().answered("a", |_, _| panic!("nothing was missed"));
        };
        let started = Instant::now();
        tokio::join!(attach, server);
        assert_eq!(started.elapsed(), CONFIRMATION_WAIT / 2);
        interest.attach(worker(0), &topic("b"), None).unwrap().wait().await;
        assert_eq!(started.elapsed(), CONFIRMATION_WAIT * 3 / 2, "nobody answered");
        interest.lock().take_changes(9);
        let mut told = 0;
        interest.lock().answered("b", |_, _| told += 1);
        assert_eq!(told, 1);
    }
}
