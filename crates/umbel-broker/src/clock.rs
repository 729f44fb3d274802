//! The time of day, by which messages are published and grow old.

use std::time::{SystemTime, UNIX_EPOCH};

use umbel_protocol::Timestamp;

/// The time of day; 1970 if the machine's clock is before that.
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
