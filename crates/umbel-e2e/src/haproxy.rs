//! A load balancer in front of nodes, as operators run one, and what it knows of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::{Backend, Front, Node, Product, eventually};

/// A running `haproxy` on a port of its own. Ended when dropped.
#[derive(Debug)]
pub struct HaProxy {
    front: Front,
}

/// What a load balancer knows of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name: `node-1` is the first.
    pub name: String,
    /// Whether it gets new connections.
    pub is_up: bool,
    /// How many connections it has of this load balancer.
    pub sessions: u64,
    /// How often it wasn't reached, after all attempts.
    pub connect_errors: u64,
    /// How often it broke off before its answer.
    pub response_errors: u64,
    /// How often a connection to it was tried again.
    pub retries: u64,
    /// How often another node was tried in its place.
    pub redispatches: u64,
}

impl HaProxy {
    /// Starts a load balancer in front of these nodes and waits until it finds all of them ready.
    pub async fn before(nodes: &[Node]) -> Self {
        let backends: Vec<_> = nodes.iter().map(Backend::from).collect();
        let mut proxy = Self { front: Front::start(Product::HaProxy, &backends, &[]) };
        eventually("the load balancer", || {
            proxy.front.fail_if_ended();
            finds_all_up(proxy.front.directory().to_owned())
        })
        .await;
        proxy
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// What it knows of each node.
    pub async fn servers(&self) -> Vec<Server> {
        servers_of(self.front.directory()).await.unwrap()
    }

    /// Waits until it gives new connections to every node.
    pub async fn all_up(&self) {
        let up = || finds_all_up(self.front.directory().to_owned());
        eventually("the load balancer to find all nodes up", up).await;
    }

    /// What it said, of nodes that came and went above all.
    pub fn log(&self) -> String {
        self.front.log()
    }
}

async fn finds_all_up(directory: PathBuf) -> Option<()> {
    let servers = servers_of(&directory).await.ok()?;
    servers.iter().all(|server| server.is_up).then_some(())
}

async fn servers_of(directory: &Path) -> std::io::Result<Vec<Server>> {
    let mut stream = UnixStream::connect(directory.join("stats.sock")).await?;
    stream.write_all(b"show stat\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(servers(&text))
}

/// The nodes in what `show stat` answers: a table with a line of names.
fn servers(text: &str) -> Vec<Server> {
    let mut lines = text.trim_start_matches("# ").lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let row = |line: &str| -> HashMap<String, String> {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(line.split(',').map(str::to_owned))
            .collect()
    };
    let rows = lines.map(row).filter(|row| {
        row.get("pxname").is_some_and(|proxy| proxy == "nodes") && row["svname"] != "BACKEND"
    });
    rows.map(|row| server(&row)).collect()
}

fn server(row: &HashMap<String, String>) -> Server {
    let number = |name: &str| row[name].parse().unwrap_or(0);
    Server {
        name: row["svname"].clone(),
        // Before its first check a node is up, too, but nobody knows.
        is_up: row["status"] == "UP" && row["check_status"] == "L7OK",
        sessions: number("scur"),
        connect_errors: number("econ"),
        response_errors: number("eresp"),
        retries: number("wretr"),
        redispatches: number("wredis"),
    }
}
