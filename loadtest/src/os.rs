//! What is asked of the kernel: readiness, sockets, limits, cores. Linux only.

pub mod cores;
pub mod descriptors;
pub mod poller;
pub mod process;
pub mod socket;
pub mod source_addresses;
pub mod stop;
