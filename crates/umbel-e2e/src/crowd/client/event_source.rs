//! A client as a browser's `EventSource` (HTML, section 9.2).

use std::io;
use std::time::Duration;

use umbel_protocol::sse::{Event, EventParser};

use super::{Client, End};

impl Client {
    pub(super) async fn event_source(&mut self) -> io::Result<End> {
        let mut connection = match self.ask(&self.stream_request(), 200).await {
            Ok(connection) => connection,
            Err(end) => return Ok(end),
        };
        let inside = self.is_in();
        let mut parser = EventParser::default();
        let mut moves = false;
        loop {
            for event in parser.feed(&connection.input) {
                moves |= event.name == "umbel.moving";
                self.take_event(&event, inside.since);
            }
            connection.input.clear();
            self.remember(&parser);
            match connection.read().await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && moves => {
                    return Ok(End::Moved(self.retry));
                }
                read => read?,
            }
        }
    }

    fn stream_request(&self) -> Vec<u8> {
        let path = format!("/topics/{}", self.topic);
        let mut headers = vec![("accept", "text/event-stream"), ("cache-control", "no-store")];
        if !self.place.is_empty() {
            headers.push(("last-event-id", &self.place));
        }
        crate::http::request("GET", &path, &headers, b"")
    }

    fn take_event(&mut self, event: &Event, since: u64) {
        match event.name.as_str() {
            "umbel.gap" => self.take_gap(&event.data),
            // The node's own: no messages.
            name if name.starts_with("umbel.") => {}
            _ => self.take(&event.data, since),
        }
    }

    /// What outlives the connection: the place counts from the end of its block, which is before the
    /// next read.
    fn remember(&mut self, parser: &EventParser) {
        if !parser.last_event_id().is_empty() {
            parser.last_event_id().clone_into(&mut self.place);
        }
        if let Some(millis) = parser.retry_millis() {
            self.retry = Duration::from_millis(millis);
        }
    }
}
