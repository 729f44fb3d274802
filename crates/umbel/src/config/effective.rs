//! The settings in effect, each with where it came from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use umbel_broker::History;
use umbel_protocol::TopicPattern;

use super::mask::{masked, without_query};
use super::table::{SECRET, SETTINGS};
use super::{Place, Settings, TopicRule};

/// Where the settings that aren't at their defaults were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// By path: the value as TOML has it, and its place.
    settings: BTreeMap<String, (String, Place)>,
    /// By pattern.
    rules: BTreeMap<String, Place>,
    /// As they are written in the file.
    routes: Vec<(String, Place)>,
}

/// Where comments begin, if what they are about leaves room.
const COMMENT_COLUMN: usize = 36;

impl Provenance {
    /// Notes the last source of a setting.
    pub(super) fn set(&mut self, path: &str, value: String, place: Place) {
        self.settings.insert(path.to_owned(), (value, place));
    }

    /// Notes where a rule stands.
    pub(super) fn set_rule(&mut self, pattern: &TopicPattern, place: Place) {
        self.rules.insert(pattern.to_string(), place);
    }
}

impl Provenance {
    /// Notes where a route stands and how it is written.
    pub(super) fn add_route(&mut self, text: String, place: Place) {
        self.routes.push((text, place));
    }
}

impl Settings {
    /// All settings as a file for `--config`, but for masked passwords. A comment says where each
    /// came from.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (table, key) = setting.path.split_once('.').expect("every setting lies in a table");
            if table != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text.extend([gap, "[", table, "]\n"]);
                section = table;
            }
            let (value, origin) = match self.provenance.settings.get(setting.path) {
                Some((value, place)) if setting.path == SECRET && value != setting.default => {
                    ("\"***\"", place.to_string())
                }
                Some((value, place)) => (value.as_str(), place.to_string()),
                None => (setting.default, "default".to_owned()),
            };
            let shown = match setting.path {
                "traces.endpoint" => without_query(value),
                "broker.url" => format!("{:?}", self.broker.url.masked()),
                _ => masked(value),
            };
            push_line(&mut text, &format!("{key} = {shown}"), &origin);
        }
        for rule in self.topics.iter() {
            text.push('\n');
            self.push_rule(&mut text, rule);
        }
        if self.topics.is_open_to_all() {
            text.push_str("\n# no [[topics]]: anyone may subscribe and publish to all topics\n");
        }
        for (route, place) in &self.provenance.routes {
            let (header, rest) = route.split_once('\n').unwrap_or((route, ""));
            text.push('\n');
            push_line(&mut text, header, &place.to_string());
            text.extend([rest, "\n"]);
        }
        text
    }

    fn push_rule(&self, text: &mut String, rule: &TopicRule) {
        let origin = self.provenance.rules.get(rule.pattern.as_str()).map(Place::to_string);
        push_line(text, "[[topics]]", &origin.unwrap_or_default());
        let words = [
            ("match", rule.pattern.as_str()),
            ("subscribe", rule.subscribe.as_str()),
            ("publish", rule.publish.as_str()),
            ("on_slow", rule.on_slow.as_str()),
        ];
        let kind = rule.kind.map(|kind| ("kind", kind.as_str()));
        for (key, word) in words.into_iter().chain(kind) {
            text.extend([key, " = \"", word, "\"\n"]);
        }
        if let Some(History { messages, seconds, keep_seconds }) = rule.history {
            writeln!(text, "history = {{ messages = {messages}, seconds = {seconds} }}")
                .and_then(|()| writeln!(text, "keep_seconds = {keep_seconds}"))
                .expect("a string takes all text");
        }
        if let Some(latest) = rule.on_subscribe {
            writeln!(text, "on_subscribe = {{ latest = {latest} }}")
                .expect("a string takes all text");
        }
    }
}

fn push_line(text: &mut String, line: &str, origin: &str) {
    writeln!(text, "{line:<COMMENT_COLUMN$} # {origin}").expect("a string takes all text");
}

#[cfg(test)]
mod tests {
    use umbel_broker::RedisUrl;

    use super::*;
    use crate::config::{BrokerUrl, Mistakes, Sources, file};
    use std::path::Path;

    const FILE: &str = "\
[listen]
http = \"127.0.0.1:1\"
[limits]
payload_bytes = 1_000
behind_bytes = 0

[[topics]]
match = \"**\"

[[topics]]
match = \"chat.*\"
subscribe = \"anyone\"
kind = \"json\"
on_slow = \"drop\"

[[routes]]
path = \"/chat/{room}\"
topics = [\"chat.{room}.{query.tags[]}\"]
query.tags = { max = 3 }

[[routes]]
path = \"/all\"
topics = [\"chat.all\"]
";

    fn loaded(text: &str) -> Settings {
        let (mut settings, mut mistakes) = (Settings::default(), Mistakes::default());
        file::read_text(Path::new("umbel.toml"), text, &mut settings, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        settings
    }

    /// The line that says `start`, its gap shortened.
    fn line(text: &str, start: &str) -> String {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or("");
        line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_setting_says_where_it_came_from() {
        let text = loaded(FILE).effective();
        for expected in [
            "http = \"127.0.0.1:1\" # umbel.toml:2",
            "admin = \"127.0.0.1:9464\" # default",
            "payload_bytes = 1000 # umbel.toml:4",
            "behind_bytes = 0 # umbel.toml:5",
        ] {
            assert_eq!(line(&text, expected.split(' ').next().unwrap()), expected);
        }
    }

    #[test]
    fn rules_come_in_the_order_in_which_they_are_asked() {
        let text = loaded(FILE).effective();
        let rules = &text[text.find("[[topics]]").unwrap()..];
        let lines: Vec<_> = rules.lines().map(str::trim_end).collect();
        assert_eq!(line(rules, "[[topics]]"), "[[topics]] # umbel.toml:10");
        assert_eq!(
            lines[1..6],
            [
                "match = \"chat.*\"",
                "subscribe = \"anyone\"",
                "publish = \"nobody\"",
                "on_slow = \"drop\"",
                "kind = \"json\"",
            ]
        );
        assert!(lines[7].ends_with("# umbel.toml:7"), "{lines:?}");
    }

    #[test]
    fn routes_are_shown_as_they_are_written() {
        let text = loaded(FILE).effective();
        let routes = &text[text.find("[[routes]]").unwrap()..];
        assert_eq!(line(routes, "[[routes]]"), "[[routes]] # umbel.toml:16");
        assert!(routes.contains("query.tags = { max = 3 }\n\n[[routes]]"), "{routes}");
    }

    #[test]
    fn variables_and_flags_are_named_the_last_wins() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sources = Sources {
            file: None,
            environment: vec![
                variable("UMBEL_LISTEN__HTTP", "127.0.0.1:1"),
                variable("UMBEL_NODE__WORKERS", "3"),
            ],
            flags: vec![("--listen", "listen.http", "127.0.0.1:2".to_owned())],
        };
        let text = Settings::load(&sources).0.effective();
        assert_eq!(line(&text, "http"), "http = \"127.0.0.1:2\" # --listen");
        assert_eq!(line(&text, "workers"), "workers = 3 # UMBEL_NODE__WORKERS");
        assert!(text.ends_with("all topics\n"), "{text}");
    }

    #[test]
    fn the_output_is_a_file_that_means_the_same() {
        let first = loaded(FILE);
        let second = loaded(&first.effective());
        let without_origins =
            |settings: Settings| Settings { provenance: Provenance::default(), ..settings };
        assert_eq!(without_origins(first), without_origins(second));
    }

    #[test]
    fn passwords_are_masked() {
        let mut settings = Settings::default();
        let url = "redis://:sec'ret@127.0.0.1";
        settings.broker.url = BrokerUrl::Redis(RedisUrl::parse(url).unwrap());
        let url = format!("\"{url}\"");
        settings.provenance.set("broker.url", url, Place::Flag("--broker"));
        let url = "\"http://a/otlp?key=secret\"".to_owned();
        settings.provenance.set("traces.endpoint", url, Place::Flag("--x"));
        let text = settings.effective();
        assert_eq!(line(&text, "url"), "url = \"redis://:***@127.0.0.1:6379\" # --broker");
        assert_eq!(line(&text, "endpoint"), "endpoint = \"http://a/otlp?***\" # --x");
    }
}
