//! Panics as lines of the log.
//!
//! The standard library's words go straight to the standard error: not as JSON, and whoever panics
//! waits until somebody reads them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use prometheus::IntCounter;
use tracing::field;

/// Has every panic of the process logged and counted.
pub(super) fn hear(count: IntCounter) {
    panic::set_hook(Box::new(move |info| {
        count.inc();
        log(info);
    }));
}

fn log(info: &PanicHookInfo<'_>) {
    let location = info.location().map(field::display);
    let fault = info.payload_as_str().unwrap_or("it says nothing");
    // There is one if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = is_captured.then(|| field::display(&backtrace));
    tracing::error!(fault, location, backtrace, "A thread panicked");
}
