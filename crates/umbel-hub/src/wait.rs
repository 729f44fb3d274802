//! How long messages were on their way when they were written.
//!
//! The hub has no clock. It notes which message each write began with and how many it delivered, runs
//! of the same one as one note, and whoever calls it asks for the notes when it next looks at its
//! clock: so that a write costs a comparison and two additions, and the rest is paid once for many.

use umbel_protocol::Dialect;

use crate::{Hub, Tag, Tally};

/// Writes that began with the same message, or with others that were published at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When it was published, by the caller's clock.
    pub published: u64,
    /// Of its topic.
    pub tag: Tag,
    /// Of those that it was written to.
    pub dialect: Dialect,
    /// How many these were.
    pub writes: u64,
}

/// The notes. Never more than there were subscriptions written since they were last asked for.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    newest: Note,
    earlier: Vec<Note>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Note {
    subject: Subject,
    /// Narrower than its neighbour: two of a kind would be added as one vector, by more instructions.
    writes: u32,
    /// Messages, of which the first of each write is the subject.
    delivered: u64,
}

/// A time of publishing, and in the lowest bits the [`Kind`]. One number, to be compared at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Subject(u64);

/// What messages are told apart by: tag and dialect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kind(u8);

const TAG_BITS: u32 = 5;
const KIND_BITS: u32 = 7;

const _: () = assert!(Tag::COUNT <= 1 << TAG_BITS && Dialect::COUNT << TAG_BITS <= 1 << KIND_BITS);

impl Kind {
    #[allow(clippy::cast_possible_truncation, reason = "both are small, as is asserted above")]
    pub(crate) fn new(dialect: Dialect, tag: Tag) -> Self {
        Self(((dialect.index() << TAG_BITS) | tag.index()) as u8)
    }
}

impl Subject {
    pub(crate) fn new(published: u64, kind: Kind) -> Self {
        Self(published << KIND_BITS | u64::from(kind.0))
    }

    /// When it was published.
    pub(crate) fn published(self) -> u64 {
        self.0 >> KIND_BITS
    }

    pub(crate) fn tag(self) -> Tag {
        Tag::new((self.0 & ((1 << TAG_BITS) - 1)) as usize)
    }

    fn dialect(self) -> Dialect {
        let index = (self.0 >> TAG_BITS) as usize & ((1 << (KIND_BITS - TAG_BITS)) - 1);
        Dialect::ALL[index]
    }
}

impl Waits {
    /// Notes a write of so many messages, at least one, `subject` first.
    ///
    /// HOT PATH: once per write.
    #[allow(clippy::inline_always, reason = "a call would cost more than what it does")]
    #[inline(always)]
    pub(crate) fn note(&mut self, subject: Subject, delivered: u64) {
        if self.newest.subject == subject {
            self.newest.writes += 1;
            self.newest.delivered += delivered;
        } else {
            self.begin(Note { subject, writes: 1, delivered });
        }
    }

    #[cold]
    fn begin(&mut self, note: Note) {
        let before = std::mem::replace(&mut self.newest, note);
        if before.delivered > 0 {
            self.earlier.push(before);
        }
    }

    fn take(&mut self) -> Option<Note> {
        let note = self.earlier.pop().unwrap_or_else(|| std::mem::take(&mut self.newest));
        (note.delivered > 0).then_some(note)
    }

    /// Adds what is noted to a tally.
    pub(crate) fn add_to(&self, tally: &mut Tally) {
        for note in self.earlier.iter().chain([&self.newest]) {
            tally.by_tag[note.subject.tag().index()].delivered += note.delivered;
        }
    }
}

impl<S> Hub<S> {
    /// Gives out, one by one, which messages were written since this was last done.
    pub fn take_wait(&mut self) -> Option<Wait> {
        let Note { subject, writes, delivered } = self.waits.take()?;
        let (published, tag, dialect) = (subject.published(), subject.tag(), subject.dialect());
        self.tally.by_tag[tag.index()].delivered += delivered;
        Some(Wait { published, tag, dialect, writes: writes.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnSlow;
    use proptest::prelude::*;
    use umbel_protocol::{Delivery, Message, Payload, SessionId, Timestamp, Topic};

    proptest! {
        #[test]
        fn a_subject_is_what_it_was_made_of(published in 0_u64..1 << 57, tag in 0..Tag::COUNT, dialect in 0..Dialect::COUNT) {
            let (tag, dialect) = (Tag::new(tag), Dialect::ALL[dialect]);
            let subject = Subject::new(published, Kind::new(dialect, tag));
            prop_assert_eq!((subject.published(), subject.tag(), subject.dialect()), (published, tag, dialect));
        }
    }

    #[test]
    fn writes_are_noted_by_their_oldest_message_once_each() {
        let mut hub = Hub::new(1 << 20);
        let topics = ["a", "b"].map(|name| Topic::new(name).unwrap());
        let sessions = [Dialect::Plain, Dialect::Plain, Dialect::Sse].map(|dialect| {
            let session = hub.open(SessionId(1), dialect, ());
            for (tag, topic) in topics.iter().enumerate() {
                let terms = crate::Terms { on_slow: OnSlow::Disconnect, tag: Tag::new(tag) };
                hub.subscribe(session, topic, terms, None).unwrap();
            }
            session
        });
        let publish = |hub: &mut Hub<()>, topic: usize, published| {
            let message = Message {
                topic: topics[topic].clone(),
                payload: Payload::binary(vec![1]),
                event: None,
                published: Timestamp(0),
                origin: None,
                id: None,
                trace: None,
            };
            hub.append(&Delivery { message, received: 0, bare: false, life: 0 }, published);
            hub.mark_appended();
        };
        publish(&mut hub, 1, 70);
        publish(&mut hub, 0, 50);
        publish(&mut hub, 1, 60);
        for session in sessions {
            let length = hub.pending(session).map(<[u8]>::len).sum();
            hub.advance(session, length);
        }
        publish(&mut hub, 0, 90);
        // Cut within the frame: nothing was delivered yet.
        hub.advance(sessions[0], 1);
        let mut waits: Vec<_> = std::iter::from_fn(|| hub.take_wait()).collect();
        waits.sort_by_key(|wait| wait.writes);
        let wait = |dialect, writes| Wait { published: 70, tag: Tag::new(1), dialect, writes };
        assert_eq!(waits, [wait(Dialect::Sse, 1), wait(Dialect::Plain, 2)]);
        let rest = hub.pending(sessions[0]).map(<[u8]>::len).sum();
        hub.advance(sessions[0], rest);
        let rest = Wait { published: 90, tag: Tag::new(0), dialect: Dialect::Plain, writes: 1 };
        assert_eq!((hub.take_wait(), hub.take_wait()), (Some(rest), None));
    }
}
