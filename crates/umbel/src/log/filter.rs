//! What is logged: levels by module.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// A checked filter: `<level>` and `<target>=<level>` between commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(Box<str>);

/// The longest filter, in bytes.
const MAX_BYTES: usize = 4096;

/// h2 warns of each client that it ends the connection of, which is the client's doing.
const QUIET: &str = "h2=error";

impl LogFilter {
    /// Reads a filter. An error names the directive that is wrong, and why.
    ///
    /// Stricter than the filter's library, to which a mistyped level is a target: `inof` would log
    /// nothing but everything of a module `inof`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("is {} bytes, at most {MAX_BYTES} are allowed", text.len()));
        }
        let split = text.split(',').map(str::trim_ascii);
        let mut directives: Vec<_> = split.filter(|directive| !directive.is_empty()).collect();
        if directives.is_empty() {
            return Err("names no level, such as `info` or `umbel::session=debug`".to_owned());
        }
        for directive in &directives {
            check(directive).map_err(|fault| format!("`{directive}`: {fault}"))?;
        }
        if !directives.iter().any(|directive| *directive == "off" || is_of_h2(directive)) {
            directives.push(QUIET);
        }
        Ok(Self(directives.join(",").into()))
    }

    /// As it is in force.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn build(&self) -> EnvFilter {
        let parsed = EnvFilter::builder().with_regex(false).parse(&*self.0);
        parsed.expect("each directive was parsed before")
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(format!("info,{QUIET}").into())
    }
}

fn check(directive: &str) -> Result<(), String> {
    let (_, level) = directive.rsplit_once('=').unwrap_or(("", directive));
    if level.is_empty() || level.parse::<LevelFilter>().is_err() {
        let levels = "off, error, warn, info, debug or trace";
        return Err(if directive.contains('=') {
            format!("`{level}` is not a level: {levels}")
        } else {
            format!("is not a level ({levels}), and of a target it says none")
        });
    }
    let parsed = EnvFilter::builder().with_regex(false).parse(directive);
    parsed.map(drop).map_err(|error| error.to_string())
}

fn is_of_h2(directive: &str) -> bool {
    let rest = directive.strip_prefix("h2");
    rest.is_some_and(|rest| rest.starts_with(['=', '[']) || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn h2_is_quiet_unless_it_is_named() {
        for (text, expected) in [
            ("info", "info,h2=error"),
            (" warn , umbel::session=debug,", "warn,umbel::session=debug,h2=error"),
            ("info,h2=trace", "info,h2=trace"),
            ("info,h2::codec=debug", "info,h2::codec=debug"),
            ("info,h2o=debug", "info,h2o=debug,h2=error"),
            ("off", "off"),
            ("INFO", "INFO,h2=error"),
        ] {
            assert_eq!(LogFilter::parse(text).unwrap().as_str(), expected, "{text}");
        }
        assert_eq!(LogFilter::default(), LogFilter::parse("info").unwrap());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_reason() {
        for (text, expected) in [
            (
                "inof",
                "`inof`: is not a level (off, error, warn, info, debug or trace), and of a target it says none",
            ),
            (
                "info,umbel=loud",
                "`umbel=loud`: `loud` is not a level: off, error, warn, info, debug or trace",
            ),
            ("info,umbel=", "`umbel=`: `` is not a level: off, error, warn, info, debug or trace"),
            ("info,!=debug", "`!=debug`: invalid filter directive"),
            (" ,", "names no level, such as `info` or `umbel::session=debug`"),
        ] {
            assert_eq!(LogFilter::parse(text).unwrap_err(), expected, "{text}");
        }
        let long = "info,".repeat(1000);
        assert_eq!(LogFilter::parse(&long).unwrap_err(), "is 5000 bytes, at most 4096 are allowed");
    }

    proptest! {
        #[test]
        fn what_is_parsed_can_be_built(text in "(info|h2|umbel|[a-z:=,{}\\[\\]\"/* ä-]){0,12}") {
            if let Ok(filter) = LogFilter::parse(&text) {
                filter.build();
                prop_assert_eq!(&LogFilter::parse(filter.as_str()).unwrap(), &filter);
            }
        }
    }
}
