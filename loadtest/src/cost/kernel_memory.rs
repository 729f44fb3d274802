//! Memory of the whole machine, from `/proc/meminfo`, and what TCP holds in its queues.
//!
//! A socket costs its objects in the slab allocator (the socket itself, its inode, its file, its place in an epoll
//! set, its port) and pages only while bytes are under way in it.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{socket_memory, socket_slabs};

/// Sums at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelMemory {
    /// What could still be had without swapping, as the kernel estimates it.
    pub available_bytes: u64,
    /// All slabs.
    pub slab_bytes: u64,
    /// Those that memory pressure can't take back; a socket's file name is in the others.
    pub unreclaimable_slab_bytes: u64,
    /// Page tables of all processes.
    pub page_table_bytes: u64,
    /// The queues of all TCP sockets.
    pub tcp_bytes: u64,
    /// The slabs of sockets and what belongs to them; unknown to all but root.
    pub socket_slab_bytes: Option<u64>,
}

impl KernelMemory {
    /// Now.
    pub fn read() -> Result<Self> {
        let path = "/proc/meminfo";
        let text = fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
        let parsed = Self::parse(&text).with_context(|| format!("{path} lacks a sum"))?;
        let socket_slab_bytes = socket_slabs::read();
        Ok(Self { tcp_bytes: socket_memory::read()?, socket_slab_bytes, ..parsed })
    }

    fn parse(meminfo: &str) -> Option<Self> {
        Some(Self {
            available_bytes: bytes(meminfo, "MemAvailable:")?,
            slab_bytes: bytes(meminfo, "Slab:")?,
            unreclaimable_slab_bytes: bytes(meminfo, "SUnreclaim:")?,
            page_table_bytes: bytes(meminfo, "PageTables:")?,
            tcp_bytes: 0,
            socket_slab_bytes: None,
        })
    }
}

fn bytes(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_sums_are_found() {
        let text = "MemAvailable: 9 kB\nSlab:  4 kB\nSReclaimable: 1 kB\nSUnreclaim: 3 kB\nPageTables: 2 kB\n";
        let memory = KernelMemory::parse(text).unwrap();
        assert_eq!((memory.available_bytes, memory.slab_bytes), (9216, 4096));
        assert_eq!((memory.unreclaimable_slab_bytes, memory.page_table_bytes), (3072, 2048));
        assert_eq!(KernelMemory::parse("Slab: 4 kB"), None);
        assert!(KernelMemory::read().unwrap().available_bytes > 0);
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(value in "[ 0-9kB]{0,30}") {
            let _ = bytes(&format!("Slab:{value}"), "Slab:");
        }
    }
}
