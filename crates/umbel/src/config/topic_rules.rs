//! `[[topics]]`: who may do what, and how slow consumers are treated, per pattern of names.

use std::cmp::Ordering;

use umbel_broker::History;
use umbel_hub::OnSlow;
use umbel_protocol::{Payload, PayloadError, PayloadKind, Topic, TopicPattern};

/// Who may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anyone,
    /// Not even those with a credential.
    Nobody,
}

/// What holds for the topics that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRule {
    /// Which topics.
    pub pattern: TopicPattern,
    /// Who may subscribe.
    pub subscribe: Access,
    /// Who may publish.
    pub publish: Access,
    /// The kind that all payloads have; `None`: what their publishers say.
    pub kind: Option<PayloadKind>,
    /// What becomes of slow consumers.
    pub on_slow: OnSlow,
    /// What is kept of the messages; `None`: nothing.
    pub history: Option<History>,
    /// How many of the newest messages a new subscriber without a cursor gets at once.
    pub on_subscribe: Option<u32>,
}

/// All rules. Without any, anyone may do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// The closest first.
    rules: Vec<TopicRule>,
    /// What holds if there are no rules.
    open: TopicRule,
}

impl TopicRules {
    /// Orders rules so that of those that match a topic the closest decides. The error names two
    /// rules, by their indices, of which none is closer although both match some topics.
    pub fn new(rules: Vec<TopicRule>) -> Result<Self, (usize, usize)> {
        for (at, rule) in rules.iter().enumerate() {
            for (earlier, other) in rules[..at].iter().enumerate() {
                let tied = rule.pattern.compare_closeness(&other.pattern) == Ordering::Equal;
                if tied && rule.pattern.overlaps(&other.pattern) {
                    return Err((earlier, at));
                }
            }
        }
        Ok(Self::sorted(rules))
    }

    fn sorted(mut rules: Vec<TopicRule>) -> Self {
        rules.sort_by(|a, b| b.pattern.compare_closeness(&a.pattern));
        Self { rules, ..Self::default() }
    }

    /// The rule that decides about a topic; `None` if there are rules, but none for it.
    pub fn of(&self, topic: &Topic) -> Option<&TopicRule> {
        if self.is_open_to_all() {
            return Some(&self.open);
        }
        self.rules.iter().find(|rule| rule.pattern.matches(topic.as_str()))
    }

    /// All rules, those that are asked first before the others.
    pub fn iter(&self) -> impl Iterator<Item = &TopicRule> {
        self.rules.iter()
    }

    /// Whether there are no rules at all.
    pub fn is_open_to_all(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Access {
    /// The word in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Nobody => "nobody",
        }
    }
}

impl TopicRule {
    /// The rule that a pattern alone makes: nobody may do anything.
    pub fn closed(pattern: TopicPattern) -> Self {
        Self {
            pattern,
            subscribe: Access::Nobody,
            publish: Access::Nobody,
            kind: None,
            on_slow: OnSlow::Disconnect,
            history: None,
            on_subscribe: None,
        }
    }

    /// The payload as this rule wants it, if its bytes allow that.
    pub fn fit(&self, payload: Payload) -> Result<Payload, PayloadError> {
        match self.kind {
            Some(kind) => payload.into_kind(kind),
            None => Ok(payload),
        }
    }
}

impl Default for TopicRules {
    fn default() -> Self {
        let everything = "**".parse().expect("a valid pattern");
        Self {
            rules: Vec::new(),
            open: TopicRule {
                subscribe: Access::Anyone,
                publish: Access::Anyone,
                ..TopicRule::closed(everything)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Result<TopicRules, (usize, usize)> {
        TopicRules::new(patterns.iter().map(|p| TopicRule::closed(p.parse().unwrap())).collect())
    }

    #[test]
    fn the_closest_rule_decides_whatever_the_order() {
        for patterns in [["**", "chat.*", "chat.lobby"], ["chat.lobby", "**", "chat.*"]] {
            let rules = rules(&patterns).unwrap();
            for (name, pattern) in [
                ("chat.lobby", "chat.lobby"),
                ("chat.1", "chat.*"),
                ("chat.1.x", "**"),
                ("a", "**"),
            ] {
                assert_eq!(rules.of(&Topic::new(name).unwrap()).unwrap().pattern.as_str(), pattern);
            }
        }
    }

    #[test]
    fn without_rules_everything_is_open_and_with_one_the_rest_is_closed() {
        let topic = Topic::new("b").unwrap();
        assert_eq!(TopicRules::default().of(&topic).unwrap().publish, Access::Anyone);
        assert_eq!(rules(&["a"]).unwrap().of(&topic), None);
    }

    #[test]
    fn rules_that_leave_it_open_are_named() {
        assert_eq!(rules(&["a", "chat.*", "*.lobby"]), Err((1, 2)));
        assert_eq!(rules(&["a", "a"]), Err((0, 1)));
        assert!(rules(&["chat.*", "game.*"]).is_ok());
    }
}
