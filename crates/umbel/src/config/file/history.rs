//! What of a topic's messages is kept: the part of `[[topics]]` that is about history.

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use umbel_broker::History;
use umbel_hub::OnSlow;

use super::super::TopicRule;
use super::super::value::Value;
use super::{Reader, unknown_key};

/// The most that may be kept of one topic: a server that trims more at once would halt.
const MAX_MESSAGES: u64 = 100_000;

/// Thirty days.
const MAX_SECONDS: u64 = 30 * 86_400;

/// How long the position of a quiet topic lives unless it is said.
const KEEP_SECONDS: u32 = 86_400;

/// The shortest life of a position: the nodes that hold a topic renew it now and then.
const MIN_KEEP_SECONDS: u64 = 60;

impl Reader<'_> {
    /// Reads `history`, `keep_seconds` and `on_subscribe` into a rule.
    pub(super) fn history(&mut self, table: &DeTable<'_>, rule: &mut TopicRule) {
        let Some(history) = table.get("history") else {
            return self.check_without_history(table);
        };
        let inner = self.inner(history, "history", "{ messages = 100, seconds = 300 }");
        let Some(inner) = inner else {
            return;
        };
        self.check_inner_keys(inner, "history", &["messages", "seconds"]);
        let messages = self.number(inner, "history.messages", 1..=MAX_MESSAGES);
        let seconds = self.number(inner, "history.seconds", 1..=MAX_SECONDS);
        for key in ["messages", "seconds"].into_iter().filter(|key| !inner.contains_key(*key)) {
            let fault = format!("topics.history: `{key}` is missing, both bounds must be given");
            self.mistake(&history.span(), fault);
        }
        let keep = self.number(table, "keep_seconds", MIN_KEEP_SECONDS..=MAX_SECONDS);
        let (Some(messages), Some(seconds)) = (messages, seconds) else {
            return;
        };
        // A position lives at least as long as the messages behind it.
        let keep_seconds = keep.unwrap_or(KEEP_SECONDS.max(seconds));
        if keep_seconds < seconds {
            let fault = format!(
                "topics.keep_seconds: {keep_seconds} is less than history.seconds ({seconds})"
            );
            self.mistake(&history.span(), fault);
        }
        if rule.on_slow == OnSlow::Latest {
            let fault = "topics.on_slow: \"latest\" skips messages, which `history` says are not lost; use \"drop\" or \"disconnect\"";
            self.mistake(&history.span(), fault.to_owned());
        }
        rule.history = Some(History { messages, seconds, keep_seconds });
        rule.on_subscribe = self.on_subscribe(table);
    }

    fn check_without_history(&mut self, table: &DeTable<'_>) {
        for key in table.keys() {
            if ["keep_seconds", "on_subscribe"].contains(&key.get_ref().as_ref()) {
                let fault = format!("topics.{}: needs `history`", key.get_ref());
                self.mistake(&key.span(), fault);
            }
        }
    }

    fn on_subscribe(&mut self, table: &DeTable<'_>) -> Option<u32> {
        let value = table.get("on_subscribe")?;
        let inner = self.inner(value, "on_subscribe", "{ latest = 1 }")?;
        self.check_inner_keys(inner, "on_subscribe", &["latest"]);
        if !inner.contains_key("latest") {
            let fault = "topics.on_subscribe: `latest` is missing: how many messages?";
            self.mistake(&value.span(), fault.to_owned());
        }
        self.number(inner, "on_subscribe.latest", 1..=MAX_MESSAGES)
    }

    fn inner<'t>(
        &mut self,
        value: &'t Spanned<DeValue<'t>>,
        key: &str,
        form: &str,
    ) -> Option<&'t DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.mistake(&value.span(), format!("topics.{key}: must be a table such as {form}"));
        None
    }

    fn check_inner_keys(&mut self, table: &DeTable<'_>, path: &str, known: &[&'static str]) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let fault = unknown_key(key.get_ref(), known.iter().copied());
            self.mistake(&key.span(), format!("topics.{path}: {fault}"));
        }
    }

    /// The number of the last part of `path`, if it is there and within the range.
    fn number(
        &mut self,
        table: &DeTable<'_>,
        path: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u32> {
        let key = path.rsplit('.').next().unwrap_or(path);
        let value = table.get(key)?;
        let count = Value::of(value.get_ref()).count(&range);
        let count =
            count.map_err(|fault| self.mistake(&value.span(), format!("topics.{path}: {fault}")));
        count.ok().map(|count| u32::try_from(count).expect("the ranges are within 32 bits"))
    }
}

#[cfg(test)]
mod tests {
    use umbel_broker::History;

    use crate::config::Settings;

    /// What is wrong with a rule, without the place.
    fn faults(rule: &str) -> Vec<String> {
        let (_, mistakes) = Settings::from_text(&format!("[[topics]]\nmatch = \"a\"\n{rule}"));
        mistakes.iter().map(|mistake| mistake.fault.clone()).collect()
    }

    #[test]
    fn history_has_two_bounds_and_what_depends_on_it_needs_it() {
        for (rule, fault) in [
            (
                "history = 5",
                "topics.history: must be a table such as { messages = 100, seconds = 300 }",
            ),
            (
                "history = { messages = 5 }",
                "topics.history: `seconds` is missing, both bounds must be given",
            ),
            (
                "history = { seconds = 5 }",
                "topics.history: `messages` is missing, both bounds must be given",
            ),
            (
                "history = { messages = 0, seconds = 5 }",
                "topics.history.messages: 0 is not a whole number from 1 to 100000",
            ),
            (
                "history = { messages = 5, seconds = 5, second = 1 }",
                "topics.history: unknown key `second`, did you mean `seconds`?",
            ),
            (
                "history = { messages = 5, seconds = 900 }\nkeep_seconds = 60",
                "topics.keep_seconds: 60 is less than history.seconds (900)",
            ),
            (
                "history = { messages = 5, seconds = 5 }\non_slow = \"latest\"",
                "topics.on_slow: \"latest\" skips messages, which `history` says are not lost; use \"drop\" or \"disconnect\"",
            ),
            ("keep_seconds = 60", "topics.keep_seconds: needs `history`"),
            ("on_subscribe = { latest = 1 }", "topics.on_subscribe: needs `history`"),
            (
                "history = { messages = 5, seconds = 5 }\non_subscribe = 1",
                "topics.on_subscribe: must be a table such as { latest = 1 }",
            ),
            (
                "history = { messages = 5, seconds = 5 }\non_subscribe = {}",
                "topics.on_subscribe: `latest` is missing: how many messages?",
            ),
        ] {
            assert_eq!(faults(rule), [fault], "{rule}");
        }
    }

    #[test]
    fn a_position_lives_a_day_or_as_long_as_its_messages() {
        for (seconds, keep) in [(300, 86_400), (100_000, 100_000)] {
            let (settings, mistakes) = Settings::from_text(&format!(
                "[[topics]]\nmatch = \"a\"\nhistory = {{ messages = 9, seconds = {seconds} }}\non_subscribe = {{ latest = 2 }}"
            ));
            assert!(mistakes.is_empty(), "{mistakes:?}");
            let rule = settings.topics.iter().next().expect("one rule");
            assert_eq!(rule.history, Some(History { messages: 9, seconds, keep_seconds: keep }));
            assert_eq!(rule.on_subscribe, Some(2));
        }
    }
}
