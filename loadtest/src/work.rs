//! Runs what a scenario file describes, against a server of any make.
//!
//! The parts are separate, so that each combines with each: who listens to what ([`audience`](file::Sessions), its
//! topics' [`shape`]), when messages are published ([`Pace`](file::Pace)), how ([`Publish`](file::Publish)), what
//! happens meanwhile (cuts, churn, a storm, faults), and what is noted. One process, the coordinator, publishes and
//! keeps the time; others, the holders, have the sessions, since a process may hold only so many descriptors. They
//! talk by [`orders`] and read one monotonic clock.

pub mod compare;
pub mod coordinator;
pub mod file;
pub mod holder;
pub mod orders;
pub mod progress;
pub mod publisher;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod script;
pub mod settings;
pub mod shape;
pub mod speech;
pub mod times;
