//! Sessions with a cursor over several topics: every message has an id of its own, which says where
//! the session stands in all of them.

use umbel_protocol::{CompositeTopics, Position, Topic, sse};

use crate::Hub;
use crate::keys::SessionKey;

/// Where one session stands in each of its topics with history.
#[derive(Debug)]
pub(crate) struct CompositeCursor {
    topics: Box<[Topic]>,
    names: CompositeTopics,
    positions: Box<[Option<Position>]>,
}

impl CompositeCursor {
    /// Takes note of how far the session is.
    pub(crate) fn reach(&mut self, topic: &Topic, position: Position) {
        if let Some(at) = self.topics.iter().position(|known| known == topic) {
            self.positions[at] = Some(position);
        }
    }

    /// Appends the line that names the place.
    pub(crate) fn write_id(&self, out: &mut Vec<u8>) {
        sse::write_id(out, |out| self.names.write(out, &self.positions));
    }
}

impl<S> Hub<S> {
    /// Gives a session a cursor over these topics, which are those of its topics that have history.
    /// To be called before it subscribes.
    pub fn set_composite(
        &mut self,
        session: SessionKey,
        topics: Box<[Topic]>,
        names: CompositeTopics,
    ) {
        let session = &mut self.sessions[session.index()];
        debug_assert!(session.subscriptions.is_empty(), "the frames of its topics are chosen");
        session.encoding.without_id = true;
        let positions = vec![None; topics.len()].into();
        session.composite = Some(Box::new(CompositeCursor { topics, names, positions }));
    }

    /// Whether the session has a cursor over several topics.
    #[allow(clippy::inline_always, reason = "asked once per session and batch")]
    #[inline(always)]
    pub fn is_composite(&self, session: SessionKey) -> bool {
        self.sessions[session.index()].composite.is_some()
    }

    /// Takes note of where a session begins in a topic; only for a cursor over several.
    pub fn set_position(&mut self, session: SessionKey, topic: &Topic, position: Position) {
        if let Some(composite) = &mut self.sessions[session.index()].composite {
            composite.reach(topic, position);
        }
    }

    /// Appends the `id:` line of where a session with a cursor over several topics stands.
    pub fn write_cursor(&self, session: SessionKey, out: &mut Vec<u8>) {
        if let Some(composite) = &self.sessions[session.index()].composite {
            composite.write_id(out);
        }
    }
}
