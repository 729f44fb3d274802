//! Replay: pieces of a topic's history, encoded once for all sessions that want them.
//!
//! A session that comes back isn't subscribed yet: it is given pieces of history, one after the
//! other, until it has caught up with the topic; only then it holds it. A piece is written like the
//! session's own bytes, but its memory is shared.

use std::rc::Rc;

use umbel_protocol::history::Item;
use umbel_protocol::{GapReason, Position, Topic};

use crate::cut::Part;
use crate::keys::{SessionKey, SubscriptionKey};
use crate::{Hub, Skipped};

/// Items of one topic in a row, as frames of one encoding.
#[derive(Debug)]
pub struct Segment {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// What it counts for, if it is a frame of a log.
    _part: Option<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Where it ends.
    end: u32,
    /// Where the topic stands behind it.
    position: Position,
    is_message: bool,
}

/// Whose frames a session can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedBy(crate::encoding::Encoding);

/// What one session is to be written of a segment.
#[derive(Debug)]
pub(crate) struct Share {
    segment: Rc<Segment>,
    written: usize,
    end: usize,
    messages: u64,
}

/// How many bytes of its own a session with a cursor over several topics is rendered at a time.
const RENDER_BYTES: usize = 16 * 1024;

impl Segment {
    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What its frames take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.frames.capacity() * size_of::<Frame>()
    }

    /// The frames behind an offset and not behind another, as indices: from and to.
    pub fn between(&self, after: u64, up_to: u64) -> (usize, usize) {
        let place = |offset| self.frames.partition_point(|frame| frame.position.offset() <= offset);
        (place(after), place(up_to))
    }

    /// Where a topic stands behind a frame.
    pub fn position(&self, frame: usize) -> Position {
        self.frames[frame].position
    }

    /// One frame, for those who have got a part of it.
    pub(crate) fn of_frame(bytes: &[u8], part: Part) -> Self {
        Self { bytes: bytes.to_vec(), frames: Vec::new(), _part: Some(part) }
    }

    fn start_of(&self, frame: usize) -> usize {
        frame.checked_sub(1).map_or(0, |before| self.frames[before].end as usize)
    }
}

impl Share {
    fn new(segment: Rc<Segment>, from: usize, to: usize) -> Self {
        let messages = segment.frames[from..to].iter().filter(|frame| frame.is_message).count();
        Self {
            written: segment.start_of(from),
            end: segment.start_of(to),
            messages: messages as u64,
            segment,
        }
    }

    /// What remains of a frame of which so many bytes are written. Nobody counts it as replayed.
    pub(crate) fn rest_of(segment: Rc<Segment>, written: usize) -> Self {
        Self { written, end: segment.bytes.len(), messages: 0, segment }
    }

    pub(crate) fn pending(&self) -> &[u8] {
        &self.segment.bytes[self.written..self.end]
    }

    pub(crate) fn advance(&mut self, written: usize) -> usize {
        let taken = written.min(self.end - self.written);
        self.written += taken;
        taken
    }

    pub(crate) fn is_written(&self) -> bool {
        self.written == self.end
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }
}

impl<S> Hub<S> {
    /// Who gets the same frames as this session.
    pub fn shared_by(&self, session: SessionKey) -> SharedBy {
        SharedBy(self.sessions[session.index()].encoding)
    }

    /// Encodes items of a topic.
    pub fn segment(&self, encoding: SharedBy, topic: &Topic, items: &[Item]) -> Segment {
        let SharedBy(encoding) = encoding;
        let style = encoding.style(&self.event_names);
        let mut bytes = Vec::new();
        let mut frames = Vec::with_capacity(items.len());
        for item in items {
            let (position, is_message) = match item {
                Item::Message(delivery) => {
                    encoding.dialect.write_message(&mut bytes, &delivery.message, style);
                    (Position(delivery.message.id), true)
                }
                Item::Gap(reason, position) => {
                    let told = (!encoding.without_id).then_some(*position);
                    encoding.dialect.write_gap(&mut bytes, topic, *reason, told);
                    (*position, false)
                }
            };
            let end = u32::try_from(bytes.len()).expect("pieces are far below 4 GiB");
            frames.push(Frame { end, position, is_message });
        }
        bytes.shrink_to_fit();
        Segment { bytes, frames, _part: None }
    }

    /// Has frames of a segment written to a session whose control frames are written. Returns how
    /// many of them that are: all, or some if the session gets a copy with lines of its own.
    pub fn replay(
        &mut self,
        session: SessionKey,
        topic: &Topic,
        segment: &Rc<Segment>,
        from: usize,
        to: usize,
    ) -> usize {
        let state = &mut self.sessions[session.index()];
        let Some(composite) = &mut state.composite else {
            state.control.push_share(Share::new(segment.clone(), from, to));
            return to - from;
        };
        let out = state.control.bytes_mut();
        for at in from..to {
            if out.len() >= RENDER_BYTES {
                return at - from;
            }
            let frame = segment.frames[at];
            composite.reach(topic, frame.position);
            composite.write_id(out);
            out.extend_from_slice(&segment.bytes[segment.start_of(at)..frame.end as usize]);
            self.tally.replayed += u64::from(frame.is_message);
        }
        to - from
    }

    /// Tells a session alone of a gap in a topic that it is about to hold.
    pub fn tell_gap(
        &mut self,
        session: SessionKey,
        topic: &Topic,
        reason: GapReason,
        position: Option<Position>,
    ) {
        self.tally.gaps += 1;
        let state = &mut self.sessions[session.index()];
        let dialect = state.encoding.dialect;
        let out = state.control.bytes_mut();
        match (&mut state.composite, position) {
            (Some(composite), Some(position)) => {
                composite.reach(topic, position);
                composite.write_id(out);
                dialect.write_gap(out, topic, reason, None);
            }
            _ => dialect.write_gap(out, topic, reason, position),
        }
    }

    /// Copies what is due to a session with a cursor over several topics, line by line of its own,
    /// until so much waits to be written. From then on it counts as delivered. Other sessions have
    /// nothing to render.
    pub fn render(&mut self, session: SessionKey) {
        self.sessions[session.index()].control.forget_written();
        loop {
            let state = &self.sessions[session.index()];
            let room = RENDER_BYTES.saturating_sub(state.control.own_bytes());
            let Some(key) = state.first_due.filter(|_| room > 0) else {
                return;
            };
            self.render_subscription(session, key, room);
        }
    }

    /// Renders at least one frame, and further ones until they have taken the room.
    fn render_subscription(&mut self, session: SessionKey, key: SubscriptionKey, room: usize) {
        let Self { subscriptions, topics, sessions, tally, waits, .. } = self;
        let state = &mut sessions[session.index()];
        let subscription = &mut subscriptions[key.index()];
        let topic = &topics[subscription.topic.index()];
        let lane = topic.lane(subscription.encoding);
        let log = lane.log();
        let out = state.control.bytes_mut();
        let enough = out.len() + room;
        let (mut oldest, mut delivered) = (None, 0);
        while subscription.position < lane.next && out.len() < enough {
            let at = subscription.position;
            subscription.position += 1;
            if log.is_own(at, state.id) {
                tally.skip(Skipped::Own, 1);
                continue;
            }
            if let (Some(composite), Some(position)) =
                (&mut state.composite, log.stood_before(at + 1))
                && Some(position) != log.stood_before(at)
            {
                composite.reach(&topic.name, position);
                composite.write_id(out);
            }
            out.extend_from_slice(log.frame(at));
            if !log.is_notice(at) {
                oldest.get_or_insert(log.subject(at));
                delivered += 1;
            }
        }
        if let Some(oldest) = oldest {
            waits.note(oldest, delivered);
        }
        if subscription.position == lane.next {
            self.caught_up(session, key);
        }
    }
}
