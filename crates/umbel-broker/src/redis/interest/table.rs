//! The table of topics, as plain state: what is held, sent and confirmed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;
use umbel_protocol::Topic;

use crate::WorkerId;
use crate::workers::WorkerSet;

/// How many answers the server may owe: it holds them in an output buffer that it bounds, and each
/// takes up to 300 bytes there.
const MAX_UNANSWERED: usize = 16 * 1024;

/// How many topics may linger. Whoever takes up and leaves more within the time doesn't come back to
/// them, and must not fill the table.
const MAX_LINGERING: usize = 64 * 1024;

/// The table behind [`Interest`].
#[derive(Debug)]
pub(in crate::redis) struct Table {
    /// How long a topic stays subscribed after its last session left.
    linger: Duration,
    topics: HashMap<Topic, Entry>,
    /// Topics whose subscription is to be looked at by the link.
    changes: VecDeque<Topic>,
    /// Topics that nobody holds, by when the last session left.
    leaving: VecDeque<(Instant, Topic)>,
    unanswered: usize,
    /// Topics with history that aren't here any more.
    removed: Vec<Topic>,
}

#[derive(Debug)]
struct Entry {
    workers: WorkerSet,
    /// Workers whose sessions may have missed messages and weren't told yet.
    owed: WorkerSet,
    /// Whether the last command that was sent is SUBSCRIBE.
    sent: bool,
    unanswered: u32,
    /// Whether it stands in `changes`.
    changing: bool,
    /// Whether it stands in `leaving`.
    leaving: bool,
    left: Instant,
    confirmation: Option<Arc<Notify>>,
    /// For topics with history: whether it is known where they stand since the last answer.
    check: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The topic is live only.
    None,
    Missing,
    Done,
}

/// Who listens to a topic.
#[derive(Debug, Clone, Copy)]
pub(in crate::redis) struct Interested<'t> {
    pub(in crate::redis) topic: &'t Topic,
    pub(in crate::redis) workers: WorkerSet,
    /// Those among them whose sessions were let in unconfirmed.
    pub(in crate::redis) owed: WorkerSet,
    pub(in crate::redis) has_history: bool,
}

/// What a link has to send next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct Changes {
    pub(in crate::redis) subscribe: Vec<Topic>,
    pub(in crate::redis) unsubscribe: Vec<Topic>,
}

impl Table {
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            linger,
            topics: HashMap::new(),
            changes: VecDeque::new(),
            leaving: VecDeque::new(),
            unanswered: 0,
            removed: Vec::new(),
        }
    }

    /// Adds a worker. Gives what to wait for if the server hasn't confirmed the topic, or a topic
    /// with history isn't checked since.
    pub(super) fn attach(
        &mut self,
        worker: WorkerId,
        topic: &Topic,
        has_history: bool,
    ) -> Option<OwnedNotified> {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Entry::new(has_history));
        }
        let entry = self.topics.get_mut(topic).expect("it was inserted if it was missing");
        entry.workers.insert(worker);
        if entry.is_ready() {
            return None;
        }
        if !entry.sent && !std::mem::replace(&mut entry.changing, true) {
            self.changes.push_back(topic.clone());
        }
        Some(entry.confirmation.get_or_insert_default().clone().notified_owned())
    }

    /// The worker's sessions are let in without a confirmation.
    pub(super) fn owe(&mut self, worker: WorkerId, topic: &Topic) {
        if let Some(entry) = self.topics.get_mut(topic)
            && !entry.is_ready()
            && entry.workers.contains(worker)
        {
            entry.owed.insert(worker);
        }
    }

    /// Undoes [`Table::attach`]. Whether this is the first topic to linger, for which the time
    /// begins to be looked at.
    pub(super) fn detach(&mut self, worker: WorkerId, topic: &Topic, now: Instant) -> bool {
        let Some(entry) = self.topics.get_mut(topic) else {
            return false;
        };
        entry.workers.remove(worker);
        entry.owed.remove(worker);
        if entry.workers.is_empty() {
            entry.left = now;
            if !std::mem::replace(&mut entry.leaving, true) {
                self.leaving.push_back((now, topic.clone()));
                return self.leaving.len() == 1;
            }
        }
        false
    }

    /// Whether there are topics that linger.
    pub(in crate::redis) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether there are changes to make.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        while let Some((since, _)) = self.leaving.front()
            && (*since + self.linger <= now || self.leaving.len() > MAX_LINGERING)
            && let Some((_, topic)) = self.leaving.pop_front()
        {
            let Some(entry) = self.topics.get_mut(&topic).filter(|entry| entry.leaving) else {
                continue;
            };
            if !entry.workers.is_empty() {
                entry.leaving = false;
            } else if entry.left + self.linger > now && self.leaving.len() < MAX_LINGERING {
                self.leaving.push_back((entry.left, topic));
            } else {
                entry.leaving = false;
                if !entry.sent && entry.unanswered == 0 {
                    self.remove(&topic);
                } else if !std::mem::replace(&mut entry.changing, true) {
                    self.changes.push_back(topic);
                }
            }
        }
        !self.changes.is_empty()
    }

    /// Takes the next changes, at most `most`; none while the server owes too many answers.
    pub(in crate::redis) fn take_changes(&mut self, most: usize) -> Changes {
        let mut taken = Changes::default();
        while taken.subscribe.len() + taken.unsubscribe.len() < most
            && self.unanswered < MAX_UNANSWERED
            && let Some(topic) = self.changes.pop_front()
        {
            let Some(entry) = self.topics.get_mut(&topic) else {
                continue;
            };
            entry.changing = false;
            let wanted = !entry.workers.is_empty();
            if wanted == entry.sent {
                if !wanted && entry.unanswered == 0 {
                    self.remove(&topic);
                }
                continue;
            }
            entry.sent = wanted;
            if wanted && entry.check == Check::Done {
                // It may have missed what came while it wasn't subscribed.
                entry.check = Check::Missing;
            }
            entry.unanswered += 1;
            self.unanswered += 1;
            if wanted {
                taken.subscribe.push(topic);
            } else {
                taken.unsubscribe.push(topic);
            }
        }
        taken
    }

    /// Whether there are changes that [`Table::take_changes`] would give.
    pub(in crate::redis) fn has_changes(&self) -> bool {
        !self.changes.is_empty() && self.unanswered < MAX_UNANSWERED
    }

    /// The server has answered the oldest command for this topic. Calls `gap` for each worker
    /// whose sessions may have missed messages until now. Gives the topic if it has history and is
    /// to be checked.
    pub(in crate::redis) fn answered(
        &mut self,
        name: &str,
        mut gap: impl FnMut(WorkerId, &Topic),
    ) -> Option<Topic> {
        let (topic, _) = self.topics.get_key_value(name)?;
        let topic = topic.clone();
        let entry = self.topics.get_mut(name).expect("it was there a moment ago");
        if entry.unanswered == 0 {
            return None;
        }
        entry.unanswered -= 1;
        self.unanswered -= 1;
        if entry.unanswered > 0 {
            return None;
        }
        match (entry.sent, entry.check) {
            (true, Check::None) => {
                for worker in std::mem::take(&mut entry.owed).iter() {
                    gap(worker, &topic);
                }
                entry.confirm();
            }
            (true, _) => return Some(topic),
            (false, _) if entry.workers.is_empty() && !entry.leaving => self.remove(&topic),
            (false, _) => {}
        }
        None
    }

    /// It is known where a topic with history stands, and what was missed of it is repaired. Gives
    /// the workers that let sessions in before that.
    pub(in crate::redis) fn checked(&mut self, topic: &Topic) -> WorkerSet {
        match self.topics.get_mut(topic) {
            Some(entry) if entry.is_confirmed() && entry.check == Check::Missing => {
                entry.check = Check::Done;
                entry.confirm();
                std::mem::take(&mut entry.owed)
            }
            _ => WorkerSet::default(),
        }
    }

    /// Takes the topics with history that went since the last call.
    pub(in crate::redis) fn take_removed(&mut self) -> Vec<Topic> {
        let mut removed = std::mem::take(&mut self.removed);
        removed.retain(|topic| !self.topics.contains_key(topic));
        removed
    }

    /// The link is gone, and with it all subscriptions: who held a topic may miss messages from
    /// now on.
    pub(in crate::redis) fn lost(&mut self) {
        self.changes.clear();
        self.unanswered = 0;
        for entry in self.topics.values_mut() {
            if entry.is_ready() {
                entry.owed = entry.workers;
            }
            if entry.check == Check::Done {
                entry.check = Check::Missing;
            }
            entry.sent = false;
            entry.unanswered = 0;
            entry.changing = false;
        }
    }

    /// A new link is there: all that is held is to be subscribed.
    pub(in crate::redis) fn begin(&mut self) {
        self.changes.clear();
        self.leaving.clear();
        let removed = &mut self.removed;
        self.topics.retain(|topic, entry| {
            let stays = !entry.workers.is_empty();
            if !stays && entry.check != Check::None {
                removed.push(topic.clone());
            }
            stays
        });
        for (topic, entry) in &mut self.topics {
            entry.leaving = false;
            entry.changing = true;
            self.changes.push_back(topic.clone());
        }
    }

    /// Who is to get the messages of a topic.
    pub(in crate::redis) fn workers_of(&self, name: &str) -> Option<Interested<'_>> {
        let (topic, entry) = self.topics.get_key_value(name)?;
        let has_history = entry.check != Check::None;
        Some(Interested { topic, workers: entry.workers, owed: entry.owed, has_history })
    }

    /// How many topics are held or were until a moment ago.
    pub(in crate::redis) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    fn remove(&mut self, topic: &Topic) {
        if self.topics.remove(topic).is_some_and(|entry| entry.check != Check::None) {
            self.removed.push(topic.clone());
        }
        if self.topics.len() < self.topics.capacity() / 8 {
            self.topics.shrink_to_fit();
        }
    }
}

impl Entry {
    fn new(has_history: bool) -> Self {
        Self {
            check: if has_history { Check::Missing } else { Check::None },
            workers: WorkerSet::default(),
            owed: WorkerSet::default(),
            sent: false,
            unanswered: 0,
            changing: false,
            leaving: false,
            left: Instant::now(),
            confirmation: None,
        }
    }

    fn is_confirmed(&self) -> bool {
        self.sent && self.unanswered == 0
    }

    /// Whether who is let in now misses nothing.
    fn is_ready(&self) -> bool {
        self.is_confirmed() && self.check != Check::Missing
    }

    fn confirm(&mut self) {
        if let Some(confirmation) = self.confirmation.take() {
            confirmation.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::worker;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const LINGER: Duration = Duration::from_secs(2);

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn subscribe(topics: &[&str]) -> Changes {
        Changes { subscribe: topics.iter().map(|name| topic(name)).collect(), ..Changes::default() }
    }

    fn unsubscribe(topics: &[&str]) -> Changes {
        Changes {
            unsubscribe: topics.iter().map(|name| topic(name)).collect(),
            ..Changes::default()
        }
    }

    fn no_gap(worker: WorkerId, topic: &Topic) {
        panic!("{worker:?} is told of a gap in {topic}");
    }

    #[tokio::test]
    async fn the_first_subscribes_and_the_last_leaves_after_a_while() {
        let mut table = Table::new(LINGER);
        let start = Instant::now();
        assert!(table.attach(worker(0), &topic("a"), false).is_some());
        assert!(table.attach(worker(1), &topic("a"), false).is_some());
        assert_eq!(table.take_changes(9), subscribe(&["a"]));
        table.answered("a", no_gap);
        assert!(table.attach(worker(2), &topic("a"), false).is_none(), "it is confirmed");
        for number in 0..3 {
            table.detach(worker(number), &topic("a"), start);
        }
        assert!(!table.sweep(start + LINGER / 2));
        assert!(table.sweep(start + LINGER));
        assert_eq!(table.take_changes(9), unsubscribe(&["a"]));
        table.answered("a", no_gap);
        assert_eq!(table.topic_count(), 0);
    }

    #[tokio::test]
    async fn who_comes_back_in_time_costs_nothing() {
        let mut table = Table::new(LINGER);
        let start = Instant::now();
        let _ = table.attach(worker(0), &topic("a"), false);
        table.take_changes(9);
        table.answered("a", no_gap);
        table.detach(worker(0), &topic("a"), start);
        assert!(table.attach(worker(0), &topic("a"), false).is_none());
        assert!(!table.sweep(start + LINGER * 2));
        assert_eq!(table.workers_of("a").unwrap().topic, &topic("a"));
    }

    #[tokio::test]
    async fn a_topic_is_confirmed_only_by_the_last_answer() {
        let mut table = Table::new(LINGER);
        let start = Instant::now();
        let _ = table.attach(worker(0), &topic("a"), false);
        table.take_changes(9);
        table.detach(worker(0), &topic("a"), start);
        table.sweep(start + LINGER);
        assert_eq!(table.take_changes(9), unsubscribe(&["a"]));
        assert!(table.attach(worker(0), &topic("a"), false).is_some());
        assert_eq!(table.take_changes(9), subscribe(&["a"]));
        table.answered("a", no_gap);
        table.answered("a", no_gap);
        assert!(
            table.attach(worker(1), &topic("a"), false).is_some(),
            "the second SUBSCRIBE is not"
        );
        table.answered("a", no_gap);
        assert!(table.attach(worker(1), &topic("a"), false).is_none());
    }

    #[tokio::test]
    async fn who_held_a_topic_when_the_link_was_lost_is_told_once_it_is_back() {
        let mut table = Table::new(LINGER);
        let _ = table.attach(worker(0), &topic("a"), false);
        table.take_changes(9);
        table.answered("a", no_gap);
        table.lost();
        let _ = table.attach(worker(1), &topic("a"), false);
        let _ = table.attach(worker(0), &topic("b"), false);
        let _ = table.attach(worker(2), &topic("b"), false);
        table.owe(worker(2), &topic("b"));
        table.begin();
        let changes = table.take_changes(9);
        assert_eq!(changes.subscribe.len(), 2);
        let mut told = Vec::new();
        table.answered("a", |worker, topic| told.push((worker.index(), topic.to_string())));
        table.answered("b", |worker, topic| told.push((worker.index(), topic.to_string())));
        assert_eq!(told, [(0, "a".to_owned()), (2, "b".to_owned())]);
        table.lost();
        table.begin();
        table.take_changes(9);
        told.clear();
        table.answered("a", |worker, _| told.push((worker.index(), String::new())));
        assert_eq!(told.len(), 2, "both hold it now");
    }

    #[tokio::test]
    async fn the_server_s_debt_is_bounded() {
        let mut table = Table::new(LINGER);
        for number in 0..=MAX_UNANSWERED {
            let _ = table.attach(worker(0), &topic(&number.to_string()), false);
        }
        assert_eq!(table.take_changes(usize::MAX).subscribe.len(), MAX_UNANSWERED);
        assert!(!table.has_changes());
        table.answered("0", no_gap);
        assert!(table.has_changes());
        assert_eq!(table.take_changes(usize::MAX).subscribe.len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Attach(usize, usize),
        Detach(usize, usize),
        Sweep,
        Send(usize),
        Answer(usize),
        Lost,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..3_usize, 0..3_usize).prop_map(|(worker, topic)| Op::Attach(worker, topic)),
            4 => (0..3_usize, 0..3_usize).prop_map(|(worker, topic)| Op::Detach(worker, topic)),
            2 => Just(Op::Sweep),
            3 => (1..4_usize).prop_map(Op::Send),
            3 => (1..4_usize).prop_map(Op::Answer),
            1 => Just(Op::Lost),
        ]
    }

    /// A server that does what it is told, a while later.
    #[derive(Default)]
    struct Server {
        commands: VecDeque<(bool, Topic)>,
        subscribed: HashSet<Topic>,
    }

    impl Server {
        fn take(&mut self, changes: Changes) {
            self.commands.extend(changes.subscribe.into_iter().map(|topic| (true, topic)));
            self.commands.extend(changes.unsubscribe.into_iter().map(|topic| (false, topic)));
        }

        fn answer(&mut self, table: &mut Table) {
            if let Some((subscribe, topic)) = self.commands.pop_front() {
                if subscribe {
                    self.subscribed.insert(topic.clone());
                } else {
                    self.subscribed.remove(&topic);
                }
                table.answered(topic.as_str(), |_, _| {});
            }
        }
    }

    proptest! {
        /// Whatever happens in which order: who is told that a topic is confirmed is subscribed,
        /// and in the end the server has exactly the topics that are held.
        #[test]
        fn no_subscription_is_lost_or_left_behind(ops in prop::collection::vec(op(), 1..120)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _guard = runtime.enter();
            let names = ["a", "b", "c"].map(topic);
            let (mut table, mut server) = (Table::new(LINGER), Server::default());
            let mut held: HashSet<(usize, usize)> = HashSet::new();
            let mut now = Instant::now();
            for op in ops {
                match op {
                    Op::Attach(number, name) => {
                        held.insert((number, name));
                        let waits = table.attach(worker(number), &names[name], false).is_some();
                        prop_assert!(waits || server.subscribed.contains(&names[name]));
                    }
                    Op::Detach(number, name) => {
                        if held.remove(&(number, name)) {
                            table.detach(worker(number), &names[name], now);
                        }
                    }
                    Op::Sweep => {
                        now += LINGER;
                        table.sweep(now);
                    }
                    Op::Send(most) => server.take(table.take_changes(most)),
                    Op::Answer(count) => (0..count).for_each(|_| server.answer(&mut table)),
                    Op::Lost => {
                        table.lost();
                        server = Server::default();
                        table.begin();
                    }
                }
                for (_, name) in &held {
                    prop_assert!(table.workers_of(names[*name].as_str()).is_some());
                }
            }
            for _ in 0..3 {
                now += LINGER;
                table.sweep(now);
                server.take(table.take_changes(99));
                while !server.commands.is_empty() {
                    server.answer(&mut table);
                }
            }
            let wanted: HashSet<_> = held.iter().map(|(_, name)| names[*name].clone()).collect();
            prop_assert_eq!(&server.subscribed, &wanted);
            prop_assert_eq!(table.topics.len(), wanted.len(), "no entry is left behind");
            prop_assert!(table.leaving.is_empty() && table.changes.is_empty() && table.unanswered == 0);
        }
    }
}
