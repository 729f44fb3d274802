//! One subscriber: from its connect to its last message.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Result, bail, ensure};

use crate::load::ledger::{Integrity, Receipt, Track};
use crate::load::target::topic_name;
use crate::os::socket::{self, Moved};
use crate::wire::chunked::Dechunker;
use crate::wire::object::{self, Said};
use crate::wire::payload::Template;
use crate::wire::response::{self, BodyLength, Head};
use crate::wire::subscribe::{Dialect, Subscribe};
use crate::wire::{event_stream, frame};

/// One connection, and what it has received.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    phase: Phase,
    track: Track,
    /// Number of the first message that it must receive.
    first: u64,
    /// The topic that it subscribes to.
    pub topic: usize,
    /// The beginning of a message that is cut; empty, and without memory, between messages.
    cut: Vec<u8>,
    /// For event streams that come in chunks.
    dechunker: Option<Box<Dechunker>>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The request isn't sent yet.
    Connecting,
    /// The request is sent.
    Opening,
    /// The server said that the subscription is open; in the JSON dialect, the connection: messages prove the rest.
    Open,
}

/// The server closed a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    phase: Phase,
    code: Option<u16>,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.phase, self.code) {
            (_, Some(code)) => write!(f, "server closed it with code {code}"),
            (Phase::Open, None) => f.write_str("server closed its connection"),
            _ => f.write_str("server closed its connection before it answered"),
        }
    }
}

impl std::error::Error for Closed {}

/// What received bytes are held against; the same for all sessions.
#[derive(Debug)]
pub struct Check {
    /// Judges the answers to subscribe requests.
    pub subscribe: Subscribe,
    /// How messages come.
    pub dialect: Dialect,
    /// What payloads look like.
    pub template: Template,
    /// What came of it.
    pub sums: Integrity,
    /// Pings that were answered.
    pub pings: u64,
    /// Answers to pings that aren't sent yet.
    pongs: Vec<u8>,
}

impl Session {
    /// A session over a socket that is being connected; its first message is number `first`.
    pub fn new(socket: OwnedFd, topic: usize, first: u64) -> Self {
        Self {
            socket,
            phase: Phase::Connecting,
            track: Track::starting_at(first),
            first,
            topic,
            cut: Vec::new(),
            dechunker: None,
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many of the messages below `end` it must receive.
    pub fn expected(&self, end: u64) -> u64 {
        end - self.first
    }

    /// How many of them haven't come.
    pub fn lost(&self, end: u64) -> u64 {
        self.track.lost(end)
    }

    /// Sends `request` if the connection is up; says whether it was.
    pub fn send_request(&mut self, request: &[u8]) -> Result<bool> {
        match socket::send(&self.socket, request)? {
            Moved::Later => Ok(false),
            Moved::Ended => Err(Closed { phase: self.phase, code: None }.into()),
            Moved::Bytes(sent) => {
                ensure!(
                    sent == request.len(),
                    "a new connection took only {sent} bytes of its request"
                );
                self.phase = Phase::Opening;
                Ok(true)
            }
        }
    }
}

impl Session {
    /// Takes in all that there is to read, through `buffer`.
    ///
    /// HOT PATH: once per session and batch.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        check: &mut Check,
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        loop {
            let kept = self.cut.len();
            ensure!(kept < buffer.len(), "a message is longer than {} bytes", buffer.len());
            buffer[..kept].copy_from_slice(&self.cut);
            let read = match socket::receive(&self.socket, &mut buffer[kept..])? {
                Moved::Bytes(read) => read,
                Moved::Later => return Ok(()),
                Moved::Ended => {
                    return Err(Closed { phase: self.phase, code: None }.into());
                }
            };
            let full = kept + read == buffer.len();
            self.take_in(&mut buffer[..kept + read], kept, check, tell)?;
            if !full {
                return Ok(());
            }
        }
    }

    /// Takes in `bytes`, of which the first `kept` were received earlier.
    fn take_in(
        &mut self,
        bytes: &mut [u8],
        kept: usize,
        check: &mut Check,
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        let (mut start, mut coded) = (0, kept);
        if self.phase != Phase::Open {
            let Some(head) = response::parse(bytes)? else {
                self.keep(bytes);
                return Ok(());
            };
            self.open(&head, check)?;
            (start, coded) = (head.taken, head.taken);
        }
        let end = match &mut self.dechunker {
            None => bytes.len(),
            Some(dechunker) => coded + dechunker.decode(&mut bytes[coded..])?,
        };
        let taken = check.take_messages(&mut self.track, &bytes[start..end], tell)?;
        self.keep(&bytes[start + taken..end]);
        self.answer_pings(check)
    }

    fn open(&mut self, head: &Head, check: &Check) -> Result<()> {
        check.subscribe.judge(head)?;
        self.phase = Phase::Open;
        let chunked = check.dialect == Dialect::Sse && head.body == BodyLength::Chunked;
        self.dechunker = chunked.then(Box::default);
        match check.subscribe.command(&topic_name(self.topic)) {
            Some(command) => self.say(&command),
            None => Ok(()),
        }
    }

    /// Sends the first words of an open session, for which any socket has room.
    fn say(&self, words: &[u8]) -> Result<()> {
        match socket::send(&self.socket, words)? {
            Moved::Bytes(sent) if sent == words.len() => Ok(()),
            Moved::Bytes(_) | Moved::Later => bail!("a new session took only a part of a command"),
            Moved::Ended => Err(Closed { phase: self.phase, code: None }.into()),
        }
    }

    fn keep(&mut self, cut: &[u8]) {
        if !cut.is_empty() {
            self.cut.clear();
            self.cut.extend_from_slice(cut);
        } else if self.cut.capacity() > 0 {
            self.cut = Vec::new();
        }
    }

    /// A pong that the socket doesn't take is left out: it has other things to say.
    fn answer_pings(&self, check: &mut Check) -> Result<()> {
        if !check.pongs.is_empty() {
            socket::send(&self.socket, &check.pongs)?;
            check.pongs.clear();
        }
        Ok(())
    }
}

impl Check {
    /// Nothing received yet.
    pub fn new(subscribe: Subscribe, dialect: Dialect, template: Template) -> Self {
        Self {
            subscribe,
            dialect,
            template,
            sums: Integrity::default(),
            pings: 0,
            pongs: Vec::new(),
        }
    }

    /// Takes the whole messages in `bytes`; says how many bytes they took.
    #[inline]
    fn take_messages(
        &mut self,
        track: &mut Track,
        bytes: &[u8],
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> Result<usize> {
        match self.dialect {
            Dialect::WebSocket | Dialect::Json => self.take_frames(track, bytes, tell),
            Dialect::Sse => Ok(self.take_blocks(track, bytes, tell)),
        }
    }

    fn take_frames(
        &mut self,
        track: &mut Track,
        bytes: &[u8],
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some(frame) = frame::parse(&bytes[taken..])? {
            taken += frame.taken;
            match frame.opcode {
                frame::TEXT if self.dialect == Dialect::Json => {
                    self.take_objects(track, frame.payload, tell)?;
                }
                frame::TEXT | frame::BINARY => self.take_message(track, frame.payload, tell),
                frame::PING => {
                    self.pings += 1;
                    frame::write_client(&mut self.pongs, frame::PONG, frame.payload);
                }
                frame::CLOSE => return Err(Closed::with(frame.payload).into()),
                _ => {}
            }
        }
        Ok(taken)
    }

    /// A frame's objects, one per line.
    fn take_objects(
        &mut self,
        track: &mut Track,
        text: &[u8],
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> Result<()> {
        for line in text.split(|byte| *byte == b'\n') {
            match object::parse(line)? {
                Said::Message { payload, .. } => self.take_message(track, payload, tell),
                Said::Subscribed { recovered: Some(false), .. } => {
                    bail!("server can't give all that a session missed")
                }
                Said::Gap { reason, .. } => bail!("server can't give all: {reason}"),
                Said::Aside(op) => bail!("server said {op}"),
                Said::Ready | Said::Subscribed { .. } => {}
            }
        }
        Ok(())
    }

    fn take_blocks(
        &mut self,
        track: &mut Track,
        bytes: &[u8],
        tell: &mut impl FnMut(u64, &[u8]),
    ) -> usize {
        let mut taken = 0;
        while let Some(block) = event_stream::parse(&bytes[taken..]) {
            taken += block.taken;
            match block.data {
                Some(_) if block.event.is_some() => self.sums.notices += 1,
                Some(data) => self.take_message(track, &data, tell),
                None => {}
            }
        }
        taken
    }

    #[inline]
    fn take_message(
        &mut self,
        track: &mut Track,
        payload: &[u8],
        tell: &mut impl FnMut(u64, &[u8]),
    ) {
        let Ok(sequence) = self.template.sequence(payload) else {
            self.sums.garbled += 1;
            return;
        };
        let receipt = track.receive(sequence);
        self.sums.count(receipt);
        if receipt != Receipt::Doubled {
            tell(sequence, payload);
        }
    }
}

impl Closed {
    fn with(close: &[u8]) -> Self {
        Self { phase: Phase::Open, code: close.first_chunk().map(|code| u16::from_be_bytes(*code)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Wire {
        /// The server's end, where a session's commands go.
        _server: OwnedFd,
        session: Session,
        check: Check,
        heard: Vec<u64>,
    }

    impl Wire {
        fn new(dialect: Dialect) -> Self {
            let (client, server) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                rustix::net::SocketType::STREAM,
                rustix::net::SocketFlags::NONBLOCK,
                None,
            )
            .unwrap();
            let subscribe = Subscribe::new(dialect, "x");
            Self {
                _server: server,
                session: Session::new(client, 0, 0),
                check: Check::new(subscribe, dialect, Template::new(64).unwrap()),
                heard: Vec::new(),
            }
        }

        /// As if `part` had just been read.
        fn receive(&mut self, part: &[u8]) -> Result<()> {
            let kept = self.session.cut.len();
            let mut bytes = self.session.cut.clone();
            bytes.extend_from_slice(part);
            let tell = &mut |sequence, _: &[u8]| self.heard.push(sequence);
            self.session.take_in(&mut bytes, kept, &mut self.check, tell)
        }
    }

    const UPGRADE: &[u8] =
        b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const STREAM: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\n\n: hi\n\n";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n";

    fn payload(sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Template::new(64).unwrap().write(&mut out, sequence, 5);
        out
    }

    /// What comes before the messages of a topic with history: where the session stands.
    const PLACE: &str = "id: 0000000000000001-0\n\n";
    const SUBSCRIBED: &str =
        r#"{"op":"subscribed","topic":"bench.0","position":"0000000000000001-0","recovered":true}"#;

    /// A message as a server sends it, the first one of a history with what comes before it.
    fn message(dialect: Dialect, sequence: u64, history: bool) -> Vec<u8> {
        let (mut out, payload) = (Vec::new(), payload(sequence));
        let id = format!("0000000000000001-{}", sequence + 1);
        match dialect {
            Dialect::WebSocket => frame::write_text(&mut out, &payload),
            Dialect::Json => {
                let text = String::from_utf8(payload).unwrap();
                let mut lines = format!(
                    r#"{{"op":"message","topic":"bench.0","message_id":"{id}","time":1,"text":"{text}"}}"#
                );
                if sequence == 0 {
                    lines.insert_str(
                        0,
                        &[r#"{"op":"welcome","session":"1"}"#, "\n", SUBSCRIBED, "\n"].concat(),
                    );
                }
                frame::write_text(&mut out, lines.as_bytes());
            }
            Dialect::Sse if history => {
                out.extend(if sequence == 0 { PLACE.as_bytes() } else { b"" });
                out.extend(format!("id: {id}\n").as_bytes());
                event_stream::write_message(&mut out, &payload);
            }
            Dialect::Sse => event_stream::write_message(&mut out, &payload),
        }
        out
    }

    /// The stream in which a server sends messages 0 to `count`.
    fn stream(head: &[u8], dialect: Dialect, count: u64, history: bool) -> Vec<u8> {
        let mut out = head.to_vec();
        for sequence in 0..count {
            let mut message = message(dialect, sequence, history);
            if head == CHUNKED {
                out.extend(format!("{:x}\r\n", message.len()).as_bytes());
                message.extend(b"\r\n");
            }
            out.append(&mut message);
        }
        out
    }

    #[test]
    fn a_close_frame_tells_its_code() {
        let mut wire = Wire::new(Dialect::WebSocket);
        wire.receive(UPGRADE).unwrap();
        let error = wire.receive(b"\x88\x02\x03\xf5").unwrap_err().to_string();
        assert!(error.contains("1013"), "{error}");
    }

    #[test]
    fn a_named_event_is_no_message() {
        let mut wire = Wire::new(Dialect::Sse);
        wire.receive(STREAM).unwrap();
        wire.receive(b"event: umbel.gap\ndata: {}\n\n").unwrap();
        assert_eq!((wire.check.sums.notices, wire.check.sums.garbled), (1, 0));
    }

    #[test]
    fn a_payload_that_was_not_published_is_garbled() {
        let mut wire = Wire::new(Dialect::Sse);
        wire.receive(STREAM).unwrap();
        wire.receive(b"data: hello\n\n").unwrap();
        assert_eq!((wire.check.sums.garbled, wire.heard.len()), (1, 0));
    }

    #[test]
    fn a_json_session_that_was_not_recovered_ends_the_run() {
        let mut wire = Wire::new(Dialect::Json);
        wire.receive(UPGRADE).unwrap();
        for (said, reason) in [
            (SUBSCRIBED.replace("true", "false"), "can't give all"),
            (r#"{"op":"gap","topic":"bench.0","reason":"too_old"}"#.to_owned(), "too_old"),
            (r#"{"op":"error","code":"limit","message":"full"}"#.to_owned(), "refused: full"),
        ] {
            let mut frame = Vec::new();
            frame::write_text(&mut frame, said.as_bytes());
            let error = wire.receive(&frame).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_is_heard_whole(
            kind in prop::sample::select(vec![
                (UPGRADE, Dialect::WebSocket),
                (UPGRADE, Dialect::Json),
                (STREAM, Dialect::Sse),
                (CHUNKED, Dialect::Sse),
            ]),
            history: bool,
            count in 0u64..5,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let bytes = stream(kind.0, kind.1, count, history);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut wire = Wire::new(kind.1);
            for cut in cuts.windows(2) {
                wire.receive(&bytes[cut[0]..cut[1]]).unwrap();
            }
            prop_assert_eq!(wire.heard, (0..count).collect::<Vec<_>>());
            prop_assert_eq!(wire.session.cut.capacity(), 0);
            prop_assert_eq!(wire.session.phase, Phase::Open);
        }
    }
}
