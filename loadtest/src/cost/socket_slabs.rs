//! Kernel memory of sockets and what belongs to them, from `/proc/slabinfo`, which root may read.
//!
//! The kernel's own sums have other things too: names of files that somebody has just listed outweigh the
//! sockets of a hundred thousand sessions. Whole slabs are counted, with what is free in them.

use std::fs;

/// A socket, its inode, its open file, its place in an epoll set. Its name and its port, some 0.3 KiB, are in caches
/// that others share.
const CACHES: [&str; 6] =
    ["TCP", "TCPv6", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq"];

/// Bytes of all of them; unknown without the right to look.
pub fn read() -> Option<u64> {
    parse(&fs::read_to_string("/proc/slabinfo").ok()?)
}

fn parse(slabinfo: &str) -> Option<u64> {
    let page = rustix::param::page_size() as u64;
    let mut pages = None;
    for line in slabinfo.lines() {
        let mut fields = line.split_ascii_whitespace();
        if fields.next().is_some_and(|name| CACHES.contains(&name)) {
            let slabs = pages_of(fields)?;
            pages = Some(pages.unwrap_or(0u64).checked_add(slabs)?);
        }
    }
    pages?.checked_mul(page)
}

/// Behind the name: active objects, objects, their size, objects and pages of a slab, then, behind words, active slabs
/// and slabs.
fn pages_of<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<u64> {
    let pages: u64 = fields.nth(4)?.parse().ok()?;
    let mut fields = fields.skip_while(|field| *field != "slabdata");
    let slabs: u64 = fields.nth(2)?.parse().ok()?;
    slabs.checked_mul(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slabs_of_sockets_are_counted_whole() {
        let text = "slabinfo - version: 2.1\n# name <active_objs>\n\
            TCPv6   1 13 2496 13 8 : tunables 0 0 0 : slabdata 1 2 0\n\
            filp    9 42  192 21 1 : tunables 0 0 0 : slabdata 2 3 0\n\
            dentry 99 99  192 21 1 : tunables 0 0 0 : slabdata 9 9 0\n";
        let page = rustix::param::page_size() as u64;
        assert_eq!(parse(text), Some((2 * 8 + 3) * page));
        assert_eq!(parse("dentry 99 99 192 21 1 : tunables 0 0 0 : slabdata 9 9 0"), None);
    }

    proptest! {
        #[test]
        fn any_text_parses_without_a_panic(rest in "[ 0-9a-z:\n]{0,60}( slabdata [0-9 ]{0,50})?") {
            let _ = parse(&format!("TCP {rest}"));
        }
    }
}
