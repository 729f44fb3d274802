//! Metrics that cost a plain addition where they are recorded and are merged where they are read.
//!
//! Each worker owns a struct of [`Counter`]s, [`Gauge`]s and [`Histogram`]s, which only it writes:
//! a load, an addition and a store, no read-modify-write, no shared cache line. A scrape reads the
//! structs of all workers and adds them up ([`Merged`]). Which families there are is one table of
//! [`Family`], so that the names, the help texts and the reference page come from one place.
//!
//! Labels come from closed sets ([`LabelSet`], or values that are known when the program starts) whose
//! cells exist from the start: no series appears or vanishes by what clients do, and recording looks
//! nothing up.

mod cells;
mod family;
mod labels;
mod merged;

pub use cells::{BUCKETS, Counter, Counters, Gauge, Histogram, Histograms};
pub use family::{Combine, Family, KnownLabel};
pub use labels::{LabelSet, Transport};
pub use merged::Merged;
