//! What a subscriber that came back lacks of its topics.

use std::fmt;

use umbel_protocol::{After, Cursor, Position, Topic};

/// What lies between a subscriber's last session and this one and will not come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// The node couldn't go on where the subscriber was, and tells a gap.
    gaps: Vec<Topic>,
    /// The subscriber had no place to go on at.
    anew: Vec<Topic>,
    /// Whether that is so of topics without history that are not told apart from the others.
    unnamed_anew: bool,
}

impl Missing {
    /// All that was published in between.
    pub(super) fn all(topics: &[Topic]) -> Self {
        Self { anew: topics.to_vec(), ..Self::default() }
    }

    /// Adds what a node says of one topic: whether it went on where the subscriber was. It says
    /// nothing to who named no place.
    pub(super) fn add(&mut self, topic: Topic, recovered: Option<bool>) {
        match recovered {
            Some(true) => {}
            Some(false) => self.gaps.push(topic),
            None => self.anew.push(topic),
        }
    }

    /// Compares where a stream was with where it begins, each by its id. `told` are the topics of
    /// which it tells a gap at its beginning.
    pub(super) fn of_stream(topics: &[Topic], was: &str, begins: &str, told: &[String]) -> Self {
        let mut missing = Self::default();
        for topic in topics {
            let is_told = told.iter().any(|name| name == topic.as_str());
            let recovered = match (place(was, topic, topics), place(begins, topic, topics)) {
                _ if is_told => Some(false),
                (Ok(Some(was)), Ok(Some(begins))) => Some(was == begins),
                (Ok(_), Ok(_)) => None,
                (Err(Unnamed), _) | (_, Err(Unnamed)) => {
                    missing.unnamed_anew = true;
                    continue;
                }
            };
            missing.add(topic.clone(), recovered);
        }
        missing
    }
}

/// An id of a stream over several topics of which one has history: it doesn't say which.
struct Unnamed;

/// Where an id of a stream has one of its topics.
fn place(id: &str, topic: &Topic, topics: &[Topic]) -> Result<Option<Position>, Unnamed> {
    match Cursor::parse(id) {
        Ok(Cursor::Composite(composite)) => Ok(composite.position_of(topic)),
        Ok(Cursor::All(After::Position(_))) if topics.len() > 1 => Err(Unnamed),
        Ok(Cursor::All(After::Position(position))) => Ok(Some(position)),
        Ok(Cursor::All(After::Latest(_))) | Err(_) => Ok(None),
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clauses = Vec::new();
        if !self.gaps.is_empty() {
            clauses.push(format!("there is a gap in {}", list(&self.gaps)));
        }
        if !self.anew.is_empty() {
            let topics = list(&self.anew);
            clauses.push(format!("what was published to {topics} in between is missing"));
        }
        if self.unnamed_anew {
            let clause = "what was published in between to topics without history is missing";
            clauses.push(clause.to_owned());
        }
        if clauses.is_empty() {
            return f.write_str("nothing is missing");
        }
        f.write_str(&clauses.join("; "))
    }
}

fn list(topics: &[Topic]) -> String {
    let names: Vec<_> = topics.iter().map(Topic::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::{CompositeTopics, MessageId};

    const ONE: &str = "00000000000000ab-1";
    const TWO: &str = "00000000000000ab-2";

    fn topics(names: &[&str]) -> Vec<Topic> {
        names.iter().map(|name| Topic::new(name).unwrap()).collect()
    }

    fn composite(places: &[(&str, u64)]) -> String {
        let names: Vec<_> = places.iter().map(|(name, _)| *name).collect();
        let position = |offset: u64| Some(MessageId { epoch: 0xab, offset }.into());
        let positions: Vec<_> = places.iter().map(|(_, offset)| position(*offset)).collect();
        let mut out = Vec::new();
        CompositeTopics::new(&topics(&names)).unwrap().write(&mut out, &positions);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_nodes_say_of_each_topic_makes_a_sentence() {
        for (said, sentence) in [
            (&[("a", Some(true)), ("b", Some(true))][..], "nothing is missing"),
            (&[("a", Some(true)), ("b", Some(false))], "there is a gap in b"),
            (&[("a", None), ("b", None)], "what was published to a, b in between is missing"),
            (
                &[("a", Some(false)), ("b", None), ("c", Some(true)), ("d", Some(false))],
                "there is a gap in a, d; what was published to b in between is missing",
            ),
        ] {
            let mut missing = Missing::default();
            for (name, recovered) in said {
                missing.add(Topic::new(name).unwrap(), *recovered);
            }
            assert_eq!(missing.to_string(), sentence);
        }
    }

    #[test]
    fn a_stream_of_one_topic_begins_where_it_was_or_not() {
        let of = |was, begins, told: &[&str]| {
            let told: Vec<_> = told.iter().map(|name| (*name).to_owned()).collect();
            Missing::of_stream(&topics(&["a"]), was, begins, &told).to_string()
        };
        assert_eq!(of(ONE, ONE, &[]), "nothing is missing");
        assert_eq!(of("0", "0", &[]), "nothing is missing");
        assert_eq!(of(ONE, TWO, &[]), "there is a gap in a");
        assert_eq!(of(ONE, "0", &["a"]), "there is a gap in a");
        assert_eq!(
            of(ONE, ONE, &["a"]),
            "there is a gap in a",
            "it begins there, but can't be sure"
        );
        assert_eq!(of(ONE, "", &[]), "what was published to a in between is missing");
        assert_eq!(of("x", ONE, &[]), "what was published to a in between is missing");
    }

    #[test]
    fn a_stream_of_several_topics_is_compared_topic_by_topic() {
        let of = |was: &str, begins: &str| {
            Missing::of_stream(&topics(&["a", "live", "b"]), was, begins, &[]).to_string()
        };
        let live = "what was published to live in between is missing";
        let was = composite(&[("a", 1), ("b", 2)]);
        assert_eq!(of(&was, &was), live);
        assert_eq!(
            of(&was, &composite(&[("b", 2), ("a", 7)])),
            format!("there is a gap in a; {live}")
        );
        // With one topic of history among them an id doesn't say whose it is.
        let unnamed = "what was published in between to topics without history is missing";
        assert_eq!(of(ONE, ONE), unnamed);
        let told = ["a".to_owned()];
        let missing = Missing::of_stream(&topics(&["a", "b"]), ONE, TWO, &told).to_string();
        assert_eq!(missing, format!("there is a gap in a; {unnamed}"));
    }
}
