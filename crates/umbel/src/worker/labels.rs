//! The labels of a worker's metrics: closed sets.

use umbel_broker::Reader;
use umbel_hub::{OnSlow, Skipped};
use umbel_metrics::LabelSet;

use crate::admission::Refusal;

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `POST /topics/{topic}` or `POST /publish`.
    Http,
    /// A WebSocket session.
    Session,
}

impl LabelSet for Source {
    const ALL: &'static [Self] = &[Self::Http, Self::Session];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Session => "session",
        }
    }
}

/// What holds memory besides the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Deliveries on their way into the worker.
    Mailbox,
    /// Unfinished input of sessions.
    Input,
    /// Frames for one session alone that couldn't be written yet.
    Control,
    /// Request bodies.
    Bodies,
    /// Connections that are no session yet, or never will be.
    Connections,
    /// What HTTP/2 streams took from the logs and their sockets haven't taken yet.
    Streams,
    /// Pieces of history on their way to sessions that catch up, and answers to polls.
    Replays,
    /// What the kernel may hold of sessions whose clients don't take it in.
    Sockets,
    /// Sessions, subscriptions and topics themselves.
    Tables,
}

impl Held {
    pub(crate) const COUNT: usize = 9;
}

impl LabelSet for Held {
    const ALL: &'static [Self] = &[
        Self::Mailbox,
        Self::Input,
        Self::Control,
        Self::Bodies,
        Self::Connections,
        Self::Streams,
        Self::Replays,
        Self::Sockets,
        Self::Tables,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Mailbox => "mailbox",
            Self::Input => "input",
            Self::Control => "control",
            Self::Bodies => "bodies",
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::Replays => "replays",
            Self::Sockets => "sockets",
            Self::Tables => "tables",
        }
    }
}

/// What was more than is allowed. Each is told to whoever it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A session, for the node has as many as it may.
    Sessions,
    /// A session, for its address has.
    SessionsPerAddress,
    /// A connection, which had to wait to be accepted.
    Accepts,
    /// Memory: a session or body was refused, or a session had to go.
    Memory,
    /// A session of a node that leaves.
    Draining,
    /// A page of an origin that isn't allowed.
    Origin,
    /// A connection of a trusted proxy that didn't begin as it should.
    ProxyHeader,
    /// The time for a request's head.
    HeaderTime,
    /// A request's head.
    Head,
    /// The time for a request's body.
    BodyTime,
    /// A body, a frame or a payload.
    Size,
    /// Topics of a session.
    Topics,
    /// Messages that a session publishes in a second.
    Publishes,
}

impl LabelSet for Limit {
    const ALL: &'static [Self] = &[
        Self::Sessions,
        Self::SessionsPerAddress,
        Self::Accepts,
        Self::Memory,
        Self::Draining,
        Self::Origin,
        Self::ProxyHeader,
        Self::HeaderTime,
        Self::Head,
        Self::BodyTime,
        Self::Size,
        Self::Topics,
        Self::Publishes,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsPerAddress => "sessions_per_address",
            Self::Accepts => "accepts",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::Origin => "origin",
            Self::ProxyHeader => "proxy_header",
            Self::HeaderTime => "header_time",
            Self::Head => "head",
            Self::BodyTime => "body_time",
            Self::Size => "size",
            Self::Topics => "topics",
            Self::Publishes => "publishes",
        }
    }
}

impl From<Refusal> for Limit {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Sessions => Self::Sessions,
            Refusal::Address => Self::SessionsPerAddress,
            Refusal::Memory => Self::Memory,
            Refusal::Draining => Self::Draining,
        }
    }
}

/// The status of an answer to a publishing request. The set is closed by what this node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    /// The publisher didn't wait for its answer.
    pub(crate) const GONE: Self = Self(499);
}

impl From<hyper::StatusCode> for Status {
    fn from(status: hyper::StatusCode) -> Self {
        Self(status.as_u16())
    }
}

impl LabelSet for Status {
    const ALL: &'static [Self] = &[
        Self(200),
        Self(400),
        Self(403),
        Self(408),
        Self(413),
        Self(415),
        Self(422),
        Self(429),
        Self::GONE,
        Self(502),
        Self(503),
        Self(504),
        Self(0),
    ];

    fn index(self) -> usize {
        let other = Self::ALL.len() - 1;
        Self::ALL.iter().position(|known| *known == self).unwrap_or(other)
    }

    fn as_label(self) -> &'static str {
        match self.0 {
            200 => "200",
            400 => "400",
            403 => "403",
            408 => "408",
            413 => "413",
            415 => "415",
            422 => "422",
            429 => "429",
            499 => "gone",
            502 => "502",
            503 => "503",
            504 => "504",
            _ => "other",
        }
    }
}

/// What became of a subscription that named a place to go on at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// Nothing is missing behind it.
    Recovered,
    /// Something is, or may be.
    Gap,
}

impl LabelSet for Resumed {
    const ALL: &'static [Self] = &[Self::Recovered, Self::Gap];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Gap => "gap",
        }
    }
}

/// Where a piece of history was read that a session lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// The node had it at hand.
    Ring,
    /// Redis was asked for it.
    Redis,
    /// Another session of the worker had just been given it.
    Shared,
}

impl ReadFrom {
    /// Where a piece came from that a reader was just given.
    pub(crate) fn of(reader: &mut Reader) -> Self {
        if reader.take_fetched() { Self::Redis } else { Self::Ring }
    }
}

impl LabelSet for ReadFrom {
    const ALL: &'static [Self] = &[Self::Ring, Self::Redis, Self::Shared];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Redis => "redis",
            Self::Shared => "shared",
        }
    }
}

/// What a poll got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Messages or gaps.
    Something,
    /// Nothing in its time.
    Nothing,
    /// A refusal.
    Refused,
}

impl LabelSet for Polled {
    const ALL: &'static [Self] = &[Self::Something, Self::Nothing, Self::Refused];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Something => "something",
            Self::Nothing => "nothing",
            Self::Refused => "refused",
        }
    }
}

/// [`Skipped`] as a label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skip(pub(crate) Skipped);

impl LabelSet for Skip {
    const ALL: &'static [Self] = &[
        Self(Skipped::SlowDrop),
        Self(Skipped::SlowLatest),
        Self(Skipped::Ended),
        Self(Skipped::Own),
        Self(Skipped::CatchUp),
    ];

    fn index(self) -> usize {
        self.0.index()
    }

    fn as_label(self) -> &'static str {
        self.0.as_str()
    }
}

/// [`OnSlow`] as a label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy(pub(crate) OnSlow);

impl LabelSet for Policy {
    const ALL: &'static [Self] =
        &[Self(OnSlow::Disconnect), Self(OnSlow::Drop), Self(OnSlow::Latest)];

    fn index(self) -> usize {
        self.0 as usize
    }

    fn as_label(self) -> &'static str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_place<L: LabelSet>() {
        for (at, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), at, "{}", label.as_label());
        }
    }

    #[test]
    fn every_label_has_its_place() {
        in_place::<Source>();
        in_place::<Held>();
        in_place::<Limit>();
        in_place::<Status>();
        in_place::<Skip>();
        in_place::<Policy>();
        in_place::<Resumed>();
        in_place::<Polled>();
        in_place::<ReadFrom>();
    }
}
