//! How sessions speak, without sockets: what is sent first, what comes of bytes that were read, and what they call for.
//!
//! One [`Speech`] serves all sessions of a place; what differs by connection is [`Spoken`].

mod events;
mod frames;
mod object_frames;
mod polls;
mod refusal;
mod steps;

use std::mem::take;

use anyhow::{Result, bail, ensure};

use self::polls::Polls;
use self::steps::Steps;
use super::file::Transport;
use super::orders::Place;
use super::script::{Script, ScriptTransport, TOPIC};
use crate::load::target::topic_name;
use crate::wire::chunked::Dechunker;
use crate::wire::payload::{Search, Template};
use crate::wire::response::{self, BodyLength, Head};
use crate::wire::subscribe::{Dialect, Subscribe};

/// Longest message or answer that is waited for: a wrong length must not look like a slow server.
const MAX_CUT: usize = 4 << 20;

/// How sessions speak to one place; shared by all of a holder's sessions of that place.
#[derive(Debug)]
pub struct Speech {
    way: Way,
    subscribe: Subscribe,
    /// The request's path, with `{topic}`.
    path: String,
    /// Places are told, and named when a session comes back.
    resume: bool,
}

/// What an open connection carries.
#[derive(Debug)]
enum Way {
    /// Frames, each a message.
    Plain,
    /// Frames of objects.
    Json,
    /// Blocks, each a message.
    Events,
    /// Answers to polls.
    Poll(Polls),
    /// Frames that a script makes sense of.
    Script(Steps),
    /// Blocks with payloads anywhere in them.
    ScriptEvents(Search),
}

/// What one connection has said and heard so far; small while nothing is cut, dropped with the connection.
#[derive(Debug, Default)]
pub struct Spoken {
    /// The first answer has come.
    is_answered: bool,
    /// In the JSON dialect the topics that were confirmed, with scripts the steps that are over.
    done: usize,
    /// The beginning of a message that is cut; without memory between messages.
    cut: Vec<u8>,
    /// For streams of scripts: the last bytes, in which something may have begun.
    tail: Vec<u8>,
    /// For event streams that come in chunks.
    dechunker: Option<Box<Dechunker>>,
}

/// A topic that a session wants, and the place of the last message of it that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Number of the topic.
    pub topic: usize,
    /// As [`Heard`] told it; none or empty: what comes from now on.
    pub after: Option<&'a str>,
}

/// What a connection was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// All wanted topics are subscribed. Messages of the first may come before the last is.
    Open,
    /// A message.
    Message {
        /// Number of its topic.
        topic: usize,
        /// What was published.
        payload: &'a [u8],
        /// Its place, if sessions resume and it has one.
        place: Option<&'a str>,
    },
    /// The topic is subscribed, or its place moved without a message.
    At {
        /// Number of the topic.
        topic: usize,
        /// Empty if the topic has none.
        place: &'a str,
    },
    /// The server says that it can't give all.
    Gap {
        /// Number of the topic.
        topic: usize,
    },
}

/// A connection in the middle of what it was told.
struct Hearing<'a, 'w> {
    spoken: &'a mut Spoken,
    wanted: &'a [Wanted<'w>],
    out: &'a mut Vec<u8>,
    /// See [`Speech::resume`].
    resume: bool,
}

impl Speech {
    /// How sessions of `transport` speak to `place`; `resume`: they tell places, and name them when they come back.
    ///
    /// # Errors
    ///
    /// The transport needs a script and has none.
    pub fn new(
        transport: Transport,
        place: &Place,
        script: Option<&Script>,
        template: &Template,
        resume: bool,
    ) -> Result<Self> {
        let (way, dialect, own_path) = match (transport, script) {
            (Transport::WebSocket, _) => (Way::Plain, Dialect::WebSocket, "/topics/{topic}"),
            (Transport::Json, _) => (Way::Json, Dialect::Json, "/ws"),
            (Transport::Sse, _) => (Way::Events, Dialect::Sse, "/topics/{topic}"),
            (Transport::Poll, _) => {
                (Way::Poll(Polls::new(&place.host)), Dialect::Sse, "/topics/{topic}")
            }
            (Transport::Script, None) => bail!("the transport `script` needs a script"),
            (Transport::Script, Some(script)) => match script.transport {
                ScriptTransport::Sse => {
                    (Way::ScriptEvents(Search::new(template)), Dialect::Sse, &*script.path)
                }
                ScriptTransport::WebSocket => {
                    let steps = Steps::new(script, template);
                    (Way::Script(steps), Dialect::WebSocket, &*script.path)
                }
            },
        };
        let mut subscribe = Subscribe::new(dialect, &place.host);
        if let (Transport::Script, Some(script)) = (transport, script) {
            for header in &script.headers {
                subscribe.add_header(header);
            }
        }
        let path = if place.path.is_empty() { own_path } else { &place.path };
        Ok(Self { way, subscribe, path: path.to_owned(), resume })
    }

    /// The first bytes of a connection. Of several topics, all but the JSON dialect take the first.
    pub fn greet(&self, _: &mut Spoken, wanted: &[Wanted<'_>], out: &mut Vec<u8>) {
        let first = wanted.first();
        let topic = first.map(|wanted| topic_name(wanted.topic)).unwrap_or_default();
        let path = self.path.replace(TOPIC, &topic);
        let after = first.and_then(|wanted| self.place_of(wanted));
        match &self.way {
            Way::Poll(polls) => polls.begin(&path, after, out),
            _ => self.subscribe.write_from(out, &path, after),
        }
    }

    /// Takes in what was read (in place, since chunked bodies are decoded there); keeps what is cut in `spoken`; what
    /// must be answered (pongs, next steps, subscribe commands, the next poll) is appended to `out`.
    ///
    /// HOT PATH: once per session and batch.
    ///
    /// # Errors
    ///
    /// Refused, closed by the server with a code, or nonsense; the text is the reason.
    pub fn hear(
        &self,
        spoken: &mut Spoken,
        wanted: &[Wanted<'_>],
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        tell: &mut impl FnMut(Heard<'_>),
    ) -> Result<()> {
        let mut hearing = Hearing { spoken, wanted, out, resume: self.resume };
        if hearing.spoken.is_answered || matches!(self.way, Way::Poll(_)) {
            return self.hear_on(&mut hearing, bytes, tell);
        }
        if hearing.spoken.cut.is_empty() {
            return self.hear_answer(&mut hearing, bytes, tell);
        }
        let mut whole = take(&mut hearing.spoken.cut);
        whole.extend_from_slice(bytes);
        self.hear_answer(&mut hearing, &mut whole, tell)
    }

    /// JSON dialect: leave one topic, take another ([`Heard::At`] tells when it is subscribed); false: the transport
    /// can't.
    pub fn change(&self, leave: usize, join: &Wanted<'_>, out: &mut Vec<u8>) -> bool {
        let is_json = matches!(self.way, Way::Json);
        if is_json {
            object_frames::write_unsubscribe(out, leave);
            object_frames::write_subscribe(out, std::iter::once((join.topic, self.place_of(join))));
        }
        is_json
    }

    /// The place that a request names.
    fn place_of<'a>(&self, wanted: &Wanted<'a>) -> Option<&'a str> {
        wanted.after.filter(|after| self.resume && !after.is_empty())
    }

    /// Takes in all of the first answer so far.
    fn hear_answer(
        &self,
        hearing: &mut Hearing<'_, '_>,
        bytes: &mut [u8],
        tell: &mut impl FnMut(Heard<'_>),
    ) -> Result<()> {
        let Some(head) = response::parse(bytes)? else {
            return hearing.spoken.keep(bytes);
        };
        if let Err(refusal) = self.judge(&head) {
            return match refusal::explained(refusal, &head, &bytes[head.taken..]) {
                Some(refusal) => Err(refusal),
                None => hearing.spoken.keep(bytes),
            };
        }
        self.open(&head, hearing, tell);
        self.hear_on(hearing, &mut bytes[head.taken..], tell)
    }

    fn judge(&self, head: &Head) -> Result<()> {
        self.subscribe.judge(head)?;
        // A browser that was refused by a status would not come back: it gets a stream that ends.
        let ends = head.event_stream && matches!(head.body, BodyLength::Fixed(_));
        ensure!(!ends, "server answered with an event stream that ends at once");
        Ok(())
    }

    fn open(&self, head: &Head, hearing: &mut Hearing<'_, '_>, tell: &mut impl FnMut(Heard<'_>)) {
        hearing.spoken.is_answered = true;
        match &self.way {
            Way::Json => {
                let topics = hearing.wanted.iter();
                let topics = topics.map(|wanted| (wanted.topic, self.place_of(wanted)));
                object_frames::write_subscribe(hearing.out, topics);
            }
            Way::Script(steps) => steps.begin(0, hearing, tell),
            Way::Events | Way::ScriptEvents(_) => {
                let is_chunked = head.body == BodyLength::Chunked;
                hearing.spoken.dechunker = is_chunked.then(Box::default);
                tell(Heard::Open);
            }
            Way::Plain | Way::Poll(_) => tell(Heard::Open),
        }
    }

    /// Takes in what comes on an open connection.
    fn hear_on(
        &self,
        hearing: &mut Hearing<'_, '_>,
        bytes: &mut [u8],
        tell: &mut impl FnMut(Heard<'_>),
    ) -> Result<()> {
        let length = match &mut hearing.spoken.dechunker {
            None => bytes.len(),
            Some(dechunker) => dechunker.decode(bytes)?,
        };
        let bytes = &bytes[..length];
        if hearing.spoken.cut.is_empty() {
            let taken = self.take(hearing, bytes, tell)?;
            return hearing.spoken.keep(&bytes[taken..]);
        }
        let mut whole = take(&mut hearing.spoken.cut);
        whole.extend_from_slice(bytes);
        let taken = self.take(hearing, &whole, tell)?;
        if taken > 0 {
            return hearing.spoken.keep(&whole[taken..]);
        }
        check_cut(whole.len())?;
        hearing.spoken.cut = whole;
        Ok(())
    }

    /// Takes all that is whole; says how many bytes that took.
    #[inline]
    fn take(
        &self,
        hearing: &mut Hearing<'_, '_>,
        bytes: &[u8],
        tell: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize> {
        match &self.way {
            Way::Plain => frames::take(hearing, bytes, |hearing, payload| {
                tell(Heard::Message { topic: hearing.topic(), payload, place: None });
                Ok(())
            }),
            Way::Json => frames::take(hearing, bytes, |hearing, text| {
                object_frames::take(hearing, text, tell)
            }),
            Way::Script(steps) => frames::take(hearing, bytes, |hearing, payload| {
                steps.take(hearing, payload, tell);
                Ok(())
            }),
            Way::Events => events::take(hearing, bytes, tell),
            Way::ScriptEvents(search) => events::take_anywhere(search, hearing, bytes, tell),
            Way::Poll(polls) => polls.take(&self.path, hearing, bytes, tell),
        }
    }
}

impl Spoken {
    /// Keeps the beginning of a message until the rest comes.
    fn keep(&mut self, cut: &[u8]) -> Result<()> {
        check_cut(cut.len())?;
        if !cut.is_empty() {
            self.cut = cut.to_vec();
        }
        Ok(())
    }
}

impl Hearing<'_, '_> {
    /// The only topic, where messages don't name theirs.
    fn topic(&self) -> usize {
        self.wanted.first().map_or(0, |wanted| wanted.topic)
    }
}

fn check_cut(length: usize) -> Result<()> {
    ensure!(length <= MAX_CUT, "a message is longer than {MAX_CUT} bytes");
    Ok(())
}

#[cfg(test)]
mod tests;
