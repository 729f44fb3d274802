//! A private Redis server, the source of messages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::server::{Program, Server};
use crate::channels::{Channels, PREFIX};
use crate::os::process::said_by;

/// A running Redis; dropping it ends the process.
#[derive(Debug)]
pub struct Redis {
    channels: Channels,
    server: Server,
}

impl Redis {
    /// Starts one on the cores of the calling thread, at a free port; it keeps nothing on disk. What it has to say
    /// goes to `log`.
    pub fn start(log: &Path) -> Result<Self> {
        let server = Server::start(Program::redis()?, log, || Ok(()));
        let server = server.context("no private Redis (Debian's package is redis-server)")?;
        Ok(Self {
            channels: Channels { address: server.address(), prefix: PREFIX.to_owned() },
            server,
        })
    }

    /// What the program says of its version.
    pub fn version() -> String {
        let said = said_by(Command::new("redis-server").arg("--version"));
        let version = said.as_deref().and_then(|line| line.split_whitespace().nth(2));
        version.map_or("unknown", |version| version.trim_start_matches("v=")).to_owned()
    }

    /// Where messages are on it.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
