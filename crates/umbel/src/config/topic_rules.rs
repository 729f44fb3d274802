//! `[[topics]]`: who may do what, and how slow consumers are treated, per pattern of names.

use std::cmp::Ordering;

use umbel_broker::History;
use umbel_hub::{OnSlow, Tag, Terms};
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
    /// Which rule's messages it is counted among, by [`TopicRules::labels`].
    pub tag: Tag,
}

/// What rules past the twentieth are called in metrics.
const OTHER_RULES: &str = "other";

/// All rules. Without any, anyone may do anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// The closest first.
    rules: Vec<TopicRule>,
    /// The rules in metrics, by their tags.
    labels: Vec<String>,
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
        let labels = tag(&mut rules);
        if rules.is_empty() {
            return Self::default();
        }
        Self { rules, labels, ..Self::default() }
    }

    /// What each [`Tag`] stands for in metrics: the patterns of the first twenty rules, the closest
    /// before the others; those that follow share the last.
    pub fn labels(&self) -> &[String] {
        &self.labels
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

/// Gives each rule its tag, and says what the tags stand for.
fn tag(rules: &mut [TopicRule]) -> Vec<String> {
    let shared = Tag::COUNT - 1;
    let mut labels = Vec::new();
    for rule in rules.iter_mut() {
        let pattern = rule.pattern.as_str();
        // A rule whose pattern is that word can't have it for itself.
        let has_own = labels.len() < shared && pattern != OTHER_RULES;
        rule.tag = Tag::new(if has_own { labels.len() } else { shared });
        if has_own {
            labels.push(pattern.to_owned());
        }
    }
    if labels.len() < rules.len() {
        // Tags that nobody has lie between.
        labels.resize_with(shared, String::new);
        labels.push(OTHER_RULES.to_owned());
    }
    labels
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
            tag: Tag::default(),
        }
    }

    /// What holds for its topics in a worker's hub.
    pub fn terms(&self) -> Terms {
        Terms { on_slow: self.on_slow, tag: self.tag }
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
        let everything: TopicPattern = "**".parse().expect("a valid pattern");
        Self {
            rules: Vec::new(),
            labels: vec![everything.to_string()],
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

    fn labels(patterns: &[String]) -> (Vec<String>, Vec<String>) {
        let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
        let rules = rules(&patterns).unwrap();
        let of = |rule: &TopicRule| rules.labels()[rule.tag.index()].clone();
        (rules.labels().to_vec(), rules.iter().map(of).collect())
    }

    #[test]
    fn the_first_twenty_rules_have_labels_of_their_own() {
        let patterns = |count: usize| (10..10 + count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        assert_eq!(labels(&patterns(20)), (patterns(20), patterns(20)));
        let (all, by_rule) = labels(&patterns(23));
        assert_eq!((all.len(), &all[..20], &all[20][..]), (21, &patterns(20)[..], "other"));
        assert_eq!(&by_rule[18..], ["t28", "t29", "other", "other", "other"]);
        assert_eq!(TopicRules::default().labels(), ["**"]);
    }

    #[test]
    fn a_rule_that_is_called_like_the_others_is_one_of_them() {
        let (all, by_rule) = labels(&["a", "other", "b"].map(str::to_owned));
        assert_eq!(by_rule, ["a", "other", "b"]);
        assert_eq!(all.iter().filter(|label| *label == "other").count(), 1);
    }

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
