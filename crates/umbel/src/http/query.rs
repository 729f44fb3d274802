//! Options in the query of a URL.

use umbel_protocol::Topic;

use super::Problem;

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
    /// The first of the names that ask for history.
    pub(super) history: Option<&'static str>,
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
            "gap" => self.close_on_gap = word(name, value, "close", "ignore")?,
            "after" => self.history = Some("`after` (resuming from history)"),
            "limit" => self.history = Some("`limit` (reading history)"),
            "wait" => self.history = Some("`wait` (long-poll)"),
            _ => {}
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
        let query = Query::parse(Some("topic=a%2Fb&topic=c&echo=false&gap=close&_=17")).unwrap();
        assert_eq!(query.topics, [Topic::new("a/b").unwrap(), Topic::new("c").unwrap()]);
        assert!(query.no_echo && query.close_on_gap);
        assert_eq!(Query::parse(None).unwrap(), Query::default());
        assert!(Query::parse(Some("echo=no")).is_err());
        assert!(Query::parse(Some("after=x")).unwrap().history.unwrap().contains("`after`"));
    }
}
