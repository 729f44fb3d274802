//! What is asked of the kernel: names, readiness, sockets, limits, cores. Linux only.

pub mod address;
pub mod cores;
pub mod descriptors;
pub mod exchange;
pub mod poller;
pub mod process;
pub mod socket;
pub mod source_addresses;
pub mod stop;
pub mod stream;
