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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnSlow;
    use proptest::prelude::*;
    use umbel_protocol::{
        Delivery, Dialect, Message, MessageId, Payload, SessionId, Stand, Timestamp,
    };

    proptest! {
        /// However a slow client's socket cuts what is rendered, all of it comes.
        #[test]
        fn rendering_goes_on_wherever_a_write_is_cut(
            sizes in prop::collection::vec(0_usize..3000, 1..60),
            cuts in prop::collection::vec(1_usize..20_000, 1..20),
        ) {
            let mut hub = Hub::new(1 << 20);
            let topics = ["a", "b"].map(|name| Topic::new(name).unwrap());
            let session = hub.open(SessionId(1), Dialect::Sse, ());
            let names = CompositeTopics::new(&topics).unwrap();
            hub.set_composite(session, topics.clone().into(), names);
            let id = |offset| MessageId { epoch: 7, offset };
            let start = Stand { life: 1, position: Position(Some(id(0))) };
            for topic in &topics {
                hub.subscribe(session, topic, OnSlow::Disconnect, Some(start)).unwrap();
            }
            for (number, size) in sizes.iter().enumerate() {
                let message = Message {
                    topic: topics[number % 2].clone(),
                    payload: Payload::text("x".repeat(*size)),
                    event: None,
                    published: Timestamp(0),
                    origin: None,
                    id: Some(id(number as u64 / 2 + 1)),
                    trace: None,
                };
                let delivery = Delivery { message, received: 0, bare: false, life: 1 };
                hub.append(&delivery, 0);
            }
            hub.mark_appended();
            let mut got = Vec::new();
            for cut in cuts.iter().cycle() {
                hub.render(session);
                let pending = hub.pending(session).collect::<Vec<_>>().concat();
                if pending.is_empty() {
                    break;
                }
                let written = pending.len().min(*cut);
                got.extend_from_slice(&pending[..written]);
                hub.advance(session, written);
            }
            let text = String::from_utf8(got).unwrap();
            let sent: usize = text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::len).sum();
            prop_assert_eq!(sent, sizes.iter().sum::<usize>());
            prop_assert!(hub.is_drained(session));
            prop_assert_eq!(hub.tally().delivered(), sizes.len() as u64);
        }
    }
}
