//! The broker beyond this process: Redis pub/sub.
//!
//! A node has one link per Redis server: a connection that carries nothing but subscriptions and
//! messages, read by our own loop, and one for commands. Both live on one thread with an event
//! loop of its own, which workers reach through the [interest](interest) table, the queue of what
//! is to be [published](publisher) and the mailboxes.
//!
//! ```text
//!  worker ── attach/detach ──► interest ──► SUBSCRIBE, UNSUBSCRIBE ──► ┐
//!  worker ── publish ────────► publisher ─► PUBLISH, many at once ───► │ Redis
//!  worker ◄── mailbox ◄─────── intake ◄──── messages ◄──────────────── ┘
//! ```
//!
//! Once a second a [probe](probe) goes out over the one connection and must come back over the
//! other: that alone proves the link. While it isn't proven nothing is published.

mod answer;
mod archive;
mod beat;
mod connect;
mod fault;
mod intake;
mod interest;
mod library;
mod link;
mod metrics;
mod probe;
mod publisher;
mod reads;
mod sentinel;
mod settings;
mod status;
mod url;

pub use library::LIBRARY;
pub use metrics::{BrokerMetrics, families};
pub use settings::RedisSettings;
pub use url::{RedisUrl, RedisUrlError};

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use umbel_protocol::{Stand, Topic};

use crate::broker::Canaries;
use crate::{
    FetchError, History, Mailbox, Publish, PublishError, Published, Read, Reader, WorkerId,
};
use archive::Fetching;
pub(crate) use interest::Confirmation;
use interest::Interest;
use link::Link;
use publisher::{Publisher, Receipt};
use status::Status;

/// A broker on a Redis server.
#[derive(Debug)]
pub struct RedisBroker {
    links: Box<[LinkHandle]>,
    metrics: Arc<BrokerMetrics>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What workers know of a link.
#[derive(Debug)]
struct LinkHandle {
    interest: Arc<Interest>,
    publisher: Publisher,
    status: Arc<Status>,
}

/// How long a read may take: longer than a link may be silent.
const FETCH_WAIT: Duration = Duration::from_secs(8);

impl RedisBroker {
    /// Starts the thread of a broker that fills these mailboxes, one per worker. It connects by
    /// itself, now and whenever the connection is lost.
    pub fn start(
        settings: RedisSettings,
        mailboxes: impl IntoIterator<Item = Arc<Mailbox>>,
    ) -> io::Result<Self> {
        let metrics = Arc::<BrokerMetrics>::default();
        let (interest, status) = (
            Arc::new(Interest::new(settings.linger, settings.history_bytes)),
            Arc::<Status>::default(),
        );
        let (publisher, queue) =
            publisher::new(settings.prefix.clone(), settings.wait_replicas, metrics.clone());
        let handle = LinkHandle { interest: interest.clone(), publisher, status: status.clone() };
        let link = Link::new(
            settings,
            interest,
            status,
            queue,
            mailboxes.into_iter().collect(),
            metrics.clone(),
        );
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("redis".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = link.run() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { links: [handle].into(), metrics, stop: Some(stop), thread: Some(thread) })
    }

    /// What its thread records.
    pub fn metrics(&self) -> Arc<BrokerMetrics> {
        self.metrics.clone()
    }

    /// Why the broker can't be relied on now, if so.
    pub fn trouble(&self) -> Option<String> {
        self.links.iter().find_map(|link| link.status.trouble())
    }

    pub(crate) async fn publish(&self, publish: Publish) -> Result<Published, PublishError> {
        self.submit(publish).await?.outcome().await
    }

    /// Queues a message. What is submitted one after the other for one topic keeps its order.
    pub(crate) async fn submit(&self, publish: Publish) -> Result<Receipt, PublishError> {
        let link = self.link_of(&publish.delivery.message.topic);
        if let Some(trouble) = link.status.trouble() {
            return Err(PublishError::Unavailable(trouble));
        }
        link.publisher.submit(publish).await
    }

    pub(crate) fn attach(
        &self,
        worker: WorkerId,
        topic: &Topic,
        history: Option<History>,
    ) -> Option<Confirmation> {
        self.link_of(topic).interest.attach(worker, topic, history)
    }

    pub(crate) fn read(&self, reader: &mut Reader, up_to: Option<Stand>, bytes: usize) -> Read {
        self.link_of(reader.topic()).interest.archive().read(reader, up_to, bytes)
    }

    pub(crate) async fn fetch(&self, reader: &mut Reader) -> Result<(), FetchError> {
        let link = self.link_of(reader.topic());
        if let Some(text) = link.status.trouble() {
            return Err(FetchError { passes: true, text });
        }
        let fetching = link.interest.archive().fetch(reader.topic(), reader.wanted())?;
        let fetched = async {
            match fetching {
                Fetching::Ring(filled) => {
                    filled.await;
                    reader.fetched();
                }
                Fetching::Page(place) => {
                    let (start, stand) = place.await.unwrap_or_else(|_| Err(unanswered()))?;
                    reader.place(start, stand);
                    reader.fetched();
                }
                Fetching::Confirmation(confirmed) => {
                    confirmed.await.unwrap_or_else(|_| Err(unanswered()))?;
                    reader.confirm();
                }
            }
            Ok(())
        };
        timeout(FETCH_WAIT, fetched).await.unwrap_or_else(|_| Err(unanswered()))
    }

    pub(crate) fn stand(&self, topic: &Topic) -> Option<Stand> {
        self.link_of(topic).interest.archive().stand(topic)
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.links.iter().map(|link| link.interest.archive().bytes()).sum()
    }

    pub(crate) fn canaries(&self) -> Canaries {
        let BrokerMetrics { canaries_sent, canaries_lost, .. } = &*self.metrics;
        Canaries { sent: canaries_sent.get(), lost: canaries_lost.get() }
    }

    pub(crate) fn wait(&self, topic: &Topic, reader: &Arc<Notify>) {
        self.link_of(topic).interest.archive().wait(topic, reader);
    }

    pub(crate) fn detach(&self, worker: WorkerId, topic: &Topic) {
        self.link_of(topic).interest.detach(worker, topic);
    }

    /// The one place that knows which link carries a topic. There is one so far.
    fn link_of(&self, _topic: &Topic) -> &LinkHandle {
        &self.links[0]
    }
}

fn unanswered() -> FetchError {
    FetchError { passes: true, text: "Redis did not answer".to_owned() }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was told on its standard error.
            let _ = thread.join();
        }
    }
}
