//! Subscribing to topics, and coming back after the connection was lost.

use std::fmt::Display;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;
use umbel_protocol::Topic;

use super::backoff::{Backoff, Pace};
use super::connection::one_line;
use super::event_stream::EventStream;
use super::failure::within;
use super::missing::Missing;
use super::place::Place;
use super::received::Received;
use super::web_socket::JsonSocket;
use super::{Failure, NodeUrl, Output, tell};

/// After how long a connection counts as one that holds, so that its loss begins a new row of
/// attempts.
const HELD: Duration = Duration::from_secs(10);

/// What is subscribed to, and how.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Where.
    pub(crate) url: NodeUrl,
    /// What.
    pub(crate) topics: Vec<Topic>,
    /// By which transport, and from where on.
    pub(crate) place: Place,
    /// Until when the topics must be subscribed.
    pub(crate) deadline: Duration,
    /// How long the node may be silent; without it three of its heartbeats.
    pub(crate) silence: Option<Duration>,
}

/// What a session hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// From here on no message of the topics is missed; between the last session and this one
    /// some were.
    Subscribed(Missing),
    Message(Received),
    Gap {
        topic: String,
        reason: String,
    },
}

/// How a session ended that was meant to go on.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) why: String,
    /// When to come back; `None` if that would change nothing.
    pub(super) pace: Option<Pace>,
}

/// Prints the messages of topics as they come.
pub(crate) struct Subscriber {
    subscription: Subscription,
    output: Output,
    /// How many messages are still wanted; `None`: all.
    left: Option<u64>,
    backoff: Backoff,
    /// Whether the topics were subscribed at least once.
    has_been_in: bool,
}

enum Session {
    WebSocket(Box<JsonSocket>),
    Sse(Box<EventStream>),
}

impl Subscriber {
    /// A subscriber that ends after `count` messages.
    pub(crate) fn new(subscription: Subscription, output: Output, count: Option<u64>) -> Self {
        Self { subscription, output, left: count, backoff: Backoff::default(), has_been_in: false }
    }

    /// Runs until the wanted messages have come. The first attempt must succeed: a mistaken URL
    /// shall be seen. Later losses are told and the connection is made anew.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        while let Some(loss) = self.session().await? {
            let Some(pace) = loss.pace.filter(|_| self.has_been_in) else {
                return Err(Failure::Ended(loss.why));
            };
            let wait = self.backoff.next(pace);
            tell(format_args!("{}; coming back in {:.1} s", loss.why, wait.as_secs_f32()));
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// One session to its end; `None` if nothing more is wanted.
    async fn session(&mut self) -> Result<Option<Loss>, Failure> {
        let opening = Session::open(&self.subscription);
        let opened = within("the node's answer", self.subscription.deadline, opening).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(failure) if self.has_been_in => return Ok(Some(failure.into())),
            Err(failure) => return Err(failure),
        };
        let start = Instant::now();
        let loss = loop {
            match session.next().await {
                Ok(heard) => self.take(heard).await?,
                Err(loss) => break loss,
            }
            if self.left == Some(0) {
                session.close().await;
                return Ok(None);
            }
        };
        self.subscription.place = session.into_place();
        if start.elapsed() >= HELD {
            self.backoff.reset();
        }
        Ok(Some(loss))
    }

    async fn take(&mut self, heard: Vec<Heard>) -> Result<(), Failure> {
        let mut messages = Vec::new();
        for heard in heard {
            match heard {
                Heard::Message(_) if self.left == Some(0) => {}
                Heard::Message(message) => {
                    messages.push(message);
                    self.left = self.left.map(|left| left - 1);
                }
                Heard::Subscribed(missing) => self.tell_subscribed(&missing),
                Heard::Gap { topic, reason } => tell(gap(&topic, &reason)),
            }
        }
        self.output.print(&messages).await
    }

    fn tell_subscribed(&mut self, missing: &Missing) {
        if std::mem::replace(&mut self.has_been_in, true) {
            return tell(format_args!("subscribed again; {missing}"));
        }
        let topics: Vec<_> = self.subscription.topics.iter().map(Topic::as_str).collect();
        tell(format_args!("subscribed to {} at {}", topics.join(", "), self.subscription.url));
    }
}

impl Session {
    async fn open(subscription: &Subscription) -> Result<Self, Failure> {
        Ok(match subscription.place.clone() {
            Place::Ws(places) => {
                Self::WebSocket(Box::new(JsonSocket::open(subscription, places).await?))
            }
            Place::Sse(place) => Self::Sse(Box::new(EventStream::open(subscription, place).await?)),
        })
    }

    async fn next(&mut self) -> Result<Vec<Heard>, Loss> {
        match self {
            Self::WebSocket(socket) => socket.next().await,
            Self::Sse(stream) => stream.next().await,
        }
    }

    fn into_place(self) -> Place {
        match self {
            Self::WebSocket(socket) => Place::Ws(socket.into_places()),
            Self::Sse(stream) => Place::Sse(stream.into_place()),
        }
    }

    async fn close(self) {
        match self {
            Self::WebSocket(socket) => socket.close().await,
            // The client's side of a stream just goes away.
            Self::Sse(_) => {}
        }
    }
}

impl Loss {
    /// Coming back may help.
    pub(super) fn passing(why: &str, pace: Pace) -> Self {
        Self { why: why.to_owned(), pace: Some(pace) }
    }

    /// Coming back would end in the same way.
    pub(super) fn lasting(why: &str) -> Self {
        Self { why: why.to_owned(), pace: None }
    }

    pub(super) fn silent(limit: Duration) -> Self {
        let why = format!("the node was silent for {} s", limit.as_secs());
        Self::passing(&why, Pace::Backoff)
    }

    pub(super) fn too_long() -> Self {
        let limit = super::MAX_MESSAGE_BYTES;
        Self::lasting(&format!("the node sent a message of more than {limit} bytes"))
    }

    pub(super) fn not_the_dialect(error: &dyn Display) -> Self {
        Self::lasting(&format!("the node doesn't speak the JSON dialect: {error}"))
    }
}

impl From<Failure> for Loss {
    /// A failed attempt to come back.
    fn from(failure: Failure) -> Self {
        let pace = match &failure {
            Failure::Refused { status, retry_after, .. } => after_status(*status, *retry_after),
            Failure::Usage(_) | Failure::NotANode(_) => None,
            _ => Some(Pace::Backoff),
        };
        Self { why: failure.to_string(), pace }
    }
}

/// What a gap means. Where the node can't know what was published, nothing may have been.
fn gap(topic: &str, reason: &str) -> String {
    let verb = if ["too_old", "slow"].contains(&reason) { "are" } else { "may be" };
    format!("gap: messages of {} {verb} missing ({})", one_line(topic), one_line(reason))
}

fn after_status(status: StatusCode, retry_after: Option<Duration>) -> Option<Pace> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Pace::LongBackoff),
        StatusCode::NOT_IMPLEMENTED => None,
        StatusCode::REQUEST_TIMEOUT => Some(Pace::Backoff),
        status if status.is_server_error() => Some(retry_after.map_or(Pace::Backoff, Pace::After)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_no_more_than_is_known() {
        assert_eq!(gap("a", "too_old"), "gap: messages of a are missing (too_old)");
        assert_eq!(gap("a", "broker_link"), "gap: messages of a may be missing (broker_link)");
        assert_eq!(gap("a\n", "new\t"), "gap: messages of a  may be missing (new )");
    }

    #[test]
    fn statuses_say_whether_to_come_back() {
        let second = Duration::from_secs(1);
        for (status, retry_after, pace) in [
            (503, Some(second), Some(Pace::After(second))),
            (503, None, Some(Pace::Backoff)),
            (502, None, Some(Pace::Backoff)),
            (408, None, Some(Pace::Backoff)),
            (429, Some(second), Some(Pace::LongBackoff)),
            (501, None, None),
            (400, None, None),
            (403, None, None),
            (404, None, None),
            (200, None, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(after_status(status, retry_after), pace, "{status}");
        }
    }
}
