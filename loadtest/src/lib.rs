//! Measures what a fan-out server's core spends per delivery, against a bare baseline in the same run.

// So that tests here and in `tests/` share what they make by hand.
#[cfg(test)]
extern crate self as umbel_loadtest;

pub mod baseline;
pub mod bench;
pub mod channels;
pub mod cli;
pub mod cost;
pub mod crew;
pub mod empty;
pub mod fleet;
pub mod interrupt;
pub mod load;
pub mod naive;
pub mod os;
pub mod report;
pub mod scenario;
pub mod wire;
pub mod work;
