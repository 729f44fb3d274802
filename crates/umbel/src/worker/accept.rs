//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Worker;
use super::labels::Limit;
use crate::drain::Stage;
use crate::http::{self, CONNECTION_BYTES, Connection};
use crate::listen;

/// How long accepting rests when the process has no descriptors or memory left. Those connected
/// need them more than those that come.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// For how long nobody must have come before a listener is closed: what a handshake takes that had
/// begun before, also if a segment of it is lost; and when the node hurries.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_HURRIED: Duration = Duration::from_millis(100);

/// When it is closed at the latest.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How many idle connections are ended at a time to make room for others.
const ENDED_AT_ONCE: usize = 64;

/// Accepts connections and has each served. Never returns.
pub(super) async fn accept(worker: &Rc<Worker>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                worker.take(accepted);
                worker.rest_from_accepting().await;
            }
            Err(error) => {
                worker.metrics.accept_errors.add(1);
                if is_exhausted(&error) {
                    tracing::warn!(%error, "Connections can't be accepted");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Closes a listener without resetting anybody: takes those in who were there before.
pub(super) async fn close(worker: &Rc<Worker>, listener: TcpListener) {
    if let Err(error) = listen::take_no_more(&listener) {
        tracing::debug!(%error, "Connections can't be kept from coming");
    }
    let is_hurried = || *worker.stages.borrow() >= Stage::Hurried;
    let quiet = || if is_hurried() { QUIET_HURRIED } else { QUIET };
    let take_all = async {
        while let Ok(accepted) = tokio::time::timeout(quiet(), listener.accept()).await {
            match accepted {
                Ok(accepted) => worker.take(accepted),
                Err(error) if is_exhausted(&error) => break,
                Err(_) => {}
            }
        }
    };
    // Those who still come are reset.
    let _ = tokio::time::timeout(CLOSE_DEADLINE, take_all).await;
}

impl Worker {
    fn take(self: &Rc<Self>, (stream, peer): (TcpStream, SocketAddr)) {
        self.metrics.connections_accepted.add(1);
        http::serve(self, stream, peer.ip());
    }

    /// Lets time pass if connections come faster than they may, or hold more than they may.
    async fn rest_from_accepting(&self) {
        let rest = self.admission.accepted(self.clock.micros());
        if !rest.is_zero() {
            self.metrics.limited.of(Limit::Accepts).add(1);
            tokio::time::sleep(rest).await;
        }
        // Twice as much as others, since each client begins here.
        let most = 2 * self.budget.share();
        while self.connections.borrow().len() * CONNECTION_BYTES > most {
            self.metrics.limited.of(Limit::Memory).add(1);
            if self.end_idle_connections() == 0 {
                let connections = self.connections.borrow().len();
                let held = connections * CONNECTION_BYTES;
                tracing::warn!(
                    connections,
                    held,
                    most,
                    "Memory is short: connections wait to be accepted"
                );
            }
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }

    /// Ends some connections that wait for their next request, those first that have waited for
    /// longest; how many.
    fn end_idle_connections(&self) -> usize {
        let connections = self.connections.borrow();
        let idle =
            |connection: &Rc<Connection>| Some((connection.idle_until()?, connection.clone()));
        let mut idle: Vec<_> = connections.iter().filter_map(|(_, known)| idle(known)).collect();
        idle.sort_by_key(|(until, _)| *until);
        idle.truncate(ENDED_AT_ONCE);
        for (_, connection) in &idle {
            connection.finish();
        }
        idle.len()
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
