//! The rules as they are, but for their patience: what looks back over minutes or waits for them does so
//! for seconds here.

use crate::deploy;

/// How long each span of the rules is here, in seconds.
const SPANS: [(&str, &str); 7] = [
    ("[1m]", "[5s]"),
    ("[5m]", "[8s]"),
    ("[10m]", "[20s]"),
    ("[15m]", "[30s]"),
    ("[30m]", "[10s]"),
    ("[1h]", "[12s]"),
    ("[6h]", "[15s]"),
];

/// Each file and its text.
pub(crate) fn impatient() -> Vec<(&'static str, String)> {
    let read = |name| {
        let text = std::fs::read_to_string(deploy().join("prometheus").join(name)).unwrap();
        (name, shortened(&text))
    };
    ["umbel.rules.yml", "umbel.alerts.yml"].map(read).into()
}

fn shortened(text: &str) -> String {
    let mut short = text.to_owned();
    for (long, span) in SPANS {
        short = short.replace(long, span);
    }
    let lines = short.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
        Some(_) => "        for: 1s",
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
