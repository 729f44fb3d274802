//! A message as a subscriber gets it, and how it is printed.

use std::collections::HashMap;

use serde_json::value::RawValue;
use umbel_protocol::sse::Event;
use umbel_protocol::{Payload, PayloadKind};

use super::Form;

/// The fields of an object of the JSON dialect, their values as they came.
pub(super) type Fields<'f> = HashMap<String, &'f RawValue>;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Absent over an SSE stream of several topics, which doesn't say it.
    topic: Option<String>,
    id: Option<String>,
    event: Option<String>,
    /// Milliseconds since 1970; SSE doesn't have it.
    time: Option<u64>,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Text(String),
    /// On one line.
    Json(String),
    Base64(String),
}

impl Received {
    /// Reads a message of the JSON dialect; `None` if it isn't one.
    pub(super) fn of_fields(fields: &Fields<'_>) -> Option<Self> {
        Some(Self {
            topic: Some(text_field(fields, "topic")?),
            id: text_field(fields, "message_id"),
            event: text_field(fields, "event"),
            time: fields.get("time").and_then(|time| time.get().parse().ok()),
            content: content(fields)?,
        })
    }

    /// Reads an event of an SSE stream. `topic` is the stream's, if it has just one. `None` if the
    /// event isn't a message.
    pub(super) fn of_event(event: Event, topic: Option<&str>) -> Option<Self> {
        let Event { name, data, id } = event;
        let (event, content) = match name.as_str() {
            "umbel.base64" => {
                let fields: Fields<'_> = serde_json::from_str(&data).ok()?;
                (text_field(&fields, "event"), content(&fields)?)
            }
            name if name.starts_with("umbel.") => return None,
            "message" => (None, sniffed(data)),
            _ => (Some(name), sniffed(data)),
        };
        let id = Some(id).filter(|id| !id.is_empty());
        Some(Self { topic: topic.map(str::to_owned), id, event, time: None, content })
    }

    /// Appends the message and a line feed.
    pub(super) fn write(&self, out: &mut Vec<u8>, form: Form) {
        match form {
            Form::Json => self.write_json(out),
            Form::Lines => self.write_payload(out),
            Form::LinesWithTopics => {
                if let Some(topic) = &self.topic {
                    out.extend_from_slice(topic.as_bytes());
                    out.push(b'\t');
                }
                self.write_payload(out);
            }
        }
        out.push(b'\n');
    }

    fn write_payload(&self, out: &mut Vec<u8>) {
        let (prefix, payload) = match &self.content {
            Content::Text(text) | Content::Json(text) => ("", text),
            Content::Base64(text) => ("base64:", text),
        };
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(payload.as_bytes());
    }

    /// The fields have the names of the JSON dialect and are absent where the message lacks them.
    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (name, value) in
            [("topic", &self.topic), ("message_id", &self.id), ("event", &self.event)]
        {
            if let Some(value) = value {
                write_name(out, name);
                write_string(out, value);
                out.push(b',');
            }
        }
        if let Some(time) = self.time {
            out.extend_from_slice(format!("\"time\":{time},").as_bytes());
        }
        match &self.content {
            Content::Text(text) => {
                write_name(out, "text");
                write_string(out, text);
            }
            Content::Json(json) => {
                write_name(out, "data");
                out.extend_from_slice(json.as_bytes());
            }
            Content::Base64(text) => {
                write_name(out, "base64");
                write_string(out, text);
            }
        }
        out.push(b'}');
    }
}

/// A field that is a string.
pub(super) fn text_field(fields: &Fields<'_>, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

fn content(fields: &Fields<'_>) -> Option<Content> {
    if let Some(data) = fields.get("data") {
        return Some(Content::Json(data.get().to_owned()));
    }
    let text = text_field(fields, "text").map(Content::Text);
    text.or_else(|| text_field(fields, "base64").map(Content::Base64))
}

/// SSE doesn't say what its data is; objects and arrays are JSON, as they are for the node.
fn sniffed(data: String) -> Content {
    match Payload::sniffed(data.clone().into()).kind() {
        // Line breaks within JSON can only be whitespace: in strings they are escaped.
        PayloadKind::Json => Content::Json(data.replace(['\r', '\n'], " ")),
        PayloadKind::Text | PayloadKind::Binary => Content::Text(data),
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    write_string(out, name);
    out.push(b':');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is always JSON and a vector takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(received: &Received, form: Form) -> String {
        let mut out = Vec::new();
        received.write(&mut out, form);
        String::from_utf8(out).unwrap()
    }

    fn of_json(object: &str) -> Received {
        Received::of_fields(&serde_json::from_str(object).unwrap()).unwrap()
    }

    fn of_sse(name: &str, data: &str, topic: Option<&str>) -> Option<Received> {
        let event = Event { name: name.to_owned(), data: data.to_owned(), id: String::new() };
        Received::of_event(event, topic)
    }

    #[test]
    fn messages_of_the_json_dialect_are_printed_in_each_form() {
        for (object, line, json) in [
            (
                r#"{"op":"message","topic":"a","time":17,"text":"x\n\"y\""}"#,
                "x\n\"y\"",
                r#"{"topic":"a","time":17,"text":"x\n\"y\""}"#,
            ),
            (
                r#"{"op":"message","topic":"a","message_id":"1-2","event":"e","data":{"n": 1.50}}"#,
                r#"{"n": 1.50}"#,
                r#"{"topic":"a","message_id":"1-2","event":"e","data":{"n": 1.50}}"#,
            ),
            (
                r#"{"op":"message","topic":"a","base64":"/wA="}"#,
                "base64:/wA=",
                r#"{"topic":"a","base64":"/wA="}"#,
            ),
        ] {
            let received = of_json(object);
            assert_eq!(printed(&received, Form::Lines), format!("{line}\n"));
            assert_eq!(printed(&received, Form::LinesWithTopics), format!("a\t{line}\n"));
            assert_eq!(printed(&received, Form::Json), format!("{json}\n"));
        }
    }

    #[test]
    fn objects_that_are_not_messages_are_none() {
        for object in
            [r#"{"op":"message","topic":"a"}"#, r#"{"text":"x"}"#, r#"{"topic":1,"text":"x"}"#]
        {
            assert_eq!(Received::of_fields(&serde_json::from_str(object).unwrap()), None);
        }
    }

    #[test]
    fn events_are_printed_with_what_sse_knows_of_them() {
        for (name, data, topic, json) in [
            ("message", "x", Some("a"), r#"{"topic":"a","text":"x"}"#),
            ("typed", "{\"x\":\n1}", Some("a"), r#"{"topic":"a","event":"typed","data":{"x": 1}}"#),
            ("message", "[1]", Some("a"), r#"{"topic":"a","data":[1]}"#),
            ("message", "42", None, r#"{"text":"42"}"#),
            (
                "umbel.base64",
                r#"{"event":"e","base64":"/wA="}"#,
                None,
                r#"{"event":"e","base64":"/wA="}"#,
            ),
        ] {
            let received = of_sse(name, data, topic).unwrap();
            assert_eq!(printed(&received, Form::Json), format!("{json}\n"));
        }
        assert_eq!(printed(&of_sse("message", "x", None).unwrap(), Form::LinesWithTopics), "x\n");
        assert_eq!(of_sse("umbel.moving", "{}", Some("a")), None);
    }
}
