//! Dialogues of all ways to speak, cut and damaged anywhere.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::wire::event_stream;

const CUT_CHAT: &str = "path = \"/\"\nstream = true\n[[steps]]\nsend = \"a\"\nwait = \"b!\"\n[[answers]]\non = \"p?\"\nsend = \"q\"";

/// A way to speak, and all that a server says in it.
fn dialogue(kind: usize, count: u64) -> (Line, Vec<u8>) {
    let blocks = |write: fn(&str) -> String| -> String {
        let block = |sequence| {
            let mut out = format!("id: e-{sequence}\n").into_bytes();
            event_stream::write_message(&mut out, payload(sequence).as_bytes());
            write(&String::from_utf8(out).unwrap())
        };
        (0..count).map(block).collect()
    };
    let with = |head: &str, rest: Vec<u8>| [head.as_bytes(), &rest].concat();
    match kind {
        0 => {
            let texts: Vec<_> = (0..count).map(payload).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            (Line::of(Transport::WebSocket), with(UPGRADE, frames(&texts)))
        }
        1 => {
            let lines: Vec<_> = (0..count).map(|sequence| object(7, sequence)).collect();
            let lines = [&[SUBSCRIBED.to_owned()], &*lines].concat().join("\n");
            let welcome = r#"{"op":"welcome","session":"1"}"#;
            (Line::of(Transport::Json), with(UPGRADE, frames(&[welcome, &lines])))
        }
        2 => (Line::of(Transport::Sse), with(STREAM, blocks(str::to_owned).into_bytes())),
        3 => (Line::of(Transport::Sse), with(CHUNKED, blocks(chunk).into_bytes())),
        4 => {
            let answers = (0..=count).map(|sequence| {
                let text = payload(sequence);
                let message = format!(r#"{{"message_id":"e-{sequence}","text":"{text}"}}"#);
                let messages = if sequence == count { String::new() } else { message };
                answer(&format!(r#"{{"messages":[{messages}],"cursor":"e-{sequence}","gaps":[]}}"#))
            });
            (Line::of(Transport::Poll), answers.collect::<String>().into_bytes())
        }
        _ => {
            let texts: Vec<_> =
                (0..count).map(|sequence| format!("p?{}", payload(sequence))).collect();
            let text = format!("b!{}", texts.concat());
            let (left, right) = text.split_at(text.len() / 2);
            let line = Line::new(Transport::Script, CUT_CHAT, &[(7, None)]);
            (line, with(UPGRADE, frames(&[left, right])))
        }
    }
}

const KINDS: std::ops::Range<usize> = 0..6;

proptest! {
    #[test]
    fn bytes_cut_anywhere_are_heard_as_if_whole(
        kind in KINDS,
        count in 0u64..5,
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let (mut whole, bytes) = dialogue(kind, count);
        whole.hear(&bytes).unwrap();
        let messages = whole.heard.iter().filter(|heard| heard.contains(": ")).count();
        prop_assert_eq!(messages as u64, count);
        prop_assert_eq!(whole.heard.iter().filter(|heard| *heard == "open").count(), 1);
        let (mut line, _) = dialogue(kind, count);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for cut in cuts.windows(2) {
            line.hear(&bytes[cut[0]..cut[1]]).unwrap();
        }
        prop_assert_eq!(line.heard, whole.heard);
        prop_assert_eq!(line.out, whole.out);
        prop_assert_eq!(line.spoken.cut.capacity(), 0);
    }

    #[test]
    fn garbage_is_heard_without_a_panic(
        kind in KINDS,
        is_open: bool,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
    ) {
        let (mut line, _) = dialogue(kind, 0);
        if is_open {
            let (mut other, bytes) = dialogue(kind, 0);
            other.hear(&bytes).unwrap();
            line = other;
        }
        for part in parts {
            if line.hear(&part).is_err() {
                break;
            }
        }
    }

    #[test]
    fn a_damaged_dialogue_is_heard_without_a_panic(
        kind in KINDS,
        at in any::<Index>(),
        byte: u8,
        cut in any::<Index>(),
    ) {
        let (mut line, mut bytes) = dialogue(kind, 3);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = cut.index(bytes.len());
        let _ = line.hear(&bytes[..cut]).and_then(|()| line.hear(&bytes[cut..]));
    }
}
