//! Setting members of a JSON object without touching the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The members of an object as they were written, names too: a name may be one that can't be
/// decoded, such as half of a surrogate pair, which is no reason to refuse or to lose it.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

/// The object `json` with `members` (each a name and a JSON value) in the place of all of its own
/// that have these names, and every other byte of a member as it was.
///
/// ```
/// use umbel_protocol::json::with_members;
///
/// let stamped = with_members(r#"{"user":"forged","text": "hi"}"#, &[("user", "\"ann\"".into())])?;
/// assert_eq!(stamped, r#"{"text":"hi","user":"ann"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn with_members(json: &str, members: &[(&str, String)]) -> serde_json::Result<String> {
    let own: Members<'_> = serde_json::from_str(json)?;
    let set: usize = members.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = String::with_capacity(json.len() + set);
    for (name, value) in own.0 {
        if !members.iter().any(|(set, _)| means(name, set)) {
            append(&mut out, name.get(), value.get());
        }
    }
    for (name, value) in members {
        let name = serde_json::to_string(name).expect("a string is always JSON");
        append(&mut out, &name, value);
    }
    if out.is_empty() {
        out.push('{');
    }
    out.push('}');
    Ok(out)
}

/// Whether a name, quoted and perhaps escaped, is `plain`.
fn means(name: &RawValue, plain: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Name<'_>>(name.get()).is_ok_and(|name| name.0 == plain)
}

fn append(out: &mut String, name: &str, value: &str) {
    out.push(if out.is_empty() { '{' } else { ',' });
    out.push_str(name);
    out.push(':');
    out.push_str(value);
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[track_caller]
    fn stamps(json: &str, expected: &str) {
        let members = [("id", "\"7\"".to_owned()), ("time", "1".to_owned())];
        assert_eq!(with_members(json, &members).unwrap(), expected, "{json}");
    }

    #[test]
    fn members_are_set_and_the_others_keep_their_bytes() {
        stamps("{}", r#"{"id":"7","time":1}"#);
        stamps(r#" {"a" : 1.0e2 , "b":[ 1,2 ]} "#, r#"{"a":1.0e2,"b":[ 1,2 ],"id":"7","time":1}"#);
        stamps(r#"{"id":"forged","a":1}"#, r#"{"a":1,"id":"7","time":1}"#);
        assert_eq!(with_members("{}", &[]).unwrap(), "{}");
    }

    #[test]
    fn no_spelling_of_a_name_gets_past() {
        stamps(r#"{"id":1,"id":2}"#, r#"{"id":"7","time":1}"#);
        stamps(r#"{"\u0069d":1,"i\u0064":2}"#, r#"{"id":"7","time":1}"#);
        stamps(r#"{"\ud800":1,"id":2}"#, r#"{"\ud800":1,"id":"7","time":1}"#);
        stamps(r#"{"a":{"id":1}}"#, r#"{"a":{"id":1},"id":"7","time":1}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "1", "\"{}\"", "[{}]", "null", "{", "{}{}", "{\"a\":NaN}", "{'a':1}"] {
            assert!(with_members(json, &[]).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn the_result_is_the_object_with_the_members(
            object in prop::collection::hash_map("[a-c\"\\\\\n\u{e4}]{0,2}", any::<i32>(), 0..5),
            name in "[a-c\"\\\\\n\u{e4}]{0,2}",
            value: i32,
        ) {
            let mut expected = serde_json::to_value(&object).unwrap();
            let stamped = with_members(&expected.to_string(), &[(&name, value.to_string())]).unwrap();
            expected[&name] = value.into();
            prop_assert_eq!(serde_json::from_str::<Value>(&stamped).unwrap(), expected);
        }

        #[test]
        fn never_panics(json in "[{}\"a:,\\\\ud8 \\[\\]0]{0,30}") {
            if let Ok(stamped) = with_members(&json, &[("a", "1".to_owned())]) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&stamped).is_ok());
            }
        }
    }
}
