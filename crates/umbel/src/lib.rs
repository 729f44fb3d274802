//! The node: listeners, sessions, HTTP, and the life of the process.
//!
//! [`node::Node`] is a node in this process, [`cli::main`] the whole program around it.

mod admin;
mod admission;
mod authorise;
mod budget;
pub mod cli;
mod client;
mod clock;
pub mod config;
mod drain;
mod http;
mod ledger;
mod listen;
pub mod log;
mod machine;
pub mod node;
pub mod route;
mod session;
pub mod trace;
mod wheel;
mod worker;

/// What the fuzz targets need to reach.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::http::client_address::behind;
    pub use crate::http::proxy_header;
    pub use crate::route::topics;
    pub use crate::session::incoming;
}
