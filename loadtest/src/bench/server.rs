//! A server process that a measurement starts and ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::channels::Channels;
use crate::interrupt;
use crate::os::cores::Affinity;
use crate::os::process::ends_within;
use rustix::process::{Pid, Signal, kill_process};

/// Time that a server has to become ready.
const READY: Duration = Duration::from_secs(15);
/// Time between two looks whether it is.
const LOOK: Duration = Duration::from_millis(10);
/// Time that it has to say so.
const ANSWER: Duration = Duration::from_secs(1);
/// Time that a killed process has to be gone: the kernel closes all its sockets first.
const GONE: Duration = Duration::from_secs(10);

/// Where a server may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On the server's core alone.
    Pinned,
    /// On all cores, the load's too.
    Free,
}

/// How to start a server.
#[derive(Debug)]
pub struct Program {
    command: Command,
    address: SocketAddr,
    readiness: Readiness,
}

#[derive(Debug, Clone, Copy)]
enum Readiness {
    /// It accepts connections.
    Accepts,
    /// `GET /readyz` at this address answers 200.
    Answers(SocketAddr),
    /// `PING` is answered with `PONG`.
    Pongs,
}

impl Program {
    /// The node at `path`, which has its messages from `channels` if those are given, and its other settings from the file
    /// `settings`, the number of workers too if none is given.
    pub fn node(
        path: &Path,
        workers: Option<usize>,
        env: &[(String, String)],
        channels: Option<&Channels>,
        settings: Option<&Path>,
    ) -> Result<Self> {
        let (address, admin) = (free_port()?, free_port()?);
        let mut command = Command::new(path);
        command.args(["serve", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
        if let Some(workers) = workers {
            command.args(["--workers", &workers.to_string()]);
        }
        if let Some(settings) = settings {
            command.arg("--config").arg(settings);
        }
        if let Some(channels) = channels {
            command.args(["--broker", &channels.url()]);
        }
        command.envs(env.iter().map(|(name, value)| (name, value)));
        Ok(Self { command, address, readiness: Readiness::Answers(admin) })
    }

    /// One of this program's own servers.
    pub fn comparison(name: &str, channels: Option<&Channels>) -> Result<Self> {
        let address = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", name, "--listen", &address.to_string()]);
        if let Some(channels) = channels {
            command.args(["--redis", &channels.url(), "--prefix", &channels.prefix]);
        }
        Ok(Self { command, address, readiness: Readiness::Accepts })
    }

    /// The baseline that keeps the last `messages` of each topic; they are posted.
    pub fn keeping_baseline(messages: usize) -> Result<Self> {
        let mut program = Self::comparison("baseline", None)?;
        program.command.args(["--keep", &messages.to_string()]);
        Ok(program)
    }

    /// Redis, which keeps nothing.
    pub(super) fn redis() -> Result<Self> {
        let address = free_port()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        Ok(Self { command, address, readiness: Readiness::Pongs })
    }

    /// Redis, which has on disk, in `directory`, all that it has confirmed.
    pub(super) fn keeping_redis(directory: &Path) -> Result<Self> {
        let mut program = Self::redis()?;
        program.command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]);
        program.command.arg(directory);
        Ok(program)
    }

    fn name(&self) -> String {
        self.command.get_program().display().to_string()
    }
}

/// An address with a port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}

/// A running server; dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: Program,
}

impl Server {
    /// Starts `program` on the cores to which `place` moves the calling thread, and waits until it is ready. What it
    /// has to say goes to `log`.
    pub fn start(
        mut program: Program,
        log: &Path,
        place: impl FnOnce() -> io::Result<()>,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
        program.command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = spawn(&mut program.command, place)?;
        let mut server = Self { child, program };
        let started = server.wait_until_ready();
        let name = || format!("{} (its output is in {})", server.program.name(), log.display());
        started.with_context(name)?;
        Ok(server)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Where it answers its operators, if it does.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.program.readiness.admin()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.with_context(|| format!("process {} takes no {signal:?}", self.pid()))
    }

    /// Starts it anew at the same address, once its process has ended; it isn't ready yet. Says
    /// how the process ended.
    pub fn start_again(&mut self, place: impl FnOnce() -> io::Result<()>) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        self.child = spawn(&mut self.program.command, place)?;
        Ok(status)
    }

    /// Whether it has ended, or does by itself within that time.
    pub fn ends_within(&self, timeout: Duration) -> bool {
        ends_within(&self.child, timeout).unwrap_or(true)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        while !self.program.readiness.is_reached(self.program.address) {
            interrupt::check()?;
            if ends_within(&self.child, LOOK)? {
                bail!("it ended before it was ready: {}", self.child.wait()?);
            }
            if Instant::now() > deadline {
                bail!("it wasn't ready within {READY:?}");
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only if the process is gone already.
        let _ = self.child.kill();
        if ends_within(&self.child, GONE).unwrap_or(true) {
            let _ = self.child.wait();
        } else {
            eprintln!(
                "server process {} was killed, but is still there after {GONE:?}",
                self.pid()
            );
        }
    }
}

/// Starts `command` on the cores to which `place` moves the calling thread, which returns to its own.
fn spawn(command: &mut Command, place: impl FnOnce() -> io::Result<()>) -> Result<Child> {
    let own = Affinity::of_this_thread()?;
    place()?;
    let child = command.spawn();
    own.restore()?;
    let program = command.get_program().display();
    child.with_context(|| format!("can't start {program}"))
}

impl Readiness {
    fn admin(self) -> Option<SocketAddr> {
        match self {
            Self::Answers(admin) => Some(admin),
            Self::Accepts | Self::Pongs => None,
        }
    }

    fn is_reached(self, address: SocketAddr) -> bool {
        match self {
            Self::Accepts => TcpStream::connect_timeout(&address, LOOK).is_ok(),
            Self::Answers(admin) => answers(admin).unwrap_or(false),
            Self::Pongs => pongs(address).unwrap_or(false),
        }
    }
}

fn pongs(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, LOOK)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"+PONG\r\n")
}

/// Whether `GET /readyz` is answered with 200.
fn answers(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, LOOK)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.starts_with(b"HTTP/1.") && status.ends_with(b" 200"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process;

    fn running(name: &str, arguments: &[&str]) -> Server {
        let mut command = Command::new(name);
        let child = command.args(arguments).spawn().unwrap();
        let (address, readiness) = (free_port().unwrap(), Readiness::Accepts);
        Server { child, program: Program { command, address, readiness } }
    }

    #[test]
    fn a_killed_server_is_another_process_afterwards() {
        let mut server = running("sleep", &["60"]);
        let (pid, address) = (server.pid(), server.address());
        server.signal(Signal::KILL).unwrap();
        assert!(server.ends_within(GONE));
        let status = server.start_again(|| Ok(())).unwrap();
        assert!(!status.success());
        assert!(server.pid() != pid && server.address() == address);
        assert!(!server.ends_within(Duration::ZERO));
    }

    #[test]
    fn a_server_that_ends_at_once_is_not_waited_for() {
        let mut server = running("false", &[]);
        let error = server.wait_until_ready().unwrap_err().to_string();
        assert!(error.contains("ended before it was ready: exit status: 1"), "{error}");
    }

    #[test]
    fn a_dropped_server_is_gone() {
        let server = running("sleep", &["60"]);
        let pid = Pid::from_child(&server.child);
        test_kill_process(pid).unwrap();
        drop(server);
        assert_eq!(test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    }

    #[test]
    fn readiness_is_a_200() {
        for (answer, ready) in
            [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 Not Yet\r\n\r\n", false)]
        {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let admin = std::thread::spawn(move || -> io::Result<()> {
                let (mut stream, _) = listener.accept()?;
                // A connection that is closed with unread bytes is reset, and the answer may be lost.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    request.extend(byte);
                }
                stream.write_all(answer.as_bytes())
            });
            assert_eq!(Readiness::Answers(address).is_reached(address), ready, "{answer}");
            admin.join().unwrap().unwrap();
            assert!(!Readiness::Answers(address).is_reached(address), "nobody listens any more");
        }
    }
}
