//! What the bytes of an SSE stream say to a subscriber.

use umbel_protocol::Topic;
use umbel_protocol::sse::{Event, EventParser};

use super::missing::Missing;
use super::place::StreamPlace;
use super::received::{Fields, Received, text_field};
use super::subscriber::Heard;

/// Reads one stream.
#[derive(Debug)]
pub(super) struct EventReader {
    parser: EventParser,
    topics: Vec<Topic>,
    /// Where the stream was asked to begin.
    place: StreamPlace,
    is_told: bool,
}

impl EventReader {
    /// For a stream over these topics that was asked to begin there.
    pub(super) fn new(topics: Vec<Topic>, place: StreamPlace) -> Self {
        Self { parser: EventParser::default(), topics, place, is_told: false }
    }

    /// What an open stream says before its first byte, and only then: without a place to go on at
    /// nothing more is needed to know what is missing.
    pub(super) fn open(&mut self) -> Option<Heard> {
        if self.is_told || self.place.id().is_some() {
            return None;
        }
        self.is_told = true;
        Some(Heard::Subscribed(Missing::all(&self.topics)))
    }

    /// Takes the next bytes and gives what they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Heard> {
        if self.is_told { self.heard(bytes) } else { self.beginning(bytes) }
    }

    /// [`EventParser::unfinished_bytes`].
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.parser.unfinished_bytes()
    }

    /// [`EventParser::retry_millis`].
    pub(super) fn retry_millis(&self) -> Option<u64> {
        self.parser.retry_millis()
    }

    /// Where the stream was left.
    pub(super) fn into_place(mut self) -> StreamPlace {
        self.place.reach(self.parser.last_event_id());
        self.place
    }

    /// Takes what comes until it is known what is missing: a stream that goes on somewhere has the
    /// id of that place, and gaps if there are any, before the first message.
    fn beginning(&mut self, bytes: &[u8]) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut begins = None;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            heard.extend(self.heard(line));
            let id = self.parser.last_event_id();
            begins = begins.or_else(|| (!id.is_empty()).then(|| id.to_owned()));
        }
        // The first comment opens the stream; any later one, like a message, comes behind the id.
        if begins.is_some() || !heard.is_empty() || self.parser.comments() > 1 {
            self.is_told = true;
            let was = self.place.id().unwrap_or_default();
            let begins = begins.unwrap_or_default();
            let missing = Missing::of_stream(&self.topics, was, &begins, &gaps(&heard));
            heard.insert(0, Heard::Subscribed(missing));
        }
        heard
    }

    fn heard(&mut self, bytes: &[u8]) -> Vec<Heard> {
        // Whose a message is a stream over several topics doesn't say.
        let topic = match &self.topics[..] {
            [topic] => Some(topic.as_str()),
            _ => None,
        };
        let events = self.parser.feed(bytes).into_iter();
        events.filter_map(|event| heard(event, topic)).collect()
    }
}

fn heard(event: Event, topic: Option<&str>) -> Option<Heard> {
    if event.name == "umbel.gap" {
        let fields: Fields<'_> = serde_json::from_str(&event.data).ok()?;
        let of = |name| text_field(&fields, name).unwrap_or_default();
        return Some(Heard::Gap { topic: of("topic"), reason: of("reason") });
    }
    Received::of_event(event, topic).map(Heard::Message)
}

/// The topics of which gaps are told.
fn gaps(heard: &[Heard]) -> Vec<String> {
    let topic = |heard: &Heard| match heard {
        Heard::Gap { topic, .. } => Some(topic.clone()),
        Heard::Subscribed(_) | Heard::Message(_) => None,
    };
    heard.iter().filter_map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "retry: 1000\n\n: open\n\n";
    const WAS: &str = "00000000000000ab-1";

    fn reader(id: &str) -> EventReader {
        let mut place = StreamPlace::default();
        place.reach(id);
        EventReader::new(vec![Topic::new("a").unwrap()], place)
    }

    /// What is heard of a stream that comes in these pieces, a line each.
    fn said(reader: &mut EventReader, pieces: &[&str]) -> Vec<String> {
        let heard = pieces.iter().flat_map(|piece| reader.take(piece.as_bytes()));
        heard
            .map(|heard| match heard {
                Heard::Subscribed(missing) => missing.to_string(),
                Heard::Message(_) => "message".to_owned(),
                Heard::Gap { topic, reason } => format!("{topic}: {reason}"),
            })
            .collect()
    }

    #[test]
    fn without_a_place_it_is_subscribed_before_the_first_byte() {
        let mut reader = reader("");
        assert!(matches!(reader.open(), Some(Heard::Subscribed(_))));
        assert!(reader.open().is_none());
        assert_eq!(said(&mut reader, &[OPEN, "id: 0\n\n", "data: x\n\n"]), ["message"]);
    }

    #[test]
    fn a_return_is_told_once_the_stream_says_where_it_begins() {
        let at = format!("id: {WAS}\n\n");
        let elsewhere = "id: 00000000000000ab-7\n\n";
        let gap = format!(
            "id: {WAS}\nevent: umbel.gap\ndata: {{\"topic\":\"a\",\"reason\":\"broker_link\"}}\n\n"
        );
        let message = "id: 00000000000000ab-2\ndata: x\n\n";
        let (nothing, in_a) = ("nothing is missing", "there is a gap in a");
        let all = "what was published to a in between is missing";
        for (stream, expected) in [
            (&[OPEN][..], &[][..]),
            (&[OPEN, &at], &[nothing]),
            (&[OPEN, &at, message], &[nothing, "message"]),
            (&[OPEN, elsewhere], &[in_a]),
            // It begins there, but the node couldn't look whether it may.
            (&[OPEN, &at, &gap, message], &[in_a, "a: broker_link", "message"]),
            // No history any more.
            (&[OPEN, "data: x\n\n"], &[all, "message"]),
            (&[OPEN, ": heartbeat\n\n"], &[all]),
        ] {
            let whole = stream.concat();
            assert_eq!(said(&mut reader(WAS), &[&whole]), expected, "{stream:?}");
        }
        // However the bytes are cut.
        let whole = [OPEN, &at, message].concat();
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(said(&mut reader(WAS), &[head, tail]), [nothing, "message"], "{cut}");
        }
    }

    #[test]
    fn a_stream_is_left_behind_its_last_whole_message() {
        let place_after = |stream: &str| {
            let mut reader = reader(WAS);
            said(&mut reader, &[OPEN, stream]);
            reader.into_place().id().map(str::to_owned)
        };
        assert_eq!(place_after("").as_deref(), Some(WAS));
        assert_eq!(place_after("id: 7\ndata: x\n\nid: 8\ndata: y").as_deref(), Some("7"));
    }
}
