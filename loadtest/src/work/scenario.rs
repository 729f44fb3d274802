//! Scenario files: those of this directory's `scenarios`, which are built in, and any others.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Table;

use super::file::Workload;
use super::settings;

/// Names and texts of those that are built in.
const BUILT_IN: [(&str, &str); 13] = [
    ("fanout", include_str!("../../scenarios/fanout.toml")),
    ("unicast", include_str!("../../scenarios/unicast.toml")),
    ("rooms", include_str!("../../scenarios/rooms.toml")),
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("storm", include_str!("../../scenarios/storm.toml")),
    ("latency", include_str!("../../scenarios/latency.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("jitter", include_str!("../../scenarios/jitter.toml")),
    ("deploy", include_str!("../../scenarios/deploy.toml")),
    ("redis-restart", include_str!("../../scenarios/redis-restart.toml")),
    ("slow-tenth", include_str!("../../scenarios/slow-tenth.toml")),
    ("million", include_str!("../../scenarios/million.toml")),
];

/// A scenario under its name, which is its file's.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The name.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// What is to be done.
    pub kind: Kind,
}

/// The two kinds of files.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Sessions, messages and what happens meanwhile, freely combined.
    Work(Box<Workload>),
    /// Very many sessions on a fleet of nodes: a file with a table `fleet`.
    Fleet(FleetWork),
}

/// What the subcommand `fleet` does when its flags say no more.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetWork {
    /// Sessions of the whole fleet.
    pub sessions: usize,
    /// How long all are held before the first message.
    pub hold_seconds: f64,
    /// A silent session gets a ping after so long.
    pub heartbeat_seconds: u32,
    /// Messages published to all, one after the other.
    pub messages: u64,
    /// Sessions opened in a second.
    pub pace: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    about: String,
    fleet: FleetWork,
}

impl Scenario {
    /// Reads what `name` stands for, one that is built in or the path of a file, with `changes` to its keys.
    pub fn read(name: &str, changes: &[(String, String)]) -> Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text, changes);
        }
        let path = Path::new(name);
        if path.components().count() == 1 && path.extension().is_none() && !path.exists() {
            let names = BUILT_IN.map(|(name, _)| name).join(", ");
            bail!("there is no scenario {name}: it is the path of a file, or one of {names}");
        }
        let text = fs::read_to_string(path).with_context(|| format!("can't read {name}"))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&stem, &text, changes).with_context(|| name.to_owned())
    }

    fn parse(name: &str, text: &str, changes: &[(String, String)]) -> Result<Self> {
        let table: Table = toml::from_str(text)?;
        let (about, kind) = if table.contains_key("fleet") {
            let FleetFile { about, fleet } = parsed(text, table, changes)?;
            (about, Kind::Fleet(fleet))
        } else {
            let work: Workload = parsed(text, table, changes)?;
            (work.about.clone(), Kind::Work(Box::new(work)))
        };
        Ok(Self { name: name.to_owned(), about, kind })
    }
}

/// The file is to be right without the changes too: only its text tells in which line it isn't.
fn parsed<T: DeserializeOwned>(
    text: &str,
    mut table: Table,
    changes: &[(String, String)],
) -> Result<T> {
    let unchanged = toml::from_str(text)?;
    if changes.is_empty() {
        return Ok(unchanged);
    }
    for (key, value) in changes {
        settings::set(&mut table, key, value)?;
    }
    let keys: Vec<_> = changes.iter().map(|(key, _)| key.as_str()).collect();
    table.try_into().with_context(|| format!("--set {}", keys.join(", ")))
}

/// Those that are built in.
pub fn built_in() -> Result<Vec<Scenario>> {
    let parse = |(name, text)| Scenario::parse(name, text, &[]).context(name);
    BUILT_IN.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::file::Pace;

    fn changes(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn work(name: &str, of: &[(&str, &str)]) -> Result<Workload> {
        match Scenario::read(name, &changes(of))?.kind {
            Kind::Work(work) => Ok(*work),
            Kind::Fleet(fleet) => panic!("{fleet:?}"),
        }
    }

    #[test]
    fn all_that_are_built_in_can_be_read_and_say_what_they_are_for() {
        for scenario in built_in().unwrap() {
            assert_eq!(Scenario::read(&scenario.name, &[]).unwrap(), scenario);
            assert!(scenario.about.len() > 20, "{scenario:?}");
        }
    }

    #[test]
    fn keys_are_changed_before_they_are_looked_at() {
        let changed = work(
            "fanout",
            &[
                ("sessions.count", "7"),
                ("sessions.transport", "sse"),
                ("pace.open.per_second", "2.5"),
            ],
        );
        let changed = changed.unwrap();
        assert_eq!(changed.sessions.count, 7);
        assert_eq!(changed.pace, Pace::Open { per_second: 2.5 });
        let fleet = Scenario::read("million", &changes(&[("fleet.sessions", "9")])).unwrap().kind;
        assert!(matches!(fleet, Kind::Fleet(FleetWork { sessions: 9, .. })), "{fleet:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value, reason) in [
            ("sessions.number", "7", "unknown field `number`"),
            ("sessions.count", "many", "--set sessions.count"),
            ("pace.sometimes", "1", "unknown variant `sometimes`"),
        ] {
            let error = format!("{:#}", work("fanout", &[(key, value)]).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        let error = Scenario::read("nothing", &[]).unwrap_err().to_string();
        assert!(error.contains("no scenario nothing") && error.contains("fanout, "), "{error}");
        let error = Scenario::read("/nonexistent.toml", &[]).unwrap_err().to_string();
        assert!(error.contains("can't read /nonexistent.toml"), "{error}");
        let text = "about = 'x'\n[sessions]\ncount = 1\n[window]\nsecond = 1\n";
        let error = format!("{:#}", Scenario::parse("x", text, &[]).unwrap_err());
        assert!(error.contains("line 5") && error.contains("`second`"), "{error}");
    }
}
