//! A client of the JSON dialect.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Client, Connection, End, Inside};
use crate::websocket::parse_frame;
use crate::{Frame, HANDSHAKE, Opcode, masked_frame};

/// What a session has come to.
#[derive(Debug, Default)]
struct Session {
    inside: Option<Inside>,
    moving: Option<Duration>,
}

/// The close code of a drain.
const SERVICE_RESTART: u16 = 1012;

/// How long the node may take to end the connection once both have closed.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

impl Client {
    pub(super) async fn dialog(&mut self) -> io::Result<End> {
        let request = crate::http::request("GET", "/ws", &HANDSHAKE, b"");
        let mut connection = match self.ask(&request, 101).await {
            Ok(connection) => connection,
            Err(end) => return Ok(end),
        };
        let command = self.subscription().to_string();
        connection.write(&masked_frame(true, 0x1, command.as_bytes())).await?;
        let mut session = Session::default();
        loop {
            while let Some((frame, length)) = parse_frame(&connection.input) {
                connection.input.drain(..length);
                if let Some(end) = self.take_frame(&mut connection, &mut session, &frame).await? {
                    return Ok(end);
                }
            }
            connection.read().await?;
        }
    }

    fn subscription(&self) -> Value {
        match &*self.place {
            "" => json!({"op": "subscribe", "topic": self.topic}),
            place => json!({"op": "subscribe", "topic": self.topic, "after": place}),
        }
    }

    async fn take_frame(
        &mut self,
        connection: &mut Connection,
        session: &mut Session,
        frame: &Frame,
    ) -> io::Result<Option<End>> {
        match frame.opcode {
            Opcode::Ping => {
                connection.write(&masked_frame(true, 0xA, &frame.payload)).await?;
            }
            Opcode::Close => {
                let code = frame.close().0;
                close(connection, code).await?;
                return Ok(Some(match session.moving {
                    Some(after) if code == SERVICE_RESTART => End::Moved(after),
                    _ => End::Closed(code),
                }));
            }
            _ => {
                let mut objects = frame.text().lines().map(serde_json::from_str);
                return Ok(objects.find_map(|object| self.take_object(session, &object.unwrap())));
            }
        }
        Ok(None)
    }

    fn take_object(&mut self, session: &mut Session, object: &Value) -> Option<End> {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        match text("op") {
            "subscribed" => {
                session.inside = Some(self.is_in());
                // Only its first session begins where the topic stands.
                if self.place.is_empty() {
                    text("position").clone_into(&mut self.place);
                }
            }
            "message" => {
                let since = session.inside.as_ref().expect("it is subscribed").since;
                text("message_id").clone_into(&mut self.place);
                self.take(text("text"), since);
            }
            "gap" => {
                self.take_gap(&object.to_string());
                text("position").clone_into(&mut self.place);
            }
            "moving" => {
                session.moving = object["reconnect_after_ms"].as_u64().map(Duration::from_millis)
            }
            "error" => return Some(End::Refused(object.to_string())),
            _ => {}
        }
        None
    }
}

/// Answers a close frame and waits for the end of the connection, which is the node's to make.
async fn close(connection: &mut Connection, code: u16) -> io::Result<()> {
    connection.write(&masked_frame(true, 0x8, &code.to_be_bytes())).await?;
    let end = async {
        loop {
            match connection.read().await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
        }
    };
    let late = || io::Error::other("the connection stayed open behind the close frame");
    timeout(CLOSE_WAIT, end).await.unwrap_or_else(|_| Err(late()))
}
