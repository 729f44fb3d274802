//! Event streams.

use anyhow::Result;

use super::{Heard, Hearing};
use crate::wire::event_stream::{self, Block};
use crate::wire::payload::Search;

/// The event in which a node tells that messages are missing.
const GAP: &[u8] = b"umbel.gap";

/// Takes all whole blocks, of which each without an event's name is a message; says how many bytes they took.
#[inline]
pub(super) fn take(
    hearing: &mut Hearing<'_, '_>,
    bytes: &[u8],
    tell: &mut impl FnMut(Heard<'_>),
) -> Result<usize> {
    take_blocks(hearing, bytes, |topic, block, place| match (&block.data, block.event) {
        (Some(payload), None) => {
            tell(Heard::Message { topic, payload, place });
        }
        (_, event) => {
            if event == Some(GAP) {
                tell(Heard::Gap { topic });
            }
            at(topic, place, tell);
        }
    })
}

/// Takes all whole blocks, with payloads anywhere in them.
pub(super) fn take_anywhere(
    search: &Search,
    hearing: &mut Hearing<'_, '_>,
    bytes: &[u8],
    tell: &mut impl FnMut(Heard<'_>),
) -> Result<usize> {
    take_blocks(hearing, bytes, |topic, block, place| {
        let data = block.data.as_deref().unwrap_or_default();
        let mut from = 0;
        while let Some(range) = search.find(data, from) {
            from = range.end;
            tell(Heard::Message { topic, payload: &data[range], place });
        }
        if from == 0 {
            at(topic, place, tell);
        }
    })
}

#[inline]
fn take_blocks(
    hearing: &Hearing<'_, '_>,
    bytes: &[u8],
    mut hear: impl FnMut(usize, &Block<'_>, Option<&str>),
) -> Result<usize> {
    let (topic, mut taken) = (hearing.topic(), 0);
    while let Some(block) = event_stream::parse(&bytes[taken..]) {
        taken += block.taken;
        let id = block.id.filter(|_| hearing.resume);
        let place = id.map(str::from_utf8).transpose()?.filter(|place| !place.is_empty());
        hear(topic, &block, place);
    }
    Ok(taken)
}

fn at(topic: usize, place: Option<&str>, tell: &mut impl FnMut(Heard<'_>)) {
    if let Some(place) = place {
        tell(Heard::At { topic, place });
    }
}
