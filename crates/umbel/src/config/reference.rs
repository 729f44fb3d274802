//! The reference of all settings, generated from the table that reads them.

use super::settings::SETTINGS;

/// A file with every setting at its default and what it means. `deploy/umbel.toml` is this text.
pub fn reference() -> String {
    let mut text = String::from(HEADER);
    let mut section = "";
    for setting in SETTINGS {
        let (table, key) = setting.path.split_once('.').expect("every setting lies in a table");
        if table != section {
            text.extend(["\n[", table, "]\n"]);
            section = table;
        }
        text.extend(["# ", setting.meaning, "\n", key, " = ", setting.default, "\n"]);
    }
    text + TOPICS
}

const HEADER: &str = "\
# Every setting of Umbel with its default. Start with `umbel serve --config umbel.toml`.
#
# Each is also an environment variable (UMBEL_LISTEN__HTTP for listen.http), which wins over the
# file; the few with a flag can be given on the command line, which wins over both.
";

const TOPICS: &str = "
# Who may do what on which topics. Without any rule anyone may do anything, and the node listens on
# loopback only. With one rule, topics that no rule matches are refused. The closest pattern decides:
# `*` is exactly one segment between dots, `**` (last only) one or more.
#
# [[topics]]
# match     = \"chat.*\"
# subscribe = \"anyone\"       # anyone | nobody
# publish   = \"nobody\"       # the same words
# kind      = \"json\"         # text | json | binary: all payloads are; absent: what publishers say
# on_slow   = \"disconnect\"   # disconnect | drop (oldest first, told) | latest (only the newest value)
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_repository_is_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/umbel.toml");
        let file = std::fs::read_to_string(path).expect("deploy/umbel.toml");
        assert_eq!(file, reference(), "write it anew: umbel reference > deploy/umbel.toml");
    }
}
