//! The JSON dialect: one connection, many topics.

use anyhow::{Context, Result};

use super::{Heard, Hearing};
use crate::load::target::{topic_name, topic_number};
use crate::wire::frame;
use crate::wire::object::{self, Said};

/// Topics that one command lists at most.
const LISTED: usize = 100;

/// Appends the commands that subscribe to topics, each from its place on.
pub(super) fn write_subscribe<'a>(
    out: &mut Vec<u8>,
    topics: impl Iterator<Item = (usize, Option<&'a str>)>,
) {
    let mut topics = topics.map(|(topic, after)| (topic_name(topic), after)).peekable();
    while topics.peek().is_some() {
        let command = object::subscribe_from(topics.by_ref().take(LISTED));
        frame::write_client(out, frame::TEXT, command.as_bytes());
    }
}

/// Appends the command that leaves a topic.
pub(super) fn write_unsubscribe(out: &mut Vec<u8>, topic: usize) {
    let command = object::unsubscribe(&topic_name(topic));
    frame::write_client(out, frame::TEXT, command.as_bytes());
}

/// Takes a frame's objects, one per line.
pub(super) fn take(
    hearing: &mut Hearing<'_, '_>,
    text: &[u8],
    tell: &mut impl FnMut(Heard<'_>),
) -> Result<()> {
    for line in text.split(|byte| *byte == b'\n') {
        match object::parse(line)? {
            Said::Message { topic, id, payload } => {
                let place = id.filter(|_| hearing.resume);
                tell(Heard::Message { topic: number(topic)?, payload, place });
            }
            Said::Subscribed { topic, position, .. } => {
                let place = position.filter(|_| hearing.resume).unwrap_or_default();
                tell(Heard::At { topic: number(topic)?, place });
                hearing.spoken.done += 1;
                if hearing.spoken.done == hearing.wanted.len() {
                    tell(Heard::Open);
                }
            }
            // A `subscribed` that isn't recovered is followed by a gap: it counts once.
            Said::Gap { topic, position, .. } => {
                let topic = number(topic)?;
                tell(Heard::Gap { topic });
                if let Some(place) = position.filter(|_| hearing.resume) {
                    tell(Heard::At { topic, place });
                }
            }
            Said::Ready if hearing.wanted.is_empty() => tell(Heard::Open),
            Said::Ready | Said::Aside(_) => {}
        }
    }
    Ok(())
}

fn number(topic: &str) -> Result<usize> {
    topic_number(topic).context("server names a topic that nobody asked for")
}
