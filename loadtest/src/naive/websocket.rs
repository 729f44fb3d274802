//! WebSocket sessions.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocketError};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::sync::broadcast::Receiver;

use super::{Body, status};

/// A session whose upgrade is answered but not done.
#[derive(Debug)]
pub(super) struct Upgrading {
    upgrade: UpgradeFut,
    messages: Receiver<Bytes>,
}

/// Answers an upgrade request and leaves what follows in `upgrading`.
pub(super) fn upgrade(
    request: Request<Incoming>,
    messages: Receiver<Bytes>,
    upgrading: &Mutex<Option<Upgrading>>,
) -> Response<Body> {
    let Ok((response, upgrade)) = fastwebsockets::upgrade::upgrade(request) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut upgrading = upgrading.lock().unwrap_or_else(PoisonError::into_inner);
    *upgrading = Some(Upgrading { upgrade, messages });
    response.map(BodyExt::boxed)
}

/// Sends each message as it comes, until either side ends.
pub(super) async fn run(upgrading: Upgrading) {
    // However it ended, the session is over.
    let _ = forward(upgrading).await;
}

async fn forward(upgrading: Upgrading) -> Result<(), WebSocketError> {
    let Upgrading { upgrade, mut messages } = upgrading;
    let mut socket = FragmentCollector::new(upgrade.await?);
    loop {
        // A cancelled read loses what it has read of a frame's header. These clients say nothing but a
        // close or a pong, whole in one segment; a server for others would have to split the socket.
        tokio::select! {
            message = messages.recv() => {
                let Ok(message) = message else { return Ok(()) };
                socket.write_frame(Frame::text(Payload::Borrowed(&message))).await?;
            }
            frame = socket.read_frame() => {
                if frame?.opcode == OpCode::Close {
                    return Ok(());
                }
            }
        }
    }
}
