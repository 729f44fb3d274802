//! The receiving side of server-sent events, for Umbel's own clients and for tests.

/// One event as `EventSource` would fire it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` if the stream gave none.
    pub name: String,
    /// Its data, lines joined by LF.
    pub data: String,
    /// The last event id at that time.
    pub id: String,
}

/// Turns the bytes of a stream into events (HTML, section 9.2.6), however they are cut.
///
/// ```
/// use umbel_protocol::sse::EventParser;
///
/// let mut parser = EventParser::default();
/// assert!(parser.feed(b"event: typed\ndata: hel").is_empty());
/// assert_eq!(parser.feed(b"lo\n\n")[0].data, "hello");
/// ```
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    after_cr: bool,
    past_start: bool,
    data: String,
    name: String,
    /// The id of the block that isn't complete, if that has one: it counts from the block's end.
    next_id: Option<String>,
    id: String,
    retry_millis: Option<u64>,
    comments: u64,
}

impl EventParser {
    /// Takes the next bytes and gives the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let second_of_crlf = std::mem::take(&mut self.after_cr) && byte == b'\n';
            match byte {
                b'\n' if second_of_crlf => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// The reconnection time that the stream last set.
    pub fn retry_millis(&self) -> Option<u64> {
        self.retry_millis
    }

    /// The id that a reconnect would send as `Last-Event-ID`: that of the last complete block that
    /// had one.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// How much is kept of an event that isn't complete, in bytes, so that whoever feeds can bound
    /// it.
    pub fn unfinished_bytes(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// How many comments have come: heartbeats, mostly.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = &*String::from_utf8_lossy(&line);
        if !std::mem::replace(&mut self.past_start, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        match line.split_once(':') {
            Some(("", _)) => self.comments += 1,
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
        None
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.next_id = Some(value.to_owned()),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_millis = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        let mut data = std::mem::take(&mut self.data);
        let name = std::mem::take(&mut self.name);
        if let Some(id) = self.next_id.take() {
            self.id = id;
        }
        // The last LF is dropped; a block without any `data` field fires nothing.
        data.pop()?;
        Some(Event {
            name: if name.is_empty() { "message".to_owned() } else { name },
            data,
            id: self.id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_event_is_counted_until_it_is_complete() {
        let mut parser = EventParser::default();
        parser.feed(b"data: 1234\ndata: 56");
        assert_eq!(parser.unfinished_bytes(), "1234\n".len() + "data: 56".len());
        assert_eq!(parser.feed(b"\n\n").len(), 1);
        assert_eq!(parser.unfinished_bytes(), 0);
    }

    #[test]
    fn an_id_counts_once_its_block_is_complete() {
        let mut parser = EventParser::default();
        parser.feed(b"id: 1\n\nid: 2\ndata: cut he");
        assert_eq!(parser.last_event_id(), "1", "the event with id 2 was never given");
        assert_eq!(parser.feed(b"re\n\n")[0].id, "2");
        assert_eq!(parser.last_event_id(), "2");
    }

    /// The examples of the specification, section 9.2.6.
    #[test]
    fn the_specification_s_examples_parse_as_it_says() {
        let parse = |stream: &str| -> Vec<(String, String)> {
            EventParser::default()
                .feed(stream.as_bytes())
                .into_iter()
                .map(|e| (e.data, e.id))
                .collect()
        };
        let pair = |data: &str, id: &str| (data.to_owned(), id.to_owned());
        assert_eq!(parse("data: YHOO\ndata: +2\ndata: 10\n\n"), [pair("YHOO\n+2\n10", "")]);
        assert_eq!(
            parse(
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
            ),
            [pair("first event", "1"), pair("second event", ""), pair(" third event", "")],
        );
        assert_eq!(parse("data\n\ndata\ndata\n\ndata:"), [pair("", ""), pair("\n", "")]);
        assert_eq!(
            parse("\u{feff}data:test\r\rdata: test\r\n\r\n"),
            [pair("test", ""), pair("test", "")]
        );
        assert_eq!(parse("id: a\0b\ndata: x\n\n"), [pair("x", "")]);
    }
}
