//! A proxy in front of nodes, with the file of settings that operators are given.
//!
//! What is tested is what is shipped: the files of `deploy/proxies`, with nothing changed but
//! addresses, ports, where a test's files are, and what a test says itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::{TcpSocket, TcpStream};

use crate::{Node, eventually};

/// A proxy that there are settings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Debian's.
    HaProxy,
    /// Debian's.
    Nginx,
    /// As `make proxies` installs it.
    Envoy,
}

/// What a proxy hands requests on to.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    /// Where it listens for clients.
    pub http: SocketAddr,
    /// Where it says whether it is ready.
    pub admin: SocketAddr,
}

/// A running proxy on a port of its own. Ended when dropped.
#[derive(Debug)]
pub struct Front {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    /// Keeps the port, where the proxy can't be given a socket.
    _port: Option<TcpSocket>,
}

/// How many connections wait to be accepted at most: a whole crowd may come at once.
const BACKLOG: u32 = 4096;

impl From<&Node> for Backend {
    fn from(node: &Node) -> Self {
        Self { http: node.http(), admin: node.admin() }
    }
}

impl Front {
    /// Starts a proxy before these nodes and waits until a node answers through it.
    pub async fn before(product: Product, nodes: &[Node]) -> Self {
        let backends: Vec<_> = nodes.iter().map(Backend::from).collect();
        let front = Self::start(product, &backends, &[]);
        front.passes().await;
        front
    }

    /// Starts a proxy with changes to its settings: each says what stands there, and what instead.
    pub fn start(product: Product, backends: &[Backend], changes: &[(&str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Envoy opens its own socket beside this one, which doesn't listen, so gets no connections.
        socket.set_reuseport(product == Product::Envoy).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let name = format!("umbel-e2e-front-{}-{}", std::process::id(), address.port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut settings = Settings::of(product);
        settings.place(address, backends);
        for (old, new) in changes {
            settings.change(old, new);
        }
        std::fs::write(directory.join(product.file()), settings.text).unwrap();
        let (listener, port) = match product {
            Product::HaProxy | Product::Nginx => {
                (Some(socket.listen(BACKLOG).unwrap().into_std().unwrap().into()), None)
            }
            Product::Envoy => (None, Some(socket)),
        };
        let child = product.spawn(&directory, listener);
        Self { child, address, directory, _port: port }
    }

    /// Waits until a node answers through it.
    pub async fn passes(&self) {
        eventually("an answer of a node through the proxy", || async {
            // Before the proxy listens nobody answers.
            TcpStream::connect(self.address).await.ok()?;
            let mut client = crate::HttpClient::connect(self.address).await;
            let answer = client.get("/nowhere").await;
            (answer.status == 404).then_some(())
        })
        .await;
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// Panics if it has ended.
    pub(crate) fn fail_if_ended(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the proxy ended with {status}: {}", self.log());
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // nginx' workers end with their master only if it is asked.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Product {
    fn file(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
            Self::Envoy => "envoy.yaml",
        }
    }

    fn spawn(self, directory: &Path, listener: Option<OwnedFd>) -> Child {
        let mut command = match self {
            Self::HaProxy => {
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f", self.file()]);
                command
            }
            Self::Nginx => {
                let mut command = Command::new("nginx");
                // The socket is its standard input, which it takes as from a process before it.
                command.env("NGINX", "0;").args(["-g", "daemon off;", "-p"]).arg(directory);
                command.arg("-c").arg(directory.join(self.file()));
                command
            }
            Self::Envoy => {
                let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/envoy/bin/envoy");
                let mut command = Command::new(built);
                command.args(["--concurrency", "1", "--disable-hot-restart", "-c", self.file()]);
                command.args(["--log-level", "warning"]);
                command
            }
        };
        let log = std::fs::File::create(directory.join("log")).unwrap();
        command
            .current_dir(directory)
            .stdin(listener.map_or(Stdio::null(), Stdio::from))
            .stdout(log.as_fd().try_clone_to_owned().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{self:?} (make tools; Envoy: make proxies): {error}"))
    }
}

/// The text of a file of settings.
struct Settings {
    product: Product,
    text: String,
}

impl Settings {
    fn of(product: Product) -> Self {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/proxies");
        let text = std::fs::read_to_string(Path::new(shipped).join(product.file())).unwrap();
        Self { product, text }
    }

    /// Puts something in the place of all that reads so, which there must be.
    fn change(&mut self, old: &str, new: &str) {
        assert!(self.text.contains(old), "{:?} has no {old:?}", self.product);
        self.text = self.text.replace(old, new);
    }

    /// Puts a test's addresses in the place of those in the file.
    fn place(&mut self, address: SocketAddr, backends: &[Backend]) {
        let port = address.port();
        match self.product {
            Product::HaProxy => {
                self.change("    bind :8080 ", "    bind fd@0 ");
                self.change("    bind :8404\n", "    bind unix@operators.sock\n");
                // So that tests see what it thinks of each node, and a machine's two cores suffice for
                // all. A line for each session is much where there are thousands.
                self.change(
                    "global\n    log stdout format raw local0 info\n",
                    "global\n    log stdout format raw local0 notice\n    nbthread 1\n    \
                     stats socket unix@stats.sock mode 600 level user\n",
                );
                self.servers(
                    "    server node-",
                    |number, Backend { http, admin }| {
                        format!("    server node-{number} {http} port {}\n", admin.port())
                    },
                    backends,
                );
            }
            Product::Nginx => {
                self.change("        listen 8080 ", &format!("        listen 127.0.0.1:{port} "));
                self.change("pid /run/nginx.pid;", "pid nginx.pid;");
                self.change("http {\n", "http {\n    client_body_temp_path bodies;\n");
                self.servers(
                    "        server node-",
                    |_, Backend { http, .. }| {
                        format!("        server {http} max_fails=1 fail_timeout=2s;\n")
                    },
                    backends,
                );
            }
            Product::Envoy => {
                let at = |port| format!("address: 127.0.0.1, port_value: {port}}}");
                self.change("address: 0.0.0.0, port_value: 8080}", &at(port));
                self.change(&at(9901), &at(0));
                let endpoint = "              - endpoint:\n";
                let start = self.text.find(endpoint).unwrap();
                self.text.truncate(start);
                for Backend { http, admin } in backends {
                    let health = format!("health_check_config: {{port_value: {}}}", admin.port());
                    let address = format!("address: {{socket_address: {{{}}}", at(http.port()));
                    let lines =
                        [&address, &health].map(|line| format!("                  {line}\n"));
                    self.text.push_str(endpoint);
                    self.text.extend(lines);
                }
            }
        }
    }

    /// Puts a line for each node in the place of the file's own, which begin so.
    fn servers(
        &mut self,
        beginning: &str,
        line: impl Fn(usize, &Backend) -> String,
        backends: &[Backend],
    ) {
        let start = self.text.find(beginning).expect("the file names its nodes");
        let own = self.text[start..].split_inclusive('\n');
        let length: usize = own.take_while(|line| line.starts_with(beginning)).map(str::len).sum();
        let lines: String =
            backends.iter().enumerate().map(|(at, backend)| line(at + 1, backend)).collect();
        self.text.replace_range(start..start + length, &lines);
    }
}
