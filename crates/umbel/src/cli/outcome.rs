//! How a command ends: its output and its exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::client::{Failure, tell};

/// The command line or the settings are wrong: nothing was started.
pub(super) const EXIT_MISTAKES: u8 = 2;

/// The exit code for what a command did. A failure is told on one line.
pub(super) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(&failure);
            if failure.is_usage() { ExitCode::from(EXIT_MISTAKES) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints a text as the whole of a command's output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// The event loop of a client.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)
}
