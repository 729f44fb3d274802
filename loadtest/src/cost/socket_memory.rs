//! Kernel memory in the queues of TCP sockets, from `/proc/net/sockstat`.

use std::fs;

use anyhow::{Context, Result};

/// Bytes held by all TCP sockets of this network namespace.
pub fn read() -> Result<u64> {
    let path = "/proc/net/sockstat";
    let text = fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
    let pages = parse(&text).with_context(|| format!("{path} has no TCP memory"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn parse(sockstat: &str) -> Option<u64> {
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut fields = tcp.split_ascii_whitespace().skip_while(|field| *field != "mem");
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_mem_counts_pages() {
        let text =
            "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 42\nUDP: inuse 0 mem 1\n";
        assert_eq!(parse(text), Some(42));
        assert_eq!(parse("TCP: inuse 1"), None);
    }
}
