//! What very many sessions need of the machine, compared with what is there before anything is started.
//!
//! Nothing is set here: who runs it is told what to set.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result};

use crate::cost::kernel_memory::KernelMemory;
use crate::os::source_addresses::PER_ADDRESS;

/// User memory of one session in a node and in a holder, and of a process without sessions: measured, rounded up.
const NODE_SESSION: u64 = 2600;
const HOLDER_SESSION: u64 = 200;
const NODE: u64 = 12 << 20;
const HOLDER: u64 = 5 << 20;
/// Kernel memory of both ends of a connection: two sockets with their inodes, files, names, ports and places in epoll
/// sets; measured, rounded up.
const KERNEL_SESSION: u64 = 9 << 10;
/// While a message goes to all, so many sessions share one whose client hasn't read it: measured at 15 and more, and
/// each takes a page of TCP's memory.
const ONE_UNREAD_OF: u64 = 4;
/// Sockets in one bucket of the kernel's hash table from which on each packet's way to its socket is felt.
const CROWDED: u64 = 4;
/// Memory that others shall keep.
pub const RESERVE: u64 = 1 << 30;
/// Descriptors of each process beside sessions.
const BESIDE: u64 = 64;

/// What is to be run, as far as the machine is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Sessions, both of whose ends are on this machine.
    pub sessions: usize,
    /// Server processes.
    pub nodes: usize,
    /// Processes that hold the clients' ends.
    pub holders: usize,
    /// Sessions that may be on their way to one server at once.
    pub on_their_way: usize,
}

impl Need {
    /// The most sessions that a process has.
    fn share(&self) -> usize {
        self.sessions.div_ceil(self.nodes.min(self.holders).max(1))
    }

    /// Memory of both ends and of the kernel.
    fn memory(&self) -> u64 {
        let (nodes, holders) = (self.nodes as u64, self.holders as u64);
        let each = NODE_SESSION + HOLDER_SESSION + KERNEL_SESSION;
        self.sessions as u64 * each + nodes * NODE + holders * HOLDER
    }
}

/// What the machine gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// `fs.nr_open`: the most descriptors that any process may be allowed.
    pub nr_open: u64,
    /// `fs.file-max`, and how many files are open.
    pub files: (u64, u64),
    /// `fs.epoll.max_user_watches`.
    pub watches: u64,
    /// `net.ipv4.ip_local_port_range`.
    pub ports: (u64, u64),
    /// The last number of `net.ipv4.tcp_mem`, in pages; unknown within a network namespace.
    pub tcp_pages: Option<u64>,
    /// `net.ipv4.tcp_ehash_entries`: buckets for connections; negative where they are shared with the machine's.
    pub buckets: Option<i64>,
    /// `net.core.somaxconn`.
    pub backlog: u64,
    /// `net.netfilter.nf_conntrack_max` and the connections that are tracked, if loopback's are.
    pub tracked: Option<(u64, u64)>,
    /// Memory that can be had.
    pub available_bytes: u64,
}

impl Given {
    /// Reads all that.
    pub fn read() -> Result<Self> {
        let ports = numbers("net/ipv4/ip_local_port_range")?;
        Ok(Self {
            nr_open: number("fs/nr_open", 0)?,
            files: (number("fs/file-max", 0)?, number("fs/file-nr", 0)?),
            watches: number("fs/epoll/max_user_watches", 0)?,
            ports: (at(&ports, 0)?, at(&ports, 1)?),
            tcp_pages: number("net/ipv4/tcp_mem", 2).ok(),
            buckets: buckets(),
            backlog: number("net/core/somaxconn", 0)?,
            tracked: tracked()?,
            available_bytes: KernelMemory::read()?.available_bytes,
        })
    }

    /// What to set, or to do otherwise, so that this can be run; nothing if it can.
    pub fn missing_for(&self, need: &Need) -> Vec<String> {
        let sessions = need.sessions as u64;
        let processes = (need.nodes + need.holders) as u64;
        let mut missing = Vec::new();
        let mut at_least = |name: &str, given: u64, needed: u64| {
            if given < needed {
                missing.push(format!(
                    "{name} is {given}, {needed} is needed: sysctl -w {name}={needed}"
                ));
            }
        };
        at_least("fs.nr_open", self.nr_open, need.share() as u64 + BESIDE);
        let (file_max, open) = self.files;
        at_least("fs.file-max", file_max, open + 2 * sessions + processes * BESIDE);
        at_least("fs.epoll.max_user_watches", self.watches, 2 * sessions + processes * BESIDE);
        at_least("net.core.somaxconn", self.backlog, need.on_their_way as u64);
        if let Some((most, now)) = self.tracked {
            at_least("net.netfilter.nf_conntrack_max", most, now + sessions + processes * BESIDE);
        }
        let pages = sessions / ONE_UNREAD_OF;
        if let Some(given) = self.tcp_pages.filter(|given| *given < pages) {
            missing.push(format!(
                "net.ipv4.tcp_mem ends in {given}, but messages to {sessions} that aren't read yet take {pages} pages: \
                 sysctl -w net.ipv4.tcp_mem='{} {} {}'",
                pages,
                pages + pages / 4,
                pages + pages / 2
            ));
        }
        let (low, high) = self.ports;
        if (high + 1).saturating_sub(low) < 2 * u64::from(PER_ADDRESS) {
            missing.push(format!(
                "net.ipv4.ip_local_port_range is {low} to {high}, but {PER_ADDRESS} connections are made from each \
                 address, and as many ports may still be waiting: sysctl -w net.ipv4.ip_local_port_range='32768 60999'"
            ));
        }
        let (needed, left) = (need.memory(), self.available_bytes.saturating_sub(RESERVE));
        if left < needed {
            missing.push(format!(
                "{} MiB of memory are needed, {} MiB are there less 1 GiB for others: fewer sessions, or more memory",
                needed >> 20,
                left >> 20
            ));
        }
        missing
    }

    /// What makes it cost more CPU than it must, though it can be run.
    pub fn hint_for(&self, need: &Need) -> Option<String> {
        let (buckets, sockets) = (self.buckets?.unsigned_abs(), 2 * need.sessions as u64);
        let wanted = sockets.checked_next_power_of_two()?;
        (buckets * CROWDED < sockets).then(|| {
            format!(
                "the kernel has {buckets} buckets for connections, and {sockets} sockets come into them, so that each \
                 packet's way to its socket is longer than it must be; start Linux with thash_entries={wanted}, or, for \
                 this run alone, sysctl -w net.ipv4.tcp_child_ehash_entries={wanted} and begin the command with \
                 unshare -n sh -c 'ip link set lo up && exec \"$@\"' sh"
            )
        })
    }
}

fn buckets() -> Option<i64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_ehash_entries").ok()?;
    text.trim().parse().ok()
}

fn numbers(name: &str) -> Result<Vec<u64>> {
    let path = Path::new("/proc/sys").join(name);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("can't read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} has something else than numbers", path.display()))
}

fn parse(text: &str) -> Option<Vec<u64>> {
    text.split_ascii_whitespace().map(|field| field.parse().ok()).collect()
}

fn number(name: &str, index: usize) -> Result<u64> {
    at(&numbers(name)?, index).with_context(|| format!("/proc/sys/{name}"))
}

fn at(numbers: &[u64], index: usize) -> Result<u64> {
    numbers.get(index).copied().context("a number is missing")
}

/// Connections are tracked only while some rule wants it, and loopback's may be left out: so one is made, and looked
/// whether anything is tracked meanwhile.
fn tracked() -> Result<Option<(u64, u64)>> {
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists() {
        return Ok(None);
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("can't listen on loopback")?;
    let _connection = TcpStream::connect(listener.local_addr()?)?;
    let now = number("net/netfilter/nf_conntrack_count", 0)?;
    let most = number("net/netfilter/nf_conntrack_max", 0)?;
    Ok((now > 0).then_some((most, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEED: Need = Need { sessions: 1_000_000, nodes: 54, holders: 51, on_their_way: 64 };
    const ENOUGH: Given = Given {
        nr_open: 1 << 20,
        files: (u64::MAX, 0),
        watches: 5_000_000,
        ports: (32_768, 60_999),
        tcp_pages: Some(575_802),
        buckets: Some(262_144),
        backlog: 4096,
        tracked: None,
        available_bytes: 24 << 30,
    };

    #[test]
    fn enough_is_enough() {
        assert_eq!(ENOUGH.missing_for(&NEED), [""; 0]);
    }

    #[test]
    fn each_thing_that_is_missing_is_named_with_what_to_set() {
        for (given, set) in [
            (Given { nr_open: 9, ..ENOUGH }, "sysctl -w fs.nr_open=19672"),
            (Given { files: (2_000_000, 5), ..ENOUGH }, "sysctl -w fs.file-max=2006725"),
            (Given { watches: 9, ..ENOUGH }, "sysctl -w fs.epoll.max_user_watches=2006720"),
            (Given { backlog: 9, ..ENOUGH }, "sysctl -w net.core.somaxconn=64"),
            (
                Given { tcp_pages: Some(9), ..ENOUGH },
                "sysctl -w net.ipv4.tcp_mem='250000 312500 375000'",
            ),
            (Given { ports: (60_000, 60_999), ..ENOUGH }, "ip_local_port_range='32768 60999'"),
            (Given { tracked: Some((262_144, 7)), ..ENOUGH }, "nf_conntrack_max=1006727"),
            (Given { available_bytes: 8 << 30, ..ENOUGH }, "fewer sessions"),
        ] {
            let missing = given.missing_for(&NEED);
            assert!(missing.len() == 1 && missing[0].contains(set), "{set}: {missing:?}");
        }
    }

    #[test]
    fn crowded_buckets_are_hinted_at() {
        let hint = ENOUGH.hint_for(&NEED).unwrap();
        assert!(hint.contains("thash_entries=2097152"), "{hint}");
        let few = Need { sessions: 100_000, ..NEED };
        assert_eq!(ENOUGH.hint_for(&few), None);
        assert_eq!(Given { buckets: None, ..ENOUGH }.hint_for(&NEED), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let given = Given::read().unwrap();
        assert!(given.files.0 > 0 && given.available_bytes > 0, "{given:?}");
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(text in "[ \t\n0-9a-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
