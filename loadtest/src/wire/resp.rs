//! RESP 2, the protocol of Redis, as far as publishing and subscribing need it.

use std::fmt;

use memchr::memchr;

/// Longest line that is waited for; what Redis says in one is short.
const MAX_LINE: usize = 4096;
const END: &[u8] = b"\r\n";

/// One element of what Redis says. An array is its head alone: its elements follow.
#[derive(Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// Something went well.
    Status(&'a [u8]),
    /// Something didn't.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(&'a [u8]),
    /// No bytes, or no array.
    Nil,
    /// So many elements follow.
    Array(usize),
}

/// Bytes aren't RESP, or not of a kind that is expected here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespError(&'static str);

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis sent {}", self.0)
    }
}

impl std::error::Error for RespError {}

/// What Redis sends on a connection that has only subscribed.
#[derive(Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// A message was published.
    Message {
        /// Where.
        channel: &'a [u8],
        /// What.
        payload: &'a [u8],
    },
    /// From here on messages of the channel come; the answers are in the order of the requests.
    Subscribed {
        /// Which.
        channel: &'a [u8],
    },
    /// It doesn't do what it was asked to.
    Refused(&'a [u8]),
}

/// The element at the beginning of `bytes` and its length, or `None` while it is cut.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Element<'_>, usize)>, RespError> {
    let Some((line, head)) = line(bytes)? else {
        return Ok(None);
    };
    let (kind, rest) = line.split_first().ok_or(RespError("an empty line"))?;
    let element = match kind {
        b'$' => return bulk(number(rest)?, bytes, head),
        b':' => Element::Integer(number(rest)?),
        b'+' => Element::Status(rest),
        b'-' => Element::Error(rest),
        b'*' => match number(rest)? {
            -1 => Element::Nil,
            count => Element::Array(length(count)?),
        },
        _ => return Err(RespError("a line of unknown kind")),
    };
    Ok(Some((element, head)))
}

fn bulk(size: i64, bytes: &[u8], head: usize) -> Result<Option<(Element<'_>, usize)>, RespError> {
    if size == -1 {
        return Ok(Some((Element::Nil, head)));
    }
    let end = head.checked_add(length(size)?).ok_or(RespError("an impossible length"))?;
    match bytes.get(end..end.saturating_add(END.len())) {
        None => Ok(None),
        Some(END) => Ok(Some((Element::Bulk(&bytes[head..end]), end + END.len()))),
        Some(_) => Err(RespError("a string that is longer than it says")),
    }
}

/// The line at the beginning of `bytes`, and its length with its end.
#[inline]
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, RespError> {
    match memchr(b'\n', bytes) {
        None if bytes.len() > MAX_LINE => Err(RespError("a line without end")),
        None => Ok(None),
        Some(feed) => {
            let line = bytes[..feed].strip_suffix(b"\r");
            Ok(Some((line.ok_or(RespError("a line feed alone"))?, feed + 1)))
        }
    }
}

#[inline]
fn number(digits: &[u8]) -> Result<i64, RespError> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or(RespError("a number that is none"))
}

fn length(size: i64) -> Result<usize, RespError> {
    usize::try_from(size).map_err(|_| RespError("an impossible length"))
}

/// The push at the beginning of `bytes` and its length, or `None` while it is cut.
///
/// HOT PATH: once per message.
#[inline]
pub fn parse_push(bytes: &[u8]) -> Result<Option<(Push<'_>, usize)>, RespError> {
    let mut elements = Elements { bytes, taken: 0 };
    let push = match elements.next()? {
        None => None,
        Some(Element::Error(reason)) => Some(Push::Refused(reason)),
        Some(Element::Array(3)) => elements.push()?,
        Some(_) => return Err(RespError("something else than a push")),
    };
    Ok(push.map(|push| (push, elements.taken)))
}

/// Takes one element after the other.
struct Elements<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Elements<'a> {
    #[inline]
    fn next(&mut self) -> Result<Option<Element<'a>>, RespError> {
        let Some((element, length)) = parse(&self.bytes[self.taken..])? else {
            return Ok(None);
        };
        self.taken += length;
        Ok(Some(element))
    }

    /// The three elements of a push: its kind, the channel, and the message or a count.
    #[inline]
    fn push(&mut self) -> Result<Option<Push<'a>>, RespError> {
        let (Some(kind), Some(channel), Some(last)) = (self.next()?, self.next()?, self.next()?)
        else {
            return Ok(None);
        };
        match (kind, channel, last) {
            (Element::Bulk(b"message"), Element::Bulk(channel), Element::Bulk(payload)) => {
                Ok(Some(Push::Message { channel, payload }))
            }
            (Element::Bulk(b"subscribe"), Element::Bulk(channel), Element::Integer(_)) => {
                Ok(Some(Push::Subscribed { channel }))
            }
            _ => Err(RespError("a push that wasn't asked for")),
        }
    }

    /// The two elements of a place in history: id and receivers.
    #[inline]
    fn placed(&mut self) -> Result<Option<Answer<'a>>, RespError> {
        let (Some(id), Some(receivers)) = (self.next()?, self.next()?) else {
            return Ok(None);
        };
        match (id, receivers) {
            (Element::Bulk(id), Element::Integer(_)) => Ok(Some(Answer::Placed(id))),
            _ => Err(RespError("a place in history that is none")),
        }
    }
}

/// What Redis answers when it was asked to publish.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To `PUBLISH`: how many have heard it.
    Heard(i64),
    /// To a call of `umbel_publish`: the message's id; who hears it now doesn't matter, since others may later.
    Placed(&'a [u8]),
    /// It isn't published.
    Refused(&'a [u8]),
}

/// The answer at the beginning of `bytes` and its length, or `None` while it is cut.
#[inline]
pub fn parse_answer(bytes: &[u8]) -> Result<Option<(Answer<'_>, usize)>, RespError> {
    let mut elements = Elements { bytes, taken: 0 };
    let answer = match elements.next()? {
        None => None,
        Some(Element::Integer(receivers)) => Some(Answer::Heard(receivers)),
        Some(Element::Error(reason)) => Some(Answer::Refused(reason)),
        Some(Element::Array(2)) => elements.placed()?,
        Some(_) => return Err(RespError("something else than an answer to a message")),
    };
    Ok(answer.map(|answer| (answer, elements.taken)))
}

/// Appends `SUBSCRIBE` to the channel of `topic`.
pub fn write_subscribe(out: &mut Vec<u8>, prefix: &str, topic: &[u8]) {
    let length = prefix.len() + topic.len();
    out.extend_from_slice(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${length}\r\n").as_bytes());
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(topic);
    out.extend_from_slice(END);
}

/// How `PUBLISH` of `size` bytes to `channel` begins; the same for all messages of a topic.
pub fn publish_head(channel: &str, size: usize) -> String {
    let length = channel.len();
    format!("*3\r\n$7\r\nPUBLISH\r\n${length}\r\n{channel}\r\n${size}\r\n")
}

/// How a call of the node's function that publishes with history begins; its key is the channel. The history is the one
/// that the function takes without being told: 100 messages, 300 seconds.
pub fn placed_head(channel: &str, size: usize) -> String {
    let length = channel.len();
    format!(
        "*5\r\n$5\r\nFCALL\r\n$13\r\numbel_publish\r\n$1\r\n1\r\n${length}\r\n{channel}\r\n${size}\r\n"
    )
}

/// How a call begins that publishes with history, once however often it is repeated; see [`write_once`].
pub fn once_head(channel: &str) -> String {
    let length = channel.len();
    format!("*6\r\n$5\r\nFCALL\r\n$13\r\numbel_publish\r\n$1\r\n2\r\n${length}\r\n{channel}\r\n")
}

/// Appends a call that begins with `head`; what Redis knows the message by is kept at `key`.
pub fn write_once(
    out: &mut Vec<u8>,
    head: &str,
    key: &str,
    size: usize,
    write_payload: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(format!("${}\r\n{key}\r\n${size}\r\n", key.len()).as_bytes());
    write_payload(out);
    out.extend_from_slice(END);
}

/// Appends a `PUBLISH`, or a call, that begins with `head` and whose payload `write_payload` appends.
pub fn write_publish(out: &mut Vec<u8>, head: &str, write_payload: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(head.as_bytes());
    write_payload(out);
    out.extend_from_slice(END);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$7\r\numbel:a\r\n$4\r\n\r\n\xFF!\r\n";

    #[test]
    fn elements_are_read_one_by_one() {
        let cases: [(&[u8], Element<'_>); 8] = [
            (b"+OK\r\n", Element::Status(b"OK")),
            (b"-ERR no\r\n", Element::Error(b"ERR no")),
            (b":-7\r\n", Element::Integer(-7)),
            (b"$3\r\nabc\r\n", Element::Bulk(b"abc")),
            (b"$0\r\n\r\n", Element::Bulk(b"")),
            (b"$-1\r\n", Element::Nil),
            (b"*-1\r\n", Element::Nil),
            (b"*2\r\n", Element::Array(2)),
        ];
        for (bytes, element) in cases {
            assert_eq!(parse(bytes), Ok(Some((element, bytes.len()))));
        }
    }

    #[test]
    fn what_is_not_resp_is_an_error() {
        let endless = vec![b'+'; MAX_LINE + 1];
        let cases: [&[u8]; 8] = [
            b"\r\n",
            b"abc\r\n",
            b":\r\n",
            b":1\n",
            b"$-2\r\n",
            b"*x\r\n",
            b"$1\r\nab\r\n",
            &endless,
        ];
        for bytes in cases {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn pushes_are_told_apart() {
        let payload = b"\r\n\xFF!".as_slice();
        let push = Push::Message { channel: b"umbel:a", payload };
        assert_eq!(parse_push(MESSAGE), Ok(Some((push, MESSAGE.len()))));
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n";
        let push = Push::Subscribed { channel: b"a" };
        assert_eq!(parse_push(subscribed), Ok(Some((push, subscribed.len() - 4))));
        assert_eq!(parse_push(b"-NOAUTH\r\n"), Ok(Some((Push::Refused(b"NOAUTH"), 9))));
        for other in [b"*2\r\n".as_slice(), b"+OK\r\n", b"*3\r\n$1\r\nx\r\n$1\r\na\r\n:1\r\n"] {
            assert!(parse_push(other).is_err(), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = Vec::new();
        write_subscribe(&mut out, "umbel:", b"a");
        assert_eq!(out, b"*2\r\n$9\r\nSUBSCRIBE\r\n$7\r\numbel:a\r\n");
        out.clear();
        let head = publish_head("umbel:a", 2);
        write_publish(&mut out, &head, |out| out.extend_from_slice(b"hi"));
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$7\r\numbel:a\r\n$2\r\nhi\r\n");
        out.clear();
        write_publish(&mut out, &placed_head("umbel:a", 2), |out| out.extend_from_slice(b"hi"));
        let call =
            "*5\r\n$5\r\nFCALL\r\n$13\r\numbel_publish\r\n$1\r\n1\r\n$7\r\numbel:a\r\n$2\r\nhi\r\n";
        assert_eq!(out, call.as_bytes());
        out.clear();
        write_once(&mut out, &once_head("umbel:a"), "{umbel:a}:once:k", 2, |out| {
            out.extend_from_slice(b"hi")
        });
        let call = "*6\r\n$5\r\nFCALL\r\n$13\r\numbel_publish\r\n$1\r\n2\r\n$7\r\numbel:a\r\n\
                    $16\r\n{umbel:a}:once:k\r\n$2\r\nhi\r\n";
        assert_eq!(out, call.as_bytes());
    }

    #[test]
    fn answers_are_told_apart() {
        let cases: [(&[u8], Answer<'_>); 3] = [
            (b":3\r\n", Answer::Heard(3)),
            (b"-ERR no\r\n", Answer::Refused(b"ERR no")),
            (b"*2\r\n$4\r\nab-1\r\n:0\r\n", Answer::Placed(b"ab-1")),
        ];
        for (bytes, answer) in cases {
            for cut in 0..bytes.len() {
                assert_eq!(parse_answer(&bytes[..cut]), Ok(None), "{}", bytes.escape_ascii());
            }
            assert_eq!(parse_answer(bytes), Ok(Some((answer, bytes.len()))));
        }
        for other in [b"+OK\r\n".as_slice(), b"*3\r\n", b"*2\r\n:1\r\n:1\r\n", b"$1\r\na\r\n"] {
            assert!(parse_answer(other).is_err(), "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_push_cut_anywhere_waits_for_the_rest(cut in 0..MESSAGE.len()) {
            prop_assert_eq!(parse_push(&MESSAGE[..cut]), Ok(None));
        }

        #[test]
        fn any_bytes_parse_without_a_panic(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b'$'), 0x30u8..0x3A], 0..60),
        ) {
            let _ = (parse(&bytes), parse_push(&bytes), parse_answer(&bytes));
        }
    }
}
