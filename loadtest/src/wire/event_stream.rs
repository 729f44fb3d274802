//! Server-sent events: the blocks of an event stream (HTML living standard, section 9.2.6).

use std::borrow::Cow;

use memchr::memchr2;

/// One whole block of an event stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The `data:` lines, joined by line feeds; none in blocks of comments, `retry:` and `id:`.
    pub data: Option<Cow<'a, [u8]>>,
    /// The value of the `event:` line, if there is one: it is about something else than a plain message.
    pub event: Option<&'a [u8]>,
    /// The value of the `id:` line, if there is one: where the stream stands behind this block.
    pub id: Option<&'a [u8]>,
    /// How many bytes the block took, its empty line included.
    pub taken: usize,
}

/// The block at the beginning of `bytes`, or `None` while it is cut.
///
/// A block that ends in CR may leave the LF of that line end behind; it then begins the next block as
/// an empty line, which means nothing. So no state is needed between calls.
///
/// HOT PATH: once per delivery.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Block<'_>> {
    parse_single_line(bytes).or_else(|| parse_general(bytes))
}

/// The shape that almost all messages have: `data: <payload>\n\n`, with a line `id: <id>\n` before it if they are of
/// a history.
#[inline]
fn parse_single_line(bytes: &[u8]) -> Option<Block<'_>> {
    let (id, rest) = match bytes.strip_prefix(b"id: ") {
        None => (None, bytes),
        Some(rest) => {
            let (id, rest) = rest.split_at(memchr2(b'\n', b'\r', rest)?);
            (Some(id), rest.strip_prefix(b"\n")?)
        }
    };
    let rest = rest.strip_prefix(b"data: ")?;
    let end = memchr2(b'\n', b'\r', rest)?;
    if rest.get(end..end + 2)? != b"\n\n" {
        return None;
    }
    Some(Block {
        data: Some(Cow::Borrowed(&rest[..end])),
        event: None,
        id,
        taken: bytes.len() - rest.len() + end + 2,
    })
}

fn parse_general(bytes: &[u8]) -> Option<Block<'_>> {
    let mut block = Block { data: None, event: None, id: None, taken: 0 };
    loop {
        let line = line(&bytes[block.taken..], &mut block.taken)?;
        if line.is_empty() {
            return Some(block);
        }
        block.add(line);
    }
}

/// The line at the beginning of `bytes`; `taken` moves behind its end (CR, LF or both).
fn line<'a>(bytes: &'a [u8], taken: &mut usize) -> Option<&'a [u8]> {
    let end = memchr2(b'\n', b'\r', bytes)?;
    let both = bytes[end..].starts_with(b"\r\n");
    *taken += end + 1 + usize::from(both);
    Some(&bytes[..end])
}

impl<'a> Block<'a> {
    fn add(&mut self, line: &'a [u8]) {
        match field(line) {
            (b"data", value) => self.add_data(value),
            (b"event", name) => self.event = Some(name),
            (b"id", id) => self.id = Some(id),
            _ => {}
        }
    }

    fn add_data(&mut self, value: &'a [u8]) {
        match &mut self.data {
            None => self.data = Some(Cow::Borrowed(value)),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
        }
    }
}

/// Name and value of a line; one space after the colon isn't part of the value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return (line, b"");
    };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

/// Appends the block in which a server sends the single line `payload`.
#[inline]
pub fn write_message(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The data of all whole blocks, and how many bytes they took.
    fn data_of(bytes: &[u8]) -> (Vec<String>, usize) {
        let (mut found, mut taken) = (Vec::new(), 0);
        while let Some(block) = parse(&bytes[taken..]) {
            taken += block.taken;
            let text = block.data.map(Cow::into_owned).map(String::from_utf8);
            found.extend(text.map(Result::unwrap));
        }
        (found, taken)
    }

    fn check(stream: &str, expect: &[&str]) {
        let (found, taken) = data_of(stream.as_bytes());
        assert_eq!((found.as_slice(), taken), (&*owned(expect), stream.len()), "{stream:?}");
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn blocks_give_their_data() {
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data:a\n\n", &["a"]);
        check("data:  a\n\n", &[" a"]);
        check("data\n\n", &[""]);
        check("data: a\ndata: b\n\n", &["a\nb"]);
        check("id: 7\ndata: a\n\n", &["a"]);
        check("id: 7\r\ndata: a\r\n\r\n", &["a"]);
        check("id: 7\ndata: a\ndata: b\n\n", &["a\nb"]);
        check("id: 7\nevent: e\ndata: a\n\n", &["a"]);
        check("retry: 1234\n\n: comment\n\ndata: a\n\n", &["a"]);
        check("data: a\r\n\r\ndata: b\r\r", &["a", "b"]);
    }

    #[test]
    fn a_named_block_says_so() {
        assert_eq!(
            parse(b"event: umbel.gap\ndata: {}\n\n").unwrap().event,
            Some(&b"umbel.gap"[..])
        );
        assert_eq!(parse(b"id: 1\ndata: {}\n\n").unwrap().event, None);
    }

    #[test]
    fn a_block_says_where_the_stream_stands() {
        for stream in
            ["id: 0-7\n\n", "id: 0-7\ndata: a\n\n", "event: e\r\nid:0-7\r\ndata: a\r\n\r\n"]
        {
            assert_eq!(parse(stream.as_bytes()).unwrap().id, Some(&b"0-7"[..]), "{stream:?}");
        }
        assert_eq!(parse(b"data: a\n\n").unwrap().id, None);
    }

    #[test]
    fn a_place_alone_is_no_message() {
        check("id: 0\n\n", &[]);
        check("retry: 1\n\n: open\n\nid: 00000000000000ab-7\n\nid: 8\ndata: a\n\n", &["a"]);
        check("id: 7\n\ndata: a\n\nid: 8\r\r", &["a"]);
    }

    fn block() -> impl Strategy<Value = (String, Option<String>)> {
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        let lines = prop::collection::vec("[a-z]{0,9}", 0..4);
        let first = prop::sample::select(vec!["", ": hi", "id: 7"]);
        (end, lines, first).prop_map(|(end, lines, first)| {
            let first = if first.is_empty() { String::new() } else { format!("{first}{end}") };
            let fields = lines.iter().map(|line| format!("data: {line}{end}"));
            let text = first + &fields.collect::<Vec<_>>().concat();
            (text + end, (!lines.is_empty()).then(|| lines.join("\n")))
        })
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_data(
            blocks in prop::collection::vec(block(), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let stream: String = blocks.iter().map(|(text, _)| text.as_str()).collect();
            let expected: Vec<String> = blocks.into_iter().filter_map(|(_, data)| data).collect();
            let cut = cut.index(stream.len() + 1);
            let (mut found, taken) = data_of(&stream.as_bytes()[..cut]);
            let (rest, more) = data_of(&stream.as_bytes()[taken..]);
            found.extend(rest);
            prop_assert_eq!(found, expected);
            prop_assert_eq!(taken + more, stream.len());
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(block) = parse(&bytes) {
                prop_assert!(block.taken > 0 && block.taken <= bytes.len());
            }
        }
    }
}
