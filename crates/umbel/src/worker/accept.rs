//! Accepting connections.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::Worker;
use crate::http;

/// How long accepting rests when the process has no descriptors left. Those connected need them
/// more than those that come.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How often the log is told of it.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Accepts connections and has each served. Never returns.
pub(super) async fn accept(worker: &Rc<Worker>, listener: TcpListener) {
    let mut told = None::<Instant>;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                worker.metrics.connections_accepted.add(1);
                http::serve(worker, stream);
            }
            Err(error) => {
                worker.metrics.accept_errors.add(1);
                if is_exhausted(&error) {
                    if told.is_none_or(|told| told.elapsed() > TELL_INTERVAL) {
                        tracing::warn!(worker = worker.id.index(), %error, "Connections can't be accepted");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the error is about this process and not about the one connection that broke off.
fn is_exhausted(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
