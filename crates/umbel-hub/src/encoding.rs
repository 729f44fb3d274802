//! Who shares frames: sessions of one dialect that have one name for events without one.

use std::num::NonZeroU16;

use umbel_protocol::{Dialect, EventName, Style};

use crate::{Hub, SessionKey};

/// Which frames a session gets. Small, since every subscription holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Encoding {
    pub(crate) dialect: Dialect,
    /// Whether `id:` is the session's own to write: its cursor is over several topics.
    pub(crate) without_id: bool,
    /// The name of events whose publisher gave them none.
    pub(crate) default_event: Option<EventKey>,
}

impl Encoding {
    pub(crate) fn style(self, names: &EventNames) -> Style<'_> {
        Style {
            default_event: self.default_event.map(|key| names.get(key)),
            without_id: self.without_id,
        }
    }
}

/// Names an event name of [`EventNames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EventKey(NonZeroU16);

/// The default event names that sessions were ever given. They come from settings, so they are few
/// and stay.
#[derive(Debug, Default)]
pub(crate) struct EventNames(Vec<EventName>);

impl EventNames {
    pub(crate) fn get(&self, key: EventKey) -> &EventName {
        &self.0[usize::from(key.0.get()) - 1]
    }

    fn key_of(&mut self, name: &EventName) -> EventKey {
        let known = self.0.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.0.push(name.clone());
            self.0.len() - 1
        });
        let key = u16::try_from(index + 1).ok().and_then(NonZeroU16::new);
        EventKey(key.expect("settings name fewer than 2^16 default events"))
    }
}

impl<S> Hub<S> {
    /// Names the events that a session gets of messages whose publisher gave them no name. Only
    /// SSE has such names. To be called before the session subscribes.
    pub fn set_default_event(&mut self, session: SessionKey, name: &EventName) {
        let key = self.event_names.key_of(name);
        let session = &mut self.sessions[session.index()];
        debug_assert!(session.subscriptions.is_empty(), "the frames of its topics are chosen");
        session.encoding.default_event = Some(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnSlow;
    use umbel_protocol::{Delivery, Message, Payload, SessionId, Timestamp, Topic};

    fn delivery(event: Option<&str>) -> Delivery {
        Delivery {
            message: Message {
                topic: Topic::new("a").unwrap(),
                payload: Payload::text("x".into()),
                event: event.map(|name| EventName::new(name).unwrap()),
                published: Timestamp(0),
                origin: None,
                trace: None,
                id: None,
            },
            received: 0,
            bare: false,
            life: 0,
        }
    }

    fn taken(hub: &mut Hub<()>, session: SessionKey) -> String {
        let pending = hub.pending(session).collect::<Vec<_>>().concat();
        hub.advance(session, pending.len());
        String::from_utf8(pending).unwrap()
    }

    #[test]
    fn each_default_name_has_frames_of_its_own_in_whatever_order_sessions_leave() {
        let names = [None, Some("one"), Some("two")];
        for leaving in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut hub = Hub::new(1 << 20);
            let topic = Topic::new("a").unwrap();
            let sessions: Vec<_> = (0..)
                .zip(names)
                .map(|(id, name)| {
                    let session = hub.open(SessionId(id), Dialect::Sse, ());
                    if let Some(name) = name {
                        hub.set_default_event(session, &EventName::new(name).unwrap());
                    }
                    hub.subscribe(session, &topic, OnSlow::Disconnect, None).unwrap();
                    session
                })
                .collect();
            for (gone, &leaver) in leaving.iter().enumerate() {
                hub.fan_out(&[delivery(None), delivery(Some("own"))]);
                for &at in &leaving[gone..] {
                    let first =
                        names[at].map_or_else(String::new, |name| format!("event: {name}\n"));
                    let expected = format!("{first}data: x\n\nevent: own\ndata: x\n\n");
                    assert_eq!(taken(&mut hub, sessions[at]), expected);
                }
                let mut left = 0;
                hub.close(sessions[leaver], |_| left += 1);
                assert_eq!(left, usize::from(gone == 2), "the last one leaves the topic");
            }
            assert_eq!((hub.topic_count(), hub.tally().in_flight()), (0, 0));
        }
    }
}
