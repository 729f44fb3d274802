//! The reference of all settings, generated from the table that reads them.

use super::table::SETTINGS;

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
    text + TOPICS + ROUTES
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
# subscribe = \"anyone\"       # anyone | nobody; absent: nobody
# publish   = \"nobody\"       # the same
# kind      = \"json\"         # text | json | binary: all payloads are; absent: what publishers say
# on_slow   = \"disconnect\"   # disconnect | drop (oldest first, told; with history it reads on from there) |
#                              # latest (only the newest value; not with history)
# history   = { messages = 100, seconds = 300 }   # what is kept: at most 100000, for 2592000; absent: live only
# keep_seconds = 86400         # how long it is known where a quiet topic stands; at least 60 and history.seconds
# on_subscribe = { latest = 1 }   # what a new subscriber without a cursor gets at once; absent: nothing
";

const ROUTES: &str = "
# An application's own URLs, and the topics that they stand for. A route never widens a rule: both must
# allow. The closest path serves a request, the node's own paths (/topics, /publish, /ws) always win, and
# `/` without an upgrade or `Accept: text/event-stream` is the node's page. A value that a URL gives
# for a parameter is decoded once and must be one segment of a topic name.
#
# [[routes]]
# path       = \"/game/{game}\"             # a parameter is a whole segment
# transports = [\"websocket\", \"sse\"]     # absent: both; \"poll\": history as JSON, for Accept: application/json
# topics     = [\"game.{game}.state\", \"ticks.{query.rate}\", \"metrics.{query.metrics[]}\"]
# query.metrics = { max = 50, empty = \"refuse\" }   # a list, split at commas; empty: refuse | wait (a session without)
# publish_to = \"game.{game}.actions\"      # where a WebSocket's frames go; absent: they close it with 4403
# echo       = true                        # whether the sender hears itself
# envelope   = true                        # false: backends that subscribe at the broker get the bare payload; history doesn't keep it
# stamp      = { id = \"{message.id}\", by = \"{session.id}\", at = \"{message.time}\", room = \"{game}\" }
#                                          # set in what sessions publish, which must then be JSON objects
# initial    = \"latest:1\"                 # what a session without a cursor gets at once, of topics with history; wins over on_subscribe
# event      = \"state\"                    # the SSE event of messages that have no name
# hello      = { event = \"connected\", data = \"welcome\" }   # the first event, or text frame, of a session
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
