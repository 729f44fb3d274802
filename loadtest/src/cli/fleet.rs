//! The flags of `fleet`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{PAYLOAD_BYTES, name_and_value};
use crate::wire::subscribe::Dialect;

/// `fleet`.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// The node to measure
    #[arg(long, value_name = "PATH")]
    pub umbel: PathBuf,
    /// Sessions of the whole fleet
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub sessions: usize,
    /// Node processes [default: as few as may hold the sessions, by the limit of open descriptors]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub nodes: Option<usize>,
    /// Processes that hold the clients' ends [default: as few as may hold them]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub holders: Option<usize>,
    /// How sessions speak
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub transport: Transport,
    /// A silent session gets a ping after so long
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub heartbeat: u32,
    /// Sessions opened in a second, by all holders together
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub pace: u32,
    /// How long all are held before the first message
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    pub hold: f64,
    /// Messages published to all, one after the other
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub messages: u64,
    /// Size of each message
    #[arg(long, value_name = "BYTES", default_value_t = PAYLOAD_BYTES)]
    pub payload: usize,
    /// How long a step may go on without any progress, and a message may take to reach all
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub patience_seconds: f64,
    /// Where results are written [default: loadtest/results/DATE-MACHINE-fleet]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A setting for the nodes' environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub node_env: Vec<(String, String)>,
}

/// What `--transport` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// WebSocket, each message as one frame
    Websocket,
    /// Server-sent events
    Sse,
    /// WebSocket in the JSON dialect
    Json,
}

impl From<Transport> for Dialect {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Websocket => Self::WebSocket,
            Transport::Sse => Self::Sse,
            Transport::Json => Self::Json,
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a number".to_owned()),
    }
}
