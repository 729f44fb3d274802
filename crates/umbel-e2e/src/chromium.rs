//! A real browser, without a window.
//!
//! What pages see of a node is decided by the browser: whether an `EventSource` comes back, which
//! close code a script is shown, which answers it may read. The clients that are written here show
//! only what the node sends. Each browser is a process of the test's own, with a profile of its own,
//! that talks to nobody but this machine; it is steered through a pipe ([`devtools`]) and ends with it.

mod devtools;
mod tab;

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::json;
use tokio::task::JoinSet;

use self::devtools::Devtools;
pub use self::tab::Tab;
use crate::DEADLINE;

/// A running Chromium. Ended with all its processes when dropped.
#[derive(Debug)]
pub struct Chromium {
    devtools: Arc<Devtools>,
    process: Process,
    _reader: JoinSet<()>,
}

/// The browser's processes, and where they keep their files.
#[derive(Debug)]
struct Process {
    child: Child,
    /// What was written to standard error, once no process has it any more.
    complaints: Receiver<String>,
    directory: PathBuf,
}

/// Chromium reads commands from descriptor 3 and answers on 4. A shell puts its pipes there, since
/// all that Rust's `Command` connects without unsafe code are 0 to 2.
const WITH_PIPES: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >&2";

const ARGUMENTS: [&str; 17] = [
    "--headless=new",
    "--remote-debugging-pipe",
    // Tests may run as root and in containers: no user namespaces, little shared memory, no GPU.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    // Whatever it would want to load or tell without being asked; names other than this machine's
    // don't resolve.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
    // No tab is slower for not being looked at.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

impl Chromium {
    /// Starts a browser and waits until it answers.
    pub async fn start() -> Self {
        let (process, pipes) = Process::start();
        let (devtools, reader) = Devtools::on(pipes);
        let chromium = Self { devtools, process, _reader: reader };
        chromium.devtools.call(None, "Browser.getVersion", json!({})).await;
        chromium
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&self, url: &str) -> Tab {
        Tab::open(Arc::clone(&self.devtools), url).await
    }

    /// Opens a page and begins a script in it, see [`Tab::run`].
    pub async fn page(&self, url: &str, script: &str) -> Tab {
        let tab = self.open(url).await;
        tab.run(script).await;
        tab
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        &self.process.directory
    }
}

impl Process {
    fn start() -> (Self, devtools::Pipes) {
        let name = format!("umbel-e2e-chromium-{:016x}", fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut profile = std::ffi::OsString::from("--user-data-dir=");
        profile.push(directory.join("profile"));
        let mut child = Command::new("sh")
            .args(["-c", WITH_PIPES, "sh"])
            .args(ARGUMENTS)
            .arg(profile)
            // Whatever it leaves behind, it leaves there.
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, &directory)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let pipes = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let complaints = collect(child.stderr.take().unwrap());
        (Self { child, complaints, directory }, pipes)
    }

    /// Ends all its processes at once, waits for that, and gives what they complained of.
    fn kill(&mut self) -> io::Result<String> {
        let group = format!("-{}", self.child.id());
        Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status()?;
        self.child.wait()?;
        // All of them have it, so its end is the end of the last one. Crash handlers are in groups
        // of their own and end with what they watch.
        let complaints = self.complaints.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        std::fs::remove_dir_all(&self.directory)?;
        Ok(complaints)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.kill();
        if std::thread::panicking() {
            // It complains at length of a machine without a desktop, in tests that pass as well.
            let complaints = ended.unwrap_or_else(|error| format!("Chromium did not end: {error}"));
            let lines = complaints.lines().filter(|line| !line.contains("dbus/"));
            lines.for_each(|line| eprintln!("chromium: {line}"));
        } else {
            ended.expect("Chromium ends and leaves nothing behind");
        }
    }
}

/// Reads to the end, in a thread that ends with that.
fn collect(mut stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.read_to_end(&mut bytes);
        // Nobody waits for it if the test gave up.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a process has this in its command line.
    fn is_running(text: &str) -> bool {
        let processes = std::fs::read_dir("/proc").unwrap();
        let line = |process: io::Result<std::fs::DirEntry>| {
            // It may have ended meanwhile.
            std::fs::read(process.ok()?.path().join("cmdline")).ok()
        };
        processes.filter_map(line).any(|line| String::from_utf8_lossy(&line).contains(text))
    }

    #[tokio::test]
    async fn a_browser_leaves_nothing_behind() {
        let chromium = Chromium::start().await;
        let _tab = chromium.page("about:blank", "report(1)").await;
        let directory = chromium.directory().to_owned();
        let name = directory.to_str().unwrap();
        assert!(directory.join("profile").exists() && is_running(name));
        drop(chromium);
        assert!(!directory.exists() && !is_running(name));
    }
}
