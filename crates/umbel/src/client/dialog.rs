//! What a subscriber and a node say to each other in the JSON dialect.

use std::time::Duration;

use umbel_protocol::Topic;

use super::backoff::Pace;
use super::connection::one_line;
use super::missing::Missing;
use super::place::TopicPlaces;
use super::received::{Fields, Received, text_field};
use super::subscriber::{Heard, Loss};

/// What a node's heartbeat is taken for until its welcome tells.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// The node can't go on behind a place, since the topic has none.
const NO_HISTORY: &str = "no_history";

/// The subscriber's side of one session.
#[derive(Debug)]
pub(super) struct Dialog {
    topics: Vec<Topic>,
    places: TopicPlaces,
    /// How many topics aren't subscribed yet.
    waiting: usize,
    /// What those that are subscribed lack.
    missing: Missing,
    heartbeat: Duration,
    /// When a node that drains wants to see us again.
    moving: Option<Duration>,
}

impl Dialog {
    /// Nothing is said yet.
    pub(super) fn new(topics: Vec<Topic>, places: TopicPlaces) -> Self {
        let waiting = topics.len();
        Self {
            topics,
            places,
            waiting,
            missing: Missing::default(),
            heartbeat: HEARTBEAT,
            moving: None,
        }
    }

    /// The command that asks for the topics, each from its place on.
    pub(super) fn subscribe(&self) -> String {
        // Neither the name of a topic nor a place needs escaping.
        let wish = |topic| match self.places.after(topic) {
            Some(after) => format!(r#"{{"topic":"{topic}","after":"{after}"}}"#),
            None => format!(r#"{{"topic":"{topic}"}}"#),
        };
        let topics: Vec<_> = self.topics.iter().map(wish).collect();
        format!(r#"{{"op":"subscribe","topics":[{}]}}"#, topics.join(","))
    }

    /// Whether a topic isn't subscribed yet.
    pub(super) fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// After how long a silent node shows that it is there.
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// When to come back, if the node said that before it closed.
    pub(super) fn moving(&self) -> Option<Duration> {
        self.moving
    }

    /// Where the session was left.
    pub(super) fn into_places(self) -> TopicPlaces {
        self.places
    }

    /// Reads the objects of a message.
    pub(super) fn take(&mut self, message: &[u8]) -> Result<Vec<Heard>, Loss> {
        let text = str::from_utf8(message).map_err(|error| Loss::not_the_dialect(&error))?;
        let mut heard = Vec::new();
        for line in text.lines() {
            let fields: Fields<'_> =
                serde_json::from_str(line).map_err(|error| Loss::not_the_dialect(&error))?;
            heard.extend(self.object(&fields)?);
        }
        Ok(heard)
    }

    fn object(&mut self, fields: &Fields<'_>) -> Result<Option<Heard>, Loss> {
        let text = |name| text_field(fields, name).unwrap_or_default();
        let number = |name| fields.get(name).and_then(|value| value.get().parse().ok());
        match text("op").as_str() {
            "message" => {
                self.reach(fields, "message_id");
                return Ok(Received::of_fields(fields).map(Heard::Message));
            }
            "gap" => {
                self.reach(fields, "position");
                return Ok(Some(Heard::Gap { topic: text("topic"), reason: text("reason") }));
            }
            "welcome" => {
                self.heartbeat = number("heartbeat_seconds").map_or(HEARTBEAT, Duration::from_secs);
            }
            "subscribed" => return Ok(self.subscribed(fields)),
            "moving" => self.moving = number("reconnect_after_ms").map(Duration::from_millis),
            "error" => {
                let code = text("code");
                if code == NO_HISTORY {
                    self.places.forget();
                }
                return Err(refused(&code, &text("message")));
            }
            // What a later version says besides is no concern of this one.
            _ => {}
        }
        Ok(None)
    }

    fn subscribed(&mut self, fields: &Fields<'_>) -> Option<Heard> {
        let recovered = fields.get("recovered").and_then(|value| value.get().parse().ok());
        if let Some(topic) = topic_field(fields) {
            self.missing.add(topic, recovered);
        }
        // A gap has a position of its own: who didn't hear of it shall be told again.
        if recovered != Some(false) {
            self.reach(fields, "position");
        }
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting > 0 {
            return None;
        }
        self.places.begun();
        Some(Heard::Subscribed(std::mem::take(&mut self.missing)))
    }

    /// The topic goes on behind the id in a field.
    fn reach(&mut self, fields: &Fields<'_>, name: &str) {
        let position = text_field(fields, name).and_then(|id| id.parse().ok());
        if let (Some(topic), Some(position)) = (topic_field(fields), position) {
            self.places.reach(topic, position);
        }
    }
}

fn topic_field(fields: &Fields<'_>) -> Option<Topic> {
    Topic::new(&text_field(fields, "topic")?).ok()
}

fn refused(code: &str, message: &str) -> Loss {
    let why = format!("the node refused ({}): {}", one_line(code), one_line(message));
    match code {
        // A topic that had history when it was left has none now; from now on it can be had.
        "unavailable" | "internal" | NO_HISTORY => Loss::passing(&why, Pace::Backoff),
        "rate_limited" => Loss::passing(&why, Pace::LongBackoff),
        _ => Loss::lasting(&why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::After;

    const ONE: &str = "00000000000000ab-1";

    fn dialog(first: Option<After>) -> Dialog {
        let topics = ["a", "b"].map(|name| Topic::new(name).unwrap());
        Dialog::new(topics.to_vec(), TopicPlaces::beginning(first))
    }

    /// The next session of the same subscriber.
    fn again(dialog: Dialog) -> Dialog {
        Dialog::new(dialog.topics.clone(), dialog.into_places())
    }

    fn said(dialog: &mut Dialog, object: &str) -> Option<String> {
        let heard = dialog.take(object.as_bytes()).unwrap().pop()?;
        Some(match heard {
            Heard::Subscribed(missing) => missing.to_string(),
            Heard::Message(_) => "message".to_owned(),
            Heard::Gap { topic, reason } => format!("{topic}: {reason}"),
        })
    }

    #[track_caller]
    fn asks(dialog: &Dialog, a: &str, b: &str) {
        let wish = |topic, after| match after {
            "" => format!(r#"{{"topic":"{topic}"}}"#),
            _ => format!(r#"{{"topic":"{topic}","after":"{after}"}}"#),
        };
        let expected =
            format!(r#"{{"op":"subscribe","topics":[{},{}]}}"#, wish("a", a), wish("b", b));
        assert_eq!(dialog.subscribe(), expected);
    }

    #[test]
    fn a_session_goes_on_where_each_topic_was_left() {
        let mut dialog = dialog(Some(After::Latest(3)));
        asks(&dialog, "latest:3", "latest:3");
        let of_a =
            format!(r#"{{"op":"subscribed","topic":"a","position":"{ONE}","recovered":true}}"#);
        assert_eq!(said(&mut dialog, &of_a), None, "b isn't subscribed");
        let of_b = r#"{"op":"subscribed","topic":"b"}"#;
        assert!(said(&mut dialog, of_b).is_some());
        let mut dialog = again(dialog);
        asks(&dialog, ONE, "");
        // A message without an id has no place.
        let message = r#"{"op":"message","topic":"a","text":"x"}"#;
        assert_eq!(said(&mut dialog, message).as_deref(), Some("message"));
        asks(&dialog, ONE, "");
        let message =
            r#"{"op":"message","topic":"a","message_id":"00000000000000ab-2","text":"x"}"#;
        assert_eq!(said(&mut dialog, message).as_deref(), Some("message"));
        asks(&again(dialog), "00000000000000ab-2", "");
    }

    #[test]
    fn what_is_missing_is_said_when_all_topics_are_subscribed() {
        let mut dialog = dialog(None);
        let of_a = r#"{"op":"subscribed","topic":"a","position":"0","recovered":false}"#;
        assert_eq!(said(&mut dialog, of_a), None);
        let of_b = r#"{"op":"subscribed","topic":"b"}"#;
        let missing = "there is a gap in a; what was published to b in between is missing";
        assert_eq!(said(&mut dialog, of_b).as_deref(), Some(missing));
        assert!(!dialog.waits());
    }

    #[test]
    fn a_gap_that_was_not_heard_is_told_again() {
        let mut before = dialog(None);
        let subscribed = format!(r#"{{"op":"subscribed","topic":"a","position":"{ONE}"}}"#);
        said(&mut before, &subscribed);
        // Back again, and lost before the gap came.
        let mut cut = again(before);
        let at_gap =
            r#"{"op":"subscribed","topic":"a","position":"00000000000000cd-5","recovered":false}"#;
        said(&mut cut, at_gap);
        let mut whole = again(cut);
        asks(&whole, ONE, "");
        said(&mut whole, at_gap);
        let gap = r#"{"op":"gap","topic":"a","reason":"too_old","position":"00000000000000cd-5"}"#;
        assert_eq!(said(&mut whole, gap).as_deref(), Some("a: too_old"));
        asks(&again(whole), "00000000000000cd-5", "");
    }

    #[test]
    fn a_topic_that_has_no_history_any_more_is_subscribed_without() {
        let mut dialog = dialog(Some(After::Latest(3)));
        let error = r#"{"op":"error","code":"no_history","message":"x"}"#;
        assert_eq!(dialog.take(error.as_bytes()).unwrap_err().pace, Some(Pace::Backoff));
        asks(&again(dialog), "", "");
    }

    #[test]
    fn errors_say_whether_to_come_back() {
        assert_eq!(refused("unavailable", "x").pace, Some(Pace::Backoff));
        let forbidden = refused("forbidden", "no");
        assert_eq!(forbidden.pace, None);
        assert_eq!(forbidden.why, "the node refused (forbidden): no");
    }
}
