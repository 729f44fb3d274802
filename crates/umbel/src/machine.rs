//! What the machine gives the process: memory and descriptors.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is taken for the machine's memory where it can't be found out.
const UNKNOWN_MEMORY: usize = 1 << 30;

/// The memory that a node may have if nothing is said, in bytes: what its control group allows,
/// else three quarters of the machine's.
pub(crate) fn memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let machine = machine.unwrap_or(UNKNOWN_MEMORY);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| limit(&file));
    limits.min().filter(|limit| *limit < machine).unwrap_or(machine / 4 * 3)
}

/// What the machine calls itself.
pub(crate) fn name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// Allows the process as many descriptors as it may allow itself, and gives how many these are.
/// Shells and service managers start programs with few, for the sake of some that use `select`.
pub(crate) fn raise_descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // What isn't allowed stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    max_descriptors()
}

/// How many descriptors the process may have.
pub(crate) fn max_descriptors() -> usize {
    match getrlimit(Resource::Nofile).current {
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => usize::MAX,
    }
}

/// How many descriptors the process has. Since Linux 6.2 that can be known without one more.
pub(crate) fn open_descriptors() -> Option<usize> {
    let path = "/proc/self/fd";
    match fs::metadata(path).ok()?.len() {
        0 => Some(fs::read_dir(path).ok()?.count()),
        count => usize::try_from(count).ok(),
    }
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may hold a memory limit for a process in these control groups: of its own group
/// and of all above it. Within a container the own group is the root of what it sees.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(group).join(name));
        }
    }
    files
}

/// What such a file says; `None` for no limit.
fn limit(file: &Path) -> Option<usize> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        assert_eq!(total("MemTotal:       24648648 kB\nMemFree: 1 kB\n"), Some(24_648_648 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_all_groups_above() {
        let files = |groups| -> Vec<String> {
            limit_files(groups).iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/kubepods/pod1\n"),
            [
                "/sys/fs/cgroup/kubepods/pod1/memory.max",
                "/sys/fs/cgroup/kubepods/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("5:cpu:/x\n4:memory:/a\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(files("nonsense").is_empty());
    }

    #[test]
    fn the_machine_has_some_of_both() {
        assert!(memory() > 64 << 20);
        assert!(raise_descriptors() >= 256);
        let before = open_descriptors().unwrap();
        let _files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close theirs.
        assert!(before > 2 && open_descriptors().unwrap() > 20);
    }
}
