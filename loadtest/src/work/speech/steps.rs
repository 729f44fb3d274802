//! Frames of a script: steps that open a session, what keeps it alive, and payloads wherever they are.

use std::borrow::Cow;
use std::mem::take;

use memchr::memmem;

use super::{Heard, Hearing};
use crate::load::target::topic_name;
use crate::wire::frame;
use crate::wire::payload::{Search, Template};
use crate::work::script::{NotEmpty, Script, ScriptAnswer, Step, TOPIC};

/// A script's words.
#[derive(Debug)]
pub(super) struct Steps {
    opening: Vec<Step>,
    answers: Vec<ScriptAnswer>,
    /// What frames are sent as.
    opcode: u8,
    search: Search,
    /// How much of a stream is kept, since something may begin there that the next frame ends; 0: frames are apart.
    tail: usize,
}

/// A frame, behind the end of what came before if frames are a stream.
struct Window<'a> {
    bytes: &'a [u8],
    /// Where the frame begins: what ends before it was seen already.
    new: usize,
}

impl Steps {
    pub(super) fn new(script: &Script, template: &Template) -> Self {
        let search = Search::new(template);
        // What stands for a topic's name may be shorter than it.
        let name = topic_name(usize::MAX).len();
        let waits = script.steps.iter().filter_map(|step| step.wait.as_ref()).map(NotEmpty::as_str);
        let waits =
            waits.map(|wait| wait.replace(TOPIC, "").len() + wait.matches(TOPIC).count() * name);
        let answers = script.answers.iter().map(|answer| answer.on.as_str().len());
        let longest = waits.chain(answers).max().unwrap_or(0).max(search.size());
        let tail = if script.stream { longest - 1 } else { 0 };
        Self {
            opening: script.steps.clone(),
            answers: script.answers.clone(),
            opcode: if script.binary { frame::BINARY } else { frame::TEXT },
            search,
            tail,
        }
    }

    /// Says all from step `next` up to one that waits.
    pub(super) fn begin(
        &self,
        next: usize,
        hearing: &mut Hearing<'_, '_>,
        tell: &mut impl FnMut(Heard<'_>),
    ) {
        hearing.spoken.done = self.opening.len();
        for (number, step) in self.opening.iter().enumerate().skip(next) {
            if let Some(words) = &step.send {
                self.say(words, hearing);
            }
            if step.wait.is_some() {
                hearing.spoken.done = number;
                return;
            }
        }
        tell(Heard::Open);
    }

    /// Takes in one frame.
    pub(super) fn take(
        &self,
        hearing: &mut Hearing<'_, '_>,
        payload: &[u8],
        tell: &mut impl FnMut(Heard<'_>),
    ) {
        if self.tail == 0 {
            return self.look(&Window { bytes: payload, new: 0 }, hearing, tell);
        }
        let mut bytes = take(&mut hearing.spoken.tail);
        let new = bytes.len();
        bytes.extend_from_slice(payload);
        self.look(&Window { bytes: &bytes, new }, hearing, tell);
        // A copy, so that no session keeps the memory of the longest frame that it had.
        hearing.spoken.tail = bytes[bytes.len().saturating_sub(self.tail)..].to_vec();
    }

    fn look(
        &self,
        window: &Window<'_>,
        hearing: &mut Hearing<'_, '_>,
        tell: &mut impl FnMut(Heard<'_>),
    ) {
        self.go_on(window, hearing, tell);
        for answer in &self.answers {
            let on = answer.on.as_str().as_bytes();
            let is_heard = if answer.exact { window.frame() == on } else { window.has(on) };
            if is_heard {
                self.say(&answer.send, hearing);
            }
        }
        let (topic, mut from) = (hearing.topic(), window.start_of(self.search.size()));
        while let Some(range) = self.search.find(window.bytes, from) {
            from = range.end;
            tell(Heard::Message { topic, payload: &window.bytes[range], place: None });
        }
    }

    /// Ends the step under way if the frame is what it waits for. Steps behind it that only wait may be ended by the
    /// same frame.
    fn go_on(
        &self,
        window: &Window<'_>,
        hearing: &mut Hearing<'_, '_>,
        tell: &mut impl FnMut(Heard<'_>),
    ) {
        let mut is_first = true;
        while let Some(step) = self.opening.get(hearing.spoken.done)
            && let Some(wait) = &step.wait
            && (is_first || step.send.is_none())
            && window.has(named(wait.as_str(), hearing).as_bytes())
        {
            is_first = false;
            self.begin(hearing.spoken.done + 1, hearing, tell);
        }
    }

    fn say(&self, words: &str, hearing: &mut Hearing<'_, '_>) {
        let words = named(words, hearing);
        frame::write_client(hearing.out, self.opcode, words.as_bytes());
    }
}

impl Window<'_> {
    /// The frame alone.
    fn frame(&self) -> &[u8] {
        &self.bytes[self.new..]
    }

    /// Where something of that length begins at the earliest that ends in the frame.
    fn start_of(&self, length: usize) -> usize {
        (self.new + 1).saturating_sub(length)
    }

    /// Whether that ends in the frame.
    fn has(&self, words: &[u8]) -> bool {
        memmem::find(&self.bytes[self.start_of(words.len())..], words).is_some()
    }
}

/// `words` with the topic's name in them.
fn named<'a>(words: &'a str, hearing: &Hearing<'_, '_>) -> Cow<'a, str> {
    if words.contains(TOPIC) {
        words.replace(TOPIC, &topic_name(hearing.topic())).into()
    } else {
        words.into()
    }
}
