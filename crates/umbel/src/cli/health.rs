//! `umbel health`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::outcome::{exit_code, print, runtime};
use super::{help, tell};
use crate::client::{Checkup, Failure, NodeUrl, Question};
use crate::config::{self, Mistakes, Settings, Sources};

/// The setting that says where a node is asked.
const VARIABLE: &str = "UMBEL_LISTEN__ADMIN";

/// The flags of `umbel health`.
#[derive(Debug, Args)]
#[command(after_help = help::HEALTH)]
pub(super) struct Health {
    /// Ask whether it should get new sessions, instead of whether it is live
    #[arg(long)]
    ready: bool,
    /// The node's admin listener [default: where listen.admin's variable says, else 127.0.0.1:9464]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_seconds: u64,
}

/// Asks the node, and says what it says.
pub(super) fn run(flags: Health) -> ExitCode {
    let url = match &flags.url {
        Some(url) => url.clone(),
        None => match admin_url(config::environment()) {
            Ok(url) => url,
            Err(mistakes) => return tell(&mistakes),
        },
    };
    exit_code(flags.ask(&url))
}

impl Health {
    fn ask(self, url: &str) -> Result<(), Failure> {
        let question = if self.ready { Question::Ready } else { Question::Live };
        let checkup = Checkup::new(question, NodeUrl::parse(url)?)?;
        let runtime = runtime()?;
        let answer = runtime.block_on(checkup.ask(Duration::from_secs(self.timeout_seconds)));
        // A lookup of a host that hangs must not hold up the end.
        runtime.shutdown_background();
        answer?;
        print(&format!("the node is {question}\n"))
    }
}

/// Where a node with this environment has its admin listener, as seen from its own machine.
fn admin_url(environment: Vec<(String, String)>) -> Result<String, Mistakes> {
    // The other variables are the node's own affair.
    let environment = environment.into_iter().filter(|(name, _)| name == VARIABLE).collect();
    let (settings, mistakes) = Settings::load(&Sources { environment, ..Sources::default() });
    if mistakes.is_empty() { Ok(url_of(settings.listen.admin)) } else { Err(mistakes) }
}

/// Who listens on all addresses is asked on loopback.
fn url_of(listener: SocketAddr) -> String {
    let address = match listener.ip() {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    format!("http://{}", SocketAddr::new(address, listener.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(variables: &[(&str, &str)]) -> Result<String, String> {
        let environment = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        admin_url(environment.collect())
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_node_is_asked_where_its_variable_has_it_listen() {
        for (variables, expected) in [
            (&[][..], "http://127.0.0.1:9464"),
            (&[(VARIABLE, "0.0.0.0:9464")], "http://127.0.0.1:9464"),
            (&[(VARIABLE, "[::]:9000")], "http://[::1]:9000"),
            (&[(VARIABLE, "10.0.0.7:80")], "http://10.0.0.7:80"),
            (&[("UMBEL_NODE__WORKERS", "many")], "http://127.0.0.1:9464"),
        ] {
            assert_eq!(url(variables).as_deref(), Ok(expected), "{variables:?}");
        }
        let fault = url(&[(VARIABLE, "here")]).unwrap_err();
        assert!(fault.starts_with("UMBEL_LISTEN__ADMIN: listen.admin: "), "{fault}");
    }
}
