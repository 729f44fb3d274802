//! Publishing by POST: a batch is the lines of one request, or each message is a request of its own and all of a batch
//! are sent without waiting.

use memchr::memmem;

use super::batch::{Batch, Message};
use super::fault::{Fault, OUTCOME_UNKNOWN, may_pass};
use super::text::Text;
use super::way::{ByTopic, Keys, Way};
use crate::load::publisher::http::body_of;
use crate::wire::payload::Template;
use crate::wire::{publish_line, publish_results, response};

/// So many bytes of an answer are quoted when it is a refusal.
const QUOTED: usize = 200;

/// The requests to one server.
pub(super) struct Post {
    form: Form,
    /// Messages that each answer is about.
    covers: usize,
    over: bool,
    /// The lines of a request.
    body: Vec<u8>,
}

/// A script's way to post.
#[derive(Clone, Copy)]
pub(super) struct ScriptPost<'a> {
    pub(super) path: &'a str,
    pub(super) headers: &'a [String],
    pub(super) body: &'a str,
    pub(super) lines: bool,
}

enum Form {
    /// As Umbel takes it: the head up to the content's length, and topics' names.
    Umbel { head: String, names: ByTopic<String>, keys: Option<Keys> },
    /// All messages in one body: the head up to the content's length, and each message's line.
    Lines { head: String, lines: ByTopic<Text> },
    /// One message in each: head and body.
    Each(ByTopic<Text>),
}

impl Post {
    /// One JSON object per line, to `path` of a node.
    pub(super) fn umbel(host: &str, path: &str, keys: Option<Keys>) -> Self {
        let head = head(host, path, "Content-Type: application/x-ndjson\r\n");
        Self::new(Form::Umbel { head, names: ByTopic::new(str::to_owned), keys })
    }

    /// As a script says: a batch is the lines of one request, or each message is one whose parts all may name the
    /// topic. Payloads have `size` bytes.
    pub(super) fn scripted(host: &str, script: &ScriptPost<'_>, size: usize) -> Self {
        let ScriptPost { path, headers, body, lines } = *script;
        let headers: String = headers.iter().flat_map(|header| [header, "\r\n"]).collect();
        let head = head(host, path, &headers);
        if lines {
            let line = format!("{body}\n");
            let lines = ByTopic::new(move |topic| Text::new(&line, topic, size));
            return Self::new(Form::Lines { head, lines });
        }
        let body = body.to_owned();
        Self::new(Form::Each(ByTopic::new(move |topic| {
            let length = Text::new(&body, topic, size).length(size);
            Text::new(&format!("{head}{length}\r\n\r\n{body}"), topic, size)
        })))
    }

    fn new(form: Form) -> Self {
        Self { form, covers: 0, over: false, body: Vec::new() }
    }
}

/// A request up to the value of its last header, the content's length.
fn head(host: &str, path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: ")
}

impl Way for Post {
    fn greet(&mut self, _: &mut Vec<u8>) {
        self.over = false;
    }

    fn write(&mut self, messages: &[Message], template: &mut Template, out: &mut Vec<u8>) -> u64 {
        self.body.clear();
        self.covers = messages.len();
        let mut requests = 1;
        for Message { topic, sequence, due } in messages.iter().copied() {
            let mut payload = |out: &mut Vec<u8>| template.write(out, sequence, due);
            match &mut self.form {
                Form::Umbel { names, keys: None, .. } => {
                    publish_line::write(&mut self.body, names.of(topic), payload);
                }
                Form::Umbel { names, keys: Some(keys), .. } => {
                    let key = keys.of(sequence);
                    publish_line::write_keyed(&mut self.body, names.of(topic), &key, payload);
                }
                Form::Lines { lines, .. } => lines.of(topic).write(&mut self.body, &mut payload),
                Form::Each(requests) => requests.of(topic).write(out, &mut payload),
            }
        }
        match &self.form {
            Form::Umbel { head, .. } | Form::Lines { head, .. } => {
                out.extend_from_slice(format!("{head}{}\r\n\r\n", self.body.len()).as_bytes());
                out.append(&mut self.body);
            }
            Form::Each(_) => {
                requests = messages.len() as u64;
                self.covers = 1;
            }
        }
        requests
    }

    fn hear(&mut self, bytes: &[u8], batch: &mut Batch, _: &mut Vec<u8>) -> Result<usize, Fault> {
        let mut taken = 0;
        while let Some(head) = response::parse(&bytes[taken..])? {
            let (body, length) = if has_no_body(head.status) {
                (Vec::new().into(), head.taken)
            } else {
                match body_of(&head, &bytes[taken..]).map_err(Fault::lost)? {
                    Some(answer) => answer,
                    None => break,
                }
            };
            taken += length;
            // Interim answers are followed by the one that counts.
            if head.status >= 200 {
                self.over |= head.closes;
                self.judge(head.status, &body, batch)?;
            }
        }
        Ok(taken)
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

fn has_no_body(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}

impl Post {
    /// What an answer says of the messages that it is about.
    fn judge(&self, status: u16, body: &[u8], batch: &mut Batch) -> Result<(), Fault> {
        let umbel = matches!(self.form, Form::Umbel { .. });
        if (200..300).contains(&status) {
            if umbel && memmem::find(body, b"\"error\":").is_some() {
                return self.judge_lines(body, batch);
            }
            return (0..self.covers).try_for_each(|_| batch.confirm());
        }
        (0..self.covers).try_for_each(|_| verdict(status, body, batch))
    }

    /// Some messages were refused: there is a line for each.
    fn judge_lines(&self, body: &[u8], batch: &mut Batch) -> Result<(), Fault> {
        if publish_results::lines(body).count() != self.covers {
            return Err(Fault::lost(format!("it answered {}", quoted(body))));
        }
        publish_results::lines(body).try_for_each(|line| match refusal(line) {
            None => batch.confirm(),
            Some(status) => verdict(status, line, batch),
        })
    }
}

/// The next message was refused with `status`.
fn verdict(status: u16, said: &[u8], batch: &mut Batch) -> Result<(), Fault> {
    let text = || format!("it answered with status {status}: {}", quoted(said));
    match status {
        OUTCOME_UNKNOWN => batch.doubt(text),
        _ if may_pass(status) => batch.refuse(text),
        _ => Err(Fault::fatal(text())),
    }
}

/// Status of a line's error, if it has one; one that names none passes.
fn refusal(line: &[u8]) -> Option<u16> {
    const STATUS: &[u8] = b"\"status\":";
    memmem::find(line, b"\"error\":")?;
    let digits = memmem::rfind(line, STATUS).map_or(&[][..], |at| &line[at + STATUS.len()..]);
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let status = std::str::from_utf8(&digits[..end]).ok().and_then(|digits| digits.parse().ok());
    Some(status.unwrap_or(500))
}

fn quoted(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(&said[..said.len().min(QUOTED)]).into_owned();
    said.lines().next().map_or_else(|| "no reason given".to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::way::testing::{heard, written};
    use super::*;
    use proptest::prelude::*;

    fn each() -> Post {
        let headers = ["X: {topic}".to_owned()];
        let body = "{\"c\":\"{topic}\",\"d\":\"{payload}\"}";
        let script = ScriptPost { path: "/p?t={topic}", headers: &headers, body, lines: false };
        Post::scripted("h:1", &script, 38)
    }

    fn payload(sequence: u64) -> String {
        format!("{sequence:016} {:020} ", 5)
    }

    #[test]
    fn a_node_s_request_has_all_messages() {
        let (_, text, requests) = written(&mut Post::umbel("h:1", "/publish", None), 2);
        let body = format!(
            "{{\"topic\":\"bench.0\",\"text\":\"{0}\"}}\n{{\"topic\":\"bench.1\",\"text\":\"{0}\"}}\n",
            payload(0)
        );
        let head = "POST /publish HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/x-ndjson\r\n";
        assert_eq!(text, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(requests, 1);
    }

    #[test]
    fn a_script_s_requests_are_one_each_or_lines_of_one() {
        let (_, text, requests) = written(&mut each(), 4);
        let request = |topic: usize, sequence| {
            let body = format!("{{\"c\":\"bench.{topic}\",\"d\":\"{}\"}}", payload(sequence));
            format!(
                "POST /p?t=bench.{topic} HTTP/1.1\r\nHost: h:1\r\nX: bench.{topic}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        assert_eq!(text, [request(0, 0), request(1, 0), request(0, 1), request(1, 1)].concat());
        assert_eq!(requests, 4);
        let script = ScriptPost { path: "/", headers: &[], body: "{topic}={payload}", lines: true };
        let (_, text, requests) = written(&mut Post::scripted("h:1", &script, 38), 2);
        let body = format!("bench.0={0}\nbench.1={0}\n", payload(0));
        assert!(text.ends_with(&format!("\r\nContent-Length: {}\r\n\r\n{body}", body.len())));
        assert_eq!(requests, 1);
    }

    fn answer(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Answers to three requests of which the second must be repeated.
    fn answers() -> String {
        let chunked = "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let (interim, empty) = ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 X\r\n\r\n");
        [interim, chunked, &answer(429, "slow down"), empty].concat()
    }

    #[test]
    fn an_answer_is_about_all_messages_of_its_request() {
        let mut umbel = Post::umbel("h", "/", None);
        let line = "{\"topic\":\"a\",\"id\":null}\n";
        let refused = "{\"topic\":\"a\",\"error\":\"x\",\"status\":503}\n";
        for (answer, again) in [
            (answer(200, &line.repeat(3)), vec![]),
            (answer(200, "thanks"), vec![]),
            (answer(200, &[line, refused, line].concat()), vec![1]),
            (answer(200, &[line, "{\"error\":\"no number\"}\n", line].concat()), vec![1]),
            (answer(500, ""), vec![0, 1, 2]),
        ] {
            let (_, found, unanswered) = heard(&mut umbel, 3, answer.as_bytes(), 0).unwrap();
            assert_eq!((found, unanswered), (again, 0), "{answer}");
        }
    }

    #[test]
    fn answers_that_are_no_use_end_the_connection_or_all() {
        let refused = "{\"topic\":\"a\",\"error\":\"x\",\"status\":503}\n";
        for (answer, ends) in [
            (answer(400, "bad"), true),
            (answer(302, "there"), true),
            (answer(200, "{\"error\":\"forbidden\",\"status\":403}\n"), true),
            (answer(200, &refused.repeat(2)), false),
            ("SSH-2.0\r\n".to_owned(), false),
            ("HTTP/1.1 200 X\r\n\r\n".to_owned(), false),
            (answer(200, "").repeat(2), false),
        ] {
            let fault = heard(&mut Post::umbel("h", "/", None), 1, answer.as_bytes(), 0);
            assert_eq!(matches!(fault.unwrap_err(), Fault::Final(_)), ends, "{answer}");
        }
    }

    #[test]
    fn an_end_that_is_announced_is_known() {
        let mut post = Post::umbel("h", "/", None);
        let answer = "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        heard(&mut post, 1, answer.as_bytes(), 0).unwrap();
        assert!(post.is_over());
        post.greet(&mut Vec::new());
        assert!(!post.is_over());
    }

    proptest! {
        #[test]
        fn answers_cut_anywhere_say_the_same(cut in any::<prop::sample::Index>()) {
            let answers = answers();
            let cut = cut.index(answers.len() + 1);
            let (_, again, unanswered) = heard(&mut each(), 3, answers.as_bytes(), cut).unwrap();
            prop_assert_eq!((again, unanswered), (vec![1], 0));
        }

        #[test]
        fn any_bytes_are_heard_without_a_panic(
            start in prop::sample::select(vec!["", "HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n"]),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let bytes = [start.as_bytes(), &bytes].concat();
            let _ = heard(&mut Post::umbel("h", "/", None), 3, &bytes, bytes.len() / 2);
        }
    }
}
