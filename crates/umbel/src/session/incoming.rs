//! From bytes to what a WebSocket client said (RFC 6455 sections 5 to 7).
//!
//! Frames are handed to the worker's parser only when they are complete. What is kept per session
//! is an incomplete frame and the fragments of an unfinished message; an idle session keeps
//! neither. A length is believed only as far as bytes have arrived.

use fastwebsockets::{OpCode, WebSocketError};
use umbel_protocol::websocket::is_close_code;

use super::frame_parser;

/// Parses frames for all sessions of a worker.
pub struct FrameParser(frame_parser::Parser);

impl FrameParser {
    /// A parser for messages of at most `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        Self(frame_parser::Parser::new(max_message_bytes))
    }
}

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// Wants a pong with these bytes.
    Ping(Vec<u8>),
    /// Answers a ping.
    Pong,
    /// Begins or answers the closing handshake, perhaps with a code.
    Close(Option<u16>),
}

/// How a client broke the protocol: the close code and why, in words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The close code (RFC 6455 section 7.4.1).
    pub code: u16,
    /// What was wrong.
    pub reason: &'static str,
}

/// The unfinished input of one session.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Frames that nobody has looked at, and the beginning of one.
    partial: Vec<u8>,
    /// How much of that is used up.
    used: usize,
    message: Option<Box<Fragments>>,
}

/// The fragments of an unfinished message.
#[derive(Debug)]
struct Fragments {
    text: bool,
    bytes: Vec<u8>,
}

/// The longest header of a client's frame: two bytes, a 64-bit length, a mask.
const MAX_HEADER_BYTES: usize = 14;

/// How an empty pong begins, which is nearly all that silent clients say: it goes without the parser,
/// which took 500 of the 3200 instructions of a heartbeat. Its mask follows, and has nothing to mask
/// (section 5.5.3). It may come between fragments.
const PONG: u8 = 0x8a;
const EMPTY_MASKED: u8 = 0x80;

impl Incoming {
    /// The next thing that the client said, or `None` once `input` is used up. What is incomplete
    /// is kept for the next call. After an error the session must be closed.
    pub fn next(
        &mut self,
        parser: &mut FrameParser,
        input: &mut &[u8],
        max_message_bytes: usize,
    ) -> Option<Result<ClientFrame, Violation>> {
        if self.partial.is_empty()
            && let [PONG, EMPTY_MASKED, _, _, _, _, rest @ ..] = *input
        {
            *input = rest;
            return Some(Ok(ClientFrame::Pong));
        }
        loop {
            let frame = match self.next_frame(parser, input, max_message_bytes)? {
                Ok(frame) => frame,
                Err(violation) => return Some(Err(violation)),
            };
            match self.message(frame, max_message_bytes) {
                Ok(Some(whole)) => return Some(Ok(whole)),
                Ok(None) => {}
                Err(violation) => return Some(Err(violation)),
            }
        }
    }

    /// Whether there is input that nobody has looked at, or the beginning of a frame.
    pub fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// How many bytes are kept.
    pub fn kept_bytes(&self) -> usize {
        self.partial.len() - self.used
            + self.message.as_ref().map_or(0, |message| message.bytes.len())
    }

    /// Keeps input for later, behind what is kept already.
    pub fn keep(&mut self, input: &[u8]) {
        self.partial.extend_from_slice(input);
    }

    fn next_frame(
        &mut self,
        parser: &mut FrameParser,
        input: &mut &[u8],
        limit: usize,
    ) -> Option<Result<fastwebsockets::Frame<'static>, Violation>> {
        if self.partial.is_empty() {
            return match frame_span(input, limit) {
                Ok(Some(span)) if span <= input.len() => {
                    let (frame, rest) = input.split_at(span);
                    *input = rest;
                    Some(parse(parser, frame))
                }
                Ok(_) => {
                    self.partial.extend_from_slice(std::mem::take(input));
                    None
                }
                Err(violation) => Some(Err(violation)),
            };
        }
        self.complete_partial(parser, input, limit)
    }

    /// Takes from the input what the kept frame lacks, and no more.
    fn complete_partial(
        &mut self,
        parser: &mut FrameParser,
        input: &mut &[u8],
        limit: usize,
    ) -> Option<Result<fastwebsockets::Frame<'static>, Violation>> {
        loop {
            let kept = &self.partial[self.used..];
            let span = match frame_span(kept, limit) {
                Ok(span) => span,
                Err(violation) => return Some(Err(violation)),
            };
            if let Some(span) = span
                && kept.len() >= span
            {
                let parsed = parse(parser, &kept[..span]);
                self.use_up(span);
                return Some(parsed);
            }
            if input.is_empty() {
                self.use_up(0);
                return None;
            }
            let wanted = span.unwrap_or(MAX_HEADER_BYTES).saturating_sub(kept.len());
            let (taken, rest) = input.split_at(wanted.min(input.len()));
            self.partial.extend_from_slice(taken);
            *input = rest;
        }
    }

    /// So much more isn't needed. What is left is moved seldom enough to be paid for by what went.
    fn use_up(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.partial.len() {
            (self.partial, self.used) = (Vec::new(), 0);
        } else if self.used > self.partial.len() / 2 {
            self.partial.drain(..self.used);
            self.used = 0;
        }
    }

    /// Puts fragments together; control frames may come between them (section 5.4).
    fn message(
        &mut self,
        frame: fastwebsockets::Frame<'static>,
        limit: usize,
    ) -> Result<Option<ClientFrame>, Violation> {
        let payload = Vec::from(frame.payload);
        match frame.opcode {
            OpCode::Ping => Ok(Some(ClientFrame::Ping(payload))),
            OpCode::Pong => Ok(Some(ClientFrame::Pong)),
            OpCode::Close => close(&payload).map(Some),
            OpCode::Text | OpCode::Binary if self.message.is_some() => {
                Err(Violation::protocol("a new message begins within a fragmented one"))
            }
            OpCode::Text | OpCode::Binary if frame.fin => {
                whole(frame.opcode == OpCode::Text, payload).map(Some)
            }
            OpCode::Text | OpCode::Binary => {
                self.message = Some(Box::new(Fragments {
                    text: frame.opcode == OpCode::Text,
                    bytes: payload,
                }));
                Ok(None)
            }
            OpCode::Continuation => self.continuation(frame.fin, &payload, limit),
        }
    }

    fn continuation(
        &mut self,
        fin: bool,
        payload: &[u8],
        limit: usize,
    ) -> Result<Option<ClientFrame>, Violation> {
        let Some(message) = &mut self.message else {
            return Err(Violation::protocol("a continuation without a message"));
        };
        if message.bytes.len() + payload.len() > limit {
            return Err(Violation::too_big());
        }
        message.bytes.extend_from_slice(payload);
        if !fin {
            return Ok(None);
        }
        let message = self.message.take().expect("it was there a moment ago");
        whole(message.text, message.bytes).map(Some)
    }
}

/// How long the frame is that begins here, header included; `None` until the header is complete.
///
/// Looks only at what decides whether to wait for the frame; the rest is the parser's.
fn frame_span(bytes: &[u8], limit: usize) -> Result<Option<usize>, Violation> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let control = first & 0x08 != 0;
    if second & 0x80 == 0 {
        return Err(Violation::protocol("a client's frame isn't masked"));
    }
    let (length_bytes, length) = match second & 0x7f {
        126 | 127 if control => {
            return Err(Violation::protocol("a control frame is longer than 125 bytes"));
        }
        126 => match rest.first_chunk() {
            Some(length) => (2, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (8, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        short => (0, u64::from(short)),
    };
    match usize::try_from(length) {
        Ok(length) if length <= limit || control => Ok(Some(2 + length_bytes + 4 + length)),
        _ => Err(Violation::too_big()),
    }
}

fn parse(
    parser: &mut FrameParser,
    frame: &[u8],
) -> Result<fastwebsockets::Frame<'static>, Violation> {
    parser.0.parse(frame).map_err(|error| match error {
        WebSocketError::InvalidUTF8 => Violation::not_utf8(),
        WebSocketError::FrameTooLarge => Violation::too_big(),
        WebSocketError::ReservedBitsNotZero => Violation::protocol("a reserved bit is set"),
        WebSocketError::ControlFrameFragmented => {
            Violation::protocol("a control frame is fragmented")
        }
        WebSocketError::InvalidValue => Violation::protocol("an opcode is reserved"),
        _ => Violation::protocol("a frame can't be parsed"),
    })
}

fn whole(text: bool, bytes: Vec<u8>) -> Result<ClientFrame, Violation> {
    if !text {
        return Ok(ClientFrame::Binary(bytes));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(ClientFrame::Text(text)),
        Err(_) => Err(Violation::not_utf8()),
    }
}

/// Section 5.5.1: no body, or a code that may travel and a reason in UTF-8.
fn close(body: &[u8]) -> Result<ClientFrame, Violation> {
    match body {
        [] => Ok(ClientFrame::Close(None)),
        [_] => Err(Violation::protocol("a close frame has half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_close_code(code) {
                return Err(Violation::protocol("a close code may not be used"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation::not_utf8());
            }
            Ok(ClientFrame::Close(Some(code)))
        }
    }
}

impl Violation {
    fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    fn not_utf8() -> Self {
        Self { code: 1007, reason: "text is not UTF-8" }
    }

    fn too_big() -> Self {
        Self { code: 1009, reason: "a message is longer than this node takes" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    /// What a client's bytes say, however they are cut.
    fn said(bytes: &[u8], cuts: &[usize]) -> (Vec<ClientFrame>, Option<u16>, usize) {
        let mut parser = FrameParser::new(LIMIT);
        let mut incoming = Incoming::default();
        let mut frames = Vec::new();
        let mut rest = bytes;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (mut input, tail) = rest.split_at(cut.min(rest.len()));
            rest = tail;
            while let Some(result) = incoming.next(&mut parser, &mut input, LIMIT) {
                match result {
                    Ok(frame) => frames.push(frame),
                    Err(violation) => return (frames, Some(violation.code), incoming.kept_bytes()),
                }
            }
        }
        (frames, None, incoming.kept_bytes())
    }

    fn client_frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..20),
            2 => "[a-z\u{e4}\u{20ac}]{0,60}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 120..300),
        ];
        (
            any::<bool>(),
            prop_oneof![8 => 0..=2_u8, 3 => 8..=10_u8, 1 => 0..=15_u8],
            any::<[u8; 4]>(),
            payload,
        )
            .prop_map(|(fin, opcode, mask, mut payload)| {
                let mut frame = vec![u8::from(fin) << 7 | opcode];
                match u8::try_from(payload.len()) {
                    Ok(short) if short < 126 => frame.push(0x80 | short),
                    _ => {
                        frame.push(0x80 | 0x7e);
                        frame.extend_from_slice(
                            &u16::try_from(payload.len()).unwrap().to_be_bytes(),
                        );
                    }
                }
                frame.extend_from_slice(&mask);
                fastwebsockets::unmask(&mut payload, mask);
                frame.extend_from_slice(&payload);
                frame
            })
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(frames in prop::collection::vec(client_frame(), 1..8), cuts in prop::collection::vec(0..40_usize, 0..12)) {
            let bytes = frames.concat();
            let (whole, whole_end, _) = said(&bytes, &[]);
            let (cut, cut_end, _) = said(&bytes, &cuts);
            prop_assert_eq!((whole, whole_end), (cut, cut_end));
        }

        #[test]
        fn any_bytes_are_survived_and_little_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..3000), cuts in prop::collection::vec(0..700_usize, 0..8)) {
            let (_, _, kept) = said(&bytes, &cuts);
            prop_assert!(kept <= 2 * LIMIT + MAX_HEADER_BYTES);
        }
    }

    #[test]
    fn an_empty_pong_goes_without_the_parser_and_is_what_it_would_be() {
        let between = b"\x01\x81\0\0\0\0a\x8a\x80\x01\x02\x03\x04\x80\x81\0\0\0\0b";
        let expected = (vec![ClientFrame::Pong, ClientFrame::Text("ab".to_owned())], None, 0);
        // Cut in the midst of the pong, it is the parser's.
        for cuts in [&[][..], &[7], &[8], &[9], &[12], &[13]] {
            assert_eq!(said(between, cuts), expected, "{cuts:?}");
        }
        // With a reserved bit, not final, not masked.
        for wrong in [
            &b"\xca\x80\x01\x02\x03\x04"[..],
            b"\x0a\x80\x01\x02\x03\x04",
            b"\x8a\0\x01\x02\x03\x04",
        ] {
            assert_eq!(said(wrong, &[]).1, Some(1002), "{wrong:?}");
        }
    }

    #[test]
    fn an_idle_session_keeps_nothing() {
        let mut parser = FrameParser::new(LIMIT);
        let mut incoming = Incoming::default();
        for bytes in [&b"\x81"[..], b"\x82\0\0\0\0hi"] {
            let mut input = bytes;
            let _ = incoming.next(&mut parser, &mut input, LIMIT);
        }
        assert_eq!((incoming.kept_bytes(), incoming.partial.capacity()), (0, 0));
    }
}
