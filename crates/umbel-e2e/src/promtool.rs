//! Prometheus' own checks.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::within;

/// Runs `promtool` with an input, and gives its exit code and all that it said.
pub async fn promtool(arguments: &[&str], input: &[u8]) -> (i32, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("Debian's package prometheus has it");
    let mut stdin = child.stdin.take().unwrap();
    // It may end without having read it all.
    let _ = within("promtool to read", stdin.write_all(input)).await;
    drop(stdin);
    let output = within("the end of promtool", child.wait_with_output()).await.unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(words).unwrap())
}
