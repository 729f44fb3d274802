//! What a route sets in the JSON objects that its sessions publish.

use umbel_protocol::{Payload, PayloadError, SessionId, Timestamp};

use super::template::{Parameter, Part, Template};
use super::values::Values;

/// Members of a JSON object, each with a template for its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Box<[(Box<str>, Template)]>);

impl Stamp {
    /// A stamp that sets these members.
    pub fn new(members: impl IntoIterator<Item = (String, Template)>) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// The templates of the values.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The stamp for one session: what its request settles is text now.
    pub(super) fn settled(&self, values: &Values<'_>) -> Self {
        let settled = |part: &Part| match part {
            Part::Parameter(parameter @ (Parameter::Path(_) | Parameter::Query(_))) => {
                Part::Text(values.text_of(parameter).into())
            }
            other => other.clone(),
        };
        let member = |(name, value): &(Box<str>, Template)| {
            (name.clone(), value.parts().iter().map(settled).collect())
        };
        Self(self.0.iter().map(member).collect())
    }

    /// Sets the members in a payload, in the place of the client's own of the same names. What
    /// isn't a JSON object is refused: a reader more lenient than ours might find members in it.
    pub(crate) fn set(
        &self,
        payload: Payload,
        session: SessionId,
        published: Timestamp,
    ) -> Result<Payload, PayloadError> {
        let member = |(name, value): &'_ (Box<str>, Template)| {
            (name.to_string(), written(value, session, published))
        };
        let members: Vec<_> = self.0.iter().map(member).collect();
        let members: Vec<_> = members.iter().map(|(name, json)| (&**name, json.clone())).collect();
        payload.with_members(&members)
    }
}

/// A value as JSON: a time alone is a number, all else a string.
fn written(value: &Template, session: SessionId, published: Timestamp) -> String {
    if let [Part::Parameter(Parameter::MessageTime)] = value.parts() {
        return published.as_millis().to_string();
    }
    let text: String = value.parts().iter().map(|part| filled(part, session, published)).collect();
    serde_json::to_string(&text).expect("a string is always JSON")
}

fn filled(part: &Part, session: SessionId, published: Timestamp) -> String {
    match part {
        Part::Text(text) => text.to_string(),
        // In the order of time, and told apart by 64 random bits within a microsecond.
        Part::Parameter(Parameter::MessageId) => {
            format!("{:016x}{:016x}", published.0, fastrand::u64(..))
        }
        Part::Parameter(Parameter::MessageTime) => published.as_millis().to_string(),
        Part::Parameter(Parameter::SessionId) => session.to_string(),
        Part::Parameter(_) => unreachable!("settings and the request settle all other parameters"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::RequestPath;
    use super::super::values::{Count, Empty, QueryParameter};
    use super::*;
    use serde_json::{Value, json};

    fn stamp(members: &[(&str, &str)]) -> Stamp {
        let member = |(name, value): &(&str, &str)| ((*name).to_owned(), value.parse().unwrap());
        let stamp = Stamp::new(members.iter().map(member));
        let path = "/chat/{room}".parse().unwrap();
        let request = RequestPath::decode("/chat/a%22b").unwrap();
        let query = [QueryParameter { name: "as".into(), count: Count::One, empty: Empty::Wait }];
        let values = Values::read(&path, &query, &request, "as=Ann+B.").unwrap().unwrap();
        stamp.settled(&values)
    }

    fn stamped(members: &[(&str, &str)], text: &str) -> Result<Value, String> {
        let set = stamp(members).set(Payload::text(text.into()), SessionId(0xab), Timestamp(5_000));
        let payload = set.map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(payload.bytes()).unwrap())
    }

    #[test]
    fn members_are_set_whatever_the_client_says() {
        assert_eq!(
            stamped(
                &[
                    ("user", "{session.id}"),
                    ("room", "{room}"),
                    ("name", "{query.as} of {room}"),
                    ("time", "{message.time}"),
                    ("at", "{message.time} ms"),
                    ("v", "1"),
                ],
                r#"{"user":"admin","text":"hi","time":0}"#
            )
            .unwrap(),
            json!({
                "text": "hi", "user": "00000000000000ab", "room": "a\"b",
                "name": "Ann B. of a\"b", "time": 5, "at": "5 ms", "v": "1",
            }),
        );
    }

    #[test]
    fn every_message_has_another_id() {
        let stamp = stamp(&[("id", "{message.id}")]);
        let id = |time| {
            let payload = stamp.set(Payload::text("{}".into()), SessionId(1), Timestamp(time));
            serde_json::from_slice::<Value>(payload.unwrap().bytes()).unwrap()["id"].to_string()
        };
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| id(7)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.last().unwrap() < &id(8), "later ones sort behind");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["hi", "[{\"user\":\"admin\"}]", "{\"user\":\"admin\",\"x\":NaN}", ""] {
            let error = stamped(&[("user", "{session.id}")], text).unwrap_err();
            assert!(error.starts_with("payload is not a JSON object: "), "{error}");
        }
    }
}
