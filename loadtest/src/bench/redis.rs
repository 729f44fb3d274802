//! A private Redis server, the source of messages.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

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
        Self::run(Program::redis()?, log)
    }

    /// The same, which has all that it has confirmed on disk, in `directory`, and has it again after a restart.
    pub fn start_keeping(log: &Path, directory: &Path) -> Result<Self> {
        Self::run(Program::keeping_redis(directory)?, log)
    }

    fn run(program: Program, log: &Path) -> Result<Self> {
        let server = Server::start(program, log, || Ok(()));
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

    /// The server, to have it fail.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.server.ends_within(Duration::ZERO)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
