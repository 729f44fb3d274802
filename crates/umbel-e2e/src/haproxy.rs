//! A load balancer in front of nodes, as operators run one.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};

use crate::{Node, eventually};

/// A running `haproxy` on a port of its own. Ended when dropped.
#[derive(Debug)]
pub struct HaProxy {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

/// What a load balancer knows of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name: `node0` is the first.
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

/// How many connections wait to be accepted at most: a whole crowd may come at once.
const BACKLOG: u32 = 4096;

/// Everything but the nodes. They are checked at their admin port.
const CONFIG: &str = "\
global
    # Each client takes two descriptors, and a process of the test has 20 000 at most. HAProxy raises
    # its limit of descriptors to what this needs by itself, and ends if it may not.
    maxconn 9500
    # Two load balancers, three nodes and the clients share a machine's two cores.
    nbthread 1
    # So that tests see what it thinks of each node.
    stats socket unix@stats.sock mode 600 level user

defaults
    mode http
    timeout connect 5s
    # Sessions are silent between two heartbeats, and last: nothing here may end one.
    timeout client 1h
    timeout server 1h
    # The same for what was upgraded, where the two above don't count any more.
    timeout tunnel 1h
    # An answer to a check may take longer than `inter`, which would be the limit without this line: on
    # a busy machine it is late, not absent.
    timeout check 5s
    # A node that went since its last check refuses connections. Nothing was sent to it, so another
    # try can't repeat a request, and goes to another node at once.
    retries 3
    retry-on conn-failure
    option redispatch 1

frontend edge
    # The test's own listening socket, so that the port can't be taken meanwhile.
    bind fd@0
    default_backend nodes

backend nodes
    # Sessions last, so what counts is how many a node has, not whose turn it is: a node that comes
    # back empty is filled first.
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    # `inter` also limits how long a check may take to connect (`timeout check` doesn't count there). At
    # 200 ms all nodes were down at once, with 503 for everybody, whenever HAProxy itself had to wait
    # for a core. Two checks in a row must fail, the second 200 ms later: a pause of 2 s is enough.
    # A node that is down keeps its sessions (no `on-marked-down shutdown-sessions`): it moves them
    # itself.
    default-server inter 1s fastinter 200ms downinter 200ms fall 2 rise 1
";

impl HaProxy {
    /// Starts a load balancer in front of these nodes and waits until it finds all of them ready.
    pub async fn before(nodes: &[Node]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let name = format!("umbel-e2e-haproxy-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("haproxy.cfg"), config(nodes)).unwrap();
        let child = spawn(&directory, listener.into_std().unwrap().into());
        let mut proxy = Self { child, address, directory };
        eventually("the load balancer", || {
            proxy.fail_if_ended();
            finds_all_up(proxy.directory.clone())
        })
        .await;
        proxy
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it knows of each node.
    pub async fn servers(&self) -> Vec<Server> {
        servers_of(&self.directory).await.unwrap()
    }

    /// Waits until it gives new connections to every node.
    pub async fn all_up(&self) {
        let up = || finds_all_up(self.directory.clone());
        eventually("the load balancer to find all nodes up", up).await;
    }

    /// What it said, of nodes that came and went above all.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("haproxy.log")).unwrap()
    }

    fn fail_if_ended(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the load balancer ended with {status}: {}", self.log());
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn config(nodes: &[Node]) -> String {
    let mut config = CONFIG.to_owned();
    for (number, node) in nodes.iter().enumerate() {
        let (http, admin) = (node.http(), node.admin().port());
        config.extend([format!("    server node{number} {http} check port {admin}\n")]);
    }
    config
}

fn spawn(directory: &Path, listener: OwnedFd) -> Child {
    let log = std::fs::File::create(directory.join("haproxy.log")).unwrap();
    Command::new("haproxy")
        .args(["-db", "-f", "haproxy.cfg"])
        .current_dir(directory)
        .stdin(Stdio::from(listener))
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .expect("haproxy is installed (Debian: apt-get install haproxy)")
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
