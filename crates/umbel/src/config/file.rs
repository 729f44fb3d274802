//! The TOML file: every value with its line.

mod history;
mod route;
mod routes;

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use umbel_hub::OnSlow;
use umbel_protocol::PayloadKind;

use super::table::SETTINGS;
use super::value::Value;
use super::{Access, Mistakes, Place, Settings, TopicRule, TopicRules, unknown_key};

/// A file of settings is small; this keeps a mistaken path from filling the memory.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file into `settings`.
pub(super) fn read(path: &Path, settings: &mut Settings, mistakes: &mut Mistakes) {
    let text = match std::fs::metadata(path)
        .and_then(|meta| too_big(&meta))
        .and_then(|()| std::fs::read_to_string(path))
    {
        Ok(text) => text,
        Err(error) => {
            return mistakes
                .add(Place::WholeFile(path.to_owned()), format!("can't be read: {error}"));
        }
    };
    read_text(path, &text, settings, mistakes);
}

fn too_big(meta: &std::fs::Metadata) -> std::io::Result<()> {
    if meta.len() > MAX_BYTES {
        let fault = format!("it has {} bytes, at most {MAX_BYTES} are allowed", meta.len());
        return Err(std::io::Error::other(fault));
    }
    Ok(())
}

/// Reads the text of the file that `path` names.
pub(super) fn read_text(path: &Path, text: &str, settings: &mut Settings, mistakes: &mut Mistakes) {
    Reader { path, text, settings, mistakes }.read();
}

struct Reader<'r> {
    path: &'r Path,
    text: &'r str,
    settings: &'r mut Settings,
    mistakes: &'r mut Mistakes,
}

impl Reader<'_> {
    fn read(mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().unwrap_or_default();
            self.mistake(&at, error.message().to_owned());
        }
        self.table("", table.get_ref());
        self.mistakes.sort_by_line();
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                _ if path == "topics" => self.topics(value),
                _ if path == "routes" => self.routes(value),
                DeValue::Table(inner) if is_section(&path) => {
                    self.table(&format!("{path}."), inner);
                }
                scalar => {
                    let place = self.place(&key.span());
                    self.settings.apply(&path, &Value::of(scalar), place, self.mistakes);
                }
            }
        }
    }

    fn topics(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Array(entries) = value.get_ref() else {
            return self.mistake(&value.span(), "topics must be written as [[topics]]".to_owned());
        };
        let mut rules = Vec::new();
        let mut spans = Vec::new();
        for entry in entries {
            let DeValue::Table(table) = entry.get_ref() else {
                self.mistake(&entry.span(), "topics must be written as [[topics]]".to_owned());
                continue;
            };
            if let Some(rule) = self.topic_rule(&entry.span(), table) {
                let place = self.place(&entry.span());
                self.settings.provenance.set_rule(&rule.pattern, place);
                rules.push(rule);
                spans.push(entry.span());
            }
        }
        let patterns: Vec<_> = rules.iter().map(|rule| rule.pattern.to_string()).collect();
        match TopicRules::new(rules) {
            Ok(rules) => self.settings.topics = rules,
            Err((first, second)) => {
                let line = self.line(&spans[first]);
                let fault = format!(
                    "`{}` and `{}` of line {line} both match some topics and neither is closer; make one more specific",
                    patterns[second], patterns[first]
                );
                self.mistake(&spans[second], fault);
            }
        }
    }

    fn topic_rule(&mut self, span: &Range<usize>, table: &DeTable<'_>) -> Option<TopicRule> {
        const KEYS: [&str; 8] = [
            "match",
            "subscribe",
            "publish",
            "kind",
            "on_slow",
            "history",
            "keep_seconds",
            "on_subscribe",
        ];
        let Some(value) = table.get("match") else {
            self.mistake(span, "`match` is missing: which topics is the rule for?".to_owned());
            return None;
        };
        let pattern = self.pattern(value)?;
        let mut rule = TopicRule::closed(pattern);
        for (key, value) in table {
            let read = match key.get_ref().as_ref() {
                // Looked at before, or together.
                "match" | "history" | "keep_seconds" | "on_subscribe" => Ok(()),
                "subscribe" => access(value).map(|access| rule.subscribe = access),
                "publish" => access(value).map(|access| rule.publish = access),
                "kind" => kind(value).map(|kind| rule.kind = Some(kind)),
                "on_slow" => on_slow(value).map(|policy| rule.on_slow = policy),
                other => Err(unknown_key(other, KEYS.into_iter())),
            };
            if let Err(fault) = read {
                self.mistake(&key.span(), format!("topics.{}: {fault}", key.get_ref()));
            }
        }
        self.history(table, &mut rule);
        Some(rule)
    }

    fn pattern(&mut self, value: &Spanned<DeValue<'_>>) -> Option<umbel_protocol::TopicPattern> {
        let pattern = Value::of(value.get_ref())
            .text("a pattern such as \"chat.*\"")
            .and_then(|text| text.parse().map_err(|error| format!("{error}")));
        pattern.map_err(|fault| self.mistake(&value.span(), format!("topics.match: {fault}"))).ok()
    }

    fn mistake(&mut self, span: &Range<usize>, fault: String) {
        let place = self.place(span);
        self.mistakes.add(place, fault);
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::File { path: self.path.to_owned(), line: self.line(span) }
    }

    /// The lines from the header at `span` up to the next header of something else.
    fn section(&self, span: &Range<usize>) -> &str {
        let start = self.text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let header = self.text[start..].split_inclusive('\n').next().map_or(0, str::len);
        let mut end = start + header;
        for line in self.text[end..].split_inclusive('\n') {
            if line.trim_start().starts_with('[') {
                break;
            }
            end += line.len();
        }
        self.text[start..end].trim()
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.split(|byte| *byte == b'\n').count()
    }
}

/// Whether some setting lies in this table.
fn is_section(path: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn access(value: &Spanned<DeValue<'_>>) -> Result<Access, String> {
    let words = [Access::Anyone, Access::Nobody];
    Value::of(value.get_ref()).word(&words.map(|access| (access.as_str(), access)))
}

fn kind(value: &Spanned<DeValue<'_>>) -> Result<PayloadKind, String> {
    let kinds = [PayloadKind::Text, PayloadKind::Json, PayloadKind::Binary];
    Value::of(value.get_ref()).word(&kinds.map(|kind| (kind.as_str(), kind)))
}

fn on_slow(value: &Spanned<DeValue<'_>>) -> Result<OnSlow, String> {
    Value::of(value.get_ref()).word(&OnSlow::ALL.map(|policy| (policy.as_str(), policy)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use umbel_protocol::Topic;

    fn load(text: &str) -> (Settings, Vec<String>) {
        let mut settings = Settings::default();
        let mut mistakes = Mistakes::default();
        read_text(Path::new("umbel.toml"), text, &mut settings, &mut mistakes);
        (settings, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn settings_and_rules_are_read() {
        let (settings, mistakes) = load(
            r#"
            [listen]
            http = "[::1]:80"
            [limits]
            payload_bytes = 1_000
            behind_bytes = 0
            [[topics]]
            match = "chat.*"
            subscribe = "anyone"
            kind = "json"
            on_slow = "drop"
            "#,
        );
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(settings.listen.http, "[::1]:80".parse().unwrap());
        assert_eq!(settings.limits.payload_bytes, 1000);
        assert_eq!(settings.limits.behind_bytes, 1 << 30);
        let rule = settings.topics.of(&Topic::new("chat.1").unwrap()).unwrap();
        assert_eq!((rule.subscribe, rule.publish), (Access::Anyone, Access::Nobody));
        assert_eq!((rule.kind, rule.on_slow), (Some(PayloadKind::Json), OnSlow::Drop));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let (_, mistakes) = load(
            "[listen]\nhttp = 8080\nadmn = \"127.0.0.1:1\"\n\n[limits]\npayload_bytes = \"big\"\nbody_bytes = -1\n\n\
             [nodes]\nworkers = 1\n\n[[topics]]\nsubscribe = \"anyone\"\n\n[[topics]]\nmatch = \"a.b*\"\n\n\
             [[topics]]\nmatch = \"a.*\"\nsubscribe = \"everyone\"\nonslow = \"drop\"\n\n[[topics]]\nmatch = \"*.b\"\n",
        );
        assert_eq!(
            mistakes,
            [
                "umbel.toml:2: listen.http: must be a string, an address and port such as \"127.0.0.1:8080\", not an integer",
                "umbel.toml:3: unknown key `listen.admn`, did you mean `listen.admin`?",
                "umbel.toml:6: limits.payload_bytes: must be a whole number from 0 to 1073741824, not a string",
                "umbel.toml:7: limits.body_bytes: -1 is not a whole number from 0 to 1073741824",
                "umbel.toml:9: unknown key `nodes`",
                "umbel.toml:12: `match` is missing: which topics is the rule for?",
                "umbel.toml:16: topics.match: pattern has `*` inside the segment at byte 2, it must be a segment of its own",
                "umbel.toml:20: topics.subscribe: \"everyone\" is not one of \"anyone\", \"nobody\"",
                "umbel.toml:21: topics.onslow: unknown key `onslow`, did you mean `on_slow`?",
                "umbel.toml:23: `*.b` and `a.*` of line 18 both match some topics and neither is closer; make one more specific",
            ],
        );
    }

    #[test]
    fn broken_toml_is_told_with_its_line() {
        let (_, mistakes) = load("[listen]\nhttp = \n[limits\n");
        assert!(mistakes.iter().any(|m| m.starts_with("umbel.toml:2: ")), "{mistakes:?}");
        assert!(mistakes.iter().any(|m| m.starts_with("umbel.toml:3: ")), "{mistakes:?}");
    }

    #[test]
    fn a_missing_file_is_a_mistake() {
        let mut mistakes = Mistakes::default();
        read(Path::new("/nonexistent.toml"), &mut Settings::default(), &mut mistakes);
        assert!(
            mistakes
                .iter()
                .next()
                .unwrap()
                .to_string()
                .starts_with("/nonexistent.toml: can't be read: ")
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "([a-z_\\[\\]\"'=.\\n# 0-9*{}-]|topics|match|listen|http|limits|\\[\\[routes\\]\\]\n|path|query|stamp|transports|\"/\\{a\\}\"){0,60}") {
            load(&text);
        }
    }
}
