//! The flags of `run`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{Server, name_and_value};
use crate::channels::PREFIX;

/// `run`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("loaded").required(true).args(["umbel", "server", "url"]))]
pub struct RunArgs {
    /// A scenario file, or the name of one that is built in (see `scenarios`)
    pub scenario: String,
    /// Start nodes of this program, and Redis, as the file says
    #[arg(long, value_name = "PATH")]
    pub umbel: Option<PathBuf>,
    /// Start so many of the comparison servers instead
    #[arg(long, value_enum)]
    pub server: Option<Server>,
    /// Load what runs at ws://… or http://…: with {topic} in the path, or the transport's own path; may be given again,
    /// for sessions in turn
    #[arg(long)]
    pub url: Vec<String>,
    /// How another system speaks: a file with what to send, and what to wait for
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// What the result calls the system
    #[arg(long)]
    pub name: Option<String>,
    /// Where messages are published, if not at the first --url
    #[arg(long, value_name = "URL")]
    pub publish_url: Option<String>,
    /// Its Redis, redis://HOST:PORT, for those ways to publish
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// What stands before a topic's name in its Redis channel's
    #[arg(long, value_name = "TEXT", default_value = PREFIX)]
    pub prefix: String,
    /// Its process, to read its cost; may be given again
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Change a key of the file, such as sessions.count=500 or window.seconds=5; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
    /// The core of the servers that are started
    #[arg(long, value_name = "CORE", conflicts_with = "url")]
    pub server_core: Option<usize>,
    /// The core of the load, and of Redis
    #[arg(long, value_name = "CORE")]
    pub load_core: Option<usize>,
    /// Write the result as JSON; of a fleet: the directory for all results
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write a report with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print JSON, not a table
    #[arg(long)]
    pub json: bool,
}
