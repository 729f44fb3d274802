//! Settings: one TOML file, environment over it, flags over that.
//!
//! All mistakes are found in one run and each is told with its place; nothing is ever replaced by
//! a default. After [`Settings::load`] nobody reads a flag, a variable or the file again.

mod effective;
mod file;
mod mask;
mod mistake;
mod networks;
mod origins;
mod reference;
mod settings;
mod table;
mod topic_rules;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use effective::Provenance;
pub(crate) use mask::masked_url;
pub use mistake::{Mistake, Mistakes, Place};
pub use networks::Networks;
pub use origins::Origins;
pub use reference::reference;
pub use settings::{
    AdminToken, BrokerSettings, BrokerUrl, DrainSettings, Limits, Listen, LogSettings,
    NodeSettings, Settings, TracesSettings,
};
pub use topic_rules::{Access, TopicRule, TopicRules};

use table::SETTINGS;
use value::Value;

/// Where settings come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// Variables as the process got them; only `UMBEL_…__…` are looked at.
    pub environment: Vec<(String, String)>,
    /// Flags that stand for settings: the flag, the setting's path, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// The process's environment, but for what isn't Unicode and so can't be a setting.
#[allow(clippy::disallowed_methods, reason = "this is the place that the rule sends everyone to")]
pub fn environment() -> Vec<(String, String)> {
    let unicode = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(unicode).collect()
}

impl Settings {
    /// Reads all sources. Mistakes come with what could be read nevertheless, so that the caller
    /// can look for further ones.
    pub fn load(sources: &Sources) -> (Self, Mistakes) {
        let mut settings = Self::default();
        let mut mistakes = Mistakes::default();
        if let Some(path) = &sources.file {
            file::read(path, &mut settings, &mut mistakes);
        }
        for (name, value) in &sources.environment {
            settings.apply_variable(name, value, &mut mistakes);
        }
        settings.apply_rust_log(&sources.environment, &mut mistakes);
        for (flag, path, value) in &sources.flags {
            let place = Place::Flag(flag);
            settings.apply(path, &Value::Untyped(value), place, &mut mistakes);
        }
        settings.find_contradictions(&mut mistakes);
        (settings, mistakes)
    }

    /// Reads the text of a file, for tests and fuzzing.
    #[doc(hidden)]
    pub fn from_text(text: &str) -> (Self, Mistakes) {
        let mut settings = Self::default();
        let mut mistakes = Mistakes::default();
        file::read_text(Path::new("umbel.toml"), text, &mut settings, &mut mistakes);
        settings.find_contradictions(&mut mistakes);
        (settings, mistakes)
    }

    /// Variables are settings if their name has a `__`; Kubernetes injects others that begin with
    /// `UMBEL_` too.
    fn apply_variable(&mut self, name: &str, value: &str, mistakes: &mut Mistakes) {
        let Some(rest) = name.strip_prefix("UMBEL_") else {
            return;
        };
        if !rest.contains("__") {
            return;
        }
        let path = rest.to_ascii_lowercase().replace("__", ".");
        self.apply(&path, &Value::Untyped(value), Place::Variable(name.to_owned()), mistakes);
    }

    /// The variable by which programs written in Rust are told what to log. It is typed for one run,
    /// so it wins over what was set for all.
    fn apply_rust_log(&mut self, environment: &[(String, String)], mistakes: &mut Mistakes) {
        const NAME: &str = "RUST_LOG";
        let set = environment.iter().find(|(name, value)| name == NAME && !value.is_empty());
        if let Some((name, value)) = set {
            let place = Place::Variable(name.clone());
            self.apply("log.filter", &Value::Untyped(value), place, mistakes);
        }
    }

    fn apply(&mut self, path: &str, value: &Value<'_>, place: Place, mistakes: &mut Mistakes) {
        match SETTINGS.iter().find(|setting| setting.path == path) {
            Some(setting) => match (setting.apply)(self, value) {
                Ok(()) => self.provenance.set(path, value.as_toml(setting.default), place),
                Err(fault) => mistakes.add(place, format!("{path}: {fault}")),
            },
            None => {
                mistakes.add(place, unknown_key(path, SETTINGS.iter().map(|setting| setting.path)))
            }
        }
    }

    fn find_contradictions(&self, mistakes: &mut Mistakes) {
        let Listen { http, admin, .. } = self.listen;
        if http == admin && http.port() != 0 {
            mistakes.add(
                Place::Settings,
                format!("listen.http and listen.admin are both {http}, they need a port each"),
            );
        }
        let Limits { payload_bytes, body_bytes, .. } = self.limits;
        if body_bytes < payload_bytes {
            mistakes.add(
                Place::Settings,
                format!("limits.body_bytes ({body_bytes}) is less than limits.payload_bytes ({payload_bytes}), which a body must be able to hold"),
            );
        }
        if let BrokerUrl::Redis(url) = &self.broker.url
            && url.database() != 0
            && self.broker.prefix == Settings::default().broker.prefix
        {
            mistakes.add(
                Place::Settings,
                format!(
                    "broker.url names database {}, but channels know no databases: set a broker.prefix of its own",
                    url.database()
                ),
            );
        }
        self.find_contradictions_of_times(mistakes);
        if self.listen.proxy_protocol && self.listen.trusted_proxies.is_empty() {
            mistakes.add(
                Place::Settings,
                "listen.proxy_protocol is on, but no proxy is trusted: add its network to listen.trusted_proxies".to_owned(),
            );
        }
        if !http.ip().is_loopback() && self.topics.is_open_to_all() {
            mistakes.add(
                Place::Settings,
                format!(
                    "listen.http is {http}, which others can reach, but no rule says who may do what; \
                     add at least: [[topics]] match = \"**\" subscribe = \"anyone\" publish = \"nobody\""
                ),
            );
        }
    }
}

impl Settings {
    fn find_contradictions_of_times(&self, mistakes: &mut Mistakes) {
        let DrainSettings { pause_seconds, drain_seconds, deadline_seconds } = self.drain;
        let needed = pause_seconds + drain_seconds + DrainSettings::GOODBYE_SECONDS;
        if deadline_seconds < needed {
            mistakes.add(
                Place::Settings,
                format!("drain.deadline_seconds ({deadline_seconds}) leaves no time: pause_seconds ({pause_seconds}) and drain_seconds ({drain_seconds}) need {needed}"),
            );
        }
    }
}

/// Names an unknown key, and the known one that was probably meant.
fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let likeness = |candidate: &&str| strsim::damerau_levenshtein(candidate, key);
    match known.min_by_key(likeness).filter(|nearest| likeness(nearest) <= 3) {
        Some(nearest) => format!("unknown key `{key}`, did you mean `{nearest}`?"),
        None => format!("unknown key `{key}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Sources {
        Sources {
            environment: pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..Sources::default()
        }
    }

    fn mistakes(sources: &Sources) -> Vec<String> {
        Settings::load(sources).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_sources_the_defaults_hold() {
        let (settings, mistakes) = Settings::load(&Sources::default());
        assert!(mistakes.is_empty());
        assert_eq!(settings.listen.http, "127.0.0.1:8080".parse().unwrap());
        assert!(settings.topics.is_open_to_all());
    }

    #[test]
    fn flags_win_over_variables() {
        let mut sources = variables(&[
            ("UMBEL_LISTEN__HTTP", "127.0.0.1:1"),
            ("UMBEL_LIMITS__TOPICS_PER_STREAM", "7"),
        ]);
        sources.flags.push(("--listen", "listen.http", "127.0.0.1:2".to_owned()));
        let (settings, mistakes) = Settings::load(&sources);
        assert!(mistakes.is_empty());
        assert_eq!(settings.listen.http.port(), 2);
        assert_eq!(settings.limits.topics_per_stream, 7);
    }

    #[test]
    fn variables_that_others_set_are_left_alone_and_wrong_ones_are_told() {
        assert_eq!(
            mistakes(&variables(&[
                ("UMBEL_PORT", "tcp://10.0.0.1:80"),
                ("UMBEL_SERVICE_HOST", "x"),
                ("HOME", "y"),
                ("UMBEL_LISTEN__HTP", "127.0.0.1:1"),
                ("UMBEL_NODE__WORKERS", "many"),
            ])),
            [
                "UMBEL_LISTEN__HTP: unknown key `listen.htp`, did you mean `listen.http`?",
                "UMBEL_NODE__WORKERS: node.workers: `many` is not a whole number from 0 to 128",
            ],
        );
    }

    #[test]
    fn rust_log_is_a_source_of_the_filter_and_wins_over_its_variable() {
        let given = [("RUST_LOG", "debug"), ("UMBEL_LOG__FILTER", "warn")];
        let (settings, mistakes) = Settings::load(&variables(&given));
        assert!(mistakes.is_empty());
        assert_eq!(settings.log.filter.as_str(), "debug,h2=error");
        assert!(settings.effective().contains("# RUST_LOG"), "{}", settings.effective());
        let (settings, _) = Settings::load(&variables(&[("RUST_LOG", ""), given[1]]));
        assert_eq!(settings.log.filter.as_str(), "warn,h2=error");
        let wrong = variables(&[("RUST_LOG", "info,umbel=loud")]);
        assert_eq!(
            self::mistakes(&wrong),
            [
                "RUST_LOG: log.filter: `umbel=loud`: `loud` is not a level: off, error, warn, info, debug or trace"
            ],
        );
    }

    #[test]
    fn contradictions_are_mistakes() {
        let found = mistakes(&variables(&[
            ("UMBEL_LISTEN__HTTP", "127.0.0.1:9464"),
            ("UMBEL_LIMITS__PAYLOAD_BYTES", "2000000"),
        ]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("both 127.0.0.1:9464"));
        assert!(
            found[1].contains(
                "limits.body_bytes (1048576) is less than limits.payload_bytes (2000000)"
            )
        );
        let found = mistakes(&variables(&[("UMBEL_LISTEN__HTTP", "0.0.0.0:8080")]));
        assert!(found[0].contains("[[topics]] match = \"**\""), "{found:?}");
    }
}
