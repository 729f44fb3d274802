//! What is noted on the way, and what is left at the end.

use super::feeding::Feeding;
use super::meter::Spent;
use super::series::Series;
use crate::work::orders::Report;

/// What is noted on the way.
#[derive(Default)]
pub struct Notes {
    /// PSS of the servers without sessions.
    pub pss_before: Option<u64>,
    /// Sessions open when the window began.
    pub opened: u64,
    /// How long opening took.
    pub open_seconds: f64,
    /// Messages and receipts before the window.
    pub before: Marks,
    /// The same at its end.
    pub after: Marks,
    /// What the window cost.
    pub spent: Option<Spent>,
    /// What is held at its end.
    pub held: Held,
    /// Second by second.
    pub series: Option<Series>,
    /// What went wrong, in words.
    pub problems: Vec<String>,
    /// What each connect of a storm cost.
    pub us_per_connect: Option<f64>,
    /// After how many seconds all of it were back.
    pub back_seconds: Option<f64>,
}

/// Counts at one time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    /// Messages published.
    pub messages: u64,
    /// Receipts that there are to be of them, if all sessions stay.
    pub expected: u64,
    /// Messages received, as holders told it when they were asked.
    pub received: u64,
}

/// What servers and kernel hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// RSS and PSS of the servers.
    pub memory: Option<(u64, u64)>,
    /// Queues of TCP.
    pub socket_bytes: u64,
    /// Slabs of sockets.
    pub socket_slab_bytes: Option<u64>,
    /// Descriptors of the servers.
    pub descriptors: Option<u64>,
}

/// What is left when all is over.
pub struct Ended {
    /// What was noted.
    pub notes: Notes,
    /// What each holder noted.
    pub reports: Vec<Report>,
    /// The publisher, if there was one.
    pub feeding: Option<Feeding>,
}

/// What is wrong if fewer sessions than `wanted` are `open` when the window begins.
pub fn not_open(open: u64, wanted: u64) -> Option<String> {
    let text = || format!("only {open} of {wanted} sessions were open when the window began");
    (open < wanted).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_are_not_open_are_a_problem() {
        assert_eq!(not_open(10, 10), None);
        assert!(not_open(9, 10).unwrap().contains("9 of 10"));
    }
}
