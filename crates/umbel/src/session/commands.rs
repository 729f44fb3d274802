//! What sessions ask for, done.
//!
//! Each function ends with its reply among the session's control frames. Between two awaits the
//! session may end; then there is nobody to reply to and the rest isn't done.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use umbel_broker::{PublishError, Published};
use umbel_hub::{Hub, Unsubscribed};
use umbel_protocol::json::{
    self, Command, ErrorCode, Publish, Reply, Request, RequestError, RequestId,
};
use umbel_protocol::{
    After, Delivery, GapReason, Message, Payload, PayloadError, Position, Timestamp, Topic,
    TraceParent,
};

use super::incoming::ClientFrame;
use super::{CloseReason, From, Granted, Hold, PublishTarget, Role, Session, SessionRef};
use crate::authorise::{Action, Principal};
use crate::config::TopicRule;
use crate::ledger::Charge;
use crate::trace::{Outcome, Publishing};
use crate::worker::{Held, Limit, Source, Worker};

/// How many bytes of replies may wait before no more is done for a session: one that doesn't read
/// its replies isn't listened to. Replies may be much longer than what they answer.
pub(super) const CONTROL_HIGH_BYTES: usize = 64 * 1024;

/// How many commands of a frame are run before others get their turn.
const COMMANDS_PER_TURN: usize = 32;

/// Runs the commands of one text frame of the JSON dialect, in order.
pub(super) async fn execute(worker: Rc<Worker>, session: SessionRef, frame: String) {
    let _held = Charge::new(&worker.ledger, Held::Input, frame.len());
    let mut subscribing = Vec::new();
    for (count, request) in json::requests(&frame).enumerate() {
        if count % COMMANDS_PER_TURN == COMMANDS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        // Subscriptions that follow one another wait for the broker together.
        if let Ok(Request { id, command: Command::Subscribe(topics) }) = request {
            worker.begin_subscribing(session, id, topics, &mut subscribing).await;
            continue;
        }
        worker.subscribe(session, &mut subscribing).await;
        match request {
            Ok(request) => worker.run(session, request).await,
            Err(RequestError::Refused { id, code, message }) => {
                worker.reply_error(session, id, code, &message);
            }
            Err(RequestError::Unparseable(message)) => {
                worker.close_session(session, CloseReason::Unparseable, &message);
            }
        }
        if !worker.is_open(session) {
            return;
        }
        worker.replies_taken(session).await;
    }
    worker.subscribe(session, &mut subscribing).await;
}

/// Publishes one frame of the plain dialect. What can't be published ends the session, since the
/// dialect has no other way to say so.
pub(super) async fn publish_frame(worker: Rc<Worker>, session: SessionRef, frame: ClientFrame) {
    let Some(PublishTarget { topic, echo, bare, stamp }) = worker.publish_target(session) else {
        let text = "this URL takes no messages";
        return worker.close_session(session, CloseReason::Forbidden, text);
    };
    let payload = match frame {
        ClientFrame::Text(text) => Payload::text(text),
        ClientFrame::Binary(bytes) => Payload::binary(bytes),
        ClientFrame::Ping(_) | ClientFrame::Pong | ClientFrame::Close(_) => return,
    };
    let _held = Charge::new(&worker.ledger, Held::Input, payload.bytes().len());
    let published = umbel_broker::wall();
    let stamped = match stamp {
        Some(stamp) => stamp.set(payload, session.id, published),
        None => Ok(payload),
    };
    let result = match stamped {
        Ok(payload) => {
            let publish = Publish { topic, payload, event: None, echo, key: None, trace: None };
            worker.publish(session, Outgoing { publish, bare, published }).await.map(drop)
        }
        Err(error) => Err(PublishRefusal::WrongKind(topic, error)),
    };
    if let Err(refusal) = result {
        let (reason, text) = refusal.as_close();
        worker.close_session(session, reason, &text);
    }
}

/// What a session publishes, with what its frame doesn't say.
#[derive(Debug)]
struct Outgoing {
    publish: Publish,
    /// [`Delivery::bare`].
    bare: bool,
    published: Timestamp,
}

/// Why a session's message wasn't published.
#[derive(Debug)]
enum PublishRefusal {
    Forbidden(Topic),
    WrongKind(Topic, PayloadError),
    TooLarge { bytes: usize, limit: usize },
    TooFast { limit: u32 },
    NotPublished(PublishError),
}

impl PublishRefusal {
    fn as_reply(&self) -> (ErrorCode, String) {
        match self {
            Self::Forbidden(topic) => {
                (ErrorCode::Forbidden, format!("publishing to `{topic}` is not allowed"))
            }
            Self::WrongKind(topic, error) => {
                (ErrorCode::BadRequest, format!("`{topic}` takes another kind: {error}"))
            }
            Self::TooLarge { bytes, limit } => (
                ErrorCode::TooLarge,
                format!("payload is {bytes} bytes, at most {limit} are allowed"),
            ),
            Self::TooFast { limit } => (
                ErrorCode::RateLimited,
                format!(
                    "a session may publish {limit} messages in a second, twice as many at once"
                ),
            ),
            Self::NotPublished(error) => {
                let code = match error {
                    PublishError::Behind
                    | PublishError::Unavailable(_)
                    | PublishError::Refused(_) => ErrorCode::Unavailable,
                    PublishError::OutcomeUnknown(_) => ErrorCode::OutcomeUnknown,
                    PublishError::KeyUsed => ErrorCode::BadRequest,
                };
                (code, error.to_string())
            }
        }
    }

    fn as_close(&self) -> (CloseReason, String) {
        let reason = match self {
            Self::Forbidden(_) => CloseReason::Forbidden,
            Self::WrongKind(..) => CloseReason::Unsupported,
            Self::TooLarge { .. } => CloseReason::TooBig,
            Self::TooFast { .. } => CloseReason::TooMany,
            Self::NotPublished(_) => CloseReason::Overloaded,
        };
        (reason, self.as_reply().1)
    }
}

/// A subscription that was granted, on its way to the broker.
struct Subscribing<'f> {
    id: Option<RequestId<'f>>,
    hold: Hold,
    granted: Granted,
}

/// A topic, and from where on its client wants it.
type Wish = (Topic, Option<After>);

impl Worker {
    async fn run(&self, session: SessionRef, request: Request<'_>) {
        let Request { id, command } = request;
        match command {
            Command::Ping => self.reply(session, id, &Reply::Pong),
            Command::Subscribe(_) => unreachable!("subscriptions are gathered by the caller"),
            Command::Unsubscribe(topic) => self.unsubscribe(session, id, &topic),
            Command::Publish(publish) => {
                let outgoing = Outgoing { publish, bare: false, published: umbel_broker::wall() };
                match self.publish(session, outgoing).await {
                    Ok(published) => self.reply(session, id, &Reply::Published(published.id)),
                    Err(refusal) => {
                        let (code, message) = refusal.as_reply();
                        self.reply_error(session, id, code, &message);
                    }
                }
            }
        }
    }

    /// All topics or none: one that can't be held refuses the whole request.
    async fn begin_subscribing<'f>(
        self: &Rc<Self>,
        session: SessionRef,
        id: Option<RequestId<'f>>,
        topics: Vec<Wish>,
        subscribing: &mut Vec<Subscribing<'f>>,
    ) {
        let is_wanted = |known: &Topic| topics.iter().any(|(topic, _)| topic == known);
        if subscribing.iter().any(|other| is_wanted(other.hold.topic())) {
            self.subscribe(session, subscribing).await;
        }
        match self.grant(session, topics, subscribing.len()).await {
            Ok(granted) => {
                let begin = |granted: Granted| {
                    let hold = Hold::begin(self, &granted.topic, granted.history);
                    Subscribing { id, hold, granted }
                };
                subscribing.extend(granted.into_iter().map(begin));
            }
            Err((code, message)) => {
                // Replies come in the order of requests.
                self.subscribe(session, subscribing).await;
                self.reply_error(session, id, code, &message);
            }
        }
    }

    async fn grant(
        &self,
        session: SessionRef,
        topics: Vec<Wish>,
        subscribing: usize,
    ) -> Result<Vec<Granted>, (ErrorCode, String)> {
        let mut granted = Vec::with_capacity(topics.len());
        for (topic, after) in topics {
            let rule = self.door.authorise(&Principal::Anonymous, Action::Subscribe, &topic).await;
            let rule = rule.map_err(|error| (ErrorCode::Forbidden, error.to_string()))?;
            if after.is_some() && rule.history.is_none() {
                return Err((ErrorCode::NoHistory, format!("topic `{topic}` keeps no history")));
            }
            let from = match after.or(rule.on_subscribe.map(After::Latest)) {
                Some(after) => From::After(after),
                None => From::Now,
            };
            let (terms, history) = (rule.terms(), rule.history);
            granted.push(Granted { topic, terms, history, from, has_cursor: after.is_some() });
        }
        self.check_room(session, &granted, subscribing)?;
        Ok(granted)
    }

    /// Completes what was begun, in order.
    async fn subscribe(&self, session: SessionRef, subscribing: &mut Vec<Subscribing<'_>>) {
        for Subscribing { id, hold, granted } in subscribing.drain(..) {
            let beginning = hold.complete(session, &granted).await;
            self.count_resume(&granted, &beginning);
            let recovered = beginning.recovered.filter(|_| granted.has_cursor);
            let (topic, position) = (&granted.topic, beginning.position);
            self.reply(session, id, &Reply::Subscribed { topic, position, recovered });
            if let Some(reason) = beginning.gap {
                self.tell_alive(session, topic, reason, position);
            }
            self.replies_taken(session).await;
        }
    }

    fn tell_alive(
        &self,
        session: SessionRef,
        topic: &Topic,
        reason: GapReason,
        position: Option<Position>,
    ) {
        let mut hub = self.hub.borrow_mut();
        if Worker::staying_mut(&mut hub, session).is_some() {
            self.tell_gap(&mut hub, session.key, topic, reason, position);
        }
    }

    fn check_room(
        &self,
        session: SessionRef,
        topics: &[Granted],
        subscribing: usize,
    ) -> Result<(), (ErrorCode, String)> {
        let hub = self.hub.borrow();
        let Some(state) = hub.get(session.key).filter(|state| state.id == session.id) else {
            return Ok(());
        };
        let has = |topic: &Topic| hub.holds(session.key, topic) || state.catches_up_with(topic);
        if let Some(Granted { topic, .. }) = topics.iter().find(|granted| has(&granted.topic)) {
            return Err((
                ErrorCode::AlreadySubscribed,
                format!("topic `{topic}` is subscribed already"),
            ));
        }
        let catching_up = state.catch_ups.as_ref().map_or(0, |catch_ups| catch_ups.len());
        let held = hub.held(session.key) + catching_up + subscribing;
        let (wanted, limit) = (held + topics.len(), self.limits.topics_per_session);
        if wanted > limit {
            self.metrics.limited.of(Limit::Topics).add(1);
            return Err((
                ErrorCode::Limit,
                format!("the session would hold {wanted} topics, at most {limit} are allowed"),
            ));
        }
        Ok(())
    }

    fn unsubscribe(&self, session: SessionRef, id: Option<RequestId<'_>>, topic: &Topic) {
        let unsubscribed = {
            let mut hub = self.hub.borrow_mut();
            let Some(state) = Worker::alive_mut(&mut hub, session) else {
                return;
            };
            let catch_ups = state.catch_ups.as_mut();
            if catch_ups.is_some_and(|catch_ups| catch_ups.remove(topic)) {
                Ok(Unsubscribed { last: false })
            } else {
                hub.unsubscribe(session.key, topic)
            }
        };
        match unsubscribed {
            Ok(unsubscribed) => {
                if unsubscribed.last {
                    self.left(topic);
                }
                self.reply(session, id, &Reply::Unsubscribed(topic));
            }
            Err(_) => self.reply_error(
                session,
                id,
                ErrorCode::NotSubscribed,
                &format!("topic `{topic}` is not subscribed"),
            ),
        }
    }

    async fn publish(
        &self,
        session: SessionRef,
        outgoing: Outgoing,
    ) -> Result<Published, PublishRefusal> {
        let Publish { topic, payload, trace, .. } = &outgoing.publish;
        let (bytes, limit) = (payload.bytes().len(), self.limits.payload_bytes);
        if bytes > limit {
            self.metrics.limited.of(Limit::Size).add(1);
            return Err(PublishRefusal::TooLarge { bytes, limit });
        }
        if !self.may_publish_now(session) {
            self.metrics.limited.of(Limit::Publishes).add(1);
            return Err(PublishRefusal::TooFast { limit: self.limits.publishes_per_second });
        }
        let authorised = self.door.authorise(&Principal::Anonymous, Action::Publish, topic).await;
        let rule = authorised.map_err(|_| PublishRefusal::Forbidden(topic.clone()))?;
        // Only now: what nobody may do makes no span.
        let tracer = self.tracer.as_ref();
        let publishing = tracer.and_then(|tracer| Publishing::begin(tracer, *trace, topic));
        let trace = publishing.as_ref().map(Publishing::parent);
        let published = self.publish_permitted(session, outgoing, rule, trace).await;
        if let Some(publishing) = publishing {
            publishing.end(match &published {
                Ok(published) => Outcome::published(published),
                Err(refusal) => Outcome::failed(refusal.as_reply().1),
            });
        }
        published
    }

    async fn publish_permitted(
        &self,
        session: SessionRef,
        outgoing: Outgoing,
        rule: &TopicRule,
        trace: Option<TraceParent>,
    ) -> Result<Published, PublishRefusal> {
        let Outgoing { publish, bare, published } = outgoing;
        let Publish { topic, payload, event, echo, key, trace: _ } = publish;
        let payload =
            rule.fit(payload).map_err(|error| PublishRefusal::WrongKind(topic.clone(), error))?;
        let message = Message {
            topic,
            payload,
            event,
            published,
            origin: (!echo).then_some(session.id),
            id: None,
            trace: trace.map(Box::new),
        };
        let delivery = Delivery { message, received: self.clock.micros(), bare, life: 0 };
        let publish = umbel_broker::Publish { delivery, history: rule.history, key };
        let published = self.broker.publish(publish).await;
        if published.is_ok() {
            self.metrics.messages_in.of(Source::Session).add(1);
        }
        published.map_err(PublishRefusal::NotPublished)
    }

    /// Whether a session isn't publishing faster than it may.
    fn may_publish_now(&self, session: SessionRef) -> bool {
        let mut hub = self.hub.borrow_mut();
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return true;
        };
        self.publish_rate.allows(&mut state.published_until, self.clock.micros())
    }

    fn publish_target(&self, session: SessionRef) -> Option<PublishTarget> {
        let hub = self.hub.borrow();
        match &hub.get(session.key).filter(|state| state.id == session.id)?.role {
            Role::Plain { publish, .. } => publish.clone(),
            Role::Json | Role::Sse => None,
        }
    }

    /// Waits until few replies wait. The session's task is woken when its socket takes bytes, and
    /// polls this after it has written them.
    async fn replies_taken(&self, session: SessionRef) {
        let is_high = |hub: &Hub<Session>| {
            Worker::is_alive(hub, session) && hub.control_len(session.key) > CONTROL_HIGH_BYTES
        };
        poll_fn(|_| {
            let mut hub = self.hub.borrow_mut();
            if is_high(&hub) {
                self.flush(&mut hub, session.key);
            }
            if is_high(&hub) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Behind a close frame nothing is said any more (RFC 6455 section 5.5.1).
    fn reply(&self, session: SessionRef, id: Option<RequestId<'_>>, reply: &Reply<'_>) {
        let mut hub = self.hub.borrow_mut();
        if Worker::staying_mut(&mut hub, session).is_some() {
            reply.write(hub.control(session.key), id);
        }
    }

    fn reply_error(
        &self,
        session: SessionRef,
        id: Option<RequestId<'_>>,
        code: ErrorCode,
        message: &str,
    ) {
        self.reply(session, id, &Reply::Error { code, message });
    }

    fn close_session(&self, session: SessionRef, reason: CloseReason, text: &str) {
        let mut hub = self.hub.borrow_mut();
        if Worker::is_alive(&hub, session) {
            self.close(&mut hub, session.key, reason, text);
        }
    }

    fn is_open(&self, session: SessionRef) -> bool {
        let mut hub = self.hub.borrow_mut();
        Worker::alive_mut(&mut hub, session).is_some_and(|state| !state.is_closing())
    }
}
