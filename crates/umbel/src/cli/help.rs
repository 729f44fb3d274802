//! What `--help` shows below the flags: lines to copy.

/// Where a node listens unless told otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

pub(super) const UMBEL: &str = "\
Examples:
  umbel                               run a node with the defaults
  umbel subscribe news                in a second terminal: print what comes
  umbel publish news hello            in a third: publish

`umbel help COMMAND` shows more about each.";

pub(super) const SERVE: &str = "\
Examples:
  umbel serve
  umbel serve --listen 127.0.0.1:9000 --workers 2
  umbel reference > umbel.toml && umbel serve --config umbel.toml

Every setting is also an environment variable: UMBEL_LIMITS__PAYLOAD_BYTES=1000 umbel serve";

pub(super) const PUBLISH: &str = "\
Examples:
  umbel publish news hello
  umbel publish match.7 '{\"goals\":2}' --event goal
  umbel publish images - --binary < cat.png
  tail -f access.log | umbel publish log --lines
  umbel publish news hello --url redis://127.0.0.1:6379

It exits with 0 once everything is published, with 1 if something is not, and with 2 if the command
line is wrong.";

pub(super) const SUBSCRIBE: &str = "\
Examples:
  umbel subscribe news
  umbel subscribe chat.42 chat.43 --json | jq .text
  umbel subscribe news --transport sse --count 1
  umbel subscribe news --after latest:10

Several topics are told apart by the topic and a tab before each message, but for SSE, which doesn't
say whose a message is. Binary messages are printed as base64. What isn't a message is said on the
standard error: subscribed, lost, gaps. A connection that is lost is made anew. Topics with history
then go on where they were; of others the messages of the time between are missing.";

pub(super) const HEALTH: &str = "\
Examples:
  umbel health
  umbel health --ready --url http://10.0.0.7:9464
  UMBEL_LISTEN__ADMIN=0.0.0.0:9000 umbel health

A node is live while its event loops turn; one that isn't should be started anew. It is ready while it is
live, can use its broker and isn't about to leave; one that isn't should get no new sessions, and keeps
those that it has. It exits with 0 if the node says yes, with 1 if it says no or nothing, and with 2 if
the command line is wrong.";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  umbel check-config --config umbel.toml
  UMBEL_NODE__WORKERS=2 umbel check-config --listen 127.0.0.1:9000

It prints the settings as a file, with the place that each came from, and exits with 0; or it prints
everything that is wrong and exits with 2. Whether the ports are free is seen only by `umbel serve`.";

pub(super) const REDIS_LIBRARY: &str = "\
Examples:
  umbel redis-library | redis-cli -x FUNCTION LOAD REPLACE
  umbel redis-library | redis-cli -h cache -p 6380 -x FUNCTION LOAD REPLACE

Nodes load them by themselves where they may; this is for a server whose ACL lets nodes call
functions but not load them. Load them before the nodes start, and again before nodes of a version
whose functions are newer.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  umbel completions bash > ~/.local/share/bash-completion/completions/umbel
  umbel completions fish > ~/.config/fish/completions/umbel.fish
  umbel completions zsh  > ~/.zfunc/_umbel              with ~/.zfunc in $fpath";
