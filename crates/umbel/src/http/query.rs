//! Options in the query of a URL.

use umbel_protocol::history::MAX_MESSAGES;
use umbel_protocol::{Cursor, Topic};

use super::Problem;

/// The longest that a poll may wait, in seconds.
const MAX_WAIT_SECONDS: u64 = 60;

/// What a subscription's query says. Names that nobody knows are left alone: applications put
/// their own into URLs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `topic`, which may repeat.
    pub(super) topics: Vec<Topic>,
    /// `echo=false`: the session shall not hear what it publishes.
    pub(super) no_echo: bool,
    /// `gap=close`: rather be closed than miss a message unknowingly.
    pub(super) close_on_gap: bool,
    /// `strict=1`: a status for refusals that pass, where an `EventSource` would be told to come back.
    pub(super) is_strict: bool,
    /// What is asked of history.
    pub(super) history: HistoryQuery,
}

/// What a query asks of history.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct HistoryQuery {
    /// `after`: from where on.
    pub(super) after: Option<Cursor>,
    /// `limit`: how many messages at most.
    pub(super) limit: Option<usize>,
    /// `wait`: how many seconds to wait for the first one.
    pub(super) wait_seconds: Option<u64>,
}

impl HistoryQuery {
    /// Reads what a query says of history, and nothing else.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            read.take(&name, &value)?;
        }
        Ok(read)
    }

    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "after" => {
                let cursor = Cursor::parse(value);
                let cursor = cursor.map_err(|e| Problem::bad_request(format!("`after`: {e}")))?;
                self.after = Some(cursor);
            }
            "limit" => {
                let limit = number(name, value, 1..=MAX_MESSAGES as u64)?;
                self.limit = Some(usize::try_from(limit).expect("the range fits"));
            }
            "wait" => self.wait_seconds = Some(number(name, value, 0..=MAX_WAIT_SECONDS)?),
            _ => {}
        }
        Ok(())
    }
}

fn number(name: &str, value: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        Problem::bad_request(format!("`{name}` must be a whole number from {least} to {most}"))
    })
}

impl Query {
    /// Reads a query, form-decoded.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            read.take(&name, &value)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "topic" => {
                let topic =
                    Topic::new(value).map_err(|error| Problem::bad_request(error.to_string()))?;
                self.topics.push(topic);
            }
            "echo" => self.no_echo = !word(name, value, "true", "false")?,
            "strict" => self.is_strict = word(name, value, "1", "0")?,
            "gap" => self.close_on_gap = word(name, value, "close", "ignore")?,
            _ => self.history.take(name, value)?,
        }
        Ok(())
    }
}

/// Whether the value is `yes`, which it may be, or `no`.
fn word(name: &str, value: &str, yes: &str, no: &str) -> Result<bool, Problem> {
    if value == yes || value == no {
        return Ok(value == yes);
    }
    Err(Problem::bad_request(format!("`{name}` must be `{yes}` or `{no}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_form_decoded_and_unknown_ones_left_alone() {
        let query = Query::parse(Some("topic=a%2Fb&topic=c+d&x=%zz")).map(|q| q.topics);
        assert!(query.is_err(), "a space isn't allowed in a name");
        let query =
            Query::parse(Some("topic=a%2Fb&topic=c&echo=false&gap=close&strict=1&_=17")).unwrap();
        assert_eq!(query.topics, [Topic::new("a/b").unwrap(), Topic::new("c").unwrap()]);
        assert!(query.no_echo && query.close_on_gap && query.is_strict);
        assert_eq!(Query::parse(None).unwrap(), Query::default());
        assert!(Query::parse(Some("echo=no")).is_err());
        let history = Query::parse(Some("after=latest:2&limit=7&wait=60")).unwrap().history;
        assert_eq!(history.after, Some(Cursor::parse("latest:2").unwrap()));
        assert_eq!((history.limit, history.wait_seconds), (Some(7), Some(60)));
        for bad in ["after=x", "after=", "limit=0", "limit=1001", "limit=x", "wait=61", "wait=-1"] {
            assert!(Query::parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
