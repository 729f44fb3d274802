//! The machine's monotonic clock, which all processes on it share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some fixed time.
#[inline]
pub fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
