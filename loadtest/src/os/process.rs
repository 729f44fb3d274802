//! Waiting for the end of another process, with a deadline.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::os::poller::timespec;

/// Time that a command has to say what it has to say.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits at most for `timeout` until `child` ends; says whether it did. It isn't reaped by this.
pub fn ends_within(child: &Child, timeout: Duration) -> io::Result<bool> {
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    let pid = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut wanted = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut wanted, Some(&timespec(timeout))) {
        Err(Errno::INTR) => Ok(false),
        ready => Ok(ready? > 0),
    }
}

/// What a command prints, if it succeeds in time; for commands that print a line or two.
pub fn said_by(command: &mut Command) -> Option<String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    if !ends_within(&child, ANSWER).unwrap_or(false) {
        // It fails only if the process has just ended after all.
        let _ = child.kill();
    }
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_not_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!ends_within(&child, Duration::ZERO).unwrap());
        child.kill().unwrap();
        assert!(ends_within(&child, ANSWER).unwrap());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn what_a_command_says_counts_if_it_succeeds() {
        assert_eq!(said_by(Command::new("echo").arg("hi")).as_deref(), Some("hi"));
        assert_eq!(said_by(&mut Command::new("false")), None);
        assert_eq!(said_by(&mut Command::new("/nonexistent")), None);
    }
}
