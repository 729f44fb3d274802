//! Subscribing by WebSocket, in the JSON dialect.

use std::time::Duration;

use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use http_body_util::Full;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};
use umbel_protocol::json;

use super::backoff::Pace;
use super::connection::{self, Connection, one_line};
use super::dialog::Dialog;
use super::place::TopicPlaces;
use super::subscriber::{Heard, Loss, Subscription};
use super::{Failure, MAX_MESSAGE_BYTES};

/// How many of the node's heartbeats may be missed.
const MISSED_HEARTBEATS: u32 = 3;

/// How long the node may take to answer our close frame.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// An open WebSocket.
pub(super) struct JsonSocket {
    socket: WebSocket<TokioIo<Upgraded>>,
    /// The fragments of a message that isn't complete.
    partial: Vec<u8>,
    dialog: Dialog,
    /// Until when the topics must be subscribed.
    deadline: Instant,
    /// Set by hand: how long the node may be silent.
    silence: Option<Duration>,
    _connection: Connection,
}

impl JsonSocket {
    /// Opens a session and asks for the topics; that they are subscribed comes with
    /// [`Self::next`].
    pub(super) async fn open(
        subscription: &Subscription,
        places: TopicPlaces,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + subscription.deadline;
        let mut connection = Connection::new(subscription.url.clone());
        let upgraded = upgrade(&mut connection, subscription).await?;
        let mut socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
        socket.set_max_message_size(MAX_MESSAGE_BYTES);
        let dialog = Dialog::new(subscription.topics.clone(), places);
        let command = dialog.subscribe().into_bytes();
        let asked = socket.write_frame(Frame::text(Payload::Owned(command))).await;
        asked.map_err(|error| Failure::Ended(format!("the connection broke: {error}")))?;
        Ok(Self {
            socket,
            partial: Vec::new(),
            dialog,
            deadline,
            silence: subscription.silence,
            _connection: connection,
        })
    }

    /// What comes next; several at once if they came together.
    ///
    /// Not cancel safe: the read of a frame loses bytes if it is dropped midway. Whoever drops it
    /// drops the session too.
    pub(super) async fn next(&mut self) -> Result<Vec<Heard>, Loss> {
        loop {
            let frame = self.frame().await?;
            match frame.opcode {
                OpCode::Close => return Err(self.closed(&frame.payload)),
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {}
                // The library has answered a ping.
                OpCode::Ping | OpCode::Pong => continue,
            }
            self.partial.extend_from_slice(&frame.payload);
            if self.partial.len() > MAX_MESSAGE_BYTES {
                return Err(Loss::too_long());
            }
            if frame.fin {
                let message = std::mem::take(&mut self.partial);
                let heard = self.dialog.take(&message)?;
                if !heard.is_empty() {
                    return Ok(heard);
                }
            }
        }
    }

    /// Says goodbye and gives the node a moment to say it too.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            self.socket.write_frame(Frame::close(1000, b"")).await?;
            while self.socket.read_frame().await?.opcode != OpCode::Close {}
            Ok::<_, fastwebsockets::WebSocketError>(())
        };
        // However it ends, we are leaving.
        let _ = timeout(CLOSE_DEADLINE, goodbye).await;
    }

    /// Where the session was left.
    pub(super) fn into_places(self) -> TopicPlaces {
        self.dialog.into_places()
    }

    async fn frame(&mut self) -> Result<Frame<'static>, Loss> {
        let silence = self.silence.unwrap_or(self.dialog.heartbeat() * MISSED_HEARTBEATS);
        let quiet = Instant::now() + silence;
        let waits = self.dialog.waits();
        let limit = if waits { quiet.min(self.deadline) } else { quiet };
        match timeout_at(limit, self.socket.read_frame()).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(error)) => Err(Loss::passing(&error.to_string(), Pace::Backoff)),
            Err(_) if waits => {
                Err(Loss::passing("the subscription wasn't confirmed in time", Pace::Backoff))
            }
            Err(_) => Err(Loss::silent(silence)),
        }
    }

    fn closed(&self, payload: &[u8]) -> Loss {
        match payload.split_first_chunk() {
            Some((code, reason)) => {
                let code = u16::from_be_bytes(*code);
                after_close(code, &String::from_utf8_lossy(reason), self.dialog.moving())
            }
            None => Loss::passing("the node closed the session", Pace::Backoff),
        }
    }
}

async fn upgrade(
    connection: &mut Connection,
    subscription: &Subscription,
) -> Result<Upgraded, Failure> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = subscription.url.target("/ws")?;
    let key = fastwebsockets::handshake::generate_key();
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(json::SUBPROTOCOL));
    let key = HeaderValue::from_str(&key).expect("base64 may stand in a header");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    // What a server must answer to this request (RFC 6455 section 4.1).
    let (expected, _) =
        fastwebsockets::upgrade::upgrade(&mut request).expect("version and key are set above");
    let answer = connection.send(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(connection::refusal(answer).await);
    }
    if answer.headers().get(SEC_WEBSOCKET_ACCEPT) != expected.headers().get(SEC_WEBSOCKET_ACCEPT) {
        return Err(Failure::NotANode("it doesn't prove that it speaks WebSocket".to_owned()));
    }
    hyper::upgrade::on(answer).await.map_err(Failure::Broken)
}

/// What a close code asks a client to do.
fn after_close(code: u16, reason: &str, moving: Option<Duration>) -> Loss {
    let reason = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
    let why = format!("the node closed the session with {code}{reason}");
    match code {
        1012 => Loss::passing(&why, Pace::After(moving.unwrap_or_default())),
        4429 => Loss::passing(&why, Pace::LongBackoff),
        // It was meant so, it is this program's fault, or it takes another credential.
        1000 | 1002 | 1003 | 1007 | 1009 | 4400 | 4401 | 4403 | 4409 => Loss::lasting(&why),
        _ => Loss::passing(&why, Pace::Backoff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_say_whether_and_when_to_come_back() {
        let soon = Duration::from_millis(1234);
        for (code, moving, pace) in [
            (1001, None, Some(Pace::Backoff)),
            (1006, None, Some(Pace::Backoff)),
            (1011, None, Some(Pace::Backoff)),
            (1013, None, Some(Pace::Backoff)),
            (1012, Some(soon), Some(Pace::After(soon))),
            (1012, None, Some(Pace::After(Duration::ZERO))),
            (4408, None, Some(Pace::Backoff)),
            (4410, None, Some(Pace::Backoff)),
            (4429, None, Some(Pace::LongBackoff)),
            (1000, None, None),
            (1002, None, None),
            (1003, None, None),
            (1007, None, None),
            (1009, None, None),
            (4400, None, None),
            (4401, None, None),
            (4403, None, None),
            (4409, None, None),
        ] {
            assert_eq!(after_close(code, "", moving).pace, pace, "{code}");
        }
    }

    #[test]
    fn a_loss_names_code_and_reason_on_one_line() {
        let why = |code, reason| after_close(code, reason, None).why;
        assert_eq!(
            why(1001, "the node stops"),
            "the node closed the session with 1001: the node stops"
        );
        assert_eq!(why(4403, ""), "the node closed the session with 4403");
        assert_eq!(why(1001, "a\nb\u{1b}"), "the node closed the session with 1001: a b ");
    }
}
