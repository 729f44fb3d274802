//! A control group for a node: what it and its sockets take, and that they may take no more.

use std::fs;
use std::path::{Path, PathBuf};

/// A memory control group, of version 1 or 2, that goes away with the test.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Counts memory and the buffers of TCP apart.
    One,
    /// Counts both together.
    Two,
}

impl MemoryGroup {
    /// A group whose processes may take so much memory, or `None` where a test may not make one.
    pub fn new(limit: u64) -> Option<Self> {
        let name = format!("umbel-e2e-{:016x}", fastrand::u64(..));
        let roots = [("/sys/fs/cgroup/memory", Version::One), ("/sys/fs/cgroup", Version::Two)];
        for (root, version) in roots {
            let group = Self { path: Path::new(root).join(&name), version };
            if fs::create_dir(&group.path).is_ok() && group.limit_to(limit).is_ok() {
                return Some(group);
            }
        }
        None
    }

    /// Puts a process in.
    pub fn take(&self, process: u32) {
        fs::write(self.path.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// What its processes and their sockets take now, in bytes.
    pub fn usage(&self) -> u64 {
        self.sum(&["memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"], "memory.current")
    }

    /// Of that, the buffers of sockets.
    pub fn sockets(&self) -> u64 {
        match self.version {
            Version::One => self.number("memory.kmem.tcp.usage_in_bytes"),
            Version::Two => {
                let stat = fs::read_to_string(self.path.join("memory.stat")).unwrap();
                let sock = stat.lines().find_map(|line| line.strip_prefix("sock "));
                sock.map_or(0, |bytes| bytes.parse().unwrap())
            }
        }
    }

    /// The most that they took at a time, in bytes; with version 1 of each part by itself.
    pub fn peak(&self) -> u64 {
        let parts = ["memory.max_usage_in_bytes", "memory.kmem.tcp.max_usage_in_bytes"];
        self.sum(&parts, "memory.peak")
    }

    fn limit_to(&self, limit: u64) -> std::io::Result<()> {
        let files: &[&str] = match self.version {
            Version::One => &["memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"],
            Version::Two => &["memory.max"],
        };
        files.iter().try_for_each(|file| fs::write(self.path.join(file), limit.to_string()))
    }

    fn sum(&self, parts: &[&str], whole: &str) -> u64 {
        match self.version {
            Version::One => parts.iter().map(|part| self.number(part)).sum(),
            Version::Two => self.number(whole),
        }
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.path.join(file)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    /// Its processes must be gone; the kernel takes a moment to notice.
    #[allow(clippy::disallowed_methods, reason = "a destructor can't wait otherwise")]
    fn drop(&mut self) {
        for _ in 0..100 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                _ => return,
            }
        }
    }
}
