//! The standard output of `umbel subscribe`.

use std::os::fd::AsFd as _;

use tokio::io::{AsyncWriteExt as _, Interest, Stdout};
use tokio::net::unix::pipe::Sender;

use super::Failure;
use super::received::Received;

/// How messages are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The payload.
    Lines,
    /// The topic, a tab and the payload.
    LinesWithTopics,
    /// An object per line.
    Json,
}

/// Prints messages.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stdout,
    form: Form,
}

impl Output {
    /// Prints to the standard output.
    pub(crate) fn new(form: Form) -> Self {
        Self { stdout: tokio::io::stdout(), form }
    }

    /// Prints some messages at once. While nobody takes them this waits, so that it is the node
    /// that notices a slow consumer, not this program's memory.
    pub(super) async fn print(&mut self, messages: &[Received]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for message in messages {
            message.write(&mut text, self.form);
        }
        self.stdout.write_all(&text).await.map_err(Failure::Output)?;
        self.stdout.flush().await.map_err(Failure::Output)
    }

    /// Ready when whoever read the standard output is gone. So a subscriber ends with its pipe
    /// also while no message comes.
    pub(crate) async fn closed() {
        // A plain file can't be watched, nor does it go away. Not checked, since that would also
        // make the standard output non-blocking, for all who share it.
        let watched = std::io::stdout().as_fd().try_clone_to_owned();
        if let Ok(stdout) = watched.and_then(Sender::from_owned_fd_unchecked)
            && stdout.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}
