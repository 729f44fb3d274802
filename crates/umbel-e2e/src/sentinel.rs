//! Redis servers that sentinels watch, all of the test's own.

use std::cell::Cell;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::redis::RedisClient;
use crate::wait::poll_within;
use crate::{Redis, eventually};

/// What sentinels call the master.
const NAME: &str = "mymaster";

/// How long replicas may take to follow another master.
const REPLICAS_WITHIN: Duration = Duration::from_mins(1);

/// A master doesn't wait some seconds for further replicas before it sends one all that it has.
const SYNC_AT_ONCE: &[&str] = &["--repl-diskless-sync-delay", "0"];

/// A master, its replicas, and three sentinels, two of which must agree.
#[derive(Debug)]
pub struct Watched {
    /// The servers; the first is the master at the beginning.
    pub servers: Vec<Redis>,
    /// Who watches them.
    pub sentinels: Vec<Sentinel>,
}

/// One sentinel. Ended when dropped.
#[derive(Debug)]
pub struct Sentinel {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Watched {
    /// Starts a master with these arguments, so many replicas and the sentinels, and waits until all know
    /// each other. The sentinels want this password, if one is given.
    pub async fn start(replicas: usize, arguments: &[&str], password: Option<&str>) -> Self {
        let all = [arguments, SYNC_AT_ONCE].concat();
        let master = Redis::start(&all).await;
        let port = master.port().to_string();
        let mut servers = vec![master];
        for _ in 0..replicas {
            let follow = [&all[..], &["--replicaof", "127.0.0.1", &port]].concat();
            servers.push(Redis::start(&follow).await);
        }
        // They look for replicas when they start, and then only every ten seconds.
        for replica in &servers[1..] {
            follows(replica, password_of(arguments)).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(servers[0].port(), arguments, password).await);
        }
        let watched = Self { servers, sentinels };
        for sentinel in &watched.sentinels {
            let known = format!("num-slaves\n{replicas}\nnum-other-sentinels\n2\n");
            eventually("sentinels that know all", || async {
                sentinel
                    .command(password, &["SENTINEL", "MASTER", NAME])
                    .await
                    .contains(&known)
                    .then_some(())
            })
            .await;
        }
        watched
    }

    /// The URL for `--broker`, with these before the first host and behind the master's name.
    pub fn url(&self, user: &str, query: &str) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{user}{}/{NAME}{query}", hosts.join(","))
    }

    /// The server that all sentinels that answer call the master.
    pub async fn master(&self) -> &Redis {
        eventually("one master", || async {
            let mut named = Vec::new();
            for sentinel in &self.sentinels {
                named.push(sentinel.master().await);
            }
            named.dedup();
            let [port] = named.as_slice() else { return None };
            self.servers.iter().find(|server| server.port().to_string() == *port)
        })
        .await
    }

    /// Another replica of the server at this port, which doesn't wait for sentinels to find it one.
    pub async fn another_replica(&self, master: u16) -> Redis {
        let master = master.to_string();
        let follow = [SYNC_AT_ONCE, &["--replicaof", "127.0.0.1", &master]].concat();
        let replica = Redis::start(&follow).await;
        follows(&replica, None).await;
        replica
    }

    /// Waits until the master, which was at this port, has so many replicas that have all that it has; says its port. After
    /// a failover those of the old master may come late: they are told when the new one is found, and may need
    /// everything anew. Sentinels may also fail over once more: `spare` then follows, which they don't know.
    pub async fn has_replicas(&self, master: u16, count: usize, spare: &Redis) -> u16 {
        let master = Cell::new(master);
        let looked = poll_within(REPLICAS_WITHIN, || async {
            let said = RedisClient::to(master.get()).await.command(&["INFO", "replication"]).await;
            let another = said.lines().find_map(|line| line.strip_prefix("master_port:"));
            if let Some(port) = another.and_then(|port| port.parse().ok()) {
                master.set(port);
                spare.command(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
                return (said, false);
            }
            let online = said.matches("state=online").count();
            (said, online >= count)
        });
        if let Err(said) = looked.await {
            panic!("{count} replicas were not there within {REPLICAS_WITHIN:?}: {said}");
        }
        master.get()
    }

    /// Waits until a server other than that of this port is the master, for all.
    pub async fn failed_over_from(&self, port: u16) -> &Redis {
        eventually("a failover", || async {
            let master = self.master().await;
            (master.port() != port).then_some(master)
        })
        .await
    }
}

/// The password that servers with these arguments want.
fn password_of<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| *argument == "--requirepass")?;
    Some(arguments[at + 1])
}

/// Waits until a replica has what its master has.
async fn follows(replica: &Redis, password: Option<&str>) {
    eventually("the replica's link", || async {
        let mut client = replica.client().await;
        if let Some(password) = password {
            client.command(&["AUTH", password]).await;
        }
        let said = client.command(&["INFO", "replication"]).await;
        said.contains("master_link_status:up").then_some(())
    })
    .await;
}

impl Sentinel {
    async fn start(master: u16, arguments: &[&str], password: Option<&str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let name = format!("umbel-e2e-sentinel-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 4000\n"
        );
        if let Some(password) = password {
            writeln!(settings, "requirepass {password}\nsentinel sentinel-pass {password}")
                .unwrap();
        }
        if let Some(password) = password_of(arguments) {
            writeln!(settings, "sentinel auth-pass {NAME} {password}").unwrap();
        }
        let file = directory.join("sentinel.conf");
        std::fs::write(&file, settings).unwrap();
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (Debian: apt-get install redis-server)");
        let sentinel = Self { child, port, directory };
        eventually("the sentinel", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() })
            .await;
        sentinel
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal, such as STOP.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(status.unwrap().success());
    }

    /// The port of the server that it calls the master.
    pub async fn master(&self) -> String {
        let said = self.command(None, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await;
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// One command and its answer, a value per line.
    pub async fn command(&self, password: Option<&str>, words: &[&str]) -> String {
        let mut client = RedisClient::to(self.port).await;
        if let Some(password) = password {
            client.command(&["AUTH", password]).await;
        }
        client.command(words).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
