//! From where on a request gets its topics: which of its cursors counts, and what it says of each
//! topic.

use hyper::header::{HeaderMap, HeaderValue};
use umbel_protocol::{After, CompositeTopics, Cursor, Topic};

use crate::session::{From, Granted};

/// What a request says of where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing: it comes for the first time.
    None,
    /// By its URL.
    Query(Cursor),
    /// By `Last-Event-ID`, which a browser sends when it comes back. It may have it from another
    /// server, so what isn't a cursor of ours is no mistake of the client.
    Header(Option<Cursor>),
}

/// The cursor of a stream over several topics with history.
pub(super) type Composite = (Box<[Topic]>, CompositeTopics);

impl Place {
    /// The place of a request. A browser repeats its first URL for ever, so the header wins.
    pub(super) fn of(headers: &HeaderMap, after: Option<Cursor>) -> Self {
        let id = headers.get("last-event-id").map(HeaderValue::as_bytes);
        match (id.filter(|id| !id.is_empty()), after) {
            (Some(id), _) => {
                let text = std::str::from_utf8(id).ok();
                Self::Header(text.and_then(|text| Cursor::parse(text).ok()))
            }
            (None, Some(cursor)) => Self::Query(cursor),
            (None, None) => Self::None,
        }
    }

    /// Settles where each topic with history begins; without a cursor, as `first` says.
    pub(super) fn settle(&self, topics: &mut [Granted], first: From) -> Result<(), String> {
        let with_history = || topics.iter().filter(|granted| granted.history.is_some());
        let count = with_history().count();
        let (cursor, is_query) = match self {
            Self::None => return Ok(()),
            Self::Query(cursor) => (Some(cursor), true),
            Self::Header(cursor) => (cursor.as_ref(), false),
        };
        if is_query && count == 0 {
            return Err("`after` needs a topic with history, and none of these has one".to_owned());
        }
        let fits = !matches!(cursor, Some(Cursor::All(After::Position(_)))) || count == 1;
        if is_query && !fits {
            return Err(format!(
                "`after` is the position of one topic, and {count} of these have history; a stream over several has a cursor over all of them"
            ));
        }
        for granted in topics.iter_mut().filter(|granted| granted.history.is_some()) {
            granted.has_cursor = true;
            granted.from = match cursor.filter(|_| fits) {
                None => From::UnknownCursor,
                Some(Cursor::All(after)) => From::After(*after),
                Some(Cursor::Composite(composite)) => match composite.position_of(&granted.topic) {
                    Some(position) => From::After(After::Position(position)),
                    None => first,
                },
            };
        }
        Ok(())
    }
}

/// The topics over which a stream has one cursor, if they are several.
pub(super) fn composite(topics: &[Granted]) -> Result<Option<Composite>, String> {
    let with_history = topics.iter().filter(|granted| granted.history.is_some());
    let named: Box<[Topic]> = with_history.map(|granted| granted.topic.clone()).collect();
    match named.len() {
        0 | 1 => Ok(None),
        count if count > CompositeTopics::MAX => Err(format!(
            "{count} topics with history are named, at most {} fit into one cursor",
            CompositeTopics::MAX
        )),
        _ => match CompositeTopics::new(&named) {
            Some(in_cursor) => Ok(Some((named, in_cursor))),
            None => Err("the names of these topics can't be told apart in a cursor".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_broker::History;
    use umbel_hub::OnSlow;
    use umbel_protocol::{MessageId, Position};

    const HISTORY: History = History { messages: 9, seconds: 9, keep_seconds: 60 };
    const AT: MessageId = MessageId { epoch: 7, offset: 5 };

    fn granted(name: &str) -> Granted {
        Granted {
            topic: Topic::new(name).unwrap(),
            terms: OnSlow::Disconnect.into(),
            history: (!name.starts_with("live")).then_some(HISTORY),
            from: From::Now,
            has_cursor: false,
        }
    }

    fn settled(
        header: Option<&str>,
        after: Option<&str>,
        names: &[&str],
    ) -> Result<Vec<From>, String> {
        let mut headers = HeaderMap::new();
        if let Some(id) = header {
            headers.insert("last-event-id", HeaderValue::from_str(id).unwrap());
        }
        let after = after.map(|after| Cursor::parse(after).unwrap());
        let mut topics: Vec<_> = names.iter().map(|name| granted(name)).collect();
        Place::of(&headers, after).settle(&mut topics, From::Now)?;
        Ok(topics.iter().map(|granted| granted.from).collect())
    }

    fn cursor_of_a() -> String {
        let topics = [Topic::new("a").unwrap(), Topic::new("c").unwrap()];
        let mut out = Vec::new();
        let positions = [Some(Position::from(AT)), Some(Position::START)];
        CompositeTopics::new(&topics).unwrap().write(&mut out, &positions);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn which_cursor_wins_and_what_it_says() {
        let id = AT.to_string();
        let (composite, at) = (cursor_of_a(), From::After(After::Position(AT.into())));
        let latest = From::After(After::Latest(3));
        for (header, after, names, expected) in [
            (None, None, &["a"][..], &[From::Now][..]),
            (None, Some(&*id), &["a"], &[at]),
            (Some(&*id), Some("latest:3"), &["a"], &[at]),
            (Some(""), Some("latest:3"), &["a"], &[latest]),
            (None, Some("latest:3"), &["a", "live", "b"], &[latest, From::Now, latest]),
            (None, Some(&*id), &["live", "a"], &[From::Now, at]),
            // A composite is bound to names: others begin now.
            (Some(&*composite), None, &["b", "a"], &[From::Now, at]),
            (Some(&*composite), None, &["a"], &[at]),
            // What a browser brings from elsewhere must not end its stream.
            (Some("42"), None, &["a", "live"], &[From::UnknownCursor, From::Now]),
            (Some(&*id), None, &["a", "b"], &[From::UnknownCursor, From::UnknownCursor]),
            (Some("42"), None, &["live"], &[From::Now]),
        ] {
            assert_eq!(
                settled(header, after, names).as_deref(),
                Ok(expected),
                "{header:?} {after:?} {names:?}"
            );
        }
        assert!(
            settled(None, Some(&id), &["a", "b"]).unwrap_err().contains("2 of these have history")
        );
        assert!(settled(None, Some("latest:1"), &["live"]).unwrap_err().contains("none of these"));
    }

    #[test]
    fn several_topics_with_history_share_a_cursor() {
        let of = |names: &[&str]| {
            let topics: Vec<_> = names.iter().map(|name| granted(name)).collect();
            composite(&topics).unwrap().map(|(topics, _)| topics.len())
        };
        assert_eq!(of(&["a"]), None);
        assert_eq!(of(&["a", "live"]), None);
        assert_eq!(of(&["a", "live", "b"]), Some(2));
        let many: Vec<_> = (0..200).map(|number| granted(&number.to_string())).collect();
        assert!(composite(&many).unwrap_err().starts_with("200 topics with history are named"));
    }
}
